"""Which settings may differ from a checkpoint's, and what is told of those that do."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from amplify_motion_tokenizer.codes.overrides import check_overrides
from amplify_motion_tokenizer.config import (
    Config,
    to_dict,
)
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.files import write_yaml
from amplify_motion_tokenizer.models.amplify.exchange import amplify_content
from amplify_motion_tokenizer.models.convert import convert
from tests.support.checkpoints import KEYPOINT, changed, checkpoint_of, save_native
from tests.support.configs import amplify_config
from tests.support.render_clips import numbered_frames, write_clip
from tests.support.run_scripts import INFER, Run


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (amplify_config(), {"model__encoder_sequence_len": 9, "model__keypoint__tokens": "point"}),
        (amplify_config(), {"model__decoder_window_size": 21, "model__amplify__vision__frozen": False}),
        (amplify_config(), {"model__dropout": 0.3, "model__latent_noise": 0.1, "data__dataset": "a:traj0.5"}),
        (KEYPOINT, {"model__amplify__class_grid": [3, 5], "model__amplify__mask": "diag"}),
        (KEYPOINT, {"data__true_horizon": 6, "data__interpolation": "linear"}),
        (KEYPOINT, {"tracking__cotracker__weights": "w.pth", "video__reader": "opencv"}),
        (KEYPOINT, {"tracking__cotracker__autocast": "bf16", "training__seed": 4}),  # flow is in use
    ],
)
def test_what_does_not_act_may_differ_without_a_word(config: Config, keys: dict[str, Any]) -> None:
    assert check_overrides(checkpoint_of(config), changed(config, **keys)) == []


def test_class_grid_is_compared_as_it_acts() -> None:
    square = changed(amplify_config(), model__amplify__class_grid=None)  # decoder_window_size 7
    same = changed(square, model__amplify__class_grid=[7, 7])
    assert check_overrides(checkpoint_of(square), same) == []
    with pytest.raises(ConfigError, match=r"model\.amplify\.class_grid \[7, 7\] -> \[9, 9\] is impossible"):
        check_overrides(checkpoint_of(square), changed(square, model__decoder_window_size=9))


@pytest.mark.parametrize("key", ["data__grid_size", "model__hidden_dim", "data__true_horizon"])
def test_what_the_weights_fix_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key.replace('__', '.')} .* the checkpoint fixes it"):
        check_overrides(checkpoint_of(KEYPOINT), changed(KEYPOINT, **{key: 8}))


def test_the_other_model_is_named_first() -> None:
    with pytest.raises(ConfigError, match=r"^model\.name keypoint -> amplify is impossible"):
        check_overrides(checkpoint_of(KEYPOINT), amplify_config())


def test_known_tracks_are_told_by_key_and_unknown_ones_are_not() -> None:
    given = changed(KEYPOINT, video__target_fps=5, data__reference_size={"shorter": 96})
    told = ["data.reference_size {'shorter': 48} -> {'shorter': 96}", "video.target_fps 10.0 -> 5.0"]
    assert check_overrides(checkpoint_of(KEYPOINT), given) == told
    assert check_overrides(checkpoint_of(KEYPOINT, known=False), given) == told[:1]
    longer = changed(KEYPOINT, data__true_horizon=11)
    assert check_overrides(checkpoint_of(KEYPOINT, known=False), longer) == []


def config_of(config: Config) -> Config:
    """As quickstart's configs are: the window's classes follow from another key."""
    config = changed(config, model__amplify__class_grid=None, data__views=["default"])
    tracking = dataclasses.replace(config.tracking, query_order="uniform", window_stride=3)
    return dataclasses.replace(config, tracking=tracking)


@pytest.mark.parametrize("own_part", [True, False])
def test_a_runs_own_config_fits_its_exported_file(run: Run, tmp_path: Path, own_part: bool) -> None:
    config = config_of(amplify_config(views=1))
    model = save_native(tmp_path / "ours.pth", config)
    write_yaml(tmp_path / "config.yaml", to_dict(config))
    if own_part:
        convert(tmp_path / "ours.pth", tmp_path / "theirs.pt", "amplify")
    else:
        torch.save(amplify_content(model.state_dict(), config), tmp_path / "theirs.pt")
    write_clip(tmp_path / "clip.mp4", numbered_frames(16, texture_seed=1), 10)
    line = ["--config", tmp_path / "config.yaml", "--checkpoint", tmp_path / "theirs.pt"]
    result = run(INFER, *line, "--input", tmp_path / "clip.mp4", "--output", tmp_path / "codes")
    assert result.status == 0, result.err
    (warning,) = [words for words in result.err.splitlines() if "WARNING" in words]
    assert "does not say how its training tracks were made: video.* and tracking.* are used" in warning
    saved = yaml.safe_load((tmp_path / "codes/config.yaml").read_text(encoding="utf-8"))
    assert saved["tracking"]["window_stride"] == 3
