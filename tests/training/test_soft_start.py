"""Training that begins to quantise softly: its stages by steps, and that it goes on bit for bit."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.models.keypoint.network import KeypointTokenizer
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import with_training
from tests.support.training_runs import weights


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stage of every training step."""
    seen: list[str] = []
    original = KeypointTokenizer.forward

    def forward(model: KeypointTokenizer, velocities: Any, images: Any, stage: Any = "round") -> Any:
        seen.extend([stage] * model.training)
        return original(model, velocities, images, stage)

    monkeypatch.setattr(KeypointTokenizer, "forward", forward)
    return seen


def test_stages_follow_the_run_which_goes_on_bit_for_bit(
    run_config: Config, tmp_path: Path, stages: list[str]
) -> None:
    quantizer = dataclasses.replace(run_config.model.quantizer, start="soft")
    soft = dataclasses.replace(run_config, model=dataclasses.replace(run_config.model, quantizer=quantizer))
    config = with_training(soft, batch_size=1, max_steps=25)
    train(config, tmp_path / "tracks", tmp_path / "whole")
    # Steps begin when 0, 4, 8 ... % are done: none below 4, noise below 44.
    assert stages == ["none"] + ["noise"] * 10 + ["round"] * 14
    stages.clear()
    constant = with_training(config, max_steps=25, save_every_steps=5)
    train(with_training(constant, max_steps=5), tmp_path / "tracks", tmp_path / "short")
    assert stages == ["none"] + ["noise"] * 2 + ["round"] * 2
    with pytest.raises(CheckpointError, match="model.quantizer.start soft -> round"):
        train(run_config, tmp_path / "tracks", tmp_path / "whole", resume="auto")


def test_a_run_that_is_stopped_in_the_noise_goes_on_as_if_it_were_not(
    run_config: Config, tmp_path: Path
) -> None:
    from tests.support.training_runs import StopError, next_second, stop_after

    quantizer = dataclasses.replace(run_config.model.quantizer, start="soft")
    soft = dataclasses.replace(run_config, model=dataclasses.replace(run_config.model, quantizer=quantizer))
    config = with_training(soft, save_every_steps=3)  # 12 steps: none in 0, noise in 1 to 5
    train(config, tmp_path / "tracks", tmp_path / "whole")
    with stop_after(3), pytest.raises(StopError):
        train(config, tmp_path / "tracks", tmp_path / "parts")
    next_second()
    train(config, tmp_path / "tracks", tmp_path / "parts", resume="auto")
    ours, theirs = (weights(tmp_path / name / "last.pth") for name in ("whole", "parts"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
