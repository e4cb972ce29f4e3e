"""What inference writes beside the codes: which arrays, of which shapes, and what meta says of them."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer.codes import encoding, record
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models import build_model
from tests.support.checkpoints import KEYPOINT, changed, checkpoint_of
from tests.support.run_scripts import Run, Work, infer, render
from tests.support.tracked import random_windows

AMPLIFY = {"model__name": "amplify", "model__num_layers": 2, "data__reference_size": [48, 64]}


@pytest.mark.parametrize(
    "config",
    [
        KEYPOINT,
        changed(KEYPOINT, **AMPLIFY),
        changed(KEYPOINT, **AMPLIFY, model__amplify__per_view=True),
    ],
    ids=["keypoint", "amplify", "per_view"],
)
def test_arrays_of_no_windows_are_shaped_as_those_of_some(config: Config) -> None:
    model = build_model(config).eval()
    windows = [(window,) for window in random_windows(config, 1, 0, (48, 64))]
    (some,) = encoding.encode_windows(windows, [(48, 64)], model, config, encoding.EXTRAS)
    none = encoding.no_windows(model, config, encoding.EXTRAS)
    assert none.keys() == some.keys()
    for name, array in none.items():
        assert (array.shape, array.dtype) == ((0, *some[name].shape[1:]), some[name].dtype)


def test_a_clip_in_which_nothing_moves_has_empty_arrays(run: Run, work: Work, tmp_path: Path) -> None:
    still = render(tmp_path / "videos/still.mp4", "still")
    result = infer(run, work, tmp_path, "--tracking.gate.enable", "true", "--save", "latents", source=still)
    assert "1 done (0 windows)" in result.out, result.err
    arrays = torch.load(tmp_path / "still.pt", weights_only=True)
    assert {name: tuple(array.shape) for name, array in arrays.items()} == {
        "window_starts": (0,),
        "start_seconds": (0,),
        "step_seconds": (0,),
        "source_frames": (0,),
        "valid_steps": (0,),
        "code_sequences": (0, 3),
        "latent_tokens": (0, 3, 16),
    }


def test_a_second_choice_of_arrays_keeps_the_first(run: Run, work: Work, tmp_path: Path) -> None:
    for extra in ("latents", "labels"):
        assert "1 done" in infer(run, work, tmp_path, "--save", extra, source=work.videos / "pan.mp4").out
    assert {"latent_tokens", "labels_per_point"} <= torch.load(tmp_path / "pan.pt", weights_only=True).keys()
    meta = json.loads((tmp_path / "pan.json").read_text(encoding="utf-8"))["meta"]
    assert meta["saved"] == ["latents", "labels"]
    again = infer(run, work, tmp_path, "--save", "latents", source=work.videos / "pan.mp4")
    assert "1 skipped" in again.out


def test_meta_tells_the_classes_that_the_model_uses(tmp_path: Path) -> None:
    (tmp_path / "best.pth").touch()
    for config, expected in [
        (changed(KEYPOINT, **AMPLIFY, model__amplify__class_grid=[3, 5]), {"class_grid": [3, 5]}),
        (KEYPOINT, {"decoder_window_size": 7}),
    ]:
        checkpoint = dataclasses.replace(checkpoint_of(config), path=tmp_path / "best.pth")
        meta = record.run_meta(checkpoint, config, "flow", build_model(config))
        assert {k: v for k, v in meta.items() if k in ("class_grid", "decoder_window_size")} == expected


def test_the_way_of_resampling_counts_where_it_acts() -> None:
    def hashed(**keys: object) -> str:
        return record.settings_hash(record.code_settings(changed(KEYPOINT, **keys)))

    linear, spline = {"data__interpolation": "linear"}, {"data__interpolation": "spline"}
    assert hashed(**linear) == hashed(**spline)
    assert hashed(**linear, data__true_horizon=11) != hashed(**spline, data__true_horizon=11)
