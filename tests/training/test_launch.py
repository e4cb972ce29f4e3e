"""What launchers ask for is taken over, told or refused before anything is written."""

import logging
from pathlib import Path

import pytest
import torch
from accelerate.commands import launch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import TrainingError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
from amplify_motion_tokenizer.training.launch import check_launch
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


FILES = Path(__file__).parents[2] / "configs" / "accelerate"


def launcher_sets(path: Path, *options: str) -> dict[str, str]:
    """The environment that ``accelerate launch --config_file path`` gives the processes it starts."""
    line = ["--config_file", str(path), "--num_cpu_threads_per_process", "1", *options, "train.py"]
    args, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(line))
    if args.multi_gpu or args.use_fsdp or args.use_megatron_lm:
        return prepare_multi_gpu_env(args)
    return prepare_simple_launcher_cmd_env(args)[1]


@pytest.mark.parametrize(
    ("name", "processes", "machines"),
    [("one_machine.yaml", 1, 1), ("gpus.yaml", 8, 1), ("two_nodes.yaml", 16, 2)],
)
def test_shipped_files_of_accelerate_ask_for_nothing_that_is_not_done(
    name: str, processes: int, machines: int, caplog: pytest.LogCaptureFixture
) -> None:
    content = load_config_from_file(str(FILES / name))
    assert (content.num_processes, content.num_machines) == (processes, machines)
    with caplog.at_level(logging.INFO):
        check_launch(Config().training, launcher_sets(FILES / name, "--main_process_port", "0"))
    expected = Config().training.mixed_precision
    told = [record for record in caplog.records if record.getMessage().startswith("the launcher sets")]
    assert len(told) == (expected != "no") and all(record.levelno == logging.INFO for record in told)


@pytest.mark.parametrize(
    ("way", "words"),
    [("FSDP", "FSDP .* is not supported"), ("MEGATRON_LM", "Megatron-LM .* is not supported")],
)
def test_files_that_ask_for_other_ways_are_refused(way: str, words: str, tmp_path: Path) -> None:
    text = (FILES / "gpus.yaml").read_text(encoding="utf-8").replace("MULTI_GPU", way)
    (tmp_path / "file.yaml").write_text(text, encoding="utf-8")
    environment = launcher_sets(tmp_path / "file.yaml", "--main_process_port", "0")
    with pytest.raises(TrainingError, match=words):
        check_launch(Config().training, environment)


@pytest.mark.parametrize("options", [("--num_processes", "2"), ("--num_processes", "2", "--cpu")])
def test_one_process_in_the_place_of_several_is_refused(
    options: tuple[str, ...], run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accelerate starts one where its file says no way to train by several, and tells nobody."""
    environment = launcher_sets(FILES / "one_machine.yaml", *options)
    assert "WORLD_SIZE" not in environment
    for name in ("MASTER_ADDR", "MASTER_PORT", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.setenv(name, environment[name])
    with pytest.raises(TrainingError, match=r"several processes and started one.*gpus\.yaml"):
        train(run_config, tmp_path / "tracks", tmp_path / "run")
    assert not (tmp_path / "run").exists()
