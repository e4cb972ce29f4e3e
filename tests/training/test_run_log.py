"""What a run tells its user, TensorBoard and Weights & Biases."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from accelerate.tracking import GeneralTracker

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.training import log
from amplify_motion_tokenizer.training import run as training_module
from amplify_motion_tokenizer.training.log import CollapseAlarm
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import with_training
from tests.support.training_runs import scalars

Write = Callable[..., Path]


USAGE = {"unique_codes": 12.0, "normalized_entropy": 0.6}


@pytest.mark.parametrize("usage", [{"unique_codes": 1.0}, {"normalized_entropy": 0.01}])
def test_the_alarm_sounds_once_when_codes_collapse(tiny: Config, usage: dict[str, float]) -> None:
    alarm = CollapseAlarm(tiny)
    bad = {**USAGE, **usage}
    seen = [(USAGE, 5), (bad, 1000), (bad, 1001), (bad, 1002), (USAGE, 1003), (bad, 1004)]
    assert [alarm.sounds(usage, step) for usage, step in seen] == [False, False, True, False, False, True]


def test_a_collapse_is_told_in_the_log_and_in_tensorboard(
    run_config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(log, "AFTER_STEPS", 8)
    monkeypatch.setattr(log, "MIN_UNIQUE_CODES", 21)
    train(run_config, tmp_path / "tracks", tmp_path / "run")
    (warning, at_the_end) = [r.getMessage() for r in caplog.records if "collapsed" in r.getMessage()]
    assert warning.startswith("the codebook has collapsed at step 9: ")
    assert "raise loss.usage.weight (now 0; see docs/measured/codebook.md)" in warning
    assert "training.learning_rate" in warning
    assert at_the_end.startswith("the codebook has collapsed in the last epoch: ")
    run = tmp_path / "run"
    assert [value for _, value in scalars(run, "train/collapsed")] == [1.0] * 12
    events = training_events(run)
    (text,) = events.Tensors("train/collapse_alarm/text_summary")
    assert text.step == 9


def training_events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return events


def test_clamped_and_centre_shares_are_logged(run_config: Config, tmp_path: Path) -> None:
    """Of three points one is lost, one rests and one leaves the window of 7 x 7."""
    for path in (tmp_path / "tracks").glob("*.hdf5"):
        with h5py.File(path, "a") as file:
            tracks = file["root/default/tracks"][...]
            steps = tracks[:, :1] * 0 + torch.arange(6.0).numpy()[:, None, None]
            tracks[:, :, :3] = float("nan")
            tracks[:, :, 3:6] = tracks[:, :1, 3:6]
            tracks[:, :, 6:] = tracks[:, :1, 6:] + 5 * steps[:, :, 6:]
            file["root/default/tracks"][...] = tracks
    train(with_training(run_config, max_steps=1), tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    assert scalars(run, "train/clamped_share") == [(1, pytest.approx(0.5))]
    assert scalars(run, "train/center_share") == [(1, pytest.approx(0.5))]
    assert scalars(run, "val/clamped_share") == [(1, pytest.approx(0.5))]


def test_wandb_that_is_not_there_is_named(
    run_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name))
    with pytest.raises(ConfigError, match="pip install wandb"):
        train(with_training(run_config, wandb_project="motion"), tmp_path / "tracks", tmp_path / "run")


class FakeTracker(GeneralTracker):
    """Stands for accelerate's tracker, which needs the library."""

    name = "wandb"
    requires_logging_directory = False
    made: list[Any] = []

    def __init__(self, project: str, **options: Any) -> None:
        super().__init__()
        self.project, self.options, self.rows = project, options, []
        self.made.append(self)

    def start(self) -> None: ...

    @property
    def tracker(self) -> Any:
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None: ...

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.rows.append((step, values))

    def finish(self) -> None: ...


def test_wandb_gets_what_tensorboard_gets(
    run_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training_module, "WandBTracker", FakeTracker)
    monkeypatch.setattr(training_module, "_check_wandb", lambda config: None)
    config = with_training(run_config, wandb_project="motion")
    train(with_training(config, epochs=1), tmp_path / "tracks", tmp_path / "run")
    train(config, tmp_path / "tracks", tmp_path / "run", resume="auto")
    first, second = FakeTracker.made
    assert (first.project, first.options["resume"]) == ("motion", "allow")
    assert first.options["id"] == second.options["id"]
    logged = [(step, row["train/loss"]) for step, row in first.rows if "train/loss" in row]
    assert [step for step, _ in logged] == [1, 2, 3, 4, 5, 6]
    assert logged[-1] == (6, pytest.approx(scalars(tmp_path / "run", "train/loss")[5][1]))
