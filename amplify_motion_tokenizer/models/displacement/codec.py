"""The learned codec: the transform tokenizer's first ids, learned ones after them, and a learned decoder.

Letters: B windows, t steps, N points, d ids of a window, K digits of an id, M waves that the networks see
and say, L sheets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models.base import TokenizerOutput, Truth, check_images
from amplify_motion_tokenizer.models.displacement.codec_loss import (
    POWER,
    ROWS,
    random_prefixes,
    training_pass,
)
from amplify_motion_tokenizer.models.displacement.tokenizer import (
    DisplacementTokenizer,
    expanded,
    gain_of,
)
from amplify_motion_tokenizer.models.displacement.waves import deviations, velocities_of
from amplify_motion_tokenizer.models.factorised_loss import ChunkLoss, HeadLoss
from amplify_motion_tokenizer.models.heads import FieldHead, head_answers
from amplify_motion_tokenizer.models.quantizer import Stage

PLAIN_IDS = 12
"""Ids that are the transform tokenizer's own: how much moves, and the slowest and widest waves."""

SEEN_WAVES = 600
"""M at most."""

SHEETS = 3
"""L, motions that a point may follow instead of the waves."""

BLOCKS = 2
"""Residual blocks of each network."""

_FIRST_SHARE = 3.0
"""How much likelier than each sheet the waves are at every point, in logits, before anything is learned."""


class Told(NamedTuple):
    """What the ids of windows tell, before or after rounding."""

    share: Tensor
    """(B, 1), the number in [0, 1) of the gain."""
    plain: Tensor
    """(B, Q - 1), the numbers in [0, 1) of the waves that ids tell, 0.5 where none is told."""
    seen: Tensor
    """(B, d K), digits between -1 and 1, and 0 where they are not told."""
    ids: Tensor
    """(B,), how many ids were told."""


class CodecTokenizer(DisplacementTokenizer):
    """Learned codes on top of fixed ones; any number of ids from the first on is a code.

    The first ``PLAIN_IDS`` ids are shared out as the transform tokenizer's. Every later digit is the cell of
    one more wave's number, moved by a network that sees all of the window. A second network adds to the
    waves that the digits tell what they say of all others, and tells where points follow one of L sheets
    instead: motions with an outline of their own, which waves cannot have. Both begin by adding nothing.

    Args:
        config: as ``DisplacementTokenizer``; ``model.hidden_dim`` is the networks' width.
    """

    unused_settings = ("model.num_layers", "model.num_heads")
    plain_ids = PLAIN_IDS

    def __init__(self, config: Config) -> None:
        super().__init__(config, refined=PLAIN_IDS)
        typical = deviations(self.waves.shape)
        waves = typical.argsort(descending=True, stable=True)[:SEEN_WAVES]
        told = self.get_buffer("_told")
        # Where the waves that are told stand among the waves that the networks see.
        place = torch.tensor([int((waves == wave).nonzero()[0, 0]) for wave in told])
        self.register_buffer("_waves", waves, persistent=False)
        self.register_buffer("_place", place, persistent=False)
        self.register_buffer("_typical", typical[waves].float(), persistent=False)
        plain = min(PLAIN_IDS, self.num_codes) * self.code_width
        slots, width = self.num_codes * self.code_width, config.model.hidden_dim
        in_time, on_side, _, _ = self.waves.shape
        self._parts = [len(waves), SHEETS * in_time * 3 * 2, (SHEETS + 1) * on_side**2]
        self.encoder = _Network(len(waves) + 1, width, slots - plain)
        self.decoder = _Network(slots + len(told) + 2, width, sum(self._parts))

    def encode(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        """As ``DisplacementTokenizer.encode``."""
        plain = super().encode(velocities, images)
        return self.moved(plain, self.waves.amplitudes(velocities))

    def moved(self, plain: Tensor, amplitudes: Tensor) -> Tensor:
        """Digits before rounding (B, d, K), the learned ones moved by the network.

        Args:
            plain: (B, d, K), what they would be without it.
            amplitudes: (B, all waves).
        """
        levels = self.get_buffer("_levels")
        if self.num_codes <= PLAIN_IDS:
            return plain
        seen = amplitudes[:, self.get_buffer("_waves")]
        power = seen.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-9)
        shape = seen / power / self.get_buffer("_typical")
        asked = torch.cat([torch.asinh(shape), power.log2() / 4 + 1.5], dim=1)
        free = plain[:, PLAIN_IDS:] / levels
        moved = torch.sigmoid(torch.logit(free, eps=1e-3) + self.encoder(asked).view(free.shape))
        return torch.cat([plain[:, :PLAIN_IDS], moved * levels], dim=1)

    def forward(
        self, velocities: Tensor, images: Tensor | None = None, stage: Stage = "round"
    ) -> TokenizerOutput:
        """As ``MotionTokenizer.forward``, always in float32.

        In training each window is told by a random number of its ids, and the learned ones are quantised as
        ``stage`` says.
        """
        with torch.autocast(velocities.device.type, enabled=False):
            if not self.training:
                return super().forward(velocities, images)
            check_images(images, velocities, conditioned=False)
            self._check(velocities)
            ids = random_prefixes(len(velocities), self.num_codes, velocities.device)
            amplitudes = self.waves.amplitudes(velocities)
            digits, displacements = training_pass(self, amplitudes, None, ids, stage)
            codes, indices = self.quantize(digits)
            moves_px = velocities_of(displacements) * self.config.shorter_side
            head = FieldHead(moves_px, self.config.model.decoder_window_size)
            unrounded = self.unrounded(digits)
            return TokenizerOutput(head, indices, digits, codes, unrounded, self.config.num_steps)

    def loss(
        self, output: TokenizerOutput, truth: Truth, weights: Tensor, gamma: float, of_chunk: ChunkLoss
    ) -> HeadLoss:
        """The distance of points since frame 0, in pixels at 240 rows; less a pixel where much moves.

        Each element counts by 1 / (1 + m)^POWER, m being how far the window's points move.
        """
        displacements = (self.moves_px(output.head) / self.config.shorter_side).cumsum(dim=1)
        off = displacements.float() - truth.velocities.float().cumsum(dim=1)
        distance = (off.square().sum(dim=-1) + 1e-12).sqrt()
        gain = self.waves.amplitudes(truth.velocities).square().sum(dim=1).sqrt()[:, None, None]
        losses = distance * ROWS / (gain * ROWS + 1) ** POWER
        return HeadLoss(torch.where(truth.mask, losses, 0.0).sum()[None], head_answers(output.head))

    def told(self, digits: Tensor, ids: Tensor) -> Told:
        """What the first ``ids`` (B,) ids tell of digits (B, d, K); n + 0.5 is the whole digit n."""
        levels = self.get_buffer("_levels")
        known = torch.arange(digits.shape[1], device=digits.device) < ids[:, None]
        # A digit that is not told reads as the middle of its range: in what others left, the middle of that.
        numbers = self.digits.numbers(torch.where(known[..., None], digits - 0.5, levels / 2 - 0.5))
        seen = digits.new_zeros(len(digits), self.num_codes, self.code_width)
        seen[:, : digits.shape[1]] = torch.where(known[..., None], digits / levels * 2 - 1, 0.0)
        return Told(numbers[:, :1], numbers[:, 1:], seen.flatten(1), ids)

    def said(self, told: Told, steps: Sequence[int] | None = None) -> Tensor:
        """Displacements (B, t, N, 2) since frame 0 of what is told; of some ``steps`` or all."""
        batch, (in_time, _, _, _) = len(told.share), self.waves.shape
        typical, gain = self.get_buffer("_deviations"), gain_of(told.share)
        plain = expanded(told.plain, typical)
        count = told.ids.to(plain)[:, None] / self.num_codes
        asked = torch.cat([told.seen, torch.asinh(plain / typical), 2 * told.share - 1, 2 * count - 1], dim=1)
        shape, motion, outlines = self.decoder(asked).split(self._parts, dim=1)
        shape = (shape * self.get_buffer("_typical")).index_add(1, self.get_buffer("_place"), plain)
        amplitudes = shape.new_zeros(batch, self.num_waves)
        amplitudes[:, self.get_buffer("_waves")] = shape * gain
        waves = self.waves.displacements(amplitudes, steps)
        sheets = self._sheets(motion.view(batch, SHEETS, in_time, 6) * gain[..., None, None], steps)
        logits = self.waves.surfaces(outlines.view(batch, SHEETS + 1, -1))
        logits[:, 0] += _FIRST_SHARE
        shares = logits.softmax(dim=1)
        total = waves * shares[:, 0, None, :, None]
        for sheet in range(SHEETS):
            total = total + sheets[:, sheet] * shares[:, sheet + 1, None, :, None]
        return total

    def _sheets(self, motion: Tensor, steps: Sequence[int] | None) -> Tensor:
        """(B, L, t, N, 2): motions (B, L, K, 6) over time that are affine in the place."""
        over_time = self.waves.over_time(steps) @ motion
        side = self.waves.side
        place = (torch.arange(side, device=motion.device) * 2 + 1) / side - 1
        place = torch.cartesian_prod(place, place)
        affine = torch.cat([torch.ones_like(place[:, :1]), place], dim=1)
        return affine @ over_time.view(*over_time.shape[:3], 3, 2)

    def _displacements(self, codes: Tensor) -> Tensor:
        ids = torch.full((len(codes),), codes.shape[1], device=codes.device)
        return self.said(self.told(self._whole(codes) + 0.5, ids))


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
