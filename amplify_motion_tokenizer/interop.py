"""Files of the systems that this one unites, read as ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from amplify_motion_tokenizer.config import Config, flatten, unflatten
from amplify_motion_tokenizer.config_files import config_from_dict, load_yaml
from amplify_motion_tokenizer.errors import CheckpointError

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
    "model.num_classes": "model.num_classes",
    "data.num_points": "data.num_points",
    "data.static_filter.metric": "data.static_filter.metric",
    "data.static_filter.threshold": "data.static_filter.threshold",
    "data.static_filter.min_keep": "data.static_filter.min_keep",
    "preprocess.target_fps": "video.target_fps",
    "preprocess.resize_shorter": "video.resize_shorter",
    "preprocess.window_stride": "tracking.window_stride",
}
"""The reproduction's keys that ours know, by either name; its other keys have no meaning here."""


def read_reproduction(path: Path, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Config]:
    """The reproduction's bare state dict, and the ``config.yaml`` beside it as our config.

    Prefixes of wrapped models are taken off the keys, and its stored causal mask is dropped.

    Raises:
        CheckpointError: it is another model's state dict, or the config is not there or lacks keys.
        ConfigError: the config holds an impossible value.
    """
    state = {key.removeprefix("module.").removeprefix("_orig_mod."): value for key, value in state.items()}
    state.pop("causal_mask", None)
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
    return state, _reproduction_config(config_path)


def _reproduction_config(path: Path) -> Config:
    theirs = flatten(load_yaml(path))
    missing = [key for key in _REQUIRED if key not in theirs]
    if missing:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}, which the weights beside it need")
    ours: dict[str, Any] = {key: theirs[key] for key in _REQUIRED}
    ours |= {our_key: theirs[key] for key, our_key in _OPTIONAL.items() if key in theirs}
    if ours.get("video.resize_shorter") == 0:
        ours["video.resize_shorter"] = None  # 0 is the reproduction's way to keep the size
    # Its static filter is off unless it says otherwise, and a small grid may not fit our default.
    ours["data.static_filter.enable"] = theirs.get("data.static_filter.enable", False)
    return config_from_dict(unflatten(ours), f"in {path}")
