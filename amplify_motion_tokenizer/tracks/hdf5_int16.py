"""The int16 form of a view's windows in an HDF5 track file: a third of the bytes, and the same numbers.

It holds rounded tracks (``trackers.rounding``) exactly, and no others: whatever is read was written. Letters:
S windows, T frames, N points::

    root/<view>/queries      float32 (N, 2), (x, y) pixels of the tracked frames, first frame of all windows
    root/<view>/moves        int16 (S, T - 1, N, 2), (x, y), of the other frames since the first, in the
                             window's step; LOST where a position is NaN
    root/<view>/move_px      float32 (S,), a window's step in pixels, a power of two
    root/<view>/confidence   uint8 (S, T, N), in 1/200; UNSEEN where it is NaN

They stand in the place of ``tracks`` and ``vis``. A position is ``queries + moves * move_px``, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.trackers.rounding import LEVELS, LIMIT, STEPS_PX, levels_of, step_px

LOST = -LIMIT - 1
"""Stands for a position that is NaN; also what rows read as that were never written."""
UNSEEN = 255
"""Stands for a confidence that is NaN."""
QUERIES, MOVES, STEP, CONFIDENCE = "queries", "moves", "move_px", "confidence"
DATA_SETS = (QUERIES, MOVES, STEP, CONFIDENCE)
"""Names of the data sets."""


def is_int16(group: h5py.Group) -> bool:
    """Whether the view ``group`` holds its windows in this form."""
    return MOVES in group and "tracks" not in group


def encoded(
    tracks: NDArray[np.float32], confidence: NDArray[np.float32], queries: NDArray[np.float32]
) -> dict[str, NDArray[Any]] | None:
    """Rows of the data sets for windows whose first frame is ``queries``; None where they are not rounded.

    Args:
        tracks: (R, T, N, 2), (x, y) pixels.
        confidence: (R, T, N).
        queries: (N, 2).
    """
    rows = [_encoded(*window, queries) for window in zip(tracks, confidence, strict=True)]
    whole = [row for row in rows if row is not None]
    if len(whole) < len(rows):
        return None
    return {name: np.stack([row[name] for row in whole]) for name in (MOVES, STEP, CONFIDENCE)}


def _encoded(
    tracks: NDArray[np.float32], confidence: NDArray[np.float32], queries: NDArray[np.float32]
) -> dict[str, NDArray[Any]] | None:
    with np.errstate(invalid="ignore"):  # infinite less infinite
        moves = tracks[1:] - queries
    step = step_px(moves)
    if step is None:
        return None
    lost = np.isnan(moves)
    row: dict[str, NDArray[Any]] = {
        MOVES: np.where(lost, LOST, np.rint(moves / np.float32(step))).astype(np.int16),
        STEP: np.array(step, np.float32),
        CONFIDENCE: np.where(np.isnan(confidence), UNSEEN, levels_of(confidence)).astype(np.uint8),
    }
    again, seen = np.empty_like(tracks), np.empty_like(confidence)
    decode(row[MOVES], row[STEP], queries, again)
    decode_confidence(row[CONFIDENCE], seen)
    same = np.array_equal(again, tracks, equal_nan=True) and np.array_equal(seen, confidence, equal_nan=True)
    return row if same else None


def decode(
    moves: NDArray[np.int16], step: NDArray[np.float32], queries: NDArray[np.float32], into: NDArray[Any]
) -> None:
    """Puts a window's positions, (x, y) pixels, in ``into`` (T, N, 2), float32."""
    rest = into[1:]
    np.multiply(moves, step, out=rest, dtype=np.float32)
    rest += queries
    into[0] = queries
    if moves.size and moves.min() == LOST:
        rest[moves == LOST] = np.nan


def decode_confidence(levels: NDArray[np.uint8], into: NDArray[Any]) -> None:
    """Puts a window's confidences in ``into`` (T, N), float32."""
    np.divide(levels, np.float32(LEVELS), out=into, dtype=np.float32)
    if levels.size and levels.max() == UNSEEN:
        into[levels == UNSEEN] = np.nan


def read_int16(
    steps: NDArray[np.float32],
    queries: NDArray[np.float32],
    moves: Sequence[NDArray[np.int16]] | NDArray[np.int16],
    levels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Tracks (R, T, N, 2) and confidences (R, T, N) of R windows as their rows hold them."""
    length, points = np.shape(levels)[1:]
    tracks = np.empty((len(steps), length, points, 2), np.float32)
    seen = np.empty((len(steps), length, points), np.float32)
    for row, step in enumerate(steps):
        decode(moves[row], step, queries, tracks[row])
        decode_confidence(levels[row], seen[row])
    return tracks, seen


def int16_shape(group: h5py.Group, path: Path) -> tuple[int, int, int]:
    """(S, T, N) of a view in this form.

    Raises:
        TrackFileError: a data set is missing, or of another shape, type or fill than the layout says.
    """
    moves = group[MOVES].shape
    if len(moves) != 4 or moves[-1] != 2:
        raise TrackFileError(
            f"{path}: {group.name}/{MOVES} has shape {moves}, expected (starts, T - 1, N, 2); remake it"
        )
    windows, steps, points, _ = moves
    expected: dict[str, tuple[Any, tuple[int, ...]]] = {
        MOVES: (np.int16, moves),
        STEP: (np.float32, (windows,)),
        CONFIDENCE: (np.uint8, (windows, steps + 1, points)),
        QUERIES: (np.float32, (points, 2)),
    }
    for name, (dtype, shape) in expected.items():
        data = group[name]
        if data.shape != shape or data.dtype != dtype:
            raise TrackFileError(
                f"{path}: {data.name} is {data.dtype} {data.shape}, expected {np.dtype(dtype)} {shape}; "
                "remake it"
            )
    if group[MOVES].fillvalue != LOST:
        raise TrackFileError(
            f"{path}: rows of {group.name}/{MOVES} that were never written read as "
            f"{group[MOVES].fillvalue}, expected {LOST}; remake it"
        )
    return windows, steps + 1, points


def steps_and_queries(group: h5py.Group, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The steps (S,) and the queries (N, 2) of a view in this form.

    Raises:
        TrackFileError: they are none that is written.
    """
    steps, queries = group[STEP][:], group[QUERIES][:]
    strange = steps[~np.isin(steps, STEPS_PX)]
    if len(strange):
        raise TrackFileError(
            f"{path}: {group.name}/{STEP} holds {strange[0]:g} px; expected powers of two from "
            f"{STEPS_PX[0]:g} to {STEPS_PX[-1]:g}; remake it"
        )
    if not np.isfinite(queries).all():
        raise TrackFileError(f"{path}: {group.name}/{QUERIES} are not all finite; remake it")
    return steps, queries
