"""A small part of what ``make fuzz`` tries, with fixed seeds."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import harness
from tests.fuzz.harness import Case, Outcome, Trial
from tests.fuzz.kinds import KINDS

pytest.importorskip("pyarrow")
SEED = 20_260
COUNTS = {
    "config": 40, "tracks": 30, "small_tracks": 20, "pt": 15, "pack": 30, "checkpoint": 8, "shipped": 10,
    "hub": 10, "codes": 40, "manifest": 40, "segments": 30, "libero": 8, "video": 15, "images": 15,
    "index": 10, "search": 20, "amplify": 10, "reproduction": 10, "labels": 20, "lock": 8, "outputs": 6,
}  # fmt: skip
"""Cases of each kind that makes its good files fast; encoders and trackers take seconds to start."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    harness.make_seeds(folder, set(COUNTS))
    return folder


@pytest.fixture
def trial(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    made = Trial(tmp_path / "own", place)
    monkeypatch.chdir(made.folder)
    logging.disable(logging.CRITICAL)
    yield made
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", COUNTS)
def test_hostile_files_are_read_or_refused_in_one_line(kind: str, trial: Trial) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [(number, trial.run(Case(kind, number, SEED))) for number in range(COUNTS[kind])]
    faults = [(number, *outcome[1:]) for number, outcome in found if outcome.status == "fault"]
    assert not faults, faults[0]
    assert any(outcome.status == "refused" for _, outcome in found)


def test_every_kind_has_its_cases() -> None:
    assert set(COUNTS) == set(KINDS) - {"lerobot", "export", "preprocessed", "run"}


def test_a_fault_is_told() -> None:
    def crash() -> None:
        raise KeyError("hostile")

    def lines() -> None:
        from amplify_motion_tokenizer.errors import UsageError

        raise UsageError("x" * 5000)

    assert harness.judged(crash).status == "fault"
    assert harness.judged(lines).status == "fault"
    assert harness.judged(lambda: None) == Outcome("read")
