"""What of a checkpoint's config may be given anew for inference."""

from __future__ import annotations

from typing import Any

from amplify_motion_tokenizer.config import Config, changes, flatten, to_dict, track_settings
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.models import MODELS
from amplify_motion_tokenizer.models.checkpoint import Checkpoint

_MAY_DIFFER = ("video.", "tracking.", "inference.", "data.reference_size")
"""Keys that may differ from the checkpoint's, when they are given on purpose."""


_TRACKED_LENGTH = ("data.true_horizon", "data.interpolation")
"""Those that also may where the checkpoint does not say how its tracks were made."""


_NO_MATTER = (
    "training.",
    "loss.",
    "data.tracks_dir",
    "data.dataset",
    "data.val_split",
    "data.static_filter.",
    "data.augmentation.",
    "model.dropout",
    "model.latent_noise",
    "model.nominal_codebook_size",
    "model.amplify.vision.weights",
    "model.amplify.vision.frozen",
    "model.amplify.vision.lr_multiplier",
)
"""Keys that inference does not use."""


def check_overrides(checkpoint: Checkpoint, given: Config) -> list[str]:
    """What ``given`` changes of how the checkpoint's training tracks were made, as ``key old -> new``.

    Values are compared as they act: keys that inference or the model does not use do not count.

    Raises:
        ConfigError: a change of something that the weights fix, such as grid or model width.
    """
    tracks_known = checkpoint.track_settings is not None
    allowed = _MAY_DIFFER if tracks_known else (*_MAY_DIFFER, *_TRACKED_LENGTH)
    differ = changes(_in_effect(checkpoint.config), _in_effect(given))
    fixed = [change for change in differ if not change.startswith(allowed)]
    if fixed:
        fixed.sort(key=lambda change: not change.startswith("model.name "))
        names = ", ".join(f"{key}*" if key.endswith(".") else key for key in allowed)
        raise ConfigError(f"{fixed[0]} is impossible: the checkpoint fixes it; allowed to differ: {names}")
    told = {"data.reference_size", *(track_settings(given) if tracks_known else ())}
    return [change for change in differ if change.partition(" ")[0] in told]


def _in_effect(config: Config) -> dict[str, Any]:
    """The dotted keys that inference uses, with the values that null stands for."""
    name, others = config.model.name, (f"model.{other}." for other in MODELS if other != config.model.name)
    unused = [*_NO_MATTER, *others, *MODELS[name].unused_settings]
    flat = flatten(to_dict(config)) | {"data.true_horizon": config.tracked_length}
    if config.model.has_class_grid:
        flat[f"model.{name}.class_grid"] = list(config.class_grid)
        unused.append("model.decoder_window_size")
    return {key: value for key, value in flat.items() if not key.startswith(tuple(unused))}
