"""Windows of frames and their tracks, as one stage hands them to the next, and how frames become windows.

Letters: T frames of a window, N points, H and W frame height and width. ``_xy_px`` is (x, y) in
pixels of the frames given: x counts columns, y rows, and the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.video.clips import Frame

SEEN = 0.5
"""Confidence from which a point counts as visible, if nothing else is asked for."""


@dataclass(frozen=True)
class FrameWindow:
    """T consecutive frames. Overlapping windows share the frames' memory."""

    start: int
    """Index of the first frame among the yielded frames of the clip."""
    time_s: float
    """Seconds from the clip's first frame to this window's."""
    frames: list[NDArray[np.uint8]]
    """T arrays (H, W, 3), RGB, 0..255."""
    step_seconds: float | None = None
    """Mean seconds from one of its frames to the next; None where it is not known."""
    source_frames: tuple[int, ...] = ()
    """(T,) index of each frame among the frames that the source decodes to; empty where it is not known."""
    padding: int = 0
    """How many of its last frames repeat the last real one, 0 to T - 1."""
    whole: bool = True
    """False of a window that is only announced: ``frames`` are the ones that have come so far."""

    @property
    def real_frames(self) -> list[NDArray[np.uint8]]:
        """Its frames without the padding, at least one."""
        return self.frames[: len(self.frames) - self.padding]


@dataclass(frozen=True)
class WindowTracks:
    """Point tracks of one window."""

    start: int
    """Index of the window's first frame among the yielded frames of the clip."""
    time_s: float
    """Seconds from the clip's first frame to the window's."""
    tracks_xy_px: NDArray[np.float32]
    """(T, N, 2), (x, y) pixels of the frames given; the first row is the queries."""
    visibility: NDArray[np.float32]
    """(T, N), confidence in [0, 1] that the point is seen where the track says."""
    step_seconds: float | None = None
    """Mean seconds from one of the window's frames to the next; None where it is not known."""
    source_frames: tuple[int, ...] = ()
    """(T,) index of each frame among the frames that the source decodes to; empty where it is not known."""
    first_frame: NDArray[np.uint8] | None = None
    """(h, w, 3), RGB, the window's first frame from ``pixels.small_frame``; None when none are kept."""
    padding: int = 0
    """As in ``FrameWindow``."""
    camera: NDArray[np.float64] | None = None
    """(T, 3, 3), the true maps of (x, y, 1) in pixels by which the background moves from the window's first
    frame to each; None where nobody knows, as of every video."""

    @property
    def valid_steps(self) -> int:
        """How many of its T - 1 steps lead from one real frame to the next, 0 to T - 1."""
        return len(self.visibility) - 1 - self.padding

    def __post_init__(self) -> None:
        """Raises ValueError when shapes or types do not fit together."""
        steps, points = self.visibility.shape
        if self.tracks_xy_px.shape != (steps, points, 2):
            raise ValueError(
                f"tracks {self.tracks_xy_px.shape} do not fit visibility {self.visibility.shape}; "
                "expected (T, N, 2) and (T, N)"
            )


def iter_windows(
    frames: Iterable[Frame],
    length: int,
    stride: int,
    pad_end: bool = False,
    begin: int = 0,
    announce: bool = False,
) -> Iterator[FrameWindow]:
    """Yields every window of ``length`` frames of one part that starts a multiple of ``stride`` into it.

    Holds at most ``length`` frames. A part's tail of fewer frames than a window is not yielded, unless
    ``pad_end`` repeats the part's last frame, so that every frame (every ``stride``-th) starts a window.

    Args:
        frames: of one clip or stretch of it.
        length: T, 2 or more where windows are announced.
        stride: frames from the start of a window to the next one's.
        pad_end: see above.
        begin: index of the first of ``frames`` among the yielded frames of the clip.
        announce: whether to yield, before the windows that a frame completes, which windows it is in: the
            one that started first, and one that starts with it. Some never become whole.
    """
    for _, part in groupby(frames, key=lambda frame: frame.part):
        count = 0
        held: deque[Frame] = deque(maxlen=length)
        for frame, padding in _with_padding(part, length - 1 if pad_end else 0):
            held.append(frame)
            count += padding == 0
            start = count + padding - length
            if announce and not padding:
                yield from _announced(list(held), begin, count, stride)
            if len(held) == length and start % stride == 0:
                yield _window(list(held), begin + start, padding)
        begin += count


def _announced(held: list[Frame], begin: int, count: int, stride: int) -> Iterator[FrameWindow]:
    """The first of the windows that the last of ``held`` frames is in, and a window that begins with it.

    It is the ``count``-th frame of its part.
    """
    last, oldest = count - 1, count - len(held)
    first = oldest + -oldest % stride
    for start in dict.fromkeys((first, last - last % stride)):
        if start in (first, last) and start <= last:
            frames = held[start - count :]
            yield FrameWindow(begin + start, frames[0].time_s, [each.rgb for each in frames], whole=False)


def _with_padding(part: Iterable[Frame], most: int) -> Iterator[tuple[Frame, int]]:
    """The frames of a part, each with 0, then its last one ``most`` times more, numbered from 1."""
    for frame in part:
        yield frame, 0
    for padding in range(1, most + 1):
        yield frame, padding


def _window(held: list[Frame], start: int, padding: int) -> FrameWindow:
    first, steps = held[0], len(held) - 1 - padding
    return FrameWindow(
        start,
        first.time_s,
        [frame.rgb for frame in held],
        (held[-1].time_s - first.time_s) / steps if steps else None,
        tuple(frame.source_frame for frame in held),
        padding,
    )
