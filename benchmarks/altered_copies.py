"""How alike a clip's codes are to those of its altered copies, beside what other clips' codes have in common.

    python -m benchmarks.altered_copies --input CLIPS [--checkpoint NAME] [--stride 4] [--frames 80]

Of each clip the first frames are read at the tokenizer's rate and written again without loss (FFV1): as they
are, mirrored, last frame first, slowed (each frame twice), darkened to 0.6, and at half the size. All go
through the ordinary pipeline. A window is compared with the copy's window of the same frames (of a slowed
copy with the one that begins at the same frame), id by id at the same place: the share of equal ids, of all
and of the first four, and the mean distance of digits, 1 from the lowest level to the highest. Chance is any
window of one clip against any of another.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.codes.inference import tokenize_folder
from amplify_motion_tokenizer.codes.reading import MotionCodeSet, read_codes
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import Given, build
from amplify_motion_tokenizer.evaluation.code_length import digits_of
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.video.clips import RGB
from amplify_motion_tokenizer.video.sources import find_clips, model_views, open_views

FIRST_IDS = 4


class Copy(NamedTuple):
    """How a copy is made, and which of its windows is whose."""

    frames: Callable[[list[RGB]], list[RGB]]
    start: Callable[[int, int, int], int] = lambda start, _count, _length: start
    """First frame of a window's counterpart, from its own, the clip's frames and the window's."""


def _half(frames: list[RGB]) -> list[RGB]:
    height, width = frames[0].shape[:2]
    size = width // 4 * 2, height // 4 * 2
    return [np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8) for frame in frames]


COPIES = {
    "written again": Copy(lambda frames: frames),
    "darkened to 0.6": Copy(lambda frames: [np.rint(frame * 0.6).astype(np.uint8) for frame in frames]),
    "half size": Copy(_half),
    "mirrored": Copy(lambda frames: [frame[:, ::-1] for frame in frames]),
    "reversed": Copy(lambda frames: frames[::-1], lambda start, count, length: count - length - start),
    "slowed to half": Copy(
        lambda frames: [frame for frame in frames for _ in range(2)], lambda start, _count, _length: 2 * start
    ),
}
"""The copies by name; the first is the clip itself."""


def write_lossless(path: Path, frames: Sequence[RGB], fps: float) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="bgr0")))
        container.mux(stream.encode(None))


def write_copies(source: Path, folder: Path, config: Config, most: int) -> dict[str, int]:
    """Writes a folder of each copy; returns how many frames each clip has, by its name."""
    counts = {}
    length, stride = config.tracked_length, config.tracking.window_stride
    for clip in find_clips(source, config, model_views(source, config)):
        (video,) = open_views(clip, config.video)
        with video:
            frames = [frame.rgb for frame, _ in zip(video, range(most), strict=False)]
        # So many that windows of the reversed copy begin where windows of the clip end.
        count = length + (len(frames) - length) // stride * stride
        if count < length:
            continue
        counts[clip.name] = count
        for copy, way in COPIES.items():
            path = folder / copy / f"{clip.name}.mkv"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_lossless(path, way.frames(frames[:count]), video.info.fps)
    return counts


class Likeness(NamedTuple):
    """What pairs of windows have in common."""

    pairs: int
    equal: float
    """Share of equal ids."""
    first_equal: float
    """The same of the first ``FIRST_IDS``."""
    distance: float
    """Mean distance of digits, as a share of their range."""

    def row(self, name: str) -> str:
        return f"{name:18} {self.pairs:8} {self.equal:10.3f} {self.first_equal:12.3f} {self.distance:15.3f}"


def likeness(one: Tensor, other: Tensor, levels: Sequence[int]) -> Likeness:
    """Of ids (P, d) against ids (P, d)."""
    if not len(one):
        return Likeness(0, *[float("nan")] * 3)
    same = (one == other).float()
    apart = (digits_of(one, levels) - digits_of(other, levels)).abs() / (torch.tensor(levels) - 1)
    return Likeness(len(one), float(same.mean()), float(same[:, :FIRST_IDS].mean()), float(apart.mean()))


Windows = dict[str, dict[int, NDArray[np.int64]]]
"""Clip to first frame to ids (d,)."""


def by_start(codes: MotionCodeSet) -> Windows:
    return {
        name: {int(start): ids for start, ids in zip(clip.starts, clip.ids.numpy(), strict=True)}
        for name, clip in codes.items()
        if len(clip)
    }


def compared(
    own: Windows, copy: Windows, way: Copy, counts: dict[str, int], length: int
) -> tuple[Tensor, Tensor]:
    """(P, d) ids of windows, and of their counterparts in the copy."""
    pairs = [
        (ids, copy[name][there])
        for name, windows in own.items()
        for start, ids in windows.items()
        if (there := way.start(start, counts[name], length)) in copy.get(name, {})
    ]
    return stacked([one for one, _ in pairs]), stacked([other for _, other in pairs])


def of_others(own: Windows) -> tuple[Tensor, Tensor]:
    """(P, d) twice: every window of a clip with every window of each other clip."""
    clips = [stacked(list(windows.values())) for windows in own.values()]
    one = [a.repeat_interleave(len(b), dim=0) for a in clips for b in clips if a is not b]
    other = [b.repeat(len(a), 1) for a in clips for b in clips if a is not b]
    return joined(one), joined(other)


def joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.empty(0, 1, dtype=torch.int64)


def stacked(ids: Sequence[NDArray[np.int64]]) -> Tensor:
    return joined([torch.from_numpy(each)[None] for each in ids])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, required=True, help="folder of clips")
    parser.add_argument("--checkpoint", default="default", help="file or shipped name (default: default)")
    parser.add_argument("--stride", type=int, default=4, help="frames between windows")
    parser.add_argument("--frames", type=int, default=80, help="most frames of a clip, from its first")
    args = parser.parse_args(argv)
    checkpoint = load_checkpoint(args.checkpoint)
    config = build(checkpoint.config, {"tracking.window_stride": Given(args.stride, "")})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        unscaled = build(config, {"video.size": Given(None, "")})
        counts = write_copies(args.input, folder / "copies", unscaled, args.frames)
        found = {}
        for copy in COPIES:
            tokenize_folder(folder / "copies" / copy, folder / "codes" / copy, checkpoint, config)
            found[copy] = by_start(read_codes(folder / "codes" / copy))
    own, levels = found[next(iter(COPIES))], checkpoint.config.model.fsq_levels
    print(f"{args.input}, {args.checkpoint}: {len(own)} clips, {sum(map(len, own.values()))} windows")
    print(f"{'copy':18} {'windows':>8} {'equal ids':>10} {'of the first':>12} {'digit distance':>15}")
    for copy, way in COPIES.items():
        pairs = compared(own, found[copy], way, counts, config.tracked_length)
        print(likeness(*pairs, levels).row(copy))
    print(likeness(*of_others(own), levels).row("another clip"))


if __name__ == "__main__":
    main()
