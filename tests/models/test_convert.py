import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import CheckpointError, UsageError
from amplify_motion_tokenizer.models.amplify.checkpoint import (
    AMPLIFY_LEVELS,
    AmplifyCheckpoint,
    from_amplify,
    to_amplify,
)
from amplify_motion_tokenizer.models.amplify.network import AmplifySizes
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.models.convert import convert
from tests.support.checkpoints import save_native
from tests.support.configs import amplify_config
from tests.support.run_scripts import TINY

GOLDEN = Path(__file__).parents[1] / "golden"
WHOLE_MODELS = ("two_views_joint", "two_views_per_view", "nonsquare_three_views_full")


@pytest.mark.parametrize("mask", ["causal", "none", "diag"])
@pytest.mark.parametrize("per_view", [False, True])
def test_amplify_export_and_import_give_equal_outputs(tmp_path: Path, mask: str, per_view: bool) -> None:
    model = save_native(tmp_path / "ours.pth", amplify_config(mask, per_view))
    convert(tmp_path / "ours.pth", tmp_path / "source.pt", "amplify")
    back = load_tokenizer(tmp_path / "source.pt")
    velocities = torch.rand(3, 2, 5, 9, 2) * 0.1 - 0.05
    ours, theirs = model(velocities), back(velocities)
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(ours.indices, theirs.indices)
    assert back.config.model.amplify == model.config.model.amplify
    assert back.config.data.views == ("a", "b")
    convert(tmp_path / "source.pt", tmp_path / "again.pth", "native")
    again = load_tokenizer(tmp_path / "again.pth")
    assert torch.equal(again(velocities).logits, ours.logits)


@pytest.mark.parametrize("name", WHOLE_MODELS)
def test_a_source_checkpoint_loads_with_its_own_numbers(tmp_path: Path, name: str) -> None:
    with safe_open(GOLDEN / f"amplify_{name}.safetensors", "pt") as file:
        golden = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    state = {key.removeprefix("state."): v for key, v in golden.items() if key.startswith("state.")}
    # A compiled model's keys carry this prefix.
    content = {"model": {f"_orig_mod.{key}": v for key, v in state.items()}, "config": config, "epoch": 3}
    torch.save(content, tmp_path / "latest.pt")
    tokenizer = load_tokenizer(tmp_path / "latest.pt")
    output = tokenizer(golden["out.velocities"])
    assert torch.equal(output.indices, golden["out.indices"])
    torch.testing.assert_close(output.logits.flatten(1, 3), golden["out.logits"], atol=1e-5, rtol=0)
    assert torch.equal(tokenizer.tokenize(golden["out.velocities"]), output.indices)
    torch.testing.assert_close(tokenizer.decode_indices(output.indices), output.logits, atol=1e-5, rtol=0)
    nominal = config["codebook_size"]
    levels = AMPLIFY_LEVELS[nominal]
    assert tokenizer.codebook_size == torch.tensor(levels).prod()
    convert(tmp_path / "latest.pt", tmp_path / "export.pt", "amplify")
    exported = torch.load(tmp_path / "export.pt", weights_only=True)
    assert exported["model"].keys() == state.keys()
    assert all(torch.equal(exported["model"][key], state[key]) for key in state)
    for key in ("cond_cameraviews", "track_pred_horizon", "num_tracks", "codebook_size", "img_shape"):
        assert exported["config"][key] == config[key]


def test_keypoint_export_has_the_mask_and_config_and_loads_again(tmp_path: Path) -> None:
    config = config_from_dict(TINY, "in the tests")
    model = save_native(tmp_path / "ours.pth", config)
    (tmp_path / "out").mkdir()
    written = convert(tmp_path / "ours.pth", tmp_path / "out" / "best.pth", "keypoint")
    assert [path.name for path in written] == ["best.pth", "config.yaml"]
    state = torch.load(tmp_path / "out" / "best.pth", weights_only=True)
    assert state.keys() == model.state_dict().keys() | {"causal_mask"}
    expected = torch.nn.Transformer.generate_square_subsequent_mask(45)
    assert torch.equal(state["causal_mask"], expected)
    theirs = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (theirs["data"]["num_points"], theirs["model"]["num_classes"]) == (9, 49)
    back = load_tokenizer(tmp_path / "out" / "best.pth")
    velocities = torch.rand(2, 5, 9, 2) - 0.5
    assert torch.equal(back(velocities).logits, model(velocities).logits)
    assert back.config.video.target_fps == 10


def test_converting_to_the_other_model_or_over_a_file_is_refused(tmp_path: Path) -> None:
    save_native(tmp_path / "keypoint.pth", config_from_dict(TINY, "in the tests"))
    save_native(tmp_path / "amplify.pth", amplify_config())
    with pytest.raises(CheckpointError, match=r"keypoint\.pth: .* only an amplify tokenizer can"):
        convert(tmp_path / "keypoint.pth", tmp_path / "out.pt", "amplify")
    with pytest.raises(CheckpointError, match=r"amplify\.pth: .* only a keypoint tokenizer can"):
        convert(tmp_path / "amplify.pth", tmp_path / "out.pth", "keypoint")
    with pytest.raises(UsageError, match=r"config\.yaml: is the name of the config .* such as best\.pth"):
        convert(tmp_path / "keypoint.pth", tmp_path / "config.yaml", "keypoint")
    assert not (tmp_path / "config.yaml").exists()
    before = (tmp_path / "amplify.pth").read_bytes()
    with pytest.raises(UsageError, match="exists"):
        convert(tmp_path / "keypoint.pth", tmp_path / "amplify.pth", "native")
    assert (tmp_path / "amplify.pth").read_bytes() == before


def test_conditioned_and_foreign_files_say_what_they_are(tmp_path: Path) -> None:
    torch.save({"model": {}, "config": {}}, tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match=r"empty\.pt: its config lacks cond_cameraviews"):
        load_checkpoint(tmp_path / "empty.pt")
    torch.save({"weights": torch.zeros(2), "epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt: .* keys weights, epoch"):
        load_checkpoint(tmp_path / "other.pt")


def test_points_that_are_no_grid_are_refused(tmp_path: Path) -> None:
    sizes = AmplifySizes(
        num_views=1, num_steps=3, num_points=5, hidden_dim=8, num_heads=2, mlp_dim=4, fsq_levels=(8, 8)
    )
    from amplify_motion_tokenizer.models.amplify.network import AmplifyNetwork

    content = to_amplify(
        AmplifyCheckpoint(
            sizes=sizes, views=("a",), img_shape=(48, 64), model=AmplifyNetwork(sizes).state_dict()
        )
    )
    assert from_amplify(content, "x").sizes == sizes
    torch.save(content, tmp_path / "five.pt")
    with pytest.raises(CheckpointError, match=r"five\.pt: has num_tracks = 5; expected the square"):
        load_checkpoint(tmp_path / "five.pt")


def test_the_command(tmp_path: Path) -> None:
    save_native(tmp_path / "ours.pth", amplify_config())
    line = [sys.executable, "-m", "amplify_motion_tokenizer", "convert", tmp_path / "ours.pth"]
    done = subprocess.run([*line, tmp_path / "a.pt", "--to", "amplify"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"wrote {tmp_path / 'a.pt'}\n")
    failed = subprocess.run([*line, tmp_path / "b.pth", "--to", "keypoint"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert not (tmp_path / "b.pth").exists()
