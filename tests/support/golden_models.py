"""The models of the golden files, with the files' weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from torch import Tensor

from amplify_motion_tokenizer.config import Config, DataConfig, LossConfig, ModelConfig, StaticFilterConfig
from amplify_motion_tokenizer.models.amplify.network import AmplifyNetwork, AmplifySizes

GOLDEN = Path(__file__).parents[1] / "golden"
KEYPOINT = "keypoint_small"
AMPLIFY = ["amplify_two_views_joint", "amplify_two_views_per_view", "amplify_nonsquare_three_views_full"]
CONDITIONED = ["amplify_encoder_conditioned", "amplify_encoder_conditioned_per_view"]
LEVELS = {256: (8, 6, 5), 1024: (8, 5, 5, 5), 2048: (8, 8, 6, 5)}


class Golden(NamedTuple):
    """A golden file."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_golden(name: str) -> Golden:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        return Golden({key: file.get_tensor(key) for key in file.keys()}, file.metadata())  # noqa: SIM118


def state_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, by their names in the state dict."""
    return {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}


DERIVED = ("num_points", "num_classes", "codebook_size")
"""Keys of the reproduction's configs whose numbers follow from others."""


def keypoint_config(golden: Golden) -> Config:
    parts: dict[str, Any] = {key: json.loads(value) for key, value in golden.metadata.items()}
    sizes = parts["config"]
    loss = {name: value for name, value in parts["focal"].items() if name != "alpha_other"}
    own, data = (
        {name: value for name, value in sizes[section].items() if name not in DERIVED}
        for section in ("model", "data")
    )
    own["fsq_levels"] = tuple(own["fsq_levels"])
    return Config(
        model=ModelConfig(**own),
        data=DataConfig(**data, static_filter=StaticFilterConfig(**parts["static_filter"])),
        loss=LossConfig(**loss),
    )


def amplify_network(golden: Golden) -> AmplifyNetwork:
    """A fresh network of the file's sizes."""
    config = json.loads(golden.metadata["config"])
    sizes = AmplifySizes(
        num_views=len(config["cond_cameraviews"]),
        num_steps=config["track_pred_horizon"] - 1,
        num_points=config["num_tracks"],
        hidden_dim=config["hidden_dim"],
        num_heads=config["num_heads"],
        num_layers=config["num_layers"],
        dropout=config["attn_pdrop"],
        mlp_dim=config["decoder_mlp_hidden_dim"],
        fsq_levels=LEVELS[config["codebook_size"]],
        class_grid=tuple(config["loss"]["rel_cls_img_size"]),
        per_view=config["per_view"],
        causal=config["causal_encoder"],
    )
    return AmplifyNetwork(sizes)


def conditioned_network(golden: Golden) -> AmplifyNetwork:
    """A fresh network whose encoder has the file's sizes; the file holds no decoder."""
    info = golden.metadata
    _, num_views, num_steps, num_points, _ = golden.tensors["in.velocities"].shape
    sizes = AmplifySizes(
        num_views=num_views,
        num_steps=num_steps,
        num_points=num_points,
        hidden_dim=golden.tensors["out.z"].shape[-1],
        num_heads=int(info["heads"]),
        num_layers=int(info["layers"]),
        mlp_dim=8,
        per_view=info["per_view"] == "True",
        causal=info["causal"],
        image_tokens=int(info["cond_tokens_per_view"]),
        image_dim=int(info["cond_dim"]),
    )
    return AmplifyNetwork(sizes)
