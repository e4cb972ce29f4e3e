"""Linear probes, on numbers whose answers are known."""

import importlib

import numpy as np
import pytest

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.evaluation.probes import Target, chance, probe, splits, usable

pytest.importorskip("sklearn")

CLIPS, WINDOWS = 12, 8
RNG = np.random.default_rng(0)
GROUPS = np.repeat(np.arange(CLIPS), WINDOWS)
NUMBERS = RNG.normal(size=(CLIPS * WINDOWS, 5))
CLASSES = np.array(["left", "right", "up"])[GROUPS % 3]
ONE_HOT = np.eye(3)[GROUPS % 3]


def test_what_is_linear_is_told_and_what_is_not_there_is_not() -> None:
    classes = Target("class", CLASSES, GROUPS)
    parts = splits(classes, 3)
    assert probe(ONE_HOT + 0.05 * NUMBERS[:, :3], classes, parts) == [1.0, 1.0, 1.0]
    assert max(probe(NUMBERS, classes, parts)) < 0.7
    values = 100 * NUMBERS[:, :2] @ np.array([[1.0, 2.0], [3.0, -1.0]]) - 7
    moves = Target("move", values, GROUPS)
    assert max(probe(NUMBERS, moves, splits(moves, 3))) < 1e-3
    unrelated = probe(RNG.normal(size=NUMBERS.shape), moves, splits(moves, 3))
    assert 0.7 < np.mean(unrelated) < 1.5


def test_chance_is_the_most_frequent_class_and_the_mean() -> None:
    names = np.where(GROUPS % 4 == 0, "rare", "often")
    target = Target("class", names, GROUPS)
    for part, found in zip(splits(target, 4), chance(target, splits(target, 4)), strict=True):
        assert found == pytest.approx((names[part.judged] == "often").mean())
    numbers = Target("number", NUMBERS[:, :1], GROUPS)
    for part, found in zip(splits(numbers, 2), chance(numbers, splits(numbers, 2)), strict=True):
        fitted, judged = NUMBERS[part.fitted, 0], NUMBERS[part.judged, 0]
        assert found == pytest.approx(np.square((judged - fitted.mean()) / fitted.std()).mean())


def test_no_clip_is_on_both_sides() -> None:
    """Numbers that tell the clip alone would tell a clip's random class, were its windows split."""
    values = RNG.normal(size=(CLIPS, 1))[GROUPS]
    for target in (Target("class", CLASSES, GROUPS), Target("number", values, GROUPS)):
        for part in splits(target, 5):
            assert not set(GROUPS[part.fitted]) & set(GROUPS[part.judged])
            assert len(part.fitted) + len(part.judged) == len(GROUPS)
    told = probe(np.eye(CLIPS)[GROUPS], target, splits(target, 5))
    assert np.mean(told) > 0.6


def test_seeds_split_otherwise_and_repeat() -> None:
    target = Target("class", CLASSES, GROUPS)
    first, again = splits(target, 4), splits(target, 4)
    assert len({tuple(part.judged) for part in first}) > 1
    assert all(np.array_equal(a.judged, b.judged) for a, b in zip(first, again, strict=True))


def test_components_are_of_the_fitted_windows_the_widest_first() -> None:
    wide = NUMBERS * np.array([100.0, 1, 1, 1, 1])
    along = Target("wide", NUMBERS[:, :1], GROUPS)
    across = Target("narrow", NUMBERS[:, 1:2], GROUPS)
    assert max(probe(wide, along, splits(along, 2), components=1)) < 0.01
    assert min(probe(wide, across, splits(across, 2), components=1)) > 0.5


def test_a_rotation_and_a_scale_change_nothing() -> None:
    target = Target("number", NUMBERS[:, :1] + 0.1 * NUMBERS[:, 1:2], GROUPS)
    turned = 1000 * NUMBERS @ np.linalg.qr(RNG.normal(size=(5, 5)))[0] + 3
    parts = splits(target, 2)
    np.testing.assert_allclose(probe(turned, target, parts), probe(NUMBERS, target, parts), atol=1e-9)


def test_what_does_not_count_and_what_cannot_be_probed() -> None:
    names = np.where(GROUPS == 0, "", np.where(GROUPS < 4, "few", "many"))
    assert usable(Target("class", names, GROUPS)).tolist() == (GROUPS >= 4).tolist()
    numbers = np.where(GROUPS[:, None] == 3, np.nan, NUMBERS[:, :2])
    assert usable(Target("number", numbers, GROUPS)).tolist() == (GROUPS != 3).tolist()
    with pytest.raises(UsageError, match="class is known in 3 clips or tasks, expected at least 4"):
        splits(Target("class", CLASSES, GROUPS % 3), 1)
    with pytest.raises(UsageError, match="the target class is the same in all windows that count"):
        splits(Target("class", np.full(len(GROUPS), "one"), GROUPS), 1)
    with pytest.raises(UsageError, match="the target number is the same in all windows"):
        splits(Target("number", np.ones((len(GROUPS), 2)), GROUPS), 1)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"need scikit-learn, .* pip install 'scikit-learn>=1\.5'"):
        splits(Target("class", CLASSES, GROUPS), 1)
