"""The tokenizer networks by name."""

from __future__ import annotations

import difflib

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.models.amplify import AmplifyTokenizer
from amplify_motion_tokenizer.models.base import MotionTokenizer, TokenizerOutput
from amplify_motion_tokenizer.models.keypoint import KeypointTokenizer

__all__ = ["MODELS", "MotionTokenizer", "TokenizerOutput", "build_model"]

MODELS: dict[str, type[MotionTokenizer]] = {"amplify": AmplifyTokenizer, "keypoint": KeypointTokenizer}
"""Value of ``model.name`` to the class that it builds."""


def build_model(config: Config, pretrained: bool = False) -> MotionTokenizer:
    """A new model with random weights, as ``config.model`` says.

    Args:
        config: the whole config.
        pretrained: whether a vision encoder begins with ``model.amplify.vision.weights``, which may need
            files or a network; a model that is loaded from a checkpoint does not need them.

    Raises:
        ConfigError: when ``model.name`` is unknown, naming the closest name and all that exist; or a
            vision encoder needs transformers.
        CheckpointError: the pretrained weights cannot be used.
    """
    name = config.model.name
    if name not in MODELS:
        allowed = ", ".join(sorted(MODELS))
        closest = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.0)[0]
        raise ConfigError(f"model.name = {name!r} is unknown; did you mean {closest!r}? Allowed: {allowed}")
    model = MODELS[name](config)
    if pretrained:
        model.load_pretrained()
    return model
