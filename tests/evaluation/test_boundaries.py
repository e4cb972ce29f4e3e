"""Boundaries are matched one to one."""

import math

import pytest

from amplify_motion_tokenizer.evaluation.boundaries import Matched, boundary_scores, matched


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
