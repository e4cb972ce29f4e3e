"""Cuts clips where their codes tell that the motion changes.

Letters: S windows of a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.errors import UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """Which changes of motion become boundaries."""

    least_change: float = 0.8
    """Change of a peak, at least: 0 where motion goes on, 1.4 between two that have nothing in common."""
    ends_below: float = 0.7
    """Share of ``least_change`` below which the change must fall before another peak counts."""
    shortest_s: float = 0.6
    """Seconds of a segment, at least."""
    longest_s: float = 60.0
    """Seconds of a segment, at most: a longer one is cut where the motion changes most."""

    def __post_init__(self) -> None:
        """Raises UsageError for a rule that is not above 0, or no number."""
        for name, value in asdict(self).items():
            if not value > 0:
                raise UsageError(f"{name} is {value:g}; expected a number above 0")


class Change(NamedTuple):
    """How much the motion of a clip changes."""

    seconds: Floats
    """(S,) ascending, since the clip's first frame."""
    energy: Floats
    """(S,) from 0, the same motion before and after, to 2, its opposite."""


class Segment(NamedTuple):
    """A stretch of a clip in which the motion stays what it is."""

    start_s: float
    end_s: float


def change_of(clip: MotionCodes, within: Floats) -> Change:
    """The changes (S,) within the windows of a clip, at the middle of each, but for windows with padding.

    Raises:
        UsageError: the codes do not say when their windows are.
    """
    seconds = clip.seconds.numpy()
    if np.isnan(seconds).any():
        raise UsageError(f"the codes of {clip.clip} do not say when their windows are; run infer again")
    whole = (clip.valid_steps == clip.valid_steps.max()).numpy() if len(clip) else slice(0)
    return Change(seconds.mean(axis=1)[whole], within[whole])


Points = Callable[[int, int], list[float]]
"""From the first window of a part and the one after its last to the seconds at which the motion changes."""


def segments_of(
    clip: MotionCodes, change: Change, rules: Rules, points: Points | None = None
) -> list[Segment]:
    """The segments of a clip, one after the other; none of a clip without windows.

    Where a part of the clip begins there is a boundary in any case.

    Args:
        clip: its codes, whose seconds are known.
        change: from ``change_of``, or any other curve over its seconds.
        rules: which changes count.
        points: finds the changes in the place of the curve's peaks.
    """
    if not len(clip):
        return []
    rows = [0, *(np.flatnonzero(np.diff(clip.parts.numpy())) + 1).tolist()]
    begins, end = clip.seconds[rows, 0].tolist(), float(clip.seconds[:, 1].max())
    found: list[Segment] = []
    for row, next_row, low, high in zip(
        rows, [*rows[1:], len(clip)], begins, [*begins[1:], end], strict=True
    ):
        inner = (change.seconds > low) & (change.seconds < high)
        own = Change(change.seconds[inner], change.energy[inner])
        given = None if points is None else points(row, next_row)
        edges = [low, *boundaries(own, low, high, rules, given), high]
        found += [Segment(*pair) for pair in zip(edges, edges[1:], strict=False)]
    return found


def boundaries(
    change: Change, low_s: float, high_s: float, rules: Rules, points: Sequence[float] | None = None
) -> list[float]:
    """Seconds, ascending, at which the motion changes between ``low_s`` and ``high_s``.

    Each stretch of ``change`` from where it reaches ``least_change`` until it falls below ``ends_below`` of
    that has one boundary, at its peak; of two that are nearer than ``shortest_s`` the higher peak stays.
    Where ``points`` are given, in seconds, they are the boundaries, the earlier of two that are too near.
    """
    if points is None:
        peaks = _peaks(change.energy, rules.least_change, rules.ends_below * rules.least_change)
        peaks.sort(key=lambda at: -change.energy[at])
        points = change.seconds[peaks].tolist()
    kept = _apart([low_s, high_s], points, rules.shortest_s)
    by_change = change.seconds[np.argsort(-change.energy, kind="stable")].tolist()
    while True:
        edges = sorted([low_s, *kept, high_s])
        wide = [pair for pair in zip(edges, edges[1:], strict=False) if pair[1] - pair[0] > rules.longest_s]
        more = [at for low, high in wide for at in by_change if _inside(at, low, high, rules.shortest_s)]
        if not more:
            return sorted(kept)
        kept.append(more[0])


def _peaks(energy: Floats, threshold: float, ends_below: float) -> list[int]:
    """The highest place of each stretch that begins at ``threshold`` and ends below ``ends_below``."""
    found: list[int] = []
    within = False
    for at, value in enumerate(energy.tolist()):
        if value < ends_below:
            within = False
        elif within and value > energy[found[-1]]:
            found[-1] = at
        elif not within and value >= threshold:
            found.append(at)
            within = True
    return found


def _apart(edges: Sequence[float], candidates: Sequence[float], least: float) -> list[float]:
    """Those of the candidates, best first, that are ``least`` from edges and from better ones."""
    kept: list[float] = []
    for at in candidates:
        if all(abs(at - other) >= least for other in (*edges, *kept)):
            kept.append(at)
    return kept


def _inside(at: float, low: float, high: float, least: float) -> bool:
    return low + least <= at <= high - least
