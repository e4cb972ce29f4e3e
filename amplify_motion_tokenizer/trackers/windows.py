"""Windows of frames and their tracks, as one stage hands them to the next, and how frames become windows.

Letters: T frames of a window, N points, H and W frame height and width. ``_xy_px`` is (x, y) in
pixels of the frames given: x counts columns, y rows, and the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        """Raises ValueError when shapes or types do not fit together."""
        steps, points = self.visibility.shape
        if self.tracks_xy_px.shape != (steps, points, 2):
            raise ValueError(
                f"tracks {self.tracks_xy_px.shape} do not fit visibility {self.visibility.shape}; "
                "expected (T, N, 2) and (T, N)"
            )


def iter_windows(frames: Iterable[Frame], length: int, stride: int) -> Iterator[FrameWindow]:
    """Yields every window of ``length`` frames of one part that starts a multiple of ``stride`` into it.

    Holds at most ``length`` frames; a part's tail of fewer frames than a window is not yielded.
    """
    held: deque[Frame] = deque(maxlen=length)
    begin = 0
    for index, frame in enumerate(frames):
        if held and frame.part != held[-1].part:
            held.clear()
            begin = index
        held.append(frame)
        start = index - length + 1
        if len(held) == length and (start - begin) % stride == 0:
            yield FrameWindow(
                start,
                held[0].time_s,
                [held_frame.rgb for held_frame in held],
                (held[-1].time_s - held[0].time_s) / (length - 1) if length > 1 else None,
                tuple(held_frame.source_frame for held_frame in held),
            )
