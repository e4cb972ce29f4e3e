"""How well search finds a clip's own windows by windows of altered copies, among those of other clips.

    python -m benchmarks.search_copies --input CLIPS [--seeds 3 4 5 6] [--stride 4] [--markdown]

Each clip is read at 20 frames a second and 240 rows, and copies of it are made: darkened, brightened, noisy,
half the size, cropped, compressed, mirrored. All are tracked by the embedded tracker. A copy's window is the
query; the windows of the clips as they are, and of rendered clips of every kind, are ranked. Printed is the
share of queries whose own window (same frames) is first, is first or overlaps the first one, and is among the
first ten.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.evaluation.tables import lines, markdown
from amplify_motion_tokenizer.video.reading import open_video
from benchmarks.support.compared_vectors import Coders, Compared, compared
from benchmarks.support.moving_windows import FPS, LENGTH, moving_windows, tracked

Video = NDArray[np.uint8]
SIZE = (240, 320)
FIRST = 10


def _noisy(video: Video) -> Video:
    noise = np.random.default_rng(0).normal(0, 12, video.shape)
    return np.clip(video + noise, 0, 255).astype(np.uint8)


def _half(video: Video) -> Video:
    size = video.shape[2] // 4 * 2, video.shape[1] // 4 * 2
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in video])


def _cropped(video: Video) -> Video:
    rows, columns = (side // 10 for side in video.shape[1:3])
    return video[:, rows:-rows, columns:-columns]


def _compressed(video: Video) -> Video:
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/copy.mp4"
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"crf": "38"})
            stream.height, stream.width, stream.pix_fmt = (
                *(side // 2 * 2 for side in video.shape[1:3]),
                "yuv420p",
            )
            for frame in video[:, : stream.height, : stream.width]:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        with open_video(Path(path), VideoConfig(target_fps=None, size=None)) as copy:
            return np.stack([frame.rgb for frame in copy])


COPIES: dict[str, Callable[[Video], Video]] = {
    "darkened to .6": lambda video: (video * 0.6).astype(np.uint8),
    "brightened by 1.4": lambda video: np.minimum(video * 1.4, 255).astype(np.uint8),
    "noise of 12 levels": _noisy,
    "half size": _half,
    "cropped to .8": _cropped,
    "H.264, crf 38": _compressed,
    "mirrored": lambda video: np.ascontiguousarray(video[:, :, ::-1]),
}


def read(path: Path) -> Video:
    """(F, H, W, 3), RGB, at ``FPS`` frames a second, the shorter side ``SIZE[0]``."""
    with open_video(path, VideoConfig(target_fps=FPS, size={"shorter": SIZE[0]})) as video:
        return np.stack([frame.rgb for frame in video])


def windows_of(video: Video, stride: int, coders: Coders) -> tuple[list[int], list[Compared]]:
    """The starts of a video's windows, and all ways to compare these."""
    found = tracked(video, stride)
    size = video.shape[1], video.shape[2]
    return found.starts, compared(found.tracks_xy_px, found.visibility, size, coders)


def joined(parts: Sequence[list[Compared]]) -> list[Compared]:
    """Windows of several videos as one, way by way."""
    return [
        same[0]._replace(vectors=np.concatenate([each.vectors for each in same]))
        for same in zip(*parts, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, required=True, help="folder of videos")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 5, 6], help="of the rendered clips")
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    coders = Coders.shipped([16])
    videos = [read(path) for path in sorted(arguments.input.iterdir()) if path.suffix == ".mp4"]
    others = moving_windows(SIZE, arguments.seeds, [1, 2], 40, 8)
    own = [windows_of(video, arguments.stride, coders) for video in videos]
    of_others = compared(others.tracks_xy_px, others.visibility, SIZE, coders)
    everything = joined([*(ways for _, ways in own), of_others])
    places = np.array([(clip, start) for clip, (starts, _) in enumerate(own) for start in starts])
    every_place = np.concatenate([places, np.full((len(others.clips), 2), -1)])
    print(f"{len(videos)} clips of {len(places)} windows, among {len(others.clips)} of rendered clips\n")
    rows = [["vectors of", "bits", *COPIES]]
    found: dict[str, list[str]] = {way.name: [way.name, str(way.bits)] for way in everything}
    for copy in COPIES.values():
        copies = joined([windows_of(copy(video), arguments.stride, coders)[1] for video in videos])
        for query, way in zip(copies, everything, strict=True):
            order = np.argsort(query.to(way), axis=1, kind="stable")[:, :FIRST]
            same = (every_place[order] == places[:, None]).all(axis=2)
            clip_alike = every_place[order[:, 0], 0] == places[:, 0]
            near = clip_alike & (abs(every_place[order[:, 0], 1] - places[:, 1]) < LENGTH)
            shares = same[:, 0].mean(), near.mean(), same.any(axis=1).mean()
            found[way.name].append(" / ".join(f"{share:.2f}" for share in shares))
    print((markdown if arguments.markdown else lines)([*rows, *found.values()], 1))


if __name__ == "__main__":
    main()
