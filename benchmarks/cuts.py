"""What the embedded tracker sees after cuts between rendered scenes, and what else it takes for a cut.

    python -m benchmarks.cuts [--sizes 120x160 240x320 480x640] [--seeds 0 1 2]

A seed is two shots of random kinds: windows of 16 frames with the cut at each of their frames but the
first, in memory, as mp4, and of every fourth frame. Under it are clips of all kinds, of the first seed,
without a cut, to which something happens.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes import KINDS, render_clip
from amplify_motion_tokenizer.trackers.flow import FlowTracker, tracker
from amplify_motion_tokenizer.trackers.flow.cuts import hide_after_cut
from amplify_motion_tokenizer.trackers.windows import SEEN, WindowTracks, iter_windows
from amplify_motion_tokenizer.video.clips import Frame
from benchmarks.support.measuring import frame_size
from benchmarks.tracking import through_mp4

Video = NDArray[np.uint8]
Size = tuple[int, int]

SIZES = [(120, 160), (240, 320), (480, 640)]
LENGTH = 16
AT = 16
"""The frame at which there is a cut, or something happens."""
TIMES = np.arange(2 * AT)


def track(video: Video, stride: int) -> tuple[list[WindowTracks], list[WindowTracks]]:
    """All windows as tracked, and with what comes after their cuts hidden."""
    tracked: list[WindowTracks] = []

    def hide(window: WindowTracks, size: Size) -> WindowTracks:
        tracked.append(window)
        return hide_after_cut(window, size)

    frames = (Frame(rgb, index / 20) for index, rgb in enumerate(video))
    queries = query_grid("row_major", 20, (video.shape[1], video.shape[2]))
    with mock.patch.object(tracker, "hide_after_cut", hide):
        windows = iter_windows(frames, LENGTH, stride)
        return tracked, list(FlowTracker(FlowConfig()).track(windows, queries))


def cuts(seed: int, size: Size, step: int) -> Video:
    kinds = np.random.default_rng([seed, *size]).choice(list(KINDS), 2)
    shots = [render_clip(kind, (seed, index), size, AT * step)[0] for index, kind in enumerate(kinds)]
    return np.concatenate([shot[::step] for shot in shots])


def lit(video: Video, gain: float, frames: int) -> Video:
    changed = np.isin(TIMES, range(AT, AT + frames))
    return np.clip(video * np.where(changed, gain, 1)[:, None, None, None], 0, 255).astype(np.uint8)


def covered(video: Video, share: float, frames: int) -> Video:
    video, columns = video.copy(), round(share * video.shape[2])
    occluder = render_clip("still", 1, (video.shape[1], video.shape[2]), 1)[0][0]
    video[AT : AT + frames, :, :columns] = occluder[:, :columns]
    return video


def blurred(video: Video, frames: int) -> Video:
    blur = [cv2.blur(frame, (frame.shape[1] // 10, 1)) for frame in video[AT : AT + frames]]
    return np.concatenate([video[:AT], np.stack(blur).astype(np.uint8), video[AT + frames :]])


def noisy(video: Video, spread: float) -> Video:
    noise = np.random.default_rng(0).normal(0, spread, video.shape)
    return np.clip(video + noise, 0, 255).astype(np.uint8)


def panned(video: Video, share: float) -> Video:
    """The first frame, and from ``AT`` on what lies this share of its width to the side."""
    width = video.shape[2]
    wide = cv2.copyMakeBorder(video[0], 0, 0, 0, width, cv2.BORDER_REFLECT)
    return np.stack([wide[:, round(share * width) * (time >= AT) :][:, :width] for time in TIMES])


EVENTS: dict[str, Callable[[Video], Video]] = {
    "nothing": lambda video: video,
    "flash, 8x": lambda video: lit(video, 8, 1),
    "flash, 3x, two frames": lambda video: lit(video, 3, 2),
    "light steps to 0.3x": lambda video: lit(video, 0.3, AT),
    "light steps to 2x": lambda video: lit(video, 2, AT),
    "one black frame": lambda video: lit(video, 0, 1),
    "four black frames": lambda video: lit(video, 0, 4),
    "fade to black and back": lambda video: (video * np.abs(TIMES / AT - 1)[:, None, None, None]).astype(
        "u1"
    ),
    "frames repeated": lambda video: video[TIMES // 2 * 2],
    "eight frames missing": lambda video: video[np.where(TIMES < AT, TIMES, np.minimum(TIMES + 8, 31))],
    "motion blur, four frames": lambda video: blurred(video, 4),
    "noise of 25 levels": lambda video: noisy(video, 25),
    "pan by 0.35 of the width": lambda video: panned(video, 0.35),
    "0.7 covered at once": lambda video: covered(video, 0.7, AT),
    "0.9 covered at once": lambda video: covered(video, 0.9, AT),
    "0.97 covered, two frames": lambda video: covered(video, 0.97, 2),
}
"""What happens to clips of 32 frames."""


def cut_row(videos: Iterator[Video]) -> str:
    """Of windows with a cut: how many, share that it is told in, shares seen after it before and now."""
    rows = []
    for video in videos:
        for before, after in zip(*track(video, 1), strict=True):
            if 0 < (cut := AT - before.start) < LENGTH:
                seen = [(window.visibility[cut:] >= SEEN).mean() for window in (before, after)]
                rows.append((before is not after, *seen))
    told, was, now = np.mean(rows, axis=0)
    return f"{len(rows):8} {told:7.3f} {was:8.4f} {now:8.4f}"


def event_row(videos: Iterator[Video]) -> str:
    """Of windows without one: how many, share with one told, shares seen before and now."""
    pairs = [pair for video in videos for pair in zip(*track(video, 3), strict=True)]
    told = np.mean([before is not after for before, after in pairs])
    was, now = (
        np.mean([window.visibility >= SEEN for window in column]) for column in zip(*pairs, strict=True)
    )
    return f"{len(pairs):8} {told:7.3f} {was:8.4f} {now:8.4f}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=frame_size, default=SIZES, help="HEIGHTxWIDTH")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    print(f"{'':32} {'windows':>8} {'told':>7} {'seen was':>8} {'is':>8}")
    seeds = arguments.seeds
    for size in arguments.sizes:
        text = f"{size[0]}x{size[1]}"
        print(f"{text + ' cut':32}", cut_row(cuts(seed, size, 1) for seed in seeds), flush=True)
        mp4 = (through_mp4(cuts(seed, size, 1)) for seed in seeds)
        print(f"{text + ' cut, mp4':32}", cut_row(mp4), flush=True)
        print(f"{text + ' cut, 4x':32}", cut_row(cuts(seed, size, 4) for seed in seeds), flush=True)
        for name, event in EVENTS.items():
            clips = (event(render_clip(kind, seeds[0], size, 2 * AT)[0]) for kind in KINDS)
            print(f"{text + ' ' + name:32}", event_row(clips), flush=True)


if __name__ == "__main__":
    main()
