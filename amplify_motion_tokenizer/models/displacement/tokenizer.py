"""What tokenizers of displacements share: waves, companding, digits that are ordinary FSQ ids.

Letters: B windows, t steps, N points, d ids of a window, K FSQ digits of an id, W waves that are told.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.geometry import px_from_labels
from amplify_motion_tokenizer.models.base import MotionTokenizer, check_images, check_shape
from amplify_motion_tokenizer.models.displacement.digits import GAIN, Digits, share_out
from amplify_motion_tokenizer.models.displacement.waves import Waves, deviations, velocities_of
from amplify_motion_tokenizer.models.heads import FieldHead, Head
from amplify_motion_tokenizer.models.quantizer import build_fsq

SMALLEST, OCTAVES = 2.0**-4 / 240, 12
"""The gains that can be told: root mean square displacements, in shorter sides of the frame, from
``SMALLEST`` over so many octaves."""

MOST_SIDES = 10.0
"""Velocities above this, in shorter sides of the frame a step, can only be pixels."""


class DisplacementTokenizer(MotionTokenizer):
    """A window's displacements as gain and shape of their waves, told digit by digit.

    The gain is the root mean square displacement of the window. Each wave's amplitude, divided by the gain
    and by the wave's typical deviation, is companded and cut into cells; ``share_out`` says which digit of
    which id cuts which. Input is in shorter sides of the reference frame, so neither size nor aspect matters.

    Args:
        config: grid, steps, ids (``model.encoder_sequence_len``) and their levels.
        refined: as in ``share_out``.
    """

    def __init__(self, config: Config, refined: int | None = None) -> None:
        super().__init__(config)
        levels = config.model.fsq_levels
        self.quantizer = build_fsq(levels, len(levels))
        self.waves = Waves(config.num_steps, config.data.grid_size)
        typical = deviations(self.waves.shape)
        plan = share_out(typical, levels, config.model.encoder_sequence_len, refined)
        self.digits = Digits(plan, levels)
        told = torch.tensor([wave - 1 for wave in self.digits.quantities if wave != GAIN])
        self.register_buffer("_told", told, persistent=False)
        self.register_buffer("_deviations", typical[told].float(), persistent=False)
        self.register_buffer("_levels", torch.tensor(levels, dtype=torch.float32), persistent=False)

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

        Args:
            velocities: (B, t, N, 2) float32, (x, y) moves per step in shorter sides of the frame, a grid
                row by row, lost points filled (``data.filling``).
            images: None.

        Raises:
            ValueError: naming the expected and the found shape, type or values; or images are given.
        """
        check_images(images, velocities, conditioned=False)
        self._check(velocities)
        return self.plain_digits(self.waves.amplitudes(velocities))

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
            ValueError: naming the expected and the found shape.
        """
        if codes.ndim != 3 or codes.shape[2] != self.code_width or not 1 <= codes.shape[1] <= self.num_codes:
            expected = f"(B, 1 to {self.num_codes}, {self.code_width})"
            raise ValueError(f"codes: expected (B, d, K) = {expected}, found {tuple(codes.shape)}")
        return velocities_of(self._displacements(codes))

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

    def plain_digits(self, amplitudes: Tensor) -> Tensor:
        """Digits before rounding, (B, d, K), of amplitudes (B, all waves), as the plan shares them out."""
        gain = amplitudes.square().sum(dim=1, keepdim=True).sqrt()
        share = (gain.clamp(min=1e-9) / SMALLEST).log2() / OCTAVES
        numbers = torch.cat([share, torch.zeros_like(amplitudes[:, self.get_buffer("_told")])], dim=1)
        coarse = self.digits.numbers(self.digits.of_numbers(numbers).floor())[:, :1]
        shape = amplitudes[:, self.get_buffer("_told")] / gain_of(coarse)
        numbers[:, 1:] = companded(shape, self.get_buffer("_deviations"))
        return self.digits.of_numbers(numbers)

    def _displacements(self, codes: Tensor) -> Tensor:
        """(B, t, N, 2) since frame 0, of codes (B, d', K)."""
        numbers = self.digits.numbers(self._whole(codes))
        shape = expanded(numbers[:, 1:], self.get_buffer("_deviations"))
        amplitudes = shape.new_zeros(len(codes), self.num_waves)
        amplitudes[:, self.get_buffer("_told")] = shape * gain_of(numbers[:, :1])
        return self.waves.displacements(amplitudes)

    def _whole(self, codes: Tensor) -> Tensor:
        """The whole digits (B, d', K) of codes."""
        half = self.get_buffer("_levels").div(2, rounding_mode="floor")
        return (codes * half + half).round()

    def _codes(self, digits: Tensor) -> Tensor:
        """What FSQ calls the codes of whole digits: -1 to 1, 0 for the middle one."""
        half = self.get_buffer("_levels").div(2, rounding_mode="floor")
        return (digits - half) / half

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
