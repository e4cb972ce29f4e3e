"""Options of training: running means, early stopping, validation by steps, compiling, fixed kernels."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
from amplify_motion_tokenizer.training.learner import WeightAverage
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import with_training
from tests.support.training_runs import scalars, weights

Write = Callable[..., Path]


def test_running_mean_of_weights_follows_its_recurrence() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    average = WeightAverage(model, decay=0.5)
    expected = 1.0
    for update, value in enumerate([3.0, 5.0, -2.0, 7.0, 7.0, 7.0, 7.0, 7.0, 0.0], start=1):
        torch.nn.init.constant_(model.weight, value)
        average.update(torch.tensor(False))
        assert average.means["weight"].item() == pytest.approx(expected, abs=1e-6), "a step that was skipped"
        average.update(torch.tensor(True))
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
        assert average.means["weight"].item() == pytest.approx(expected, abs=1e-6)
    with average.in_use():
        assert model.weight.item() == pytest.approx(expected, abs=1e-6)
    assert model.weight.item() == 0.0


def test_inference_and_validation_use_the_running_mean(run_config: Config, tmp_path: Path) -> None:
    plain = with_training(run_config, learning_rate=0.01)
    config = with_training(run_config, learning_rate=0.01, ema_decay=0.99)
    train(plain, tmp_path / "tracks", tmp_path / "plain")
    train(config, tmp_path / "tracks", tmp_path / "run")
    run, other = tmp_path / "run", tmp_path / "plain"
    # The steps are the same, and so are the weights that they give; what is validated is not.
    assert scalars(run, "train/loss") == scalars(other, "train/loss")
    assert scalars(run, "val/loss") != scalars(other, "val/loss")
    last = load_checkpoint(run / "last.pth")
    own = last.training["average"]["own"]
    assert all(torch.equal(own[name], value) for name, value in weights(other / "last.pth").items())
    assert not all(torch.equal(own[name], last.model[name]) for name in own)
    loaded = load_tokenizer(run / "last.pth").state_dict()
    assert all(torch.equal(loaded[name], last.model[name]) for name in last.model)


def test_training_stops_early_without_a_new_best(
    run_config: Config, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    config = with_training(run_config, early_stopping=2, learning_rate=1e-12, epochs=50)
    assert train(config, tmp_path / "tracks", tmp_path / "run") is None
    losses = [value for _, value in scalars(tmp_path / "run", "val/loss")]
    best = losses.index(min(losses))
    assert len(losses) == best + 3
    assert "stopped early at step" in caplog.text
    assert train(config, tmp_path / "tracks", tmp_path / "run", resume="auto") is None
    assert [value for _, value in scalars(tmp_path / "run", "val/loss")] == losses


def test_validation_every_few_steps_finds_the_best(run_config: Config, tmp_path: Path) -> None:
    config = with_training(run_config, validate_every_steps=4, learning_rate=0.05)
    train(config, tmp_path / "tracks", tmp_path / "run")
    found = scalars(tmp_path / "run", "val/loss")
    assert [step for step, _ in found] == [4, 6, 8, 12]
    best = load_checkpoint(tmp_path / "run" / "best.pth")
    step = min(found, key=lambda each: each[1])[0]
    assert best.training["state"]["step"] == step


def test_compiled_training_keeps_the_names_of_the_weights(
    run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dynamo traces the model; what its compiler makes of that takes too long for a test."""
    compiled = []

    def fast(module: torch.nn.Module, **options: Any) -> None:
        compiled.append(options)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", fast)
    plain = with_training(run_config, epochs=1)
    config = with_training(run_config, epochs=1, compile=True)
    train(plain, tmp_path / "tracks", tmp_path / "plain")
    train(config, tmp_path / "tracks", tmp_path / "run")
    assert compiled == [{"dynamic": False}]
    own, other = (weights(tmp_path / name / "last.pth") for name in ("run", "plain"))
    assert own.keys() == other.keys()
    for name, value in other.items():
        torch.testing.assert_close(own[name], value)


@pytest.fixture
def _free_kernels() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_free_kernels")
def test_deterministic_kernels_can_be_asked_for(run_config: Config, tmp_path: Path) -> None:
    train(with_training(run_config, epochs=1, deterministic=True), tmp_path / "tracks", tmp_path / "run")
    assert torch.are_deterministic_algorithms_enabled()
