"""Search by motion: the moments whose codes tell a motion like the one of a query.

Letters: S windows of a clip, Q windows of the query, M moments, K numbers of a window's vector.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.errors import UsageError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_EPSILON_S = 1e-6

_FIRST_SORTED = 1024
"""Moments that are put in order at once, the nearest ones; then eight times as many, and so on."""

_HITS = 16
"""Windows that a graph is asked for, for each moment that is wanted: many overlap better ones."""


class Places(Protocol):
    """Where the windows of a clip are: ``MotionCodes``, or what an index keeps of them."""

    @property
    def clip(self) -> str:
        """The clip's name."""

    @property
    def starts(self) -> Tensor:
        """(S,) int64, ascending, first frame of each window among the tracked frames."""

    @property
    def seconds(self) -> Tensor:
        """(S, 2) float64, seconds of its first and last frame since the clip's first; NaN: not known."""

    @property
    def source_frames(self) -> Tensor:
        """(S, 2) int64, the same two frames by their number in the source file; -1: not known."""

    @property
    def parts(self) -> Tensor:
        """(S,) int64, which part of the clip each window is in."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """Holds ``tracked_length``, the tracked frames of a window."""

    def __len__(self) -> int:
        """S."""


class Graph(Protocol):
    """Finds windows with near vectors without looking at all."""

    def __len__(self) -> int:
        """How many windows it knows."""

    def near(self, vectors: Floats, count: int) -> list[dict[str, Ints]]:
        """Of each of ``vectors`` (Q, K): rows of about ``count`` near windows, by clip."""


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


def query_moment(codes: Mapping[str, Places], clip: str, start_s: float, seconds: float) -> Moment:
    """The windows of ``clip`` from ``start_s`` on.

    The first is the last that begins at ``start_s`` or before; with it go all later windows of the same part
    that end within ``seconds``.

    Args:
        codes: of all clips, by name.
        clip: one of them.
        start_s: seconds from the clip's first frame.
        seconds: how long the motion is; below a window's length it is one window.

    Raises:
        UsageError: there is no such clip, its windows have no times, or none covers the time asked for, which
            may be no number.
    """
    if not (math.isfinite(start_s) and math.isfinite(seconds) and seconds >= 0):
        raise UsageError(
            f"a query of {seconds:g} s from {start_s:g} s on is none; expected seconds, 0 or more"
        )
    if not codes:
        raise UsageError("there are codes of no clip; run infer on clips that move")
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
        asked = f"{start_s:g} to {end_s:g} s" if seconds else f"{start_s:g} s"
        less = ", less what the motion gate dropped" if found.meta.get("windows_dropped") else ""
        raise UsageError(
            f"no windows of {clip} cover {asked}; covered are {begins[0]:g} to {ends[-1]:g} s{less}"
        )
    parts = found.parts.numpy()
    fits = (begins > begins[row]) & (ends <= end_s + _EPSILON_S) & (parts == parts[row])
    return _moment(found, [row, *np.flatnonzero(fits).tolist()], 0.0)


def nearest(
    codes: Mapping[str, Places],
    vectors: Mapping[str, Floats],
    query: Moment,
    count: int,
    graph: Graph | None = None,
) -> list[Moment]:
    """The moments most like the query, the nearest first, none of which overlaps another or the query.

    A moment is as long as the query: windows at the same offsets from its first one, in one part of a clip.

    Args:
        codes: of all clips, by name.
        vectors: (S, K) of each clip.
        query: from ``query_moment``.
        count: how many at most.
        graph: of the same windows: only moments with a window that it finds near one of the query's are
            looked at, by their true distances. None: all are.

    Raises:
        UsageError: ``count`` is below 1.
    """
    if count < 1:
        raise UsageError(f"{count} moments cannot be found; expected 1 or more")
    asked = np.asarray(vectors[query.clip][list(query.rows)])
    starts = codes[query.clip].starts.numpy()[list(query.rows)]
    offsets = starts - starts[0]
    if graph is None:
        rows = {name: aligned(clip, offsets) for name, clip in codes.items()}
        return _best(codes, vectors, query, asked, rows, count)
    hits = _HITS * count
    while True:
        hits = min(hits, len(graph))
        near = graph.near(asked, hits)
        names = dict.fromkeys(name for found in near for name in found)
        rows = {name: _with_hits(aligned(codes[name], offsets), name, near) for name in names}
        found = _best(codes, vectors, query, asked, rows, count)
        if len(found) >= count or hits == len(graph):
            return found
        hits *= 4


def _with_hits(rows: Ints, clip: str, near: Sequence[Mapping[str, Ints]]) -> Ints:
    """The moments (M, Q) of a clip of which one window at least was found near the same one of the query."""
    hit = [np.isin(column, found[clip]) for column, found in zip(rows.T, near, strict=True) if clip in found]
    return np.asarray(rows[np.any(hit, axis=0)])


def _best(
    codes: Mapping[str, Places],
    vectors: Mapping[str, Floats],
    query: Moment,
    asked: Floats,
    rows: Mapping[str, Ints],
    count: int,
) -> list[Moment]:
    """The nearest of moments ``rows`` (M, Q) of clips, none of which overlaps another or the query."""
    names = list(rows)
    distances = np.concatenate(
        [np.empty(0, np.float32), *(mean_distances(asked, vectors[name], rows[name]) for name in names)]
    )
    if not np.isfinite(distances).all():
        raise UsageError(
            "vectors of windows hold values that are no finite numbers, so that nothing is nearest; the "
            "index is damaged: run search build again"
        )
    ends = np.cumsum([len(rows[name]) for name in names])
    taken = {query.clip: [_span(codes[query.clip], query.rows)]}
    found: list[Moment] = []
    for at in _ordered(distances):
        if len(found) >= count:
            break
        place = int(np.searchsorted(ends, at, side="right"))
        clip, own = codes[names[place]], rows[names[place]]
        moment = own[at - int(ends[place]) + len(own)]
        first, end = _span(clip, moment)
        before = taken.setdefault(names[place], [])
        if all(end <= other_first or first >= other_end for other_first, other_end in before):
            before.append((first, end))
            found.append(_moment(clip, moment, float(distances[at])))
    return found


def _ordered(distances: Floats) -> Iterator[int]:
    """Places of distances, the least first, equal ones in order; what is not asked for is not sorted."""
    done, size = 0, _FIRST_SORTED
    while done < len(distances):
        size = min(size, len(distances))
        least = np.flatnonzero(distances <= np.partition(distances, size - 1)[size - 1])
        order = least[np.argsort(distances[least], kind="stable")]
        yield from order[done:].tolist()
        done, size = len(order), 8 * size


def aligned(clip: Places, offsets: Ints) -> Ints:
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
        total += np.linalg.norm(vectors[column] - vector, axis=1)
    return np.asarray(total / np.float32(len(asked)))


def _span(clip: Places, rows: Sequence[int] | Ints) -> tuple[int, int]:
    """The tracked frames of windows, the end not included."""
    first, last = int(clip.starts[int(rows[0])]), int(clip.starts[int(rows[-1])])
    return first, last + int(clip.meta["tracked_length"])


def _moment(clip: Places, rows: Sequence[int] | Ints, distance: float) -> Moment:
    first, last = int(rows[0]), int(rows[-1])
    seconds = float(clip.seconds[first, 0]), float(clip.seconds[last, 1])
    frames = int(clip.source_frames[first, 0]), int(clip.source_frames[last, 1])
    return Moment(clip.clip, tuple(int(row) for row in rows), seconds, frames, distance)
