import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import amplify_motion_tokenizer.config as config_module
from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config import (
    DERIVED_KEYS,
    Config,
    changes,
    flatten,
    settings_hash,
    to_dict,
    track_settings,
    unflatten,
)
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.errors import ConfigError

ROOT = Path(__file__).parents[2]
FLAGS: cli.Flags = {"--input": {"type": str}}


def parse(*argv: str) -> Config:
    return cli.parse(argv, "train", "test", FLAGS)[0]


def error_of(*argv: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*argv)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_shipped_config_is_the_defaults_and_the_reproduction() -> None:
    config = parse("--config", str(ROOT / "configs/tokenizer_config.yaml"))
    assert config == validate(Config())
    listed = flatten(load_yaml(ROOT / "configs/tokenizer_config.yaml"))
    assert listed.keys() == flatten(to_dict(Config())).keys() - set(DERIVED_KEYS)
    assert (config.model.hidden_dim, config.model.num_heads, config.model.num_layers) == (768, 8, 2)
    assert (config.data.sequence_length, config.data.grid_size, config.num_points) == (16, 20, 400)
    assert (config.model.decoder_window_size, config.num_classes, config.codebook_size) == (15, 225, 2048)


def test_quickstart_holds_only_differences() -> None:
    quick = flatten(load_yaml(ROOT / "configs/quickstart.yaml"))
    defaults = flatten(to_dict(Config()))
    assert [key for key, value in quick.items() if defaults[key] == value] == []


def test_overrides_win_over_files_and_later_files_over_earlier(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("training: {epochs: 3, seed: 1}\n")
    second.write_text("training: {epochs: 4}\n")
    config = parse("--config", str(first), "--config", str(second), "--training.seed", "9")
    assert (config.training.epochs, config.training.seed) == (4, 9)


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--training.epoch", "5"], ["training.epoch = 5", "training.epochs"]),
        (["--training.epoch=5"], ["training.epoch = 5", "training.epochs"]),
        (["--training.quick"], ["unknown key training.quick; closest valid key: training."]),
        (["--epochs", "5"], ["unknown option --epochs; did you mean --training.epochs?"]),
        (["--inptu", "x"], ["unknown option --inptu; did you mean --input?"]),
        (
            ["--overwrite", "--training.epochs", "3"],
            ["unknown option --overwrite; options here are --config, --input, ", "--help"],
        ),
        (["--training.epochs", "many"], ["training.epochs = many is impossible; allowed: a whole number"]),
        (["--training.epochs", "2.5"], ["training.epochs = 2.5", "a whole number"]),
        (["--training.epochs"], ["training.epochs lacks its value; allowed: a whole number"]),
        (["--training", "3"], ["training is a section; expected keys below it, such as training.output_dir"]),
        (
            ["--video.reader", "ffmpeg"],
            ["video.reader = ffmpeg is impossible; allowed: auto, pyav, decord, opencv"],
        ),
        (["--video.target_fps", "fast"], ["video.target_fps = fast", "allowed: a number or null"]),
        (["--tracking.gate.enable", "maybe"], ["tracking.gate.enable = maybe", "allowed: true or false"]),
        (["--training.betas", "0.9"], ["training.betas = 0.9", "allowed: [a number, a number]"]),
        (["--model.fsq_levels", "8"], ["model.fsq_levels = 8", "allowed: [a whole number, ...]"]),
        (
            ["--data.reference_size", "big"],
            ["allowed: [a whole number, a whole number] or {name: a whole number, ...} or null"],
        ),
        (["--data.num_points", "300"], ["data.num_points = 300", "400", "data.grid_size"]),
        (["--model.num_classes", "224"], ["model.num_classes = 224", "225"]),
        (["--model.codebook_size", "1024"], ["model.codebook_size = 1024", "2048"]),
        (["--model.num_heads", "7"], ["model.num_heads = 7", "768"]),
        (["--model.name", "amplfy"], ["model.name = amplfy is impossible; allowed: keypoint, amplify"]),
        (["--tracking.num_workers", "0"], ["tracking.num_workers = 0", "at least 1", "null"]),
        (["--tracking.window_stride", "0"], ["tracking.window_stride = 0", "at least 1"]),
        (["--model.decoder_window_size", "14"], ["model.decoder_window_size = 14", "odd"]),
        (["--model.dropout", "1.0"], ["model.dropout = 1.0", "below 1"]),
        (["--video.target_fps", "-5"], ["video.target_fps = -5", "above 0"]),
        (["--video.target_fps", ".inf"], ["video.target_fps", "finite"]),
        (["--data.reference_size", "{longer: 3}"], ["data.reference_size", "shorter"]),
        (["--data.sequence_length", "1"], ["data.sequence_length = 1", "at least 2"]),
        (["--model.fsq_levels", "[]"], ["model.fsq_levels = []", "at least 3"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "does not exist", "quickstart_amplify"]),
    ],
)
def test_errors_name_key_value_and_what_is_allowed(argv: list[str], parts: list[str]) -> None:
    message = error_of(*argv)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("tracking: {stride: 3}", ["tracking.stride = 3", "tracking.window_stride"]),
        ("vidoe: {target_fps: 3}", ["vidoe", "closest valid key: video"]),
        ("video: 3", ["video = 3", "section"]),
        ("model: {num_heads: many}", ["model.num_heads = many", "a whole number"]),
        ("- a list", ["list", "sections"]),
        (
            "{model: {num_layers: 2}, preprocess: {target_fps: 10}}",
            ["bad.yaml: this is a config of the keypoint reproduction", "read with the weights beside it"],
        ),
        ("video: {target_fps: [", ["not YAML"]),
    ],
)
def test_bad_config_files_are_one_line(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    message = error_of("--config", str(path))
    for part in parts:
        assert part in message


@pytest.mark.parametrize(("text", "size"), [("[240, 320]", (240, 320)), ("null", None)])
def test_resolved_config_round_trips_through_yaml(text: str, size: object) -> None:
    config = parse("--data.reference_size", text, "--training.learning_rate", "1e-5")
    assert config.data.reference_size == size
    text = yaml.safe_dump(to_dict(config))
    assert config_from_dict(yaml.safe_load(text), "test") == config
    assert unflatten(flatten(to_dict(config))) == to_dict(config)


def test_derived_numbers_follow_overrides_of_a_saved_config() -> None:
    saved = parse("--data.grid_size", "10")
    config, _ = cli.parse(["--data.grid_size", "5"], "train", "test", FLAGS, defaults=saved)
    assert config.data.num_points == 25


def test_track_settings_leave_out_what_changes_no_track() -> None:
    base = track_settings(Config())
    argv = "--video.threads 7 --tracking.num_workers 3 --tracking.cotracker.checkout x --training.epochs 2"
    same = parse(*argv.split())
    assert settings_hash(track_settings(same)) == settings_hash(base)
    other = parse("--video.target_fps", "10")
    assert changes(base, track_settings(other)) == ["video.target_fps 20.0 -> 10.0"]
    assert settings_hash(track_settings(other)) != settings_hash(base)


@pytest.mark.parametrize("script", ["preprocess_videos.py", "train.py", "inference_short_clip.py"])
def test_help_lists_every_key_with_its_meaning(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"], capture_output=True, text=True, check=True
    )
    for key in flatten(to_dict(Config())):
        assert f"--{key}" in done.stdout
    assert "Frames per second after resampling by time" in " ".join(done.stdout.split())


def test_every_key_is_documented() -> None:
    modules = Path(config_module.__file__).parent.glob("*.py")
    trees = [ast.parse(module.read_text()) for module in modules]
    sections = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert {section.name for section in sections} >= {"Config", "VideoConfig", "TrainingConfig"}
    for section in sections:
        for field, after in zip(section.body, section.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign):
                assert isinstance(after, ast.Expr), f"{section.name}: {ast.unparse(field)}"
