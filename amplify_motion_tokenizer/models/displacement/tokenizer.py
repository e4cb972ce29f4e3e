"""What tokenizers of displacements share: waves, gain, companding, digits that are ordinary FSQ ids.

Letters: B windows, t steps, N points, d ids of a window, K FSQ digits of an id.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.geometry import px_from_labels
from amplify_motion_tokenizer.models.base import MotionTokenizer, check_images, check_shape
from amplify_motion_tokenizer.models.displacement.waves import Waves, velocities_of
from amplify_motion_tokenizer.models.heads import FieldHead, Head
from amplify_motion_tokenizer.models.quantizer import build_fsq

ROWS = 240
"""Rows of the frame whose pixels motion is told in."""

SMALLEST, OCTAVES = 2.0**-4 / ROWS, 12
"""The gains that can be told: root mean square displacements, in shorter sides of the frame, from
``SMALLEST`` over so many octaves."""

MOST_SIDES = 10.0
"""Velocities above this, in shorter sides of the frame a step, can only be pixels."""


class DisplacementTokenizer(MotionTokenizer):
    """A window's displacements as gain and shape of their waves, told digit by digit.

    The gain is the root mean square displacement of the window. Numbers are cut into cells digit by digit,
    coarse to fine, so that the first ids alone are a code. Input is in shorter sides of the reference frame:
    neither size nor aspect matters.

    Subclasses implement ``digits_of`` and ``displacements_of``.

    Args:
        config: grid, steps, ids (``model.encoder_sequence_len``) and their levels.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        levels = config.model.fsq_levels
        self.quantizer = build_fsq(levels, len(levels))
        self.waves = Waves(config.num_steps, config.data.grid_size)
        self.register_buffer("_levels", torch.tensor(levels, dtype=torch.float32), persistent=False)

    @abstractmethod
    def digits_of(self, velocities: Tensor) -> Tensor:
        """Digits before rounding, (B, d, K), of velocities (B, t, N, 2) that were checked."""

    @abstractmethod
    def displacements_of(self, digits: Tensor) -> Tensor:
        """(B, t, N, 2) since frame 0, in shorter sides of the frame, of whole digits (B, 1 to d, K)."""

    def _fsq(self) -> nn.Module:
        return self.quantizer

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(t, N, 2)."""
        return self.config.num_steps, self.config.num_points, 2

    @property
    def num_codes(self) -> int:
        """d, ``model.encoder_sequence_len``."""
        return self.config.model.encoder_sequence_len

    @property
    def code_width(self) -> int:
        """K, digits of an id."""
        return len(self.config.model.fsq_levels)

    @property
    def num_waves(self) -> int:
        """Number of waves of a window, told by its ids or not."""
        return math.prod(self.waves.shape)

    def encode(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        """Digits before rounding, (B, d, K), in units of their levels: n to n + 1 is the digit n.

        It is reckoned in float32, whatever autocast is active; after ``.half()`` and the like velocities may
        be of that type too.

        Args:
            velocities: (B, t, N, 2) float32, (x, y) moves per step in shorter sides of the frame, a grid
                row by row, lost points filled (``data.filling``).
            images: None.

        Raises:
            ValueError: naming the expected and the found shape, type or values; or images are given.
        """
        check_images(images, velocities, conditioned=False)
        if isinstance(velocities, Tensor) and velocities.dtype in self._also_takes:
            velocities = velocities.float()
        self._check(velocities)
        with torch.autocast(velocities.device.type, enabled=False):
            return self.digits_of(velocities)

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(codes (B, d, K) float32, indices (B, d) int64) of digits before rounding (B, d, K)."""
        levels = self.get_buffer("_levels")
        digits = self.whole_digits(latents.float())
        basis = torch.cumprod(levels, dim=0) / levels
        return self._codes(digits), (digits * basis).sum(dim=-1).round().long()

    def unrounded(self, latents: Tensor) -> Tensor:
        """(B, d, K): the latents as digits that rounding to the nearest gives, as ``TokenizerOutput`` has."""
        return latents.float() - 0.5

    @property
    def class_velocities(self) -> Tensor:
        """(C, 2), (x, y), in shorter sides of the frame."""
        width = self.config.model.decoder_window_size
        return px_from_labels(torch.arange(width**2), width) / self.config.shorter_side

    def reconstruct(self, codes: Tensor, likeliest: bool | None = None) -> Tensor:
        """Velocities (B, t, N, 2), in the unit of ``encode``, of codes (B, d', K) with d' from 1 to d.

        Args:
            codes: of the first d' ids.
            likeliest: makes no difference, as nothing is a distribution.

        Raises:
            ValueError: naming the expected and the found shape; or they are codes of no ids.
        """
        if codes.ndim != 3 or codes.shape[2] != self.code_width or not 1 <= codes.shape[1] <= self.num_codes:
            expected = f"(B, 1 to {self.num_codes}, {self.code_width})"
            raise ValueError(f"codes: expected (B, d, K) = {expected}, found {tuple(codes.shape)}")
        half = self._middle_digit()
        with torch.autocast(codes.device.type, enabled=False):
            digits = (codes.float() * half + half).round()
            if not torch.compiler.is_compiling() and not torch.equal(digits, self.whole_digits(digits)):
                raise ValueError("codes hold NaN, or numbers that no id has; codes_of gives codes of ids")
            return velocities_of(self.displacements_of(digits))

    def head(self, codes: Tensor) -> Head:
        """Distributions over velocity classes around what is reconstructed: (B, t, N, C).

        Raises:
            ValueError: naming the expected and the found shape.
        """
        moves_px = self.reconstruct(codes) * self.config.shorter_side
        return FieldHead(moves_px, self.config.model.decoder_window_size)

    def moves_px(self, head: Head, likeliest: bool | None = None) -> Tensor:
        """Moves (B, t, N, 2), (x, y) pixels of the reference size, of its own heads; not of classes."""
        assert isinstance(head, FieldHead)
        return head.moves_px

    def whole_digits(self, latents: Tensor) -> Tensor:
        """Digits before rounding (B, d, K) rounded down, each within its levels."""
        return latents.floor().clamp(min=0).minimum(self.get_buffer("_levels") - 1)

    def _codes(self, digits: Tensor) -> Tensor:
        """What FSQ calls the codes of whole digits: -1 to 1, 0 for the middle one."""
        half = self._middle_digit()
        return (digits - half) / half

    def _middle_digit(self) -> Tensor:
        return self.get_buffer("_levels").div(2, rounding_mode="floor")

    def _check(self, velocities: Tensor) -> None:
        expected = "(x, y) in shorter sides of the frame a step"
        if not isinstance(velocities, Tensor) or velocities.dtype != torch.float32:
            found = velocities.dtype if isinstance(velocities, Tensor) else f"a {type(velocities).__name__}"
            raise ValueError(
                f"velocities: expected a torch.float32 tensor (B, t, N, 2), {expected}; found {found}"
            )
        check_shape("velocities", velocities, "(B, t, N, 2)", self.input_shape)
        if self.training or not velocities.numel() or torch.compiler.is_compiling():
            return
        largest = float(velocities.abs().max())
        if not math.isfinite(largest):
            raise ValueError("velocities hold NaN or infinity; expected lost points filled from neighbours")
        if largest > MOST_SIDES:
            raise ValueError(f"velocities reach {largest:g}; expected {expected}, not pixels")


def gain_share(amplitudes: Tensor) -> Tensor:
    """The number (B, 1) that tells the gain of amplitudes (B, all waves); outside of [0, 1) at the limits."""
    gain = amplitudes.square().sum(dim=1, keepdim=True).sqrt()
    return (gain.clamp(min=1e-9) / SMALLEST).log2() / OCTAVES


def gain_of(share: Tensor) -> Tensor:
    """The gain (B, 1) of a number in [0, 1)."""
    return SMALLEST * torch.exp2(OCTAVES * share)


def companded(shape: Tensor, deviations: Tensor) -> Tensor:
    """Numbers in [0, 1] of amplitudes by gain: 1/2 + sign (1 - exp(-|a| / s)) / (2 (1 - exp(-1 / s)))."""
    grown = -torch.expm1(-shape.abs().clamp(max=1) / deviations) / -torch.expm1(-1 / deviations)
    return 0.5 + 0.5 * grown.copysign(shape)


def expanded(numbers: Tensor, deviations: Tensor) -> Tensor:
    """Amplitudes by gain of numbers in [0, 1]; undoes ``companded``."""
    signed = (2 * numbers - 1).clamp(-0.9999, 0.9999)
    return (-deviations * torch.log1p(signed.abs() * torch.expm1(-1 / deviations))).copysign(signed)
