"""Tracks and confidences as whole numbers of small steps, which files of a third of the size hold exactly.

With ``tracking.store`` other than float32 tracks are rounded where they are made, once, so that a window has
the same numbers whether it comes from a video or from a file: moves since the window's first frame, which is
that of the queries, become whole numbers of 1/256 pixel, of windows that move further of up to 1/32, so that
16 bits hold them. No position changes by more than 1/64 pixel, which no tracker knows. Windows that move too
far for that stay as they are. Confidences become multiples of 1/200, rounded down, so that they stay on their
side of every threshold that is a multiple of 0.005.

Letters: T frames of a window, N points.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.trackers.windows import WindowTracks

LIMIT = 2**15 - 1
"""The largest whole number that a move may be."""
STEPS_PX = (2.0**-8, 2.0**-7, 2.0**-6, 2.0**-5)
"""Steps in pixels that moves may be counted in, the finest first; the coarsest is twice the largest error."""
LEVELS = 200
"""Steps of a confidence from 0 to 1."""
CONFIDENCES = np.arange(LEVELS + 1, dtype=np.float32) / np.float32(LEVELS)
"""The confidences that there are, ascending."""


def step_px(moves_px: NDArray[np.floating[Any]]) -> float | None:
    """The finest step in which 16 bits hold a window's moves (..., 2) in pixels; None where none does.

    Moves that are NaN need no step; infinite ones have none.
    """
    largest = float(np.fmax.reduce(np.abs(moves_px), axis=None, initial=0.0))
    # Rounded, so that moves which are rounded already have the step that they were rounded to.
    return next((step for step in STEPS_PX if np.rint(largest / step) <= LIMIT), None)


def rounded(window: WindowTracks) -> WindowTracks:
    """The window with rounded moves and confidences; rounding it again changes nothing."""
    first = window.tracks_xy_px[:1]
    with np.errstate(invalid="ignore"):  # infinite less infinite
        moves = window.tracks_xy_px - first
    step = step_px(moves)
    tracks = window.tracks_xy_px
    if step is not None and np.isfinite(first).all():
        tracks = first + np.rint(moves / np.float32(step)) * np.float32(step)
    return dataclasses.replace(window, tracks_xy_px=tracks, visibility=_rounded_down(window.visibility))


def levels_of(confidence: NDArray[np.float32]) -> NDArray[np.intp]:
    """How many LEVELS each confidence reaches, -1 below 0; compared, so that each stays on its level's side.

    Confidences that are NaN reach all.
    """
    return np.searchsorted(CONFIDENCES, confidence, side="right") - 1


def _rounded_down(confidence: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = CONFIDENCES[levels_of(confidence).clip(min=0)]
    return np.where(np.isnan(confidence), confidence, found)
