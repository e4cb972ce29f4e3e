"""Finds where a window's frames cut to another shot, by what its points do from there on.

After a cut nearly all points are hidden at once. Each looks for its patch again near where it would be,
so in time up to a half find something alike; but every one finds it somewhere else, while points of a scene
that is still there (behind a flash, a passer-by or a blurred frame) are found again together.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.trackers.windows import SEEN, WindowTracks

Floats = NDArray[np.float32]

SUDDEN = 0.25
"""A cut leaves fewer than this share of the points that were seen in the frame before ..."""
BACK = 0.5
"""... and no later frame of the window shows this share of them again ..."""
TOGETHER, APART = 0.06, 1 / 240
"""... nor this share that moved alike: no further from the median than this part of the shorter side.

The largest shares in some 1,100 windows of 120 to 480 rows with cuts between rendered and between real clips:
0.23, 0.46 and 0.035.
"""
LEAST_POINTS = 50
"""Fewer points may all be hidden at once by something that passes."""


def hide_after_cut(window: WindowTracks, size: tuple[int, int]) -> WindowTracks:
    """The tracks of ``window``, of frames of ``size`` (height, width), up to its first cut.

    From the cut on all points stay where they were last, with visibility 0. A window without a cut is
    returned as it is.
    """
    cut = find_cut(window.tracks_xy_px, window.visibility >= SEEN, size)
    if cut is None:
        return window
    tracks, visibility = window.tracks_xy_px.copy(), window.visibility.copy()
    tracks[cut:], visibility[cut:] = tracks[cut - 1], 0
    return replace(window, tracks_xy_px=tracks, visibility=visibility)


def find_cut(xy_px: Floats, seen: NDArray[np.bool_], size: tuple[int, int]) -> int | None:
    """Index of the first frame after a cut; None where there is none.

    Args:
        xy_px: (T, N, 2), (x, y) pixels of the tracked frames.
        seen: (T, N), which points are seen.
        size: (height, width) of those frames.
    """
    count = np.count_nonzero(seen, axis=1)
    sudden = (count[:-1] >= LEAST_POINTS) & (count[1:] < SUDDEN * count[:-1])
    for cut in np.flatnonzero(sudden) + 1:
        before = seen[cut - 1]
        moved, again = (xy_px[cut:] - xy_px[cut - 1])[:, before], seen[cut:, before]
        back = again.sum(axis=1).max()
        if back < BACK * count[cut - 1] and (
            max(_together(*frame, APART * min(size)) for frame in zip(moved, again, strict=True))
            < TOGETHER * count[cut - 1]
        ):
            return int(cut)
    return None


def _together(moved: Floats, seen: NDArray[np.bool_], apart_px: float) -> int:
    """How many points (N,) are seen and ``moved`` (N, 2) like the median of all points that are seen."""
    if not seen.any():
        return 0
    off = moved[seen] - np.median(moved[seen], axis=0)
    return int((np.hypot(*off.T) < apart_px).sum())
