"""How well segments, and the boundaries between them, agree with true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

TOLERANCES_S = (0.25, 0.5, 2.0, 5.0)
"""How far a boundary may be from a true one, in seconds."""

LEAST_IOUS = (0.5, 0.75)
"""Share of what a found and a true segment cover together that both must cover, to be the same segment."""

Spans = Sequence[tuple[float, float]]
"""Segments of a clip, (start, end) in seconds, one after the other."""


class Matched(NamedTuple):
    """Boundaries, or segments, that were found, that there are, and that agree."""

    found: int
    true: int
    matched: int

    def __add__(self, other: object) -> Matched:
        """The sums, where a plain tuple would be lengthened."""
        assert isinstance(other, Matched)
        return Matched(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def f1(self) -> float:
        """F1, NaN where there is nothing to find and nothing was found."""
        return 2 * self.matched / (self.found + self.true) if self.found + self.true else float("nan")


def matched(found: Sequence[float], true: Sequence[float], tolerance_s: float) -> Matched:
    """Most pairs of a found and a true boundary within the tolerance, each in one pair at most."""
    count, left = 0, sorted(found)
    for at in sorted(true):  # in order: the earliest that still fits leaves the others to the later ones
        while left and left[0] < at - tolerance_s:
            left.pop(0)
        if left and left[0] <= at + tolerance_s:
            left.pop(0)
            count += 1
    return Matched(len(found), len(true), count)


def inner(spans: Spans) -> list[float]:
    """The boundaries between segments, each once."""
    return [start for start, _ in spans[1:]]


def both_ends(spans: Spans) -> list[float]:
    """Start and end of every segment, so inner boundaries twice, and the clip's own start and end."""
    return [edge for span in spans for edge in span]


def boundary_scores(found: Mapping[str, Spans], true: Mapping[str, Spans]) -> dict[str, dict[str, Matched]]:
    """Sums over clips by tolerance, of ``inner`` boundaries and of ``both_ends``.

    Args:
        found: segments by clip.
        true: segments of the same clips.
    """
    ways = {"inner": inner, "both ends": both_ends}
    return {
        way: {
            f"{tolerance:g}": sum(
                (matched(edges(found[clip]), edges(true[clip]), tolerance) for clip in true), Matched(0, 0, 0)
            )
            for tolerance in TOLERANCES_S
        }
        for way, edges in ways.items()
    }


def matched_segments(found: Spans, true: Spans, least_iou: float) -> Matched:
    """Pairs of a found and a true segment that overlap by ``least_iou``, each in one pair at most.

    Args:
        found: segments of a clip, one after the other.
        true: segments of the same clip.
        least_iou: intersection by union; of 0.5 and more, so that only halves of a segment share one.
    """
    count, at = 0, 0
    for start, end in true:
        while at < len(found) and found[at][1] <= start:
            at += 1
        for place in range(at, len(found)):
            if found[place][0] >= end:
                break
            both = min(end, found[place][1]) - max(start, found[place][0])
            either = max(end, found[place][1]) - min(start, found[place][0])
            if both >= least_iou * either - 1e-9:
                count, at = count + 1, place + 1
                break
    return Matched(len(found), len(true), count)


def segment_scores(found: Mapping[str, Spans], true: Mapping[str, Spans]) -> dict[str, Matched]:
    """Sums over clips of ``matched_segments``, by the least intersection by union.

    Args:
        found: segments by clip.
        true: segments of the same clips.
    """
    return {
        f"{least:g}": sum(
            (matched_segments(found[clip], true[clip], least) for clip in true), Matched(0, 0, 0)
        )
        for least in LEAST_IOUS
    }
