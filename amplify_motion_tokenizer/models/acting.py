"""Which settings act in a model: values that it does not use are not compared."""

from __future__ import annotations

from typing import Any

from amplify_motion_tokenizer.config import Config, decides, flatten, in_use, to_dict
from amplify_motion_tokenizer.models import MODELS


def in_effect(config: Config, *words: str) -> dict[str, Any]:
    """The dotted keys that the model in use uses and that decide one of ``words``, as they act.

    Args:
        config: the whole config; what null stands for is told instead.
        words: of ``config.settings.DECIDES``.
    """
    flat = flatten(to_dict(config)) | {"data.true_horizon": config.tracked_length}
    for key in MODELS[config.model.name].unused_settings:
        del flat[key]
    if config.model.has_class_grid:
        flat[f"model.{config.model.name}.class_grid"] = list(config.class_grid)
        del flat["model.decoder_window_size"]
    return {key: value for key, value in flat.items() if decides(key, *words) and in_use(key, config)}
