"""The learned codec: the transform tokenizer's first ids, learned ones after them, and a learned decoder.

Letters: B windows, d ids of a window, K digits of an id, M waves that the networks see and say.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models.displacement.tokenizer import (
    DisplacementTokenizer,
    expanded,
    gain_of,
)
from amplify_motion_tokenizer.models.displacement.waves import deviations

PLAIN_IDS = 4
"""Ids that are the transform tokenizer's own: how much moves, and the slowest and widest waves."""

SEEN_WAVES = 400
"""M at most."""

BLOCKS = 2
"""Residual blocks of each network."""


class Told(NamedTuple):
    """What the ids of windows tell, before or after rounding."""

    share: Tensor
    """(B, 1), the number in [0, 1) of the gain."""
    plain: Tensor
    """(B, Q - 1), the numbers in [0, 1) of the waves that ids tell, 0.5 where none is told."""
    seen: Tensor
    """(B, d K), digits between -1 and 1, and 0 where they are not told."""


class CodecTokenizer(DisplacementTokenizer):
    """Learned codes on top of fixed ones; any number of ids from the first on is a code.

    The first ``PLAIN_IDS`` ids are shared out as the transform tokenizer's. Every later digit is the cell of
    one more wave's number, moved by a network that sees all of the window. A second network adds to the
    waves that the digits tell what they say of all others. Both networks begin by adding nothing.

    Args:
        config: as ``DisplacementTokenizer``; ``model.hidden_dim`` is the networks' width.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config, refined=PLAIN_IDS)
        typical = deviations(self.waves.shape)
        order = typical.argsort(descending=True, stable=True)
        waves = order[: min(SEEN_WAVES, len(order))]
        told = self.get_buffer("_told")
        # Where the waves that are told stand among those that the networks see.
        place = torch.tensor([int((waves == wave).nonzero()[0, 0]) for wave in told])
        plain = min(PLAIN_IDS, self.num_codes) * self.code_width
        self.register_buffer("_waves", waves, persistent=False)
        self.register_buffer("_place", place, persistent=False)
        self.register_buffer("_typical", typical[waves].float(), persistent=False)
        slots = self.num_codes * self.code_width
        width = config.model.hidden_dim
        self.encoder = _Network(len(waves) + 1, width, slots - plain)
        self.decoder = _Network(slots + len(told) + 2, width, len(waves))

    def encode(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        """As ``DisplacementTokenizer.encode``."""
        plain = super().encode(velocities, images)
        if self.num_codes <= PLAIN_IDS:
            return plain
        amplitudes = self.waves.amplitudes(velocities)[:, self.get_buffer("_waves")]
        levels = self.get_buffer("_levels")
        free = plain[:, PLAIN_IDS:] / levels
        return torch.cat([plain[:, :PLAIN_IDS], self.moved(free, amplitudes) * levels], dim=1)

    def moved(self, free: Tensor, amplitudes: Tensor) -> Tensor:
        """Numbers (B, d - PLAIN_IDS, K) in (0, 1) of the learned digits.

        Args:
            free: (B, d - PLAIN_IDS, K), what they would be without the network.
            amplitudes: (B, M).
        """
        power = amplitudes.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-9)
        shape = amplitudes / power / self.get_buffer("_typical")
        asked = torch.cat([torch.asinh(shape), power.log2() / 4 + 1.5], dim=1)
        step = self.encoder(asked).view(free.shape)
        return torch.sigmoid(torch.logit(free, eps=1e-3) + step)

    def told(self, digits: Tensor) -> Told:
        """What digits (B, d', K) tell, d' from 1 to d; they may be between whole ones: n + 0.5 is the digit n."""
        levels, batch = self.get_buffer("_levels"), len(digits)
        numbers = self.digits.numbers(digits - 0.5)
        seen = digits.new_zeros(batch, self.num_codes, self.code_width)
        seen[:, : digits.shape[1]] = digits / levels * 2 - 1
        return Told(numbers[:, :1], numbers[:, 1:], seen.flatten(1))

    def said(self, told: Told, ids: Tensor) -> Tensor:
        """Amplitudes (B, M) of what is told by ``ids`` (B,) ids of each window."""
        typical = self.get_buffer("_deviations")
        plain = expanded(told.plain, typical)
        count = ids.to(plain)[:, None] / self.num_codes
        asked = torch.cat([told.seen, torch.asinh(plain / typical), 2 * told.share - 1, 2 * count - 1], dim=1)
        shape = self.decoder(asked) * self.get_buffer("_typical")
        shape = shape.index_add(1, self.get_buffer("_place"), plain)
        return shape * gain_of(told.share)

    def _amplitudes(self, codes: Tensor) -> Tensor:
        half = self.get_buffer("_levels").div(2, rounding_mode="floor")
        told = self.told((codes * half + half).round() + 0.5)
        ids = torch.full((len(codes),), codes.shape[1], device=codes.device)
        amplitudes = told.share.new_zeros(len(codes), self.num_waves)
        amplitudes[:, self.get_buffer("_waves")] = self.said(told, ids)
        return amplitudes


class _Network(nn.Module):
    """A perceptron with residual blocks, whose last layer begins at 0."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(BLOCKS)
        )
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, values: Tensor) -> Tensor:
        hidden = self.first(values)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        output: Tensor = self.last(self.norm(hidden))
        return output
