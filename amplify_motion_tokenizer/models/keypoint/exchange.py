"""Turns the keypoint reproduction's checkpoints into ours, and ours into its."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import (
    Config,
    KeypointConfig,
    changes,
    flatten,
    to_dict,
    track_settings,
    unflatten,
)
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.errors import CheckpointError, ConfigError
from amplify_motion_tokenizer.models.exchange import OWN_KEY, Exchanged, disagreement, read_own
from amplify_motion_tokenizer.models.torch_files import unwrapped

REPRODUCTION_CONFIG = "config.yaml"
"""Name of the config that lies beside the keypoint reproduction's weights."""


_REQUIRED = (
    "model.num_layers",
    "model.num_heads",
    "model.hidden_dim",
    "model.encoder_sequence_len",
    "model.fsq_levels",
    "model.decoder_window_size",
    "data.sequence_length",
    "data.grid_size",
)


_OPTIONAL = {
    "model.dropout": "model.dropout",
    "data.static_filter.metric": "data.static_filter.metric",
    "data.static_filter.threshold": "data.static_filter.threshold",
    "data.static_filter.min_keep": "data.static_filter.min_keep",
    "preprocess.target_fps": "video.target_fps",
    "preprocess.window_stride": "tracking.window_stride",
}
"""Keys that the reproduction's config may have, to the settings that they are here; others mean nothing."""


_SHORTER = "preprocess.resize_shorter"
"""Shorter side in pixels of the frames that the reproduction tracks, and normalises by; 0 keeps the size."""


def _derived(config: Config) -> dict[str, int]:
    """The reproduction's keys whose numbers follow from others."""
    return {"model.num_classes": config.num_classes, "data.num_points": config.num_points}


def read_reproduction(path: Path, state: Mapping[str, Tensor]) -> Exchanged:
    """The reproduction's bare state dict, and the ``config.yaml`` beside it as our config.

    Prefixes of wrapped models are taken off the keys, and its stored causal mask is dropped.

    Raises:
        CheckpointError: it is another model's state dict, or the config is not there, lacks keys or says
            something else under ``OWN_KEY``.
        ConfigError: the config holds an impossible value.
    """
    state = unwrapped(state)
    state.pop("causal_mask", None)  # it follows from the number of tokens, and the kernel is told instead
    if "decoder_queries" not in state or "input_projection.weight" not in state:
        raise CheckpointError(
            f"{path}: is a state dict of another model; its first keys are {', '.join(list(state)[:4])}"
        )
    config_path = path.with_name(REPRODUCTION_CONFIG)
    if not config_path.is_file():
        raise CheckpointError(
            f"{path}: is a bare state dict and needs {config_path.name} beside it, "
            "with the sections data and model that it was trained with"
        )
    tree = load_yaml(config_path)
    own = tree.pop(OWN_KEY, None)
    config = _reproduction_config(config_path, flatten(tree))
    if own is None:
        return Exchanged(state, config, track_settings(config), {})
    exported = Exchanged(state, *read_own(config_path, own))
    known = _reproduction_keys(exported.config)
    differ = changes(known, known | {key: value for key, value in flatten(tree).items() if key in known})
    if differ:
        raise CheckpointError(disagreement(config_path, differ[0]))
    return exported


def _reproduction_config(path: Path, theirs: Mapping[str, Any]) -> Config:
    missing = [key for key in _REQUIRED if key not in theirs]
    if missing:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}, which the weights beside it need")
    ours: dict[str, Any] = {key: theirs[key] for key in _REQUIRED}
    ours |= {our_key: theirs[key] for key, our_key in _OPTIONAL.items() if key in theirs}
    shorter = theirs.get(_SHORTER)
    if shorter is not None:
        size = None if shorter == 0 else {"shorter": shorter}
        ours |= {"video.size": size, "data.reference_size": size}
    # Its static filter is off unless it says otherwise, and a small grid may not fit our default.
    ours["data.static_filter.enable"] = theirs.get("data.static_filter.enable", False)
    ours |= {"model.keypoint.tokens": "point_step", "model.keypoint.decoder": "replicate"}
    config = config_from_dict(unflatten(ours), f"in {path}")
    for key, number in _derived(config).items():
        if theirs.get(key) not in (None, number):
            raise ConfigError(
                f"{path}: {key} = {theirs[key]} is impossible; allowed: {number}, which follows from other "
                "keys, or leave it out"
            )
    return config


def reproduction_content(
    state: Mapping[str, Tensor], config: Config
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The reproduction's state dict and the config that lies beside it, with our weights.

    Raises:
        CheckpointError: it is another model.
    """
    if config.model.name != "keypoint":
        raise CheckpointError(
            f"model.name is {config.model.name}; only a keypoint tokenizer can become a keypoint file"
        )
    found, known = config.model.keypoint, KeypointConfig(tokens="point_step", decoder="replicate")
    if found != known:
        raise CheckpointError(
            f"a keypoint tokenizer with tokens: {found.tokens} and decoder: {found.decoder} cannot become a "
            f"keypoint file, which holds {known.tokens} and {known.decoder} alone (model.keypoint)"
        )
    tokens = config.num_steps * config.num_points
    # The reproduction stores its mask and loads strictly.
    mask = torch.nn.Transformer.generate_square_subsequent_mask(tokens)
    return {**state, "causal_mask": mask}, unflatten(_reproduction_keys(config))


def _reproduction_keys(config: Config) -> dict[str, Any]:
    """The reproduction's dotted keys, with the values that ``config`` has."""
    ours = flatten(to_dict(config))
    theirs = {key: ours[key] for key in _REQUIRED} | {key: ours[own] for key, own in _OPTIONAL.items()}
    theirs["data.static_filter.enable"] = config.data.static_filter.enable
    size = config.video.size
    theirs[_SHORTER] = size["shorter"] if isinstance(size, dict) else 0
    return theirs | _derived(config)
