"""Checkpoints of the source implementation (pairlab/AMPLIFY), in both directions.

AMPLIFY's file is a torch file with one dict: ``model`` (state dict, loaded strictly), ``config`` (its
training config as plain dicts) and the state of training. Here it is taken apart into what our model
needs, and put together again; reading and writing the file itself is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config, LossConfig
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.kinds import (
    FLAG,
    MAPPING,
    NUMBER,
    NUMBERS,
    PAIR,
    TEXTS,
    WHOLE,
    Kind,
    check_kinds,
    whole_from,
)
from amplify_motion_tokenizer.models.amplify.network import AmplifyNetwork, AmplifySizes
from amplify_motion_tokenizer.models.amplify.vision import resnet18_from_timm, resnet18_to_timm
from amplify_motion_tokenizer.models.torch_files import TENSORS, unwrapped

AMPLIFY_LEVELS: dict[int, tuple[int, ...]] = {
    16: (5, 3),
    64: (8, 8),
    256: (8, 6, 5),
    512: (8, 8, 8),
    1024: (8, 5, 5, 5),
    2048: (8, 8, 6, 5),
    4096: (7, 5, 5, 5, 5),
}
"""AMPLIFY's ``codebook_size`` to its FSQ levels; the true number of codes is the levels' product."""

TRAINING_KEYS: Mapping[str, Any] = {
    "optimizer": None,
    "scaler": None,
    "scheduler": None,
    "epoch": 0,
    "train_loss": None,
    "val_loss": None,
    "train_global_iter": 0,
    "val_global_iter": 0,
    "wandb_run_id": None,
}
"""The state of training in a file, and what an export holds where it is not known."""

_VISION = "vis_enc."
_RESNET18 = {
    "model_name": "resnet18",
    "frozen": True,
    "lr_multiplier": 1.0,
    "get_patches": True,
    "get_cls_and_patches": False,
}
_LOSS_VIEWS = ("agentview", "eye_in_hand", "all", "corner", "corner2", "front")
_FIXED = {"point_dim": 2, "type": "transformer", "loss.loss_fn": "relative_ce"}
_REQUIRED: dict[str, Kind] = {
    "cond_cameraviews": TEXTS,
    "track_pred_horizon": whole_from(2, 65536),
    "num_tracks": whole_from(1, 2**18),
    "hidden_dim": whole_from(1, 65536),
    "num_heads": whole_from(1, 1024),
    "num_layers": whole_from(1, 1000),
    "attn_pdrop": NUMBER,
    "codebook_size": WHOLE,
    "causal_encoder": (lambda value: isinstance(value, bool) or value == "diag", "True, False or 'diag'"),
    "decoder_mlp_hidden_dim": whole_from(1, 2**20),
    "per_view": FLAG,
    "cond_on_img": FLAG,
    "img_shape": PAIR,
    "loss": MAPPING,
}
_SIDES: Kind = (
    lambda value: PAIR[0](value) and 1 <= min(value) <= max(value) <= 1024,
    "two numbers of 1 to 1024",
)
_REQUIRED_OF_LOSS: dict[str, Kind] = {"loss_weights": NUMBERS, "rel_cls_img_size": _SIDES}


_NOMINAL = {levels: size for size, levels in AMPLIFY_LEVELS.items()}


def nominal_size(config: Config) -> int | None:
    """AMPLIFY's ``codebook_size`` of an amplify model's FSQ levels; None for others than AMPLIFY's."""
    return _NOMINAL.get(config.model.fsq_levels) if config.model.name == "amplify" else None


@dataclass(frozen=True, kw_only=True)
class AmplifyCheckpoint:
    """An AMPLIFY checkpoint in memory."""

    sizes: AmplifySizes
    views: tuple[str, ...]
    """Names of the views, in their order."""
    img_shape: tuple[int, int]
    """(height, width) in pixels that tracks are normalised by."""
    model: dict[str, Tensor]
    """State dict of ``AmplifyNetwork(sizes)``."""
    loss_weights: dict[str, float] | None = None
    """Weights by name of the view; None is AMPLIFY's."""
    vision: dict[str, Tensor] | None = None
    """State dict of a ResNet-18 ``VisionEncoder``; None without image conditioning."""
    config: dict[str, Any] = field(default_factory=dict)
    """Other keys of AMPLIFY's config, such as its training's settings; kept as they are."""
    training: dict[str, Any] = field(default_factory=dict)
    """The parts of ``TRAINING_KEYS`` that are known."""


def from_amplify(content: Mapping[str, Any], source: str) -> AmplifyCheckpoint:
    """Takes the dict of an AMPLIFY file apart.

    The prefixes of a wrapped model are taken off its keys, and every key, shape and attention mask is
    checked against the config.

    Args:
        content: the dict.
        source: what to call the file in messages.

    Raises:
        CheckpointError: a part or a config key is missing, the config is of a model other than
            AMPLIFY's forward one, or weights do not fit it; names the file and the first problems.
    """
    missing = [key for key in ("model", "config") if not isinstance(content.get(key), Mapping)]
    if missing:
        raise CheckpointError(
            f"{source}: is no AMPLIFY checkpoint; it lacks {' and '.join(missing)}; give a whole checkpoint"
        )
    config = dict(content["config"])
    _check_config(config, source)
    check_kinds(source, content, {"model": TENSORS})
    state = unwrapped(content["model"])
    vision = {key.removeprefix(_VISION): state.pop(key) for key in list(state) if key.startswith(_VISION)}
    sizes = _sizes_of(config, state, source)
    _check_state(state, sizes, source)
    if bool(vision) != config["cond_on_img"]:
        found = "holds" if vision else "lacks"
        raise CheckpointError(
            f"{source}: cond_on_img = {config['cond_on_img']}, but the file {found} the weights {_VISION}*"
        )
    if vision:
        vision = _mapped_vision(vision, config, source)
    return AmplifyCheckpoint(
        sizes=sizes,
        views=tuple(config["cond_cameraviews"]),
        img_shape=(config["img_shape"][0], config["img_shape"][1]),
        model=state,
        loss_weights=dict(config["loss"]["loss_weights"]),
        vision=vision or None,
        config=config,
        training={key: content[key] for key in TRAINING_KEYS if key in content},
    )


def to_amplify(checkpoint: AmplifyCheckpoint) -> dict[str, Any]:
    """The dict of an AMPLIFY file, with every key that AMPLIFY reads; the inverse of ``from_amplify``.

    Raises:
        CheckpointError: the FSQ levels are none of AMPLIFY's, weights do not fit the sizes, or weights
            of the vision encoder are missing or not a ResNet-18's.
    """
    sizes, where = checkpoint.sizes, "export to AMPLIFY"
    if len(checkpoint.views) != sizes.num_views:
        raise CheckpointError(f"{where}: {len(checkpoint.views)} names for {sizes.num_views} views")
    if bool(sizes.image_tokens) != (checkpoint.vision is not None):
        raise CheckpointError(
            f"{where}: image_tokens = {sizes.image_tokens}, but weights of a vision encoder are "
            f"{'missing' if checkpoint.vision is None else 'given'}"
        )
    config = _config_of(checkpoint)
    _check_state(checkpoint.model, sizes, where)
    model = dict(checkpoint.model)
    if checkpoint.vision is not None:
        _check_vision_name(config, where)
        model |= {f"{_VISION}{key}": value for key, value in resnet18_to_timm(checkpoint.vision).items()}
    return {"model": model, "config": config, **TRAINING_KEYS, **checkpoint.training}


def _check_config(config: Mapping[str, Any], source: str) -> None:
    check_kinds(source, config, {**_REQUIRED, "vision_encoder": MAPPING})
    inner = config.get("loss", {})
    check_kinds(f"{source}: loss", inner, _REQUIRED_OF_LOSS)
    missing = [key for key in _REQUIRED if key not in config]
    missing += [f"loss.{key}" for key in _REQUIRED_OF_LOSS if key not in inner]
    if missing:
        raise CheckpointError(f"{source}: its config lacks {', '.join(missing)}")
    found = {**config, **{f"loss.{key}": value for key, value in inner.items()}}
    for key, expected in _FIXED.items():
        value = found.get(key, expected)
        if isinstance(value, Tensor) or value != expected:
            raise CheckpointError(f"{source}: {key} = {value!r:.200} is not supported; only {expected!r}")


def _sizes_of(config: Mapping[str, Any], state: Mapping[str, Tensor], source: str) -> AmplifySizes:
    codebook_size = config["codebook_size"]
    if codebook_size not in AMPLIFY_LEVELS:
        allowed = ", ".join(map(str, AMPLIFY_LEVELS))
        raise CheckpointError(f"{source}: codebook_size = {codebook_size} is unknown; allowed: {allowed}")
    num_views, per_view = len(config["cond_cameraviews"]), bool(config["per_view"])
    rows, cols = config["loss"]["rel_cls_img_size"]
    image_tokens, image_dim = 0, AmplifySizes.image_dim
    if config["cond_on_img"]:
        image_tokens, image_dim = _image_sizes(state, num_views, per_view, source)
    return AmplifySizes(
        num_views=num_views,
        num_steps=config["track_pred_horizon"] - 1,
        num_points=config["num_tracks"],
        hidden_dim=config["hidden_dim"],
        num_heads=config["num_heads"],
        num_layers=config["num_layers"],
        dropout=config["attn_pdrop"],
        mlp_dim=config["decoder_mlp_hidden_dim"],
        fsq_levels=AMPLIFY_LEVELS[codebook_size],
        class_grid=(rows, cols),
        per_view=per_view,
        causal=config["causal_encoder"],
        image_tokens=image_tokens,
        image_dim=image_dim,
    )


def _image_sizes(state: Mapping[str, Tensor], num_views: int, per_view: bool, source: str) -> tuple[int, int]:
    """(image_tokens, image_dim) of a conditioned file, which its config does not hold."""
    mask = state.get("encoder.encoder.transformer.h.0.cross_attn.attn_mask")
    weight = state.get("encoder.cond_proj.weight")
    if mask is None or weight is None:
        raise CheckpointError(
            f"{source}: cond_on_img is true, but the file has no weights for image tokens; it is not whole"
        )
    return mask.shape[-1] // num_views, weight.shape[-1] // (1 if per_view else num_views)


def _check_state(state: Mapping[str, Tensor], sizes: AmplifySizes, source: str) -> None:
    # Fewer than the network has: a file whose config asks for a larger one must not fill the memory.
    least = sizes.hidden_dim * (2 * sizes.num_points + sizes.num_layers * sizes.hidden_dim)
    least += sizes.mlp_dim + sizes.class_grid[0] * sizes.class_grid[1]
    held = sum(tensor.numel() for tensor in state.values())
    if least > held:
        raise CheckpointError(
            f"{source}: weights do not fit the config: it tells of more than {least}, the file holds {held}"
        )
    with torch.random.fork_rng(devices=[]):  # an export must not disturb a training in progress
        expected = AmplifyNetwork(sizes).state_dict()
    problems = [f"{key} is missing" for key in sorted(expected.keys() - state.keys())]
    problems += [f"{key} is unknown" for key in sorted(state.keys() - expected.keys())]
    for key in sorted(expected.keys() & state.keys()):
        found, wanted = state[key], expected[key]
        if found.shape != wanted.shape:
            problems.append(f"{key} has shape {tuple(found.shape)}, expected {tuple(wanted.shape)}")
        elif key.endswith("attn_mask") and not torch.equal(found.cpu().bool(), wanted):
            problems.append(f"{key} is another mask than causal_encoder = {sizes.causal!r} gives")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise CheckpointError(f"{source}: weights do not fit the config: {'; '.join(problems[:3])}{more}")


def _check_vision_name(config: Mapping[str, Any], source: str) -> None:
    name = config.get("vision_encoder", {}).get("model_name")
    if name != "resnet18":
        raise CheckpointError(
            f"{source}: weights of the vision encoder {name!r} cannot be exchanged with AMPLIFY; "
            "only the weights of 'resnet18' can"
        )


def _mapped_vision(state: Mapping[str, Tensor], config: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    _check_vision_name(config, source)
    try:
        return resnet18_from_timm(state)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None


def _config_of(checkpoint: AmplifyCheckpoint) -> dict[str, Any]:
    """AMPLIFY's config, with every key that its model reads."""
    sizes = checkpoint.sizes
    nominal = _NOMINAL.get(tuple(sizes.fsq_levels))
    if nominal is None:
        allowed = "; ".join(str(list(levels)) for levels in AMPLIFY_LEVELS.values())
        raise CheckpointError(
            f"model.fsq_levels = {list(sizes.fsq_levels)} cannot be exported to AMPLIFY; allowed: {allowed}"
        )
    return {
        "compile": False,
        **checkpoint.config,
        "vision_encoder": {
            **_RESNET18,
            "patch_pooling": "avg" if sizes.image_tokens == 1 else None,
            **checkpoint.config.get("vision_encoder", {}),
        },
        "type": "transformer",
        "cond_cameraviews": list(checkpoint.views),
        "img_shape": list(checkpoint.img_shape),
        "track_pred_horizon": sizes.num_steps + 1,
        "num_tracks": sizes.num_points,
        "point_dim": 2,
        "hidden_dim": sizes.hidden_dim,
        "num_heads": sizes.num_heads,
        "num_layers": sizes.num_layers,
        "attn_pdrop": sizes.dropout,
        "codebook_size": nominal,
        "causal_encoder": sizes.causal,
        "decoder_mlp_hidden_dim": sizes.mlp_dim,
        "per_view": sizes.per_view,
        "cond_on_img": bool(sizes.image_tokens),
        "loss": _loss_config(checkpoint),
    }


def _loss_config(checkpoint: AmplifyCheckpoint) -> dict[str, Any]:
    known = LossConfig().view_weights if checkpoint.loss_weights is None else checkpoint.loss_weights
    names = list(dict.fromkeys((*_LOSS_VIEWS, *checkpoint.views, *known)))
    return {
        "cls_img_size": list(checkpoint.img_shape),
        "num_angle_bins": None,
        "num_mag_bins": None,
        "max_polar_mag": None,
        **checkpoint.config.get("loss", {}),
        "loss_fn": "relative_ce",
        "loss_weights": {name: float(known.get(name, 1.0)) for name in names},
        "rel_cls_img_size": list(checkpoint.sizes.class_grid),
    }
