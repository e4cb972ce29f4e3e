"""Settings that went: files written before are read, and whoever names one is told what took its place.

``settings_before.json`` holds what the version before wrote of three configs: the whole config, the settings
that decide tracks, and the hashes of track files and codes (of a checkpoint whose hash is 64 zeros).
"""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from amplify_motion_tokenizer.codes.record import known_config_hashes
from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config import Config, changes, flatten, to_dict, track_settings, unflatten
from amplify_motion_tokenizer.config.gone import CONSTANTS, KEYS, known_hashes, settings_now, translate
from amplify_motion_tokenizer.config.keys import settings_hash
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import CheckpointError, ConfigError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
from amplify_motion_tokenizer.training.run import train
from tests.support.checkpoints import save_native
from tests.support.run_scripts import TINY

BEFORE = json.loads(Path(__file__).with_name("settings_before.json").read_text(encoding="utf-8"))
"""By name: ``quickstart``, ``letterbox`` (with CoTracker), ``amplify``."""


def parse(*argv: str) -> Config:
    return cli.parse(argv, "train", "test", {})[0]


def tree_of(**values: Any) -> dict[str, Any]:
    """The quickstart's config as it was written, with other values; ``__`` stands for dots."""
    changed = {key.replace("__", "."): value for key, value in values.items()}
    return unflatten(flatten(copy.deepcopy(BEFORE["quickstart"]["config"])) | changed)


@pytest.mark.parametrize("name", BEFORE)
def test_configs_and_hashes_written_before_are_those_of_today(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = BEFORE[name]
    config = config_from_dict(before["config"], "in the test")
    assert not caplog.records
    assert before["track_hash"] in known_hashes(track_settings(config))
    assert before["code_hash"] in known_config_hashes(config, "0" * 64)
    assert changes(settings_now(before["track_settings"], "a file"), track_settings(config)) == []
    # What is still a setting has the value that it had.
    then, now = flatten(before["config"]), flatten(to_dict(config))
    assert {key: then[key] for key in now.keys() & then.keys()} == {
        key: now[key] for key in now.keys() & then
    }
    assert then.keys() - now.keys() == KEYS
    # What came since has its default, but for what took a gone setting's place.
    defaults = flatten(to_dict(Config()))
    came = now.keys() - then.keys() - {"video.size", "data.min_visibility", "data.min_visible_share"}
    assert {key: now[key] for key in came} == {key: defaults[key] for key in came}
    assert {"video.fps", "video.shots", "tracking.pad_end"} <= came
    assert now["data.min_visibility"] == then["loss.min_visibility"]


def test_files_made_before_a_setting_came_count_as_made_with_its_default() -> None:
    now = track_settings(parse("--video.fps", "5"))
    later = ("tracking.pad_end", "video.shots", "tracking.store")
    earlier = {key: value for key, value in now.items() if key not in later}
    between = {key: value for key, value in now.items() if key not in later[1:]}
    lately = {key: value for key, value in now.items() if key not in later[2:]}
    assert settings_hash(lately) in known_hashes(now) and changes(settings_now(lately, "a file"), now) == []
    assert settings_hash(between) in known_hashes(now) and changes(settings_now(between, "a file"), now) == []
    assert settings_hash(earlier) in known_hashes(now)
    assert changes(settings_now(earlier, "a file"), now) == []
    padded = now | {"tracking.pad_end": "repeat_last"}
    assert known_hashes(padded).isdisjoint(known_hashes(now))
    assert changes(settings_now(earlier, "a file"), padded) == ["tracking.pad_end none -> repeat_last"]


def test_sizes_are_taken_over() -> None:
    quick, boxed = (config_from_dict(BEFORE[name]["config"], "x") for name in ("quickstart", "letterbox"))
    assert (quick.video.size, boxed.video.size) == ({"shorter": 240}, (96, 128))
    amplify = config_from_dict(BEFORE["amplify"]["config"], "x")
    assert (amplify.model.fsq_levels, amplify.codebook_size) == ((8, 8, 6, 5), 1920)
    assert boxed.tracking.cotracker.weights_sha256 == "ab" * 32


def test_tracks_of_another_constant_equal_no_others() -> None:
    stored = BEFORE["quickstart"]["track_settings"] | {"tracking.flow.preset": "medium"}
    now = track_settings(config_from_dict(BEFORE["quickstart"]["config"], "x"))
    assert changes(settings_now(stored, "a file"), now) == ["tracking.flow.preset medium -> None"]


def test_part_of_the_settings_is_translated_too() -> None:
    assert translate({"video.resize_shorter": None}) == ({"video.size": None}, {}, {})
    assert translate({"video.fit": "shorter", "video.target_size": None}).now == {}
    assert translate({"model.nominal_codebook_size": 64}).other == {"model.nominal_codebook_size": 64}


def test_a_checkpoint_written_before_loads_and_tells_what_is_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_from_dict(TINY, "in the tests")
    save_native(tmp_path / "new.pth", config)
    content = torch.load(tmp_path / "new.pth", weights_only=True)
    then = flatten(content["config"]) | {key: constant.value for key, constant in CONSTANTS.items()}
    for key in ("video.size", "data.min_visibility", "data.min_visible_share"):
        del then[key]
    then |= {
        "video.resize_shorter": 48, "video.fit": "shorter", "video.target_size": None,
        "loss.min_visibility": 0.5, "loss.min_visible_share": 0.1, "data.num_points": 9,
        "model.num_classes": 49, "model.codebook_size": 20, "model.nominal_codebook_size": None,
        "data.tracks_dir": "tracks", "training.output_dir": "run",
    }  # fmt: skip
    assert then.keys() >= KEYS
    content["config"] = unflatten(then)
    torch.save(content, tmp_path / "old.pth")
    old = load_checkpoint(tmp_path / "old.pth")
    assert (old.config, old.gone) == (config, {})
    assert not caplog.records
    load_tokenizer(tmp_path / "old.pth")

    then |= {"tracking.flow.refine": False, "loss.radial_strength": 0.5, "training.keep_epochs": 3}
    torch.save({**content, "config": unflatten(then)}, tmp_path / "other.pth")
    other = load_checkpoint(tmp_path / "other.pth")
    assert other.config == config
    assert other.gone.keys() == {"tracking.flow.refine", "loss.radial_strength", "training.keep_epochs"}
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "tracking.flow.refine = false" in warning and "other.pth" in warning
    assert "it is true always; tracks made now differ" in warning


def test_a_run_with_another_constant_cannot_go_on(run_config: Config, tmp_path: Path) -> None:
    train(run_config, tmp_path / "tracks", tmp_path / "run")
    content = torch.load(tmp_path / "run/last.pth", weights_only=True)
    content["config"]["loss"]["alpha_other"] = 0.5
    torch.save(content, tmp_path / "run/last.pth")
    with pytest.raises(CheckpointError, match=r"loss\.alpha_other = 0\.5, which is no setting .* it is 1\.0"):
        train(run_config, tmp_path / "tracks", tmp_path / "run", "auto")


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"data__num_points": 5}, ["data.num_points = 5", "allowed: 36, which is data.grid_size^2"]),
        ({"model__codebook_size": 5}, ["model.codebook_size = 5", "2048"]),
        ({"video__fit": "letterbox"}, ["video.fit = letterbox is video.size now"]),
    ],
)
def test_a_stored_config_that_contradicts_itself_is_refused(values: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(tree_of(**values), "in old.pth")
    for part in [*parts, "in old.pth"]:
        assert part in str(caught.value)


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_command_line_that_names_one_is_told(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is (no setting|video\.size now|data\.min_vis)") as caught:
        parse(f"--{key}", "1")
    assert "\n" not in str(caught.value)


def test_a_config_file_that_names_some_is_taken_over_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "video:\n  resize_shorter: 240\n"
        "tracking:\n  flow: {preset: ultrafast}\n"
        "loss:\n  min_visibility: 0.25\n"
        "data: {num_points: 400}\n"
    )
    caplog.set_level(logging.WARNING)
    config = parse("--config", str(path))
    assert config.video.size == {"shorter": 240} and config.data.min_visibility == 0.25
    (warning,) = [record.getMessage() for record in caplog.records]
    for part in (
        "c.yaml",
        "video.resize_shorter is video.size now",
        "preset is no setting any more",
    ):
        assert part in warning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tracking:\n  flow:\n    preset: medium\n",
            "c.yaml:3: tracking.flow.preset = medium is no set",
        ),
        (
            "model:\n  nominal_codebook_size: 2048\n",
            "c.yaml:2: model.nominal_codebook_size = 2048 is",
        ),
        ("\ndata: {num_points: 300}\n", "c.yaml:2: data.num_points = 300 is impossible; allowed: 400"),
        ("video:\n  resize_shorter: 4\n", "c.yaml:2: video.size = {shorter: 4} is impossible"),
        ("training: {collapse: 3}", "c.yaml:1: training.collapse = 3 is a section"),
    ],
)
def test_a_config_file_that_says_what_nothing_can_say_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        parse("--config", str(tmp_path / "c.yaml"))
    assert message in str(caught.value)
