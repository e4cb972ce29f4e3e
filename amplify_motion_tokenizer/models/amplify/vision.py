"""The vision encoder: tokens of each view's first frame, which AMPLIFY's encoder can be conditioned on.

The networks are transformers' (``pip install transformers``); nothing here imports
torchvision. As in AMPLIFY, images are stretched to 224 x 224 (bilinear, without antialiasing) and are
not normalised by a mean and a standard deviation.

Letters: B windows, V views, P tokens of an image, E their width.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amplify_motion_tokenizer.errors import CheckpointError, ConfigError

IMAGE_SIDE = 224
"""Side in pixels that images are resized to."""

_DINOV2_SIZES = {
    "dinov2-small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "dinov2-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "dinov2-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}
_ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet18": (
        "ResNet",
        {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"},
    ),
    **{
        # Position embeddings for the images of its training, interpolated for smaller ones.
        name: ("Dinov2", {"patch_size": 14, "image_size": 518, **sizes})
        for name, sizes in _DINOV2_SIZES.items()
    },
}
"""Name to transformers' family and the settings that differ from its defaults."""

VISION_ENCODERS = tuple(_ARCHITECTURES)
"""Names that ``build_vision_encoder`` knows; they are AMPLIFY's."""


def image_shape(name: str, pooled: bool = False) -> tuple[int, int]:
    """(P, E) of the encoder ``name``, without building it."""
    _, settings = _ARCHITECTURES[name]
    return _token_shape(settings, pooled)


def _token_shape(settings: Mapping[str, Any], pooled: bool) -> tuple[int, int]:
    if "hidden_sizes" in settings:  # a ResNet
        side, dim = IMAGE_SIDE // 32, settings["hidden_sizes"][-1]
    else:
        side, dim = IMAGE_SIDE // settings["patch_size"], settings["hidden_size"]
    return 1 if pooled else side**2, dim


class VisionEncoder(nn.Module):
    """Images to tokens, by a network of transformers; made by ``build_vision_encoder``.

    ResNet-18 gives 7 * 7 tokens of 512 (its last feature map, row by row), DINOv2 16 * 16 patch tokens
    of its width, without the class token. A frozen encoder stays in evaluation mode, also after
    ``train()``, and no gradients pass through it.

    Args:
        model: transformers' ``ResNetModel`` or ``Dinov2Model``.
        frozen: whether the weights stay as they are.
        pooled: whether an image's tokens are averaged into one.
    """

    def __init__(self, model: nn.Module, *, frozen: bool = True, pooled: bool = False) -> None:
        super().__init__()
        self.model = model
        self.frozen = frozen
        self.pooled = pooled
        settings: Any = model.config
        self._is_resnet = settings.model_type == "resnet"
        self._shape = _token_shape(settings.to_dict(), pooled)
        for name, parameter in model.named_parameters():
            # DINOv2's mask token serves its own training alone: it never gets a gradient.
            parameter.requires_grad_(not frozen and not name.endswith("mask_token"))
        self.train()

    @property
    def num_tokens(self) -> int:
        """P."""
        return self._shape[0]

    @property
    def dim(self) -> int:
        """E."""
        return self._shape[1]

    def train(self, mode: bool = True) -> VisionEncoder:
        """As torch's, except that a frozen network stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Tokens of the first frames.

        Args:
            images: (B, V, H, W, 3) in [0, 1], RGB, of any size and any float type.

        Returns:
            (B, V, P, E).

        Raises:
            ValueError: when the shape or type is another; or, in evaluation mode, values leave [0, 1].
        """
        _check_images(images, values=not self.training)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            pixels = images.flatten(0, 1).movedim(-1, 1).to(next(self.model.parameters()).dtype)
            pixels = F.interpolate(pixels, (IMAGE_SIDE, IMAGE_SIDE), mode="bilinear", align_corners=False)
            features: Tensor = self.model(pixel_values=pixels).last_hidden_state
            tokens = features.flatten(2).transpose(1, 2) if self._is_resnet else features[:, 1:]
            if self.pooled:
                tokens = tokens.mean(dim=1, keepdim=True)
            return tokens.reshape(*images.shape[:2], *tokens.shape[1:])


def _check_images(images: Tensor, values: bool) -> None:
    """Raises ValueError unless ``images`` are float (B, V, H, W, 3), with ``values`` in [0, 1].

    Reading values waits for the device, so training, whose images ``data.inputs`` makes, leaves it out.
    """
    expected = "expected float (B, V, H, W, 3) in [0, 1]"
    if images.ndim != 5 or images.shape[-1] != 3 or not images.is_floating_point():
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}; {expected}")
    if values and images.numel() and not torch.compiler.is_compiling():
        low, high = (float(bound) for bound in images.aminmax())
        if not 0 <= low <= high <= 1:
            raise ValueError(f"images hold values from {low:g} to {high:g}; {expected}: divide bytes by 255")


def build_vision_encoder(
    name: str = "resnet18",
    *,
    frozen: bool = True,
    pooled: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> VisionEncoder:
    """A vision encoder by name, with random weights, without files and without network.

    Args:
        name: one of ``VISION_ENCODERS``.
        frozen: whether the weights stay as they are.
        pooled: whether an image's tokens are averaged into one (AMPLIFY's ``patch_pooling: avg``).
        overrides: settings of transformers' config that differ.

    Raises:
        ConfigError: the name is unknown, or transformers is not installed; says how to install it.
    """
    if name not in _ARCHITECTURES:
        allowed = ", ".join(VISION_ENCODERS)
        raise ConfigError(f"vision encoder {name!r} is unknown; allowed: {allowed}")
    transformers = _transformers(name)
    family, settings = _ARCHITECTURES[name]
    model_type = getattr(transformers, f"{family}Model")
    config = getattr(transformers, f"{family}Config")(**{**settings, **(overrides or {})})
    return VisionEncoder(model_type(config), frozen=frozen, pooled=pooled)


def load_pretrained(encoder: VisionEncoder, weights: str) -> None:
    """Gives ``encoder`` pretrained weights of its own architecture.

    Args:
        encoder: from ``build_vision_encoder``.
        weights: folder with a model that transformers saved (then no network is used), or its id on the
            Hugging Face hub.

    Raises:
        CheckpointError: the weights cannot be read, lack keys, or are of another architecture.
    """
    own, state = encoder.model.state_dict(), _pretrained(type(encoder.model), weights)
    for key in sorted(own.keys() | state.keys()):
        expected, found = (tuple(part[key].shape) if key in part else None for part in (own, state))
        if expected != found:
            raise CheckpointError(
                f"{weights}: is of another architecture than model.amplify.vision.encoder: {key} has shape "
                f"{found}, expected {expected}"
            )
    encoder.model.load_state_dict(state)


def _transformers(name: str) -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise ConfigError(
            f"vision encoder {name!r} needs transformers; install it with pip install transformers"
        ) from None


def _pretrained(model_type: Any, weights: str) -> dict[str, Tensor]:
    """State dict of the model of ``model_type`` in ``weights``."""
    local = Path(weights).is_dir()
    transformers = importlib.import_module("transformers")
    damaged: type[Exception] = importlib.import_module("safetensors").SafetensorError
    try:
        config = transformers.AutoConfig.from_pretrained(weights, local_files_only=local)
        expected = model_type.config_class.model_type
        if config.model_type != expected:
            raise CheckpointError(
                f"{weights}: holds a {config.model_type} model, expected {expected}; set "
                "model.amplify.vision.encoder or model.amplify.vision.weights to fit"
            )
        model: nn.Module
        model, report = model_type.from_pretrained(
            weights, config=config, local_files_only=local, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, damaged) as error:
        raise CheckpointError(
            f"{weights}: vision weights cannot be read ({str(error).splitlines()[0]}); "
            "give a folder that transformers saved, or the id of a model on the Hugging Face hub"
        ) from None
    if report["missing_keys"]:
        raise CheckpointError(
            f"{weights}: lacks weights such as {sorted(report['missing_keys'])[0]}; give a whole model that "
            "transformers saved"
        )
    return model.state_dict()


def _resnet18_names() -> dict[str, str]:
    """The layers with weights: name in AMPLIFY's files to name in transformers' ``ResNetModel``."""
    names = {"0": "embedder.embedder.convolution", "1": "embedder.embedder.normalization"}
    for stage in range(4):
        for block in range(2):
            theirs, ours = f"{4 + stage}.{block}", f"encoder.stages.{stage}.layers.{block}"
            for number in range(2):
                names[f"{theirs}.conv{number + 1}"] = f"{ours}.layer.{number}.convolution"
                names[f"{theirs}.bn{number + 1}"] = f"{ours}.layer.{number}.normalization"
            if stage > 0 and block == 0:
                names[f"{theirs}.downsample.0"] = f"{ours}.shortcut.convolution"
                names[f"{theirs}.downsample.1"] = f"{ours}.shortcut.normalization"
    return names


def resnet18_from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ResNet-18 weights of an AMPLIFY file as a ``VisionEncoder``'s state dict.

    Args:
        state: the file's weights below ``vis_enc.``: ``model.`` and the children of timm's network by
            number, without the last two (0 conv1, 1 bn1, 4 to 7 the stages).

    Raises:
        CheckpointError: a key is unknown or missing; names the first.
    """
    return _renamed(state, _resnet18_names(), "AMPLIFY's ResNet-18 (timm)")


def resnet18_to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``resnet18_from_timm``.

    Raises:
        CheckpointError: a key is unknown or missing; names the first.
    """
    names = {ours: theirs for theirs, ours in _resnet18_names().items()}
    return _renamed(state, names, "transformers' ResNet-18")


def _renamed(state: Mapping[str, Tensor], layers: Mapping[str, str], network: str) -> dict[str, Tensor]:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {
        f"model.{old}.{leaf}": f"model.{new}.{leaf}"
        for old, new in layers.items()
        for leaf in (norm if "normalization" in old + new else ("weight",))
    }
    problems = [f"{key} is unknown" for key in sorted(state.keys() - names.keys())]
    problems += [f"{key} is missing" for key in sorted(names.keys() - state.keys())]
    if problems:
        raise CheckpointError(
            f"vision weights do not fit {network}: {'; '.join(problems[:3])}"
            f"{f' (and {len(problems) - 3} more)' if len(problems) > 3 else ''}"
        )
    return {names[key]: value for key, value in state.items()}
