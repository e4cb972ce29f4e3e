"""Batches to codes and back: the tokenizer networks by name, their losses and their checkpoints."""

from __future__ import annotations

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models.amplify.network import AmplifyTokenizer
from amplify_motion_tokenizer.models.base import MotionTokenizer, TokenizerOutput
from amplify_motion_tokenizer.models.displacement.codec import CodecTokenizer
from amplify_motion_tokenizer.models.displacement.transform import TransformTokenizer
from amplify_motion_tokenizer.models.keypoint.network import KeypointTokenizer

__all__ = ["MODELS", "MotionTokenizer", "TokenizerOutput", "build_model"]

MODELS: dict[str, type[MotionTokenizer]] = {
    "amplify": AmplifyTokenizer,
    "codec": CodecTokenizer,
    "keypoint": KeypointTokenizer,
    "transform": TransformTokenizer,
}
"""Value of ``model.name`` to the class that it builds; ``config.input_kinds`` says what each takes."""


def build_model(config: Config, pretrained: bool = False) -> MotionTokenizer:
    """A new model with random weights, as ``config.model`` says.

    Args:
        config: the whole config.
        pretrained: whether a vision encoder begins with ``model.amplify.vision.weights``, which may need
            files or a network; a model that is loaded from a checkpoint does not need them.

    Raises:
        ConfigError: a vision encoder needs transformers.
        CheckpointError: the pretrained weights cannot be used.
    """
    model = MODELS[config.model.name](config)
    if pretrained:
        model.load_pretrained()
    return model
