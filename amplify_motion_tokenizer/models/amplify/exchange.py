"""Turns AMPLIFY's checkpoints into ours, and ours into AMPLIFY's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from amplify_motion_tokenizer.config import Config, changes, unflatten
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.models.amplify.checkpoint import AmplifyCheckpoint, from_amplify, to_amplify
from amplify_motion_tokenizer.models.amplify.network import amplify_sizes
from amplify_motion_tokenizer.models.amplify.vision import IMAGE_SIDE, image_shape
from amplify_motion_tokenizer.models.exchange import OWN_KEY, Exchanged, disagreement, read_own

AMPLIFY_PREFIX = "network."
"""Where our amplify model holds the source's network."""


VISION_PREFIX = "vision."
"""Where our amplify model holds the vision encoder."""


def read_amplify(path: Path, content: Mapping[str, Any]) -> Exchanged:
    """A source checkpoint's dict in our terms.

    Raises:
        CheckpointError: a part is missing, weights do not fit its config, its points are no square grid,
            it makes image tokens in a way that ours does not know, or says something else under ``OWN_KEY``.
    """
    source = from_amplify(content, str(path))
    sizes = source.sizes
    grid_size = math.isqrt(sizes.num_points)
    if grid_size**2 != sizes.num_points:
        raise CheckpointError(
            f"{path}: has num_tracks = {sizes.num_points}; expected the square of a grid size"
        )
    known = {
        "tracking.query_order": "uniform",
        "data.views": list(source.views),
        "data.sequence_length": sizes.num_steps + 1,
        "data.grid_size": grid_size,
        "data.reference_size": list(source.img_shape),
        "data.static_filter.enable": False,
        "model.name": "amplify",
        "model.num_layers": sizes.num_layers,
        "model.num_heads": sizes.num_heads,
        "model.hidden_dim": sizes.hidden_dim,
        "model.dropout": sizes.dropout,
        "model.fsq_levels": list(sizes.fsq_levels),
        "model.amplify.per_view": sizes.per_view,
        "model.amplify.mask": {True: "causal", False: "none", "diag": "diag"}[sizes.causal],
        "model.amplify.mlp_dim": sizes.mlp_dim,
        "model.amplify.class_grid": list(sizes.class_grid),
        "loss.gamma": 0.0,
        "loss.alpha_center": 1.0,
        "loss.view_weights": source.loss_weights,
    }
    state = {f"{AMPLIFY_PREFIX}{key}": value for key, value in source.model.items()}
    if source.vision is not None:
        known |= _vision_keys(source, path)
        state |= {f"{VISION_PREFIX}{key}": value for key, value in source.vision.items()}
    config = config_from_dict(unflatten(known), f"in {path}")
    if OWN_KEY not in content:
        return Exchanged(state, config, None, {})
    exported = Exchanged(state, *read_own(path, content[OWN_KEY]))
    differ = changes(_amplify_keys(exported.config), _amplify_keys(config))
    if differ:
        raise CheckpointError(disagreement(path, differ[0]))
    return exported


def _amplify_keys(config: Config) -> dict[str, Any]:
    """What a source file says of the model and its input."""
    sizes = dataclasses.asdict(amplify_sizes(config))
    return {**sizes, "views": config.data.views, "img_shape": config.data.reference_size}


def _vision_keys(source: AmplifyCheckpoint, path: Path) -> dict[str, Any]:
    """Our keys of a conditioned source file.

    Its ``lr_multiplier`` is left out: it scales the weights that training begins with, not the rate.
    """
    theirs = source.config["vision_encoder"]
    pooling = theirs.get("patch_pooling")
    tokens = image_shape("resnet18", pooling == "avg")[0]
    if source.sizes.image_tokens != tokens:
        raise CheckpointError(
            f"{path}: has {source.sizes.image_tokens} tokens an image, expected {tokens} of a ResNet-18 with "
            f"patch_pooling = {pooling!r}; only 'avg' and None are known"
        )
    return {
        "tracking.first_frames": IMAGE_SIDE,
        "model.amplify.vision.encoder": "resnet18",
        "model.amplify.vision.frozen": bool(theirs.get("frozen", True)),
        "model.amplify.vision.pooled": pooling == "avg",
    }


def amplify_content(state: Mapping[str, Tensor], config: Config) -> dict[str, Any]:
    """The dict of a source checkpoint with our weights, which the source loads strictly.

    Raises:
        CheckpointError: it is another model, has FSQ levels that are none of the source's, or is
            conditioned by an encoder other than a ResNet-18.
    """
    if config.model.name != "amplify":
        raise CheckpointError(
            f"model.name is {config.model.name}; only an amplify tokenizer can become an amplify file"
        )
    reference = config.data.reference_size
    if not isinstance(reference, tuple):
        raise CheckpointError("data.reference_size must be [height, width] for an amplify file")
    vision = config.model.amplify.vision
    known = {"model_name": vision.encoder, "frozen": vision.frozen}
    return to_amplify(
        AmplifyCheckpoint(
            sizes=amplify_sizes(config),
            views=config.data.views,
            img_shape=reference,
            model=_below(AMPLIFY_PREFIX, state),
            loss_weights=dict(config.loss.view_weights),
            vision=_below(VISION_PREFIX, state) if config.conditioned else None,
            config={"vision_encoder": known} if config.conditioned else {},
        )
    )


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
