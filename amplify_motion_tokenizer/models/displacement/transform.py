"""The tokenizer that needs no training: waves, gain, companding and shared-out digits, by formula."""

from __future__ import annotations

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models.displacement.digits import GAIN, Digits, plan_with_gain
from amplify_motion_tokenizer.models.displacement.tokenizer import (
    DisplacementTokenizer,
    companded,
    expanded,
    gain_of,
    gain_share,
)
from amplify_motion_tokenizer.models.displacement.waves import deviations


class TransformTokenizer(DisplacementTokenizer):
    """Every digit tells of the same wave in every window, by formula: ``docs/transform.md``.

    Args:
        config: as ``DisplacementTokenizer``.
    """

    trained_by = None
    unused_settings = ("model.num_layers", "model.num_heads", "model.hidden_dim")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        typical = deviations(self.waves.shape)
        levels = config.model.fsq_levels
        self.digits = Digits(plan_with_gain(typical, levels, self.num_codes), levels)
        told = torch.tensor([wave - 1 for wave in self.digits.quantities if wave != GAIN])
        self.register_buffer("_told", told, persistent=False)
        self.register_buffer("_deviations", typical[told].float(), persistent=False)

    def digits_of(self, velocities: Tensor) -> Tensor:
        """As ``DisplacementTokenizer.digits_of``."""
        amplitudes = self.waves.amplitudes(velocities)
        told = amplitudes[:, self.get_buffer("_told")]
        numbers = torch.cat([gain_share(amplitudes), torch.zeros_like(told)], dim=1)
        coarse = self.digits.numbers(self.digits.of_numbers(numbers).floor())[:, :1]
        numbers[:, 1:] = companded(told / gain_of(coarse), self.get_buffer("_deviations"))
        return self.digits.of_numbers(numbers)

    def displacements_of(self, digits: Tensor) -> Tensor:
        """As ``DisplacementTokenizer.displacements_of``."""
        numbers = self.digits.numbers(digits)
        shape = expanded(numbers[:, 1:], self.get_buffer("_deviations"))
        amplitudes = shape.new_zeros(len(digits), self.num_waves)
        amplitudes[:, self.get_buffer("_told")] = shape * gain_of(numbers[:, :1])
        return self.waves.displacements(amplitudes)
