"""The interface of every motion tokenizer.

Letters: B windows, t velocity steps, N points, d codes of a window, D their width, C velocity classes.
A model of several views has one more axis, V, after B in velocities and logits.

``images`` are for models that are conditioned on them (``config.conditioned``), and only for those: each
view's first frame, (B, V, H, W, 3) float in [0, 1], RGB, of any size.
"""

from __future__ import annotations

import itertools
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models.factorised_loss import ChunkLoss, HeadLoss, head_loss
from amplify_motion_tokenizer.models.heads import Head, head_answers, head_means
from amplify_motion_tokenizer.models.quantizer import (
    Stage,
    codes_of_indices,
    quantize_float32,
    soft_codes,
    unrounded_digits,
)

_MaybeTensor = TypeVar("_MaybeTensor", Tensor, Tensor | None)


class TokenizerOutput(NamedTuple):
    """What one forward pass gives."""

    head: Head
    """The decoder's last layer, which makes the logits; give it to the loss, which may not need them."""
    indices: Tensor
    """(B, d) int64, code ids."""
    latents: Tensor
    """(B, d, D), tokens before quantising."""
    codes: Tensor
    """(B, d, D) float32, tokens after quantising."""
    digits: Tensor
    """(B, d, K) float32, the K FSQ digits of each code before rounding, in units of their levels."""
    num_steps: int
    """t."""

    @property
    def distinct_logits(self) -> Tensor:
        """(B, t, N, C), or (B, 1, N, C) when all steps share one distribution; made at every call."""
        return self.head.logits()

    @property
    def logits(self) -> Tensor:
        """(B, t, N, C): ``distinct_logits`` repeated over the steps, without copying."""
        return expand_steps(self.distinct_logits, self.num_steps)


class Truth(NamedTuple):
    """What a model's output is judged by."""

    velocities: Tensor
    """(B, [V, ]t, N, 2), what it was given."""
    labels: Tensor
    """(B, [V, ]t, N) int64, their classes."""
    mask: Tensor
    """(B, [V, ]t, N) bool, True where an element counts."""


def expand_steps(distinct_logits: Tensor, num_steps: int) -> Tensor:
    """A view (..., t, N, C) of (..., t or 1, N, C)."""
    *lead, _, points, classes = distinct_logits.shape
    return distinct_logits.expand(*lead, num_steps, points, classes)


class MotionTokenizer(nn.Module, ABC):
    """Velocities to discrete codes and back to a distribution over velocity classes.

    Subclasses build their layers and implement ``input_shape``, ``num_codes``, ``encode`` and ``head``.

    Args:
        config: the whole config; ``model`` and ``data`` decide the layers.
    """

    tokens_are_steps: ClassVar[bool] = False
    """Whether each of the d codes is of one of the t steps, in order (of each view, where views have codes
    of their own: t fast); else every code is of the whole window."""
    trained_by: ClassVar[str | None] = "train"
    """The command that trains it; None where there is nothing to train."""
    unused_settings: ClassVar[tuple[str, ...]] = ()
    """Dotted keys of the settings of all models that this one does not use."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._also_takes: set[torch.dtype] = set()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MotionTokenizer:
        """Moves the tokenizer, but keeps the type of its weights, on which its codes depend.

        After ``.bfloat16()``, ``.half()`` or ``.double()`` it takes inputs of that type too, and its ids are
        the same as before: ``torch.autocast`` is what makes it faster.
        """

        def moved(weight: Tensor) -> Tensor:
            changed = fn(weight)
            if changed.dtype == weight.dtype:
                return changed
            self._also_takes.add(changed.dtype)
            return weight.to(changed.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self

    def _as_weights(self, values: _MaybeTensor) -> _MaybeTensor:
        """Inputs in the type of the weights, where ``.half()`` and the like asked for the inputs' type."""
        known = isinstance(values, Tensor) and values.dtype in self._also_takes
        return values.to(next(self.parameters()).dtype) if known else values  # type: ignore[union-attr]

    @abstractmethod
    def _fsq(self) -> nn.Module:
        """The quantiser, from ``models.quantizer.build_fsq``."""

    @property
    def codebook_size(self) -> int:
        """True number of codes: the product of the FSQ levels."""
        return self.config.codebook_size

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one window's velocities: (t, N, 2), or (V, t, N, 2)."""

    @property
    @abstractmethod
    def num_codes(self) -> int:
        """Codes d that one window is written as."""

    def real_codes(self, valid_steps: Tensor) -> Tensor:
        """(B, d) bool, which codes are of something that is not padding, from windows' real steps (B,).

        Codes that are steps are real as the steps are, other codes where any step of the window is.
        """
        steps = torch.arange(self.config.num_steps if self.tokens_are_steps else 1, device=valid_steps.device)
        real = steps < valid_steps[:, None]
        return real.repeat(1, self.num_codes // len(steps))

    @property
    def codes_per_view(self) -> bool:
        """Whether every view has codes of its own, instead of codes for all views together."""
        return False

    @property
    def code_width(self) -> int:
        """D, numbers of a code's vector."""
        return self.config.model.hidden_dim

    @property
    def device(self) -> torch.device:
        """Where the weights are, and the buffers of a model without weights."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    def unrounded(self, latents: Tensor) -> Tensor:
        """The FSQ digits (B, d, K) float32 of tokens (B, d, D) before they are rounded to the nearest."""
        return unrounded_digits(self._fsq(), latents)

    def load_pretrained(self) -> None:
        """Gives parts that the config names pretrained weights for those weights; here there are none."""

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The parameters that an optimiser trains, with their learning rates."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": learning_rate}]

    @abstractmethod
    def encode(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        """Tokens (B, d, D) of velocities (B, t, N, 2), (x, y), W-normalised.

        Raises:
            ValueError: naming the expected and the found shape, type or, in evaluation mode, values; or
                images are missing, or not taken.
        """

    @abstractmethod
    def head(self, codes: Tensor) -> Head:
        """The layer that makes the logits of codes (B, d, D).

        Raises:
            ValueError: naming the expected and the found shape.
        """

    def decode_distinct(self, codes: Tensor) -> Tensor:
        """Logits (B, t, N, C) of codes (B, d, D); (B, 1, N, C) if they are the same at every step.

        Raises:
            ValueError: naming the expected and the found shape.
        """
        return self.head(codes).logits()

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(codes (B, d, D) float32, indices (B, d) int64) of tokens (B, d, D)."""
        return quantize_float32(self._fsq(), latents)

    @property
    def class_velocities(self) -> Tensor:
        """(C, 2) float32 velocities that the classes stand for, in the unit and axis order of ``encode``.

        Raises:
            NotImplementedError: the model does not say; ``reconstruct`` needs it.
        """
        raise NotImplementedError(f"{type(self).__name__} says no velocities of its classes")

    def reconstruct(self, codes: Tensor, likeliest: bool | None = None) -> Tensor:
        """Velocities (B, [V, ]t, N, 2), in the unit and axis order of ``encode``, of codes (B, d, D).

        Args:
            codes: from ``quantize``.
            likeliest: the velocity of the most likely class, instead of the mean over the distribution;
                None: as ``model.reconstruction`` says.

        Raises:
            ValueError: naming the expected and the found shape.
        """
        centres, head = self.class_velocities.to(codes.device), self.head(codes)
        return self._answer(head, centres, likeliest).expand(-1, *self.input_shape)

    def moves_px(self, head: Head, likeliest: bool | None = None) -> Tensor:
        """Moves (B, [V, ]t or 1, N, 2), (x, y) pixels of ``data.reference_size`` a step, that a head tells.

        Args:
            head: from ``head``.
            likeliest: as in ``reconstruct``.
        """
        rows, columns = self.config.class_grid
        label = torch.arange(rows * columns, device=self.device)
        centres = torch.stack([label % columns - columns // 2, label // columns - rows // 2], dim=-1)
        return self._answer(head, centres.float(), likeliest)

    def _answer(self, head: Head, centres: Tensor, likeliest: bool | None) -> Tensor:
        if likeliest is None:
            likeliest = self.config.model.reconstruction == "likeliest"
        return centres[head_answers(head)] if likeliest else head_means(head, centres)

    def loss(
        self, output: TokenizerOutput, truth: Truth, weights: Tensor, gamma: float, of_chunk: ChunkLoss
    ) -> HeadLoss:
        """What training lowers, summed over the elements that count: focal loss of the velocity classes.

        Args:
            output: of ``forward``.
            truth: of the same windows.
            weights: (C,) from ``losses.class_weights``.
            gamma: focusing exponent, at least 0.
            of_chunk: ``factorised_loss.chunk_loss``, or its compiled form.
        """
        return head_loss(output.head, truth.labels, truth.mask, weights, gamma, of_chunk)

    def decode(self, codes: Tensor) -> Tensor:
        """Logits (B, t, N, C) of codes (B, d, D); a view where steps share one distribution."""
        return expand_steps(self.decode_distinct(codes), self.config.num_steps)

    @torch.no_grad()
    def tokenize(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        """Code ids (B, d) int64 of velocities, without decoding and without gradients.

        Dropout acts as the module's mode says: call ``eval()`` first.
        """
        return self.quantize(self.encode(velocities, images))[1]

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Logits (B, t, N, C) of code ids (B, d).

        Raises:
            ValueError: when an id is not in the codebook, or naming the expected and the found shape.
        """
        return self.decode(self.codes_of(indices))

    def codes_of(self, indices: Tensor) -> Tensor:
        """Codes (B, d, D) float32, as ``quantize`` gives, of code ids (B, d).

        Raises:
            ValueError: when an id is not in the codebook, or they are no tensor of whole numbers.
        """
        is_tensor = isinstance(indices, Tensor)
        if not is_tensor or indices.dtype in (torch.bool, torch.complex64) or indices.is_floating_point():
            found = indices.dtype if is_tensor else f"a {type(indices).__name__}"
            raise ValueError(f"code ids: expected a tensor (B, d) of whole numbers, found {found}")
        indices = indices.long()
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < self.codebook_size:
            found = f"{int(indices.min())} to {int(indices.max())}"
            raise ValueError(f"code ids are {found}; expected 0 to {self.codebook_size - 1}")
        return codes_of_indices(self._fsq(), indices)

    def forward(
        self, velocities: Tensor, images: Tensor | None = None, stage: Stage = "round"
    ) -> TokenizerOutput:
        """Encodes, quantises and decodes; ``model.latent_noise`` disturbs the tokens in training only.

        Args:
            velocities: as in ``encode``.
            images: as in ``encode``.
            stage: of training; ids are of rounded tokens in every stage.
        """
        latents = self.encode(velocities, images)
        noise = self.config.model.latent_noise
        noisy = latents + noise * torch.randn_like(latents) if self.training and noise else latents
        codes, indices = self.quantize(noisy)
        digits = self.unrounded(latents)
        if stage != "round":
            codes = soft_codes(self._fsq(), self.unrounded(noisy), noise=stage == "noise")
        return TokenizerOutput(self.head(codes), indices, latents, codes, digits, self.config.num_steps)


def check_images(images: Tensor | None, velocities: Tensor, conditioned: bool) -> None:
    """Raises ValueError unless images are given exactly to a conditioned model, one for each view.

    ``VisionEncoder`` checks their type and values.
    """
    if images is not None and not isinstance(images, Tensor):
        raise ValueError(
            f"images: expected a float tensor (B, V, H, W, 3) in [0, 1], found a {type(images).__name__}"
        )
    if conditioned and images is None:
        raise ValueError(
            "images: the model is conditioned on each view's first frame; expected float (B, V, H, W, 3) "
            "in [0, 1], found None"
        )
    if not conditioned and images is not None:
        raise ValueError(
            f"images: the model is not conditioned on images; expected None, found {tuple(images.shape)}"
        )
    if images is not None and images.shape[:2] != velocities.shape[:2]:
        expected = ", ".join(map(str, velocities.shape[:2]))
        raise ValueError(f"images: expected ({expected}, H, W, 3), found {tuple(images.shape)}")


def check_velocities(
    velocities: Tensor, axes: str, expected: tuple[int, ...], weights: nn.Module, wnorm: bool
) -> None:
    """Raises ValueError unless ``velocities`` are (B, *expected) of the weights' type, and known.

    Values beyond [-1, 1], which no training saw, are warned of. Reading values waits for the device, so
    training, whose velocities ``data.inputs`` makes, leaves it out.

    Args:
        velocities: what a model is given.
        axes: the axes' letters, such as "(B, t, N, 2)".
        expected: sizes after B.
        weights: the model; in evaluation mode values are looked at.
        wnorm: whether they should lie in [-1, 1].
    """
    dtype = next(weights.parameters()).dtype
    unit = "W-normalised, in [-1, 1]" if wnorm else "in normalised positions"
    if not isinstance(velocities, Tensor) or velocities.dtype != dtype:
        found = velocities.dtype if isinstance(velocities, Tensor) else f"a {type(velocities).__name__}"
        shape = f"{axes} = (B, {', '.join(map(str, expected))})"
        raise ValueError(f"velocities: expected a {dtype} tensor {shape}, {unit}; found {found}")
    check_shape("velocities", velocities, axes, expected)
    if weights.training or not velocities.numel() or torch.compiler.is_compiling():
        return
    low, high = (float(bound) for bound in velocities.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("velocities hold NaN or infinity; expected 0 where a point is lost")
    if wnorm and max(-low, high) > 1:
        warnings.warn(
            f"velocities hold values from {low:g} to {high:g}; expected {unit}: pixels a step become so by "
            "geometry.wnorm_from_px",
            stacklevel=2,
        )


def check_shape(name: str, found: Tensor, axes: str, expected: tuple[int, ...]) -> None:
    """Raises ValueError unless ``found`` is (B, *expected).

    Args:
        name: the tensor's name, for the message.
        found: the tensor.
        axes: the axes' letters, such as "(B, t, N, 2)".
        expected: sizes after B.
    """
    if found.ndim != len(expected) + 1 or tuple(found.shape[1:]) != expected:
        sizes = ", ".join(str(size) for size in expected)
        raise ValueError(f"{name}: expected {axes} = (B, {sizes}), found {tuple(found.shape)}")
