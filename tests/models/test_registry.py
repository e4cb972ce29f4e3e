"""A model is added by the registry alone: its kind of input and its class say what the rest needs to know."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from amplify_motion_tokenizer.codes.code_set import code_set
from amplify_motion_tokenizer.codes.inference import tokenize_folder
from amplify_motion_tokenizer.codes.reading import read_codes
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.input_kinds import FRAME, MODEL_INPUTS, WNORM, InputKind
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.inputs import INPUTS, InputWays, ModelInput, beyond_window
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.geometry import px_from_wnorm
from amplify_motion_tokenizer.models import MODELS, MotionTokenizer, build_model
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.models.heads import DenseHead
from amplify_motion_tokenizer.models.quantizer import build_fsq
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.training.run import train
from tests.support.render_clips import numbered_frames, write_clip
from tests.support.run_scripts import TINY

PIXELS = dataclasses.replace(WNORM, name="pixels", velocity_files=False)
"""A new kind of input: velocities (x, y) in pixels of the reference size."""


def pixel_input(view: ViewTracks, config: Config, truth: bool) -> ModelInput:
    inputs = INPUTS[WNORM].of_view(view, config, truth)
    return inputs._replace(velocities=px_from_wnorm(inputs.velocities, config.model.decoder_window_size))


class LinearTokenizer(MotionTokenizer):
    """A linear layer to the codes of a window, and one from them to all logits; views are mixed."""

    codes_of_a_window = 3

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        width, codes = config.model.hidden_dim, self.num_codes
        self.inwards = nn.Linear(math.prod(self.input_shape), codes * width)
        self.quantizer = build_fsq(config.model.fsq_levels, width)
        self.outwards = nn.Linear(codes * width, math.prod(self.input_shape[:-1]) * config.num_classes)

    def _fsq(self) -> nn.Module:
        return self.quantizer

    @property
    def input_shape(self) -> tuple[int, ...]:
        views = [len(self.config.data.views)] if self.config.input_kind.view_axis else []
        return (*views, self.config.num_steps, self.config.num_points, 2)

    @property
    def num_codes(self) -> int:
        return self.codes_of_a_window

    def encode(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        return self.inwards(velocities.flatten(1)).unflatten(1, (self.num_codes, -1))

    def head(self, codes: Tensor) -> DenseHead:
        shape = (*self.input_shape[:-1], self.config.num_classes)
        return DenseHead(self.outwards(codes.flatten(1)).unflatten(1, shape))


class StepTokenizer(LinearTokenizer):
    """The same with a code for each of the five steps."""

    tokens_are_steps = True
    codes_of_a_window = 5


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Adds a model and returns a tiny config of it, with other ``data`` where that is given."""

    def add(model: type[MotionTokenizer], kind: InputKind, **data: Any) -> Config:
        monkeypatch.setitem(MODELS, "linear", model)
        monkeypatch.setitem(MODEL_INPUTS, "linear", kind)
        changes = {"data": {**TINY["data"], **data}, "model": {**TINY["model"], "name": "linear"}}
        return config_from_dict({**TINY, **changes}, "in the tests")

    return add


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for seed in range(2):
        write_clip(tmp_path / f"videos/{seed}.mp4", numbered_frames(30, texture_seed=seed), 20)
    return tmp_path / "videos"


@pytest.mark.parametrize(
    ("model", "kind", "data", "token_frames"),
    [
        (LinearTokenizer, WNORM, {}, None),
        (StepTokenizer, FRAME, {"reference_size": [48, 64]}, 1.0),
        (LinearTokenizer, PIXELS, {}, None),
    ],
)
def test_a_new_model_goes_from_videos_to_codes(
    register: Callable[..., Config],
    videos: Path,
    tmp_path: Path,
    model: type[LinearTokenizer],
    kind: InputKind,
    data: dict[str, Any],
    token_frames: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        INPUTS,
        PIXELS,
        InputWays(pixel_input, lambda inputs, _: inputs.velocities[..., 0] > 9, lambda moves, _: moves),
    )
    config = register(model, kind, **data)
    assert isinstance(build_model(config), model)
    tracks, run, codes = tmp_path / "tracks", tmp_path / "run", tmp_path / "codes"
    assert preprocess_folder(videos, tracks, config).done == 2

    windows = WindowDataset(load_clips(tracks, config), config)
    views = (1,) if kind is FRAME else ()
    inputs = windows.batch([0]).inputs
    assert inputs.velocities.shape == (1, *views, 5, 9, 2)
    assert beyond_window(inputs, config).shape == inputs.labels.shape

    training = dataclasses.replace(config.training, max_steps=1)
    train(dataclasses.replace(config, training=training), tracks, run)
    checkpoint = load_checkpoint(run / "last.pth")
    assert checkpoint.config.model.name == "linear"

    assert tokenize_folder(videos, codes, checkpoint, checkpoint.config).done == 2
    meta = json.loads((codes / "0.json").read_text(encoding="utf-8"))["meta"]
    assert (meta["model"], meta["tokens_are_steps"], meta["per_view"]) == ("linear", token_frames == 1, False)
    found = code_set(read_codes(codes))
    assert found.token_frames == token_frames
    assert [clip.codes.shape for clip in found.clips] == [(5, 1, model.codes_of_a_window)] * 2


def test_what_its_input_asks_of_the_settings_is_checked(
    register: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"data\.reference_size = .*\[height, width\] for the linear model"):
        register(LinearTokenizer, FRAME)
    with pytest.raises(ConfigError, match=r"data\.views = .* allowed: one name, .* model\.name: amplify"):
        register(LinearTokenizer, WNORM, views=["left", "right"])
    several = register(LinearTokenizer, FRAME, reference_size=[48, 64], views=["left", "right"])
    assert build_model(several).input_shape == (2, 5, 9, 2)
    with pytest.raises(ConfigError, match=r"suit model\.name keypoint alone, not linear"):
        preprocess_folder(tmp_path, tmp_path / "out", several, "pt")


def test_every_model_says_what_it_takes() -> None:
    assert MODELS.keys() == MODEL_INPUTS.keys()
    with pytest.raises(ConfigError, match=r"^model\.name = linear is impossible; allowed: keypoint, amplify"):
        config_from_dict({"model": {"name": "linear"}}, "in the tests")


def test_codes_of_before_steps_were_recorded_are_read_by_the_models_name(tmp_path: Path) -> None:
    meta = {"codebook_size": 9, "window_stride": 1, "sequence_length": 4, "tracked_length": 4}
    for model, recorded, expected in [
        ("amplify", {}, (2, 3)),
        ("keypoint", {}, (1, 6)),
        ("other", {}, (1, 6)),
        ("amplify", {"tokens_are_steps": False}, (1, 6)),
        ("other", {"tokens_are_steps": True}, (2, 3)),
    ]:
        line = {
            "clip": "a",
            "codes": [[1] * 6],
            "start_frames": [0],
            "meta": {**meta, "model": model, **recorded},
        }
        (tmp_path / "codes.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
        assert code_set(read_codes(tmp_path)).clips[0].codes.shape == (1, *expected), (model, recorded)
