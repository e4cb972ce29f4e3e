"""An export and its import lose nothing but the state of training, or say so."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.amplify.exchange import amplify_content
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from amplify_motion_tokenizer.models.convert import convert
from amplify_motion_tokenizer.models.exchange import OWN_KEY
from tests.support.configs import amplify_config
from tests.support.run_scripts import TINY

METRICS = {"val/loss": 0.5}


def tracked_as(config: Config, **tracking: Any) -> Config:
    return dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, **tracking))


def keypoint_config(**data: Any) -> Config:
    return config_from_dict({**TINY, "data": {**TINY["data"], **data}}, "in the tests")


def saved(path: Path, config: Config) -> Checkpoint:
    """A native checkpoint of random weights that knows how its tracks were made."""
    torch.manual_seed(1)
    save_checkpoint(
        path,
        model=build_model(config).state_dict(),
        config=config,
        track_settings=track_settings(config),
        metrics=METRICS,
        training=None,
    )
    return load_checkpoint(path)


@pytest.mark.parametrize("kind", ["amplify", "keypoint"])
def test_config_track_settings_and_metrics_come_back(tmp_path: Path, kind: str) -> None:
    config = amplify_config() if kind == "amplify" else keypoint_config(reference_size=[40, 60])
    before = saved(tmp_path / "ours.pth", tracked_as(config, window_stride=3))
    convert(tmp_path / "ours.pth", tmp_path / "theirs.pt", kind)
    convert(tmp_path / "theirs.pt", tmp_path / "back.pth", "native")
    for path in (tmp_path / "theirs.pt", tmp_path / "back.pth"):
        back = load_checkpoint(path)
        assert (back.config, back.track_settings, back.metrics) == (
            before.config,
            before.track_settings,
            METRICS,
        )
        assert all(torch.equal(back.model[key], before.model[key]) for key in before.model)


def test_amplifys_own_files_stay_unknown_where_they_are(tmp_path: Path) -> None:
    config = amplify_config()
    torch.save(amplify_content(build_model(config).state_dict(), config), tmp_path / "theirs.pt")
    assert load_checkpoint(tmp_path / "theirs.pt").track_settings is None
    convert(tmp_path / "theirs.pt", tmp_path / "again.pt", "amplify")
    assert load_checkpoint(tmp_path / "again.pt").track_settings is None


@pytest.mark.parametrize(
    ("config", "warned"),
    [
        (tracked_as(amplify_config(), query_order="uniform"), []),
        (amplify_config(), ["tracking.query_order = row_major"]),
        (keypoint_config(), []),
        (
            tracked_as(keypoint_config(reference_size=[40, 60], true_horizon=11), query_order="uniform"),
            ["tracking.query_order = uniform", "data.true_horizon = 11", "data.reference_size = [40, 60]"],
        ),
    ],
)
def test_a_warning_names_what_the_other_system_does_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, config: Config, warned: list[str]
) -> None:
    saved(tmp_path / "ours.pth", config)
    with caplog.at_level(logging.WARNING):
        convert(tmp_path / "ours.pth", tmp_path / "theirs.pt", config.model.name)
    assert len(caplog.records) == bool(warned)
    for words in warned:
        assert words in caplog.text


def edit_amplify(change: Callable[[dict[str, Any]], None], path: Path) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def edit_keypoint(change: Callable[[dict[str, Any]], None], path: Path) -> None:
    beside = path.with_name("config.yaml")
    content = yaml.safe_load(beside.read_text(encoding="utf-8"))
    change(content)
    beside.write_text(yaml.safe_dump(content), encoding="utf-8")


def test_an_edited_export_is_refused_until_its_parts_agree(tmp_path: Path) -> None:
    saved(tmp_path / "a.pth", amplify_config())
    convert(tmp_path / "a.pth", tmp_path / "a.pt", "amplify")
    edit_amplify(lambda content: content["config"].update(img_shape=[96, 128]), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=rf"a\.pt: {OWN_KEY} .*img_shape \(48, 64\) -> \(96, 128\)"):
        load_checkpoint(tmp_path / "a.pt")
    edit_amplify(lambda content: content.pop(OWN_KEY), tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt").config.data.reference_size == (96, 128)

    saved(tmp_path / "k.pth", keypoint_config())
    convert(tmp_path / "k.pth", tmp_path / "k.pt", "keypoint")
    edit_keypoint(lambda content: content["preprocess"].update(target_fps=5), tmp_path / "k.pt")
    with pytest.raises(CheckpointError, match=r"config\.yaml: .*preprocess\.target_fps 10\.0 -> 5"):
        load_checkpoint(tmp_path / "k.pt")
    edit_keypoint(lambda content: content.update({OWN_KEY: {"config": {}}}), tmp_path / "k.pt")
    with pytest.raises(CheckpointError, match=rf"config\.yaml: {OWN_KEY} holds no config, track_settings"):
        load_checkpoint(tmp_path / "k.pt")
