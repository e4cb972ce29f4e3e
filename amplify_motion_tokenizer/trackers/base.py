"""The interface of every point tracker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.trackers.windows import FrameWindow, WindowTracks


class PointTracker(Protocol):
    """Follows query points through windows of frames.

    One object serves many clips: nothing is carried over from one call of ``track`` to the next.
    A class that derives from this one inherits what is usual: no weights, no device, nothing read ahead.
    """

    name: str
    """Name in ``tracking.tracker``, recorded in track files."""
    weights_sha256: str | None = None
    """Hash of the weights that decide its tracks; None for a tracker without any. ``record_weights`` keeps it
    in the field ``weights_sha256`` of the tracker's section of the config."""
    owns_device: bool = False
    """Whether the tracker takes a device, or much memory, for itself, so that one process should run it."""
    takes_announced: bool = False
    """Whether ``track`` takes windows that are only announced, too, to be done with a window's last frame."""

    @property
    def windows_ahead(self) -> int:
        """Windows taken at once, whose frames are decoded ahead; 0 for a tracker that goes frame by frame."""
        return 0

    def track(
        self, windows: Iterable[FrameWindow], queries_xy_px: NDArray[np.float32]
    ) -> Iterator[WindowTracks]:
        """Tracks of each window, in the order of the windows.

        Windows are streamed. A tracker may read ahead by a few windows before it yields the first, but
        the memory it needs does not grow with the length of the clip.

        Args:
            windows: windows of one clip, all of one frame size, with starts that never decrease; with
                ``takes_announced`` also as ``iter_windows`` announces them.
            queries_xy_px: (N, 2) query points in the first frame of every window, (x, y) in pixels of
                the frames given; the centre of the top-left pixel is (0, 0).

        Yields:
            For every whole window its tracks (T, N, 2), with the queries as first row, and visibility (T, N)
            in [0, 1], with 1 in the first row for queries inside the frame. Optical flow gives finite
            tracks everywhere; a neural tracker that fails may give NaN, which is masked later.

        Raises:
            TrackerError: the frames cannot be tracked.
        """
