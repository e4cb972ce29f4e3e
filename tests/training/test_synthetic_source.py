"""Training on made-up motion: with no tracks, going on bit for bit, and what is refused."""

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.errors import CheckpointError, UsageError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
from amplify_motion_tokenizer.models.convert import convert
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import amplify_config, with_training
from tests.support.training_runs import next_second, scalars


@pytest.fixture
def config(tiny: Config) -> Config:
    data = dataclasses.replace(tiny.data, source="synthetic", synthetic_windows=14)
    return with_training(dataclasses.replace(tiny, data=data), epochs=2)


def test_a_run_without_tracks_goes_on_bit_for_bit(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(config, None, tmp_path / "whole")
    assert "training on 14 made-up windows, validating on 4 made-up windows, from step 0" in caplog.text
    # Stopped within the second epoch, whose windows are not the first one's.
    train(with_training(config, max_steps=5), None, tmp_path / "parts")
    next_second()
    train(config, None, tmp_path / "parts", resume="auto")
    whole, parts = (load_checkpoint(tmp_path / name / "last.pth") for name in ("whole", "parts"))
    assert all(torch.equal(value, parts.model[name]) for name, value in whole.model.items())
    assert whole.metrics == parts.metrics
    losses = scalars(tmp_path / "whole", "train/loss")
    assert [step for step, _ in losses] == list(range(1, 9))
    assert losses == scalars(tmp_path / "parts", "train/loss")
    assert whole.track_settings == track_settings(config)
    with pytest.raises(CheckpointError, match="data.synthetic_windows 14 -> 15"):
        more = dataclasses.replace(config.data, synthetic_windows=15)
        train(dataclasses.replace(config, data=more), None, tmp_path / "parts", resume="auto")


def test_tracks_and_made_up_motion_train_together(
    run_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data = dataclasses.replace(run_config.data, source="both", synthetic_share=0.25)
    config = with_training(dataclasses.replace(run_config, data=data), epochs=1)
    train(config, tmp_path / "tracks", tmp_path / "run")
    found = "training on 21 windows of 3 clips and 7 made-up windows, validating on 7 windows of 1 clips"
    assert found in caplog.text
    assert load_checkpoint(tmp_path / "run" / "last.pth").training["state"]["windows"] == 28


def test_tracks_that_are_missing_or_too_many_are_named(config: Config, tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="but data.source: synthetic takes none"):
        train(config, tmp_path, tmp_path / "run")
    with pytest.raises(UsageError, match="--input is required: with data.source: tracks"):
        train(tiny, None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_of_made_up_motion_is_written_for_amplify_bit_for_bit(tmp_path: Path) -> None:
    config = amplify_config(views=1)
    data = dataclasses.replace(config.data, source="synthetic", synthetic_windows=8)
    config = with_training(dataclasses.replace(config, data=data), epochs=1)
    train(config, None, tmp_path / "run")
    convert(tmp_path / "run" / "best.pth", tmp_path / "exported.pth", "amplify")
    ours, theirs = (load_tokenizer(tmp_path / name) for name in ("run/best.pth", "exported.pth"))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    content = torch.load(tmp_path / "exported.pth", weights_only=True)
    assert "format" not in content
    assert content["config"]["num_tracks"] == 9
