"""Search by motion: the moments whose codes tell a motion like the one of a query.

Letters: S windows of a clip, Q windows of the query, K numbers of a window's vector.
"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.errors import UsageError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_EPSILON_S = 1e-6


class Moment(NamedTuple):
    """A stretch of a clip that one or more windows cover."""

    clip: str
    rows: tuple[int, ...]
    """The windows, by their place among the clip's."""
    seconds: tuple[float, float]
    """From the clip's first frame to the moment's first and to its last."""
    source_frames: tuple[int, int]
    """The same two by their number in the source file; -1 where it is not known."""
    distance: float
    """Mean distance of its windows' vectors to the query's; 0 of the query itself."""


def query_moment(codes: Mapping[str, MotionCodes], clip: str, start_s: float, seconds: float) -> Moment:
    """The windows of ``clip`` from ``start_s`` on.

    The first is the last that begins at ``start_s`` or before; with it go all later windows of the same part
    that end within ``seconds``.

    Args:
        codes: of all clips, by name.
        clip: one of them.
        start_s: seconds from the clip's first frame.
        seconds: how long the motion is; below a window's length it is one window.

    Raises:
        UsageError: there is no such clip, its windows have no times, or none covers the time asked for.
    """
    if clip not in codes:
        near = difflib.get_close_matches(clip, codes, 3, 0.0)
        raise UsageError(f"there is no clip {clip!r}; nearest of {len(codes)} are {', '.join(near)}")
    found = codes[clip]
    begins, ends = found.seconds.numpy().T
    if not len(found):
        raise UsageError(f"clip {clip} has no windows, as nothing moved in it; choose another")
    if np.isnan(found.seconds.numpy()).any():
        raise UsageError(f"the codes of {clip} do not say when their windows are; run infer again")
    row = int(np.searchsorted(begins, start_s + _EPSILON_S, side="right")) - 1
    end_s = start_s + seconds
    if row < 0 or start_s > ends[row] + _EPSILON_S or end_s > ends[-1] + _EPSILON_S:
        raise UsageError(
            f"no windows of {clip} cover {start_s:g} to {end_s:g} s; covered are {begins[0]:g} to "
            f"{ends[-1]:g} s, less what the motion gate dropped"
        )
    parts = found.parts.numpy()
    fits = (begins > begins[row]) & (ends <= end_s + _EPSILON_S) & (parts == parts[row])
    return _moment(found, [row, *np.flatnonzero(fits).tolist()], 0.0)


def nearest(
    codes: Mapping[str, MotionCodes], vectors: Mapping[str, Floats], query: Moment, count: int
) -> list[Moment]:
    """The moments most like the query, the nearest first, none of which overlaps another or the query.

    A moment is as long as the query: windows at the same offsets from its first one, in one part of a clip.

    Args:
        codes: of all clips, by name.
        vectors: (S, K) of each clip.
        query: from ``query_moment``.
        count: how many at most.
    """
    asked = vectors[query.clip][list(query.rows)]
    starts = codes[query.clip].starts.numpy()[list(query.rows)]
    offsets = starts - starts[0]
    found = []
    for name, clip in codes.items():
        rows = aligned(clip, offsets)
        distances = mean_distances(asked, vectors[name], rows)
        taken = [range(*_span(clip, query.rows))] if name == query.clip else []
        for at in _apart(clip, rows, distances, taken):
            found.append(_moment(clip, rows[at], float(distances[at])))
    return heapq.nsmallest(count, found, key=lambda moment: moment.distance)


def aligned(clip: MotionCodes, offsets: Ints) -> Ints:
    """(M, Q) rows of windows that start ``offsets`` (Q,) tracked frames after a first one, in one part."""
    starts, parts = clip.starts.numpy(), clip.parts.numpy()
    wanted = starts[:, None] + offsets
    rows = np.minimum(np.searchsorted(starts, wanted), max(len(starts) - 1, 0))
    whole = (starts[rows] == wanted).all(axis=1) & (parts[rows] == parts[:, None]).all(axis=1)
    return np.asarray(rows[whole])


def mean_distances(asked: Floats, vectors: Floats, rows: Ints) -> Floats:
    """(M,) mean over the Q windows of the Euclidean distances of ``asked`` (Q, K) to ``vectors[rows]``."""
    total = np.zeros(len(rows), np.float32)
    for vector, column in zip(asked, rows.T, strict=True):
        total += np.linalg.norm(vectors - vector, axis=1)[column]
    return np.asarray(total / np.float32(len(asked)))


def _apart(clip: MotionCodes, rows: Ints, distances: Floats, taken: list[range]) -> Iterator[int]:
    """Places in ``rows`` (M, Q), the nearest first, whose frames overlap none before and none ``taken``."""
    for at in np.argsort(distances, kind="stable").tolist():
        first, end = _span(clip, rows[at])
        if all(end <= other.start or first >= other.stop for other in taken):
            taken.append(range(first, end))
            yield at


def _span(clip: MotionCodes, rows: Sequence[int] | Ints) -> tuple[int, int]:
    """The tracked frames of windows, the end not included."""
    first, last = int(clip.starts[int(rows[0])]), int(clip.starts[int(rows[-1])])
    return first, last + int(clip.meta["tracked_length"])


def _moment(clip: MotionCodes, rows: Sequence[int] | Ints, distance: float) -> Moment:
    first, last = int(rows[0]), int(rows[-1])
    seconds = float(clip.seconds[first, 0]), float(clip.seconds[last, 1])
    frames = int(clip.source_frames[first, 0]), int(clip.source_frames[last, 1])
    return Moment(clip.clip, tuple(int(row) for row in rows), seconds, frames, distance)
