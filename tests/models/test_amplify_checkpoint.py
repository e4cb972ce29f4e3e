"""AMPLIFY's checkpoint dict: round trips, golden files, strictness."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.models.amplify.checkpoint import (
    AMPLIFY_LEVELS,
    AmplifyCheckpoint,
    from_amplify,
    to_amplify,
)
from amplify_motion_tokenizer.models.amplify.network import AmplifyNetwork, AmplifySizes, Causal
from amplify_motion_tokenizer.models.amplify.vision import _resnet18_names

GOLDEN = Path(__file__).parents[1] / "golden"
# The section "Checkpoint file" of the specification.
CONFIG_KEYS = {
    "cond_cameraviews",
    "track_pred_horizon",
    "num_tracks",
    "point_dim",
    "hidden_dim",
    "num_heads",
    "num_layers",
    "attn_pdrop",
    "codebook_size",
    "causal_encoder",
    "decoder_mlp_hidden_dim",
    "per_view",
    "cond_on_img",
    "vision_encoder",
    "img_shape",
    "type",
    "compile",
    "loss",
}
LOSS_KEYS = {
    "loss_fn",
    "loss_weights",
    "cls_img_size",
    "rel_cls_img_size",
    "num_angle_bins",
    "num_mag_bins",
    "max_polar_mag",
}
FILE_KEYS = {
    "model",
    "config",
    "optimizer",
    "scaler",
    "scheduler",
    "epoch",
    "train_loss",
    "val_loss",
    "train_global_iter",
    "val_global_iter",
    "wandb_run_id",
}


def sizes_of(causal: Causal, per_view: bool, image_tokens: int = 0) -> AmplifySizes:
    return AmplifySizes(
        num_views=3,
        num_steps=4,
        num_points=5,
        hidden_dim=16,
        num_heads=2,
        mlp_dim=8,
        fsq_levels=(5, 3),
        class_grid=(3, 5),
        dropout=0.25,
        per_view=per_view,
        causal=causal,
        image_tokens=image_tokens,
    )


def checkpoint_of(sizes: AmplifySizes) -> AmplifyCheckpoint:
    vision = None
    if sizes.image_tokens:
        norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        leaves = {
            name: norm if "normalization" in name else ("weight",) for name in _resnet18_names().values()
        }
        vision = {f"model.{name}.{leaf}": torch.rand(2) for name in leaves for leaf in leaves[name]}
    return AmplifyCheckpoint(
        sizes=sizes,
        views=("agentview", "side", "eye_in_hand"),
        img_shape=(48, 64),
        model=AmplifyNetwork(sizes).state_dict(),
        vision=vision,
    )


@pytest.mark.parametrize("image_tokens", [0, 1, 2])
@pytest.mark.parametrize("per_view", [False, True])
@pytest.mark.parametrize("causal", [True, False, "diag"])
def test_round_trip(causal: Causal, per_view: bool, image_tokens: int) -> None:
    checkpoint = checkpoint_of(sizes_of(causal, per_view, image_tokens))
    content = to_amplify(checkpoint)
    assert content.keys() == FILE_KEYS
    assert content["config"].keys() == CONFIG_KEYS
    assert content["config"]["loss"].keys() == LOSS_KEYS
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    content = torch.load(buffer, weights_only=True)
    # As the file of a compiled model in several processes has it, in either order.
    wrapped = "module._orig_mod." if per_view else "_orig_mod.module."
    content["model"] = {f"{wrapped}{key}": value for key, value in content["model"].items()}
    back = from_amplify(content, "file.pt")
    assert (back.sizes, back.views, back.img_shape) == (checkpoint.sizes, checkpoint.views, (48, 64))
    AmplifyNetwork(back.sizes).load_state_dict(back.model)
    assert all(torch.equal(back.model[key], value) for key, value in checkpoint.model.items())
    assert (back.vision is None) == (image_tokens == 0)
    for key, value in (checkpoint.vision or {}).items():
        assert torch.equal(back.vision[key], value)
    weights = back.loss_weights
    assert weights is not None
    assert [weights[view] for view in checkpoint.views] == [0.9, 1.0, 0.1]


def test_an_export_does_not_disturb_random_numbers() -> None:
    checkpoint = checkpoint_of(sizes_of(True, False))
    before = torch.random.get_rng_state()
    to_amplify(checkpoint)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "name", ["amplify_two_views_joint", "amplify_two_views_per_view", "amplify_nonsquare_three_views_full"]
)
def test_the_sources_config_and_weights_come_back_as_they_were(name: str) -> None:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        keys = [key for key in file.keys() if key.startswith("state.")]  # noqa: SIM118
        state = {key.removeprefix("state."): file.get_tensor(key) for key in keys}
    training = {"epoch": 7, "optimizer": {"state": {}}, "train_global_iter": 448}
    checkpoint = from_amplify({"model": state, "config": config, **training}, name)
    content = to_amplify(checkpoint)
    assert content["config"] == config
    assert content["model"].keys() == state.keys()
    assert {key: content[key] for key in training} == training
    assert content["wandb_run_id"] is None


def test_codebook_sizes_are_the_specifications() -> None:
    products = {
        size: torch.tensor(levels).prod().item()  # type: ignore[misc]
        for size, levels in AMPLIFY_LEVELS.items()
    }
    assert products == {16: 15, 64: 64, 256: 240, 512: 512, 1024: 1000, 2048: 1920, 4096: 4375}


def changed(content: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**content, "config": {**content["config"], **values}}


def test_files_that_are_refused() -> None:
    content = to_amplify(checkpoint_of(sizes_of(True, False)))
    weight = "decoder.view_emb.weight"
    lacking = {key: value for key, value in content["model"].items() if key != weight}
    other_mask = {
        key: ~value if key.endswith("h.1.attn.attn_mask") else value
        for key, value in content["model"].items()
    }
    loss = content["config"]["loss"]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"state_dict": {}}, "file: is no AMPLIFY checkpoint; it lacks model and config"),
        ({**content, "config": {}}, "its config lacks cond_cameraviews.*loss.rel_cls_img_size"),
        ({**content, "model": lacking}, "decoder.view_emb.weight is missing"),
        (
            {**content, "model": {**lacking, weight: torch.zeros(2, 16)}},
            r"has shape \(2, 16\), expected \(3,",
        ),
        ({**content, "model": {**content["model"], "extra": torch.zeros(1)}}, "extra is unknown"),
        ({**content, "model": other_mask}, "another mask than causal_encoder = True"),
        (changed(content, codebook_size=2000), "codebook_size = 2000 is unknown; allowed: 16, 64"),
        (changed(content, point_dim=3), "point_dim = 3 is not supported; only 2"),
        (changed(content, loss={**loss, "loss_fn": "mse"}), "loss.loss_fn = 'mse' is not supported"),
        (changed(content, loss=3), "file: loss is 3; expected a mapping"),
        (changed(content, loss={**loss, "loss_weights": {"a": "1"}}), "loss_weights is .* to numbers"),
        (changed(content, img_shape=128), "file: img_shape is 128; expected two whole numbers"),
        (changed(content, causal_encoder=1), "causal_encoder is 1; expected True, False or 'diag'"),
        (changed(content, hidden_dim="64"), "hidden_dim is '64'; expected a whole number"),
        (changed(content, cond_cameraviews="agentview"), "cond_cameraviews is 'agentview'; expected a list"),
        ({**content, "model": {**content["model"], weight: 3}}, "model is a dict; expected .* to tensors"),
        (changed(content, cond_on_img=True), "no weights for image tokens"),
    ]
    for wrong, message in refused:
        with pytest.raises(CheckpointError, match=message):
            from_amplify(wrong, "file")


def test_vision_weights_that_are_refused() -> None:
    checkpoint = checkpoint_of(sizes_of("diag", True, 1))
    content = to_amplify(checkpoint)
    assert content["config"]["vision_encoder"]["patch_pooling"] == "avg"
    without = {key: value for key, value in content["model"].items() if not key.startswith("vis_enc.")}
    other = changed(content, vision_encoder={"model_name": "vit-tiny"})
    renamed = {**content["model"], "vis_enc.model.layer1.weight": torch.zeros(1)}
    for wrong, message in [
        ({**content, "model": without}, r"cond_on_img = True, but the file lacks the weights vis_enc\.\*"),
        (other, "vision encoder 'vit-tiny' cannot be exchanged"),
        ({**content, "model": renamed}, r"file: vision weights do not fit.*layer1\.weight is unknown"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            from_amplify(wrong, "file")


def test_exports_that_are_refused() -> None:
    plain, conditioned = checkpoint_of(sizes_of(True, False)), checkpoint_of(sizes_of(True, False, 1))
    for wrong, message in [
        (dataclasses.replace(plain, views=("a",)), "1 names for 3 views"),
        (dataclasses.replace(conditioned, vision=None), "vision encoder are missing"),
        (dataclasses.replace(plain, vision={}), "vision encoder are given"),
        (
            dataclasses.replace(plain, sizes=dataclasses.replace(plain.sizes, fsq_levels=(5, 4))),
            r"model.fsq_levels = \[5, 4\] cannot be exported to AMPLIFY; allowed: \[5, 3\]",
        ),
        (
            dataclasses.replace(plain, sizes=dataclasses.replace(plain.sizes, num_points=6)),
            "export to AMPLIFY: weights do not fit",
        ),
    ]:
        with pytest.raises(CheckpointError, match=message):
            to_amplify(wrong)
