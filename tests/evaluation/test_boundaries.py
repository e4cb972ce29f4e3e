"""Boundaries are matched one to one."""

import math

import pytest

from amplify_motion_tokenizer.evaluation.boundaries import (
    Matched,
    boundary_scores,
    matched,
    matched_segments,
    segment_scores,
)


@pytest.mark.parametrize(
    ("found", "true", "count"),
    [
        ([1, 1.1, 1.2], [1], 1),
        ([1], [0.8, 1.2], 1),
        # Greedy by nearness would pair 1.4 with 1.5 and leave 1 and 1.9 without one.
        ([1.4, 1.9], [1, 1.5], 2),
        ([5], [1], 0),
        ([], [1], 0),
    ],
)
def test_as_many_pairs_as_there_can_be(found: list[float], true: list[float], count: int) -> None:
    assert matched(found, true, 0.5) == Matched(len(found), len(true), count)


def test_f1_of_nothing_is_no_number() -> None:
    assert math.isnan(Matched(0, 0, 0).f1)
    assert Matched(2, 4, 2).f1 == pytest.approx(2 / 3)


def test_inner_boundaries_count_twice_among_both_ends() -> None:
    true = {"a": [(0.0, 1.0), (1.0, 3.0)], "b": [(0.0, 2.0)]}
    found = {"a": [(0.0, 3.0)], "b": [(0.0, 1.0), (1.0, 2.0)]}
    scores = boundary_scores(found, true)
    assert scores["inner"]["0.25"] == Matched(1, 1, 0)
    assert scores["both ends"]["0.25"] == Matched(6, 6, 4)


@pytest.mark.parametrize(
    ("found", "true", "least", "count"),
    [
        ([(0, 2), (2, 4)], [(0, 2), (2, 4)], 0.75, 2),
        # 2 of 3 seconds are common to the first pair, 1 of 2 to the second.
        ([(0, 3), (3, 4)], [(0, 2), (2, 4)], 0.5, 2),
        ([(0, 3), (3, 4)], [(0, 2), (2, 4)], 0.66, 1),
        ([(0, 3), (3, 4)], [(0, 2), (2, 4)], 0.75, 0),
        # Each half of a segment is half of it, and it is found once.
        ([(0, 1), (1, 2)], [(0, 2)], 0.5, 1),
        ([(0, 2)], [(0, 1), (1, 2)], 0.5, 1),
        ([(0, 4)], [(0, 1), (1, 2)], 0.5, 0),
        # Segments need not adjoin.
        ([(1, 2), (5, 6), (7, 9)], [(0.9, 2), (4, 5), (7, 9.1)], 0.75, 2),
        ([], [(0, 1)], 0.5, 0),
    ],
)
def test_segments_are_matched_by_what_they_share(
    found: list[tuple[float, float]], true: list[tuple[float, float]], least: float, count: int
) -> None:
    assert matched_segments(found, true, least) == Matched(len(found), len(true), count)


def test_segment_scores_are_sums_over_clips() -> None:
    true = {"a": [(0.0, 1.0), (1.0, 3.0)], "b": [(0.0, 2.0)]}
    found = {"a": [(0.0, 1.2), (1.2, 3.0)], "b": [(0.0, 1.0), (1.0, 2.0)]}
    scores = segment_scores(found, true)
    assert scores == {"0.5": Matched(4, 3, 3), "0.75": Matched(4, 3, 2)}
