"""Files of the systems that this one unites, read as ours and written from ours.

What an export says beyond the other system's keys lies under ``OWN_KEY``, which that system does not read:
in AMPLIFY's file itself, in the ``config.yaml`` beside the keypoint reproduction's weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.amplify_checkpoint import (
    AmplifyCheckpoint,
    from_amplify,
    to_amplify,
    unwrapped,
)
from amplify_motion_tokenizer.config import (
    Config,
    KeypointConfig,
    changes,
    flatten,
    to_dict,
    track_settings,
    unflatten,
)
from amplify_motion_tokenizer.config.files import config_from_dict, load_yaml
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.models.amplify import amplify_sizes
from amplify_motion_tokenizer.models.torch_files import MAPPING, NUMBERS, Kind, check_kinds, or_none
from amplify_motion_tokenizer.models.vision import IMAGE_SIDE, image_shape

OWN_KEY = "amplify_motion_tokenizer"
"""Where an export keeps what the other system's file has no place for: ``own_part``."""

REPRODUCTION_CONFIG = "config.yaml"
"""Name of the config that lies beside the keypoint reproduction's weights."""

AMPLIFY_PREFIX = "network."
"""Where our amplify model holds the source's network."""

VISION_PREFIX = "vision."
"""Where it holds the vision encoder."""

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


OWN_PARTS: dict[str, Kind] = {"config": MAPPING, "track_settings": or_none(MAPPING), "metrics": NUMBERS}
"""What our own files say beside the weights, and exports under ``OWN_KEY``."""


class Exchanged(NamedTuple):
    """What a file of another system holds, in our terms."""

    model: dict[str, Tensor]
    """State dict."""
    config: Config
    track_settings: dict[str, Any] | None
    """Dotted keys that decided the training tracks; None when the file does not say."""
    metrics: dict[str, float]


def own_part(config: Config, settings: dict[str, Any] | None, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What an export holds under ``OWN_KEY``, so that reading it again loses nothing but training's state."""
    return {"config": to_dict(config), "track_settings": settings, "metrics": dict(metrics)}


def unknown_settings(config: Config) -> list[str]:
    """``key = value`` of what the model's input is, where it is not as the other system makes it.

    No key of that system's file says so.
    """
    shorter, is_amplify = config.video.resize_shorter, config.model.name == "amplify"
    theirs: dict[str, Any] = {
        "tracking.query_order": "uniform" if is_amplify else "row_major",
        "data.true_horizon": config.data.sequence_length,
        "video.fit": "shorter",
    }
    if not is_amplify:
        theirs["data.reference_size"] = {"shorter": shorter} if shorter else None
    ours = flatten(to_dict(config)) | {"data.true_horizon": config.tracked_length}
    return [f"{key} = {ours[key]}" for key, value in theirs.items() if ours[key] != value]


def _read_own(path: Path, part: Any) -> tuple[Config, dict[str, Any] | None, dict[str, float]]:
    """``own_part``'s arguments."""
    if not isinstance(part, Mapping) or {"config", "track_settings", "metrics"} - part.keys():
        raise CheckpointError(
            f"{path}: {OWN_KEY} holds no config, track_settings and metrics, as an export's does; remove it"
        )
    check_kinds(f"{path}: {OWN_KEY}", part, OWN_PARTS)
    config = config_from_dict(part["config"], f"in {path} under {OWN_KEY}")
    return config, part["track_settings"], part["metrics"]


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
    exported = Exchanged(state, *_read_own(config_path, own))
    known = _reproduction_keys(exported.config)
    differ = changes(known, known | {key: value for key, value in flatten(tree).items() if key in known})
    if differ:
        raise CheckpointError(_disagreement(config_path, differ[0]))
    return exported


def _disagreement(path: Path, change: str) -> str:
    return (
        f"{path}: {OWN_KEY} says something else than the file's other keys ({change}); make them equal, or "
        f"remove {OWN_KEY}"
    )


def _reproduction_config(path: Path, theirs: Mapping[str, Any]) -> Config:
    missing = [key for key in _REQUIRED if key not in theirs]
    if missing:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}, which the weights beside it need")
    ours: dict[str, Any] = {key: theirs[key] for key in _REQUIRED}
    ours |= {our_key: theirs[key] for key, our_key in _OPTIONAL.items() if key in theirs}
    shorter = ours.get("video.resize_shorter")
    if shorter == 0:
        # 0 is the reproduction's way to keep the size; its pixels are then those of each source.
        ours |= {"video.resize_shorter": None, "data.reference_size": None}
    elif shorter is not None:
        ours["data.reference_size"] = {"shorter": shorter}  # its pixels are those of the tracked size
    # Its static filter is off unless it says otherwise, and a small grid may not fit our default.
    ours["data.static_filter.enable"] = theirs.get("data.static_filter.enable", False)
    ours |= {"model.keypoint.tokens": "point_step", "model.keypoint.decoder": "replicate"}
    return config_from_dict(unflatten(ours), f"in {path}")


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
        "model.nominal_codebook_size": source.config["codebook_size"],
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
    exported = Exchanged(state, *_read_own(path, content[OWN_KEY]))
    differ = changes(_amplify_keys(exported.config), _amplify_keys(config))
    if differ:
        raise CheckpointError(_disagreement(path, differ[0]))
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
    theirs["preprocess.resize_shorter"] = config.video.resize_shorter or 0
    return theirs
