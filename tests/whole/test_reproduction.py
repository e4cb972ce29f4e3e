"""Checkpoints of the keypoint reproduction, and other files given as checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import load_yaml
from amplify_motion_tokenizer.errors import CheckpointError, ConfigError, TrackFileError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
from amplify_motion_tokenizer.tracks.velocity_files import _load_velocity
from tests.support.run_scripts import CLIPS, INFER, REPO, Run, Work, read_lines

GOLDEN = REPO / "tests" / "golden" / "keypoint_small.safetensors"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with safe_open(GOLDEN, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


@pytest.fixture
def reproduction(golden: dict[str, Tensor], tmp_path: Path) -> Path:
    """A bare state dict, as the reproduction saves it, with its config beside it."""
    state = {key.removeprefix("state."): value for key, value in golden.items() if key.startswith("state.")}
    assert "causal_mask" in state
    path = tmp_path / "theirs" / "best.pth"
    path.parent.mkdir()
    torch.save(state, path)
    with safe_open(GOLDEN, "pt") as file:
        sizes = json.loads(file.metadata()["config"])
    tree = {
        "data": {**sizes["data"], "video_source_dir": "/data/videos", "preprocessed_dir": "/data/tracks"},
        "model": {**sizes["model"], "ffn_dim": 128},
        "training": {"resume": None, "batch_size": 4, "epochs": 10},
        "preprocess": {"target_fps": 10, "resize_shorter": 48, "window_stride": 3, "cotracker": "offline"},
        "wandb": {"project": "tokens"},
    }
    path.with_name("config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.fixture
def edit_config(reproduction: Path) -> Callable[[str, Any], None]:
    """Sets a dotted key of the reproduction's config, or removes it where the value is None."""
    path = reproduction.with_name("config.yaml")

    def edit(key: str, value: Any) -> None:
        tree = load_yaml(path)
        section, name = key.split(".")
        tree[section].pop(name)
        if value is not None:
            tree[section][name] = value
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")

    return edit


def test_reproduction_weights_give_their_own_outputs(reproduction: Path, golden: dict[str, Tensor]) -> None:
    tokenizer = load_tokenizer(reproduction)
    assert not tokenizer.training
    velocities = golden["out.velocities"]
    with torch.inference_mode():
        codes, indices = tokenizer.quantize(tokenizer.encode(velocities))
        logits = tokenizer.decode(codes)
    assert torch.equal(indices, golden["out.indices"])
    assert torch.equal(tokenizer.tokenize(velocities), golden["out.indices"])
    assert logits.shape == (4, 5, 9, 225)
    for step in range(5):
        torch.testing.assert_close(logits[:, step], golden["out.logits_per_point"], atol=1e-5, rtol=0)


def test_reproduction_config_is_ours_where_both_mean_the_same(reproduction: Path) -> None:
    config = load_checkpoint(reproduction).config
    assert (config.video.target_fps, config.video.size) == (10.0, {"shorter": 48})
    assert config.tracking.window_stride == 3
    assert (config.data.sequence_length, config.data.grid_size, config.num_points) == (6, 3, 9)
    assert (config.model.hidden_dim, config.model.fsq_levels, config.num_classes) == (32, (8, 8, 4, 4), 225)
    assert config.training.batch_size == Config().training.batch_size
    assert load_checkpoint(reproduction).training is None


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_reproduction_weights_of_a_wrapped_model(
    prefix: str, reproduction: Path, golden: dict[str, Tensor]
) -> None:
    state = torch.load(reproduction, weights_only=True)
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, reproduction)
    assert torch.equal(load_tokenizer(reproduction).tokenize(golden["out.velocities"]), golden["out.indices"])


Edit = Callable[[str, Any], None]


def test_reproduction_without_its_config(reproduction: Path) -> None:
    reproduction.with_name("config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"best\.pth: .* needs config\.yaml beside it"):
        load_tokenizer(reproduction)


def test_reproduction_config_without_a_key(reproduction: Path, edit_config: Edit) -> None:
    edit_config("model.hidden_dim", None)
    with pytest.raises(CheckpointError, match=r"config\.yaml: lacks model\.hidden_dim"):
        load_tokenizer(reproduction)


def test_reproduction_config_with_wrong_classes(reproduction: Path, edit_config: Edit) -> None:
    edit_config("model.num_classes", 100)
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        load_tokenizer(reproduction)
    for word in ("model.num_classes", "100", "225", str(reproduction.with_name("config.yaml"))):
        assert word in str(caught.value)


def test_reproduction_config_of_other_weights(reproduction: Path, edit_config: Edit) -> None:
    edit_config("model.hidden_dim", 64)
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(reproduction)
    for word in (str(reproduction), "do not fit the config", "has shape (32,), the config expects (64,)"):
        assert word in str(caught.value)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_a_pickle_with_code_is_refused_and_not_run(reproduction: Path) -> None:
    target = reproduction.with_name("executed")
    torch.save({"weights": Payload(target)}, reproduction)
    with pytest.raises(CheckpointError, match=r"best\.pth: is refused") as caught:
        load_tokenizer(reproduction)
    assert not target.exists()
    assert "safe_globals" not in str(caught.value)  # torch's advice would run the code
    velocities = reproduction.with_name("clip_start000000.pt")
    torch.save(Payload(target), velocities)
    with pytest.raises(TrackFileError, match=r"it needs more than tensors and plain values") as caught:
        _load_velocity(velocities)
    assert not target.exists() and "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weights": 1, "epoch": 3}, ["a dict with the keys weights, epoch"]),
        ({"conv1.weight": torch.ones(2), "fc.bias": torch.ones(1)}, ["another model", "conv1.weight"]),
        ([torch.ones(2)], ["a list"]),
        ({"format": "amplify_motion_tokenizer", "format_version": 99}, ["config", "model"]),
    ],
    ids=["dict", "other model", "list", "unfinished"],
)
def test_other_files_say_what_they_look_like(content: Any, words: list[str], reproduction: Path) -> None:
    torch.save(content, reproduction)
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(reproduction)
    for word in [str(reproduction), *words]:
        assert word in str(caught.value)


def test_reproduction_weights_run_from_the_command_line(
    run: Run, work: Work, reproduction: Path, tmp_path: Path
) -> None:
    line = ["--checkpoint", reproduction, "--input", work.videos, "--output", tmp_path / "codes"]
    result = run(INFER, *line)
    assert (result.status, "WARNING" in result.err) == (0, False), result.err
    lines = read_lines(tmp_path / "codes/codes.jsonl")
    assert [line["clip"] for line in lines] == sorted(CLIPS)
    for line in lines:
        assert line["start_frames"] == [0, 3, 6, 9]
        assert np.array(line["codes"]).shape == (4, 4)
        assert (line["meta"]["codebook_size"], line["meta"]["window_stride"]) == (1024, 3)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(240, ({"shorter": 240}, {"shorter": 240})), (0, (None, None))],  # 0 keeps each source's size
)
def test_reproduction_pixels_are_those_of_its_tracked_size(
    reproduction: Path, edit_config: Edit, theirs: int, ours: tuple[object, object]
) -> None:
    edit_config("preprocess.resize_shorter", theirs)
    config = load_tokenizer(reproduction).config
    assert (config.video.size, config.data.reference_size) == ours
