import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config import (
    SETTINGS,
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
from amplify_motion_tokenizer.config.settings import setting, settings_of
from tests.support import shipped_config
from tests.support.command_lines import FLAGS, error_of, parse

ROOT = Path(__file__).parents[2]


def test_shipped_config_is_the_defaults_and_the_reproduction() -> None:
    config = parse("--config", str(ROOT / "configs/tokenizer_config.yaml"))
    assert config == validate(Config())
    listed = flatten(load_yaml(ROOT / "configs/tokenizer_config.yaml"))
    assert listed.keys() == {key for key, setting in SETTINGS.items() if not setting.record}
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
        (
            ["--training", "3"],
            ["training = 3 is a section; expected keys below it, such as training."],
        ),
        (
            ["--video.reader", "ffmpeg"],
            ["video.reader = ffmpeg is impossible; allowed: auto, pyav, decord, opencv"],
        ),
        (["--video.target_fps", "fast"], ["video.target_fps = fast", "allowed: a number above 0, or null"]),
        (["--tracking.gate.enable", "maybe"], ["tracking.gate.enable = maybe", "allowed: true or false"]),
        (["--training.betas", "0.9"], ["training.betas = 0.9", "allowed: [a number, a number]"]),
        (["--model.fsq_levels", "many"], ["model.fsq_levels = [many]", "allowed: [a whole number, ...]"]),
        (
            ["--data.reference_size", "big"],
            ["allowed: [a whole number, a whole number] or {shorter: a whole number} or null"],
        ),
        (["--data.num_points", "300"], ["data.num_points is no setting", "data.grid_size"]),
        (["--model.num_classes", "224"], ["model.num_classes is no setting", "velocity classes"]),
        (["--model.codebook_size", "1024"], ["model.codebook_size is no setting", "model.fsq_levels"]),
        (["--model.num_heads", "7"], ["model.num_heads = 7", "768"]),
        (["--model.name", "amplfy"], ["model.name = amplfy is impossible; allowed: keypoint, amplify"]),
        (["--tracking.num_workers", "0"], ["tracking.num_workers = 0", "at least 1", "null"]),
        (["--tracking.window_stride", "0"], ["tracking.window_stride = 0", "at least 1"]),
        (["--model.decoder_window_size", "14"], ["model.decoder_window_size = 14", "odd"]),
        (["--model.dropout", "1.0"], ["model.dropout = 1.0", "below 1"]),
        (["--video.target_fps", "-5"], ["video.target_fps = -5", "above 0"]),
        (["--video.target_fps", ".inf"], ["video.target_fps", "finite"]),
        (["--data.reference_size", "{longer: 3}"], ["data.reference_size", "shorter"]),
        (["--data.sequence_length", "1"], ["data.sequence_length = 1", "from 2 to 4096"]),
        (["--model.fsq_levels", "[]"], ["model.fsq_levels = []", "at least 3"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "does not exist"]),
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


def test_overrides_of_a_saved_config_leave_the_rest() -> None:
    saved = parse("--data.grid_size", "10", "--training.betas", "0.5", "0.6")
    config, _ = cli.parse(["--data.grid_size", "5"], "train", "test", FLAGS, defaults=saved)
    assert (config.num_points, config.training.betas) == (25, (0.5, 0.6))


def test_track_settings_leave_out_what_changes_no_track() -> None:
    base = track_settings(Config())
    argv = "--video.threads 7 --tracking.num_workers 3 --tracking.cotracker.checkout x --training.epochs 2"
    same = parse(*argv.split())
    assert settings_hash(track_settings(same)) == settings_hash(base)
    other = parse("--video.target_fps", "10")
    assert changes(base, track_settings(other)) == ["video.target_fps 20.0 -> 10.0"]
    assert settings_hash(track_settings(other)) != settings_hash(base)


def test_a_field_that_does_not_say_what_it_decides_is_an_error() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Plain:
        threads: int = 2

    with pytest.raises(TypeError, match="video.threads does not say what it decides"):
        list(settings_of(Plain, "video."))
    with pytest.raises(ValueError, match="decides = 'speeed'; expected words of tracks, velocities"):
        setting(2, decides="speeed", help="")


def test_help_texts_stand_alone() -> None:
    """Each is a sentence that begins with a noun, or the like, and leans on no other."""
    for key, own in SETTINGS.items():
        assert own.help.endswith(".") and own.help[0].isupper(), key
        assert not re.match(r"(Its|Their|Of|The same|Also|It|They|And|\.\.\.)\b", own.help), key
        assert "..." not in own.help and len(own.help.split()) >= 4, key


def test_the_shipped_config_is_made_of_the_settings() -> None:
    made = shipped_config.PATH.read_text(encoding="utf-8")
    assert made == shipped_config.text(), "run python -m tests.support.shipped_config"


@pytest.mark.parametrize("script", ["preprocess_videos.py", "train.py", "inference_short_clip.py"])
def test_help_all_tells_every_setting_and_help_those_of_the_command(script: str) -> None:
    def told(flag: str) -> tuple[set[str], str]:
        line = [sys.executable, str(ROOT / script), flag]
        out = subprocess.run(line, capture_output=True, text=True, check=True).stdout
        return set(re.findall(r"^  --([\w.]+\.\w+)$", out, re.MULTILINE)), " ".join(out.split())

    everything = {key for key, own in SETTINGS.items() if not own.record}
    own, text = told("--help")
    assert told("--help-all")[0] == everything and own < everything
    expected = {
        "preprocess_videos.py": ("video.target_fps", "loss.gamma", "default: 20.0)"),
        "train.py": ("loss.gamma", "video.target_fps", "default: 2.0)"),
        "inference_short_clip.py": ("video.target_fps", "model.hidden_dim", "default: the checkpoint's)"),
    }[script]
    assert expected[0] in own and expected[1] not in own and expected[2] in text
