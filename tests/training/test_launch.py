"""What launchers ask for is taken over, told or refused before anything is written."""

import logging
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import TrainingError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import with_training


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ACCELERATE_DYNAMO_BACKEND", "EAGER", "training.compile"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "training.compile"),
        ("ACCELERATE_USE_FSDP", "true", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "splitting the model"),
    ],
)
def test_other_ways_to_train_are_refused(
    name: str, value: str, words: str, run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=f"the launcher sets {name} = {value}: .*{words}"):
        train(run_config, tmp_path / "tracks", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value", "key", "level"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", "training.mixed_precision = no", logging.WARNING),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "training.mixed_precision = no", logging.WARNING),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "gradient_accumulation_steps = 1", logging.WARNING),
        ("ACCELERATE_GRADIENT_CLIPPING", "1.0", "training.clip_grad_norm = none", logging.WARNING),
    ],
)
def test_settings_that_the_config_decides_are_told(
    name: str,
    value: str,
    key: str,
    level: int,
    run_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(name, value)
    train(with_training(run_config, max_steps=1), tmp_path / "tracks", tmp_path / "run")
    (record,) = [each for each in caplog.records if each.getMessage().startswith("the launcher sets")]
    assert record.levelno == level
    assert f"{name} = {value}" in record.getMessage()
    assert key in record.getMessage()


@pytest.mark.parametrize(
    ("name", "value"), [("ACCELERATE_DYNAMO_BACKEND", ""), ("ACCELERATE_GRADIENT_CLIPPING", "1")]
)
def test_settings_that_say_nothing_else_are_not_told(
    name: str,
    value: str,
    run_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(name, value)
    config = with_training(run_config, max_steps=1, clip_grad_norm=1.0)
    train(config, tmp_path / "tracks", tmp_path / "run")
    assert (tmp_path / "run" / "last.pth").exists()
    assert "the launcher sets" not in caplog.text


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"])
def test_processes_without_a_meeting_place_are_refused(
    name: str, run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "2")
    with pytest.raises(TrainingError, match=f"the launcher sets {name} = 2, but not MASTER_ADDR"):
        train(run_config, tmp_path / "tracks", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_files_with_the_names_of_a_compiled_model_load_everywhere(run_config: Config, tmp_path: Path) -> None:
    train(with_training(run_config, epochs=1, ema_decay=0.9), tmp_path / "tracks", tmp_path / "run")
    last = (tmp_path / "run") / "last.pth"
    expected = load_checkpoint(last)
    content = torch.load(last, weights_only=True)
    content["model"] = {f"_orig_mod.{name}": value for name, value in content["model"].items()}
    own = content["training"]["average"]["own"]
    content["training"]["average"]["own"] = {
        name.replace("encoder.", "encoder._orig_mod.", 1): value for name, value in own.items()
    }
    torch.save(content, last)
    loaded = load_tokenizer(last).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.model.items())
    train(
        with_training(run_config, epochs=2, ema_decay=0.9),
        tmp_path / "tracks",
        tmp_path / "run",
        resume="auto",
    )
    assert load_checkpoint(last).model.keys() == expected.model.keys()
    assert not any("_orig_mod" in name for name in torch.load(last, weights_only=True)["model"])
