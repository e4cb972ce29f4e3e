"""What one stage hands to the next, from video to tracks.

Letters: T frames of a window, N points, H and W frame height and width. ``_xy_px`` is (x, y) in
pixels of the frames given: x counts columns, y rows, and the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.geometry import Letterbox

SEEN = 0.5
"""Confidence from which a point counts as visible, if nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class ClipInfo:
    """What is known of a clip once it is open."""

    path: Path
    """File."""
    reader: str
    """Backend that decodes it: decord or opencv."""
    source_fps: float
    """Average frame rate that the container states."""
    fps: float
    """Rate of the frames that are yielded."""
    source_size: tuple[int, int]
    """(height, width) in the container, after its rotation is applied."""
    size: tuple[int, int]
    """(height, width) of the frames that are yielded, padding included."""
    letterbox: Letterbox
    """Where the source frame lies in them."""


@dataclass(frozen=True)
class Frame:
    """One decoded, resized frame."""

    rgb: NDArray[np.uint8]
    """(H, W, 3), RGB, 0..255."""
    time_s: float
    """Seconds since the clip's first frame."""


@dataclass(frozen=True)
class FrameWindow:
    """T consecutive frames. Overlapping windows share the frames' memory."""

    start: int
    """Index of the first frame among the yielded frames of the clip."""
    time_s: float
    """Seconds from the clip's first frame to this window's."""
    frames: list[NDArray[np.uint8]]
    """T arrays (H, W, 3), RGB, 0..255."""


@dataclass(frozen=True)
class WindowTracks:
    """Point tracks of one window."""

    start: int
    """As in ``FrameWindow``."""
    time_s: float
    """As in ``FrameWindow``."""
    tracks_xy_px: NDArray[np.float32]
    """(T, N, 2), (x, y) pixels of the frames given; the first row is the queries."""
    visibility: NDArray[np.float32]
    """(T, N), confidence in [0, 1] that the point is seen where the track says."""
    first_frame: NDArray[np.uint8] | None = None
    """(h, w, 3), RGB, the window's first frame from ``windows.small_frame``; None when none are kept."""

    def __post_init__(self) -> None:
        """Raises ValueError when shapes or types do not fit together."""
        steps, points = self.visibility.shape
        if self.tracks_xy_px.shape != (steps, points, 2):
            raise ValueError(
                f"tracks {self.tracks_xy_px.shape} do not fit visibility {self.visibility.shape}; "
                "expected (T, N, 2) and (T, N)"
            )
