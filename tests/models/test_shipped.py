"""The tokenizers that the package ships, by name, and files of their kind."""

import json

import pytest
import torch

from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.models.shipped import FOLDER, names


@pytest.mark.parametrize("name", names())
def test_a_shipped_tokenizer_loads_by_name_is_small_and_says_how_it_was_made(name):
    checkpoint = load_checkpoint(name)
    model = load_tokenizer(name)
    assert checkpoint.path.stat().st_size <= 8 << 20
    record = json.loads(checkpoint.path.with_suffix(".json").read_text(encoding="utf-8"))
    assert record["weights"] == sum(weight.numel() for weight in model.parameters())
    assert record["bytes"] == checkpoint.path.stat().st_size
    velocities = torch.zeros(2, *model.input_shape)
    velocities[1, ..., 0] = 0.01
    indices = model.tokenize(velocities)
    assert indices.shape == (2, model.num_codes)
    assert not torch.equal(indices[0], indices[1])
    moved = model.reconstruct(model.quantize(model.encode(velocities))[0]).sum(dim=1)
    assert moved[0].abs().max() < 0.01
    torch.testing.assert_close(moved[1, :, 0], torch.full((400,), 0.15), atol=0.03, rtol=0)


def test_a_file_comes_before_a_shipped_name(tmp_path, monkeypatch):
    (tmp_path / "default").write_bytes(b"no checkpoint")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="default"):
        load_checkpoint("default")


def test_damaged_and_missing_files_are_named(tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((FOLDER / "transform.safetensors").read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"cut.safetensors: is damaged"):
        load_checkpoint(cut)
    with pytest.raises(CheckpointError, match="no.safetensors does not exist; give a run"):
        load_checkpoint(tmp_path / "no.safetensors")
