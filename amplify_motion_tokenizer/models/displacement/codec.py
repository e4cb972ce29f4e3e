"""The learned codec: modes that are fitted to motion, and a decoder that is trained on it.

Letters: B windows, t steps, N points, d ids of a window, K digits of an id, W waves that modes are made of,
L sheets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.models.base import TokenizerOutput, Truth, check_images
from amplify_motion_tokenizer.models.displacement.codec_loss import POWER, random_prefixes
from amplify_motion_tokenizer.models.displacement.digits import (
    digits_of_whole,
    gain_places,
    whole_of_digits,
)
from amplify_motion_tokenizer.models.displacement.modes import JUDGED_IDS, Mode, Modes, formula_modes
from amplify_motion_tokenizer.models.displacement.objects import (
    IDS_OF_OBJECT,
    Objects,
    Outlines,
    displacements_of,
    motion_of,
)
from amplify_motion_tokenizer.models.displacement.tokenizer import (
    ROWS,
    DisplacementTokenizer,
    gain_of,
    gain_share,
)
from amplify_motion_tokenizer.models.displacement.waves import Waves, deviations, velocities_of
from amplify_motion_tokenizer.models.factorised_loss import ChunkLoss, HeadLoss
from amplify_motion_tokenizer.models.heads import FieldHead, head_answers
from amplify_motion_tokenizer.models.quantizer import Stage

MOST_MODES = 64
"""Modes at most: as many as the first id's digits beside the gain's can name."""

PLAIN_MODES = 32
"""Modes, the first ones, that are decoded without the network: for motion unlike all that it has seen."""

MODE_WAVES = 480
"""W at most."""

SHEETS = 3
"""L, motions that a point may follow instead of the waves."""

BLOCKS = 2
"""Residual blocks of the network."""

OBJECT_CAMERA_IDS = (0, 6)
"""The last modes tell objects: the first of them before a camera at rest, others after so many ids of it."""

SETTLED = 0.04
"""A window of which a mode of waves leaves this share is not tried as objects."""

STILL = 0
"""The mode in which nothing moves, which no window is too still for."""

_FIRST_SHARE = 2.0
"""How much likelier than each sheet the waves are at every point, in logits, before anything is learned."""


class Told(NamedTuple):
    """What some ids of windows tell."""

    share: Tensor
    """(B, 1), the number in [0, 1) of the gain."""
    mode: Tensor
    """(B,) int64."""
    ids: Tensor
    """(B,) int64, how many ids were told."""
    shapes: Tensor
    """(B, W), waves divided by the gain, as the mode's own basis decodes them."""
    rest: Tensor
    """(B, d', K), whole digits of the ids after the first one; only for windows that are told as objects."""


class CodecTokenizer(DisplacementTokenizer):
    """Codes by the mode that fits a window best; any number of ids from the first on is a code.

    The first id tells gain and mode, all others the components of that mode. A network adds to the waves
    that are told what they say of all others, and says where points follow one of L sheets instead:
    motions with an outline of their own, which waves cannot have. It begins by adding next to nothing.

    Args:
        config: as ``DisplacementTokenizer``; ``model.hidden_dim`` is the network's width.

    Raises:
        ConfigError: ids have one digit only.
    """

    unused_settings = (
        "model.num_layers", "model.num_heads", "model.latent_noise", "model.quantizer.start"
    )  # fmt: skip

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        typical, levels = deviations(self.waves.shape), config.model.fsq_levels
        if len(levels) < 2:
            found = f"model.fsq_levels = {list(levels)} is impossible with model.name = codec"
            raise ConfigError(f"{found}; expected two levels or more, for a gain and a mode")
        waves = typical.argsort(descending=True, stable=True)[:MODE_WAVES]
        self.register_buffer("_waves", waves, persistent=False)
        self.register_buffer("_typical", typical[waves].float(), persistent=False)
        # The gain's first digit is the coarse one: whole numbers are written from the lowest digit on.
        self._gain_places = list(gain_places(levels)[::-1])
        self._mode_places = [place for place in range(len(levels)) if place not in self._gain_places]
        number = min(MOST_MODES, math.prod(levels[place] for place in self._mode_places))
        self.outlines = Outlines(config.data.grid_size, config.codebook_size)
        tellable = [ids for ids in OBJECT_CAMERA_IDS if self.num_codes - 1 - ids >= IDS_OF_OBJECT]
        tellable = tellable[: max(0, number - 2)]
        rest = self.num_codes - 1
        tried = [Objects(self.outlines, levels, rest, ids, config.num_steps) for ids in tellable]
        self.objects = nn.ModuleList(tried)
        number -= len(tellable)
        self._object_modes = dict(enumerate(tried, number))
        self.modes = Modes(number, len(waves), levels, self.num_codes - 1)
        self.plain_modes = min(PLAIN_MODES, number - max(1, number // 3))
        self.modes.put([Mode.still(len(waves)), *formula_modes(self.waves.shape, waves, self.modes.slots)])
        in_time, on_side, _, _ = self.waves.shape
        # The last step, and two before it; every third point of a side.
        steps, side = config.num_steps, config.data.grid_size
        self._judged_steps = sorted({steps // 3, 2 * steps // 3, steps - 1})
        self.judged = self.waves.thinned(self._judged_steps, range(min(1, side - 1), side, 3))
        self._parts = [len(waves), SHEETS * in_time * 3 * 2, (SHEETS + 1) * on_side**2]
        width = config.model.hidden_dim
        self.of_mode, self.of_count = nn.Embedding(number, width), nn.Embedding(self.num_codes, width)
        self.decoder = _Network(len(waves) + 1, width, sum(self._parts))

    @property
    def mode_waves(self) -> Tensor:
        """(W,) int64, which of all waves modes are made of."""
        return self.get_buffer("_waves")

    def digits_of(self, velocities: Tensor) -> Tensor:
        """As ``DisplacementTokenizer.digits_of``: in the mode whose decoding is nearest, of a few.

        Tried are ``STILL``, the most promising of the other plain and of the learned modes, and, where those
        leave much, objects.
        """
        share, shapes = self._shapes(self.waves.amplitudes(velocities))
        left, numbers = self.modes.left(shapes)
        modes = torch.stack([some.argmin(dim=1) + first for first, some in self._kinds(left)], dim=1)
        told = numbers.gather(1, modes[..., None].expand(-1, -1, numbers.shape[2]))
        moves = velocities.cumsum(dim=1)
        truth = self._where_judged(moves)
        whole = truth.norm(dim=-1).mean(dim=(1, 2))
        off = torch.cat([whole[:, None], self._off(truth, share, modes, told)], dim=1)
        least, best = off.min(dim=1)
        # Nothing is told of STILL, the first that is tried, so that any numbers will do for it.
        rows, row = torch.arange(len(best), device=best.device), (best - 1).clamp(min=0)
        mode, numbers = torch.where(best == 0, STILL, modes[rows, row]), told[rows, row]
        numbers = torch.where((best == 0)[:, None], 0.5, numbers)
        digits = self._digits(share, mode, self.modes.digits(mode, numbers))
        unsettled = (least > SETTLED * whole).nonzero()[:, 0]
        if len(unsettled) and len(self.objects):
            some = moves[unsettled], share[unsettled], truth[unsettled]
            digits[unsettled] = self._as_objects(*some, digits[unsettled], least[unsettled])
        return digits

    def _kinds(self, left: Tensor) -> list[tuple[int, Tensor]]:
        """Number of the first mode, and what the modes leave (B, some), of the plain ones and the learned."""
        plain = STILL + 1, left[:, STILL + 1 : self.plain_modes]
        learned = self.plain_modes, left[:, self.plain_modes :]
        return [kind for kind in (plain, learned) if kind[1].shape[1]]

    def _as_objects(
        self, moves: Tensor, share: Tensor, truth: Tensor, digits: Tensor, least: Tensor
    ) -> Tensor:
        """``digits`` (B, d, K), or digits that tell objects where those are nearer than ``least`` (B,)."""
        motion = motion_of(moves, self.waves) / gain_of(self._gain_number(share))[..., None, None]
        alike = self.outlines.alike(motion)
        for number, objects in self._object_modes.items():
            mode = torch.full((len(moves),), number, device=moves.device)
            other = self._digits(share, mode, objects.digits(motion, alike) + 0.5)
            off = torch.zeros_like(least)
            for count in JUDGED_IDS:
                ids = torch.full_like(mode, min(count, self.num_codes))
                said = self.said(self.told(other.floor(), ids), self.judged)
                off += (said - truth).norm(dim=-1).mean(dim=(1, 2)) / len(JUDGED_IDS)
            nearer = off < least
            digits = torch.where(nearer[:, None, None], other, digits)
            least = torch.where(nearer, off, least)
        return digits

    def forward(
        self, velocities: Tensor, images: Tensor | None = None, stage: Stage = "round"
    ) -> TokenizerOutput:
        """As ``MotionTokenizer.forward``, always in float32.

        In training each window is told by a random number of its ids, in the best of the learned modes. Codes
        are the same at every ``stage``, as nothing that decides them is learned.
        """
        with torch.autocast(velocities.device.type, enabled=False):
            if not self.training:
                return super().forward(velocities, images)
            check_images(images, velocities, conditioned=False)
            self._check(velocities)
            digits = self.learned_digits(self.waves.amplitudes(velocities))
            ids = random_prefixes(len(velocities), self.num_codes, velocities.device)
            said = self.said(self.told(self.whole_digits(digits), ids))
            codes, indices = self.quantize(digits)
            moves_px = velocities_of(said) * self.config.shorter_side
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

    def learned_digits(self, amplitudes: Tensor) -> Tensor:
        """Digits before rounding (B, d, K) of amplitudes (B, all waves), in the best mode that is learned."""
        share, shapes = self._shapes(amplitudes)
        left, numbers = self.modes.left(shapes, slice(self.plain_modes, None))
        best = left.argmin(dim=1)
        told = numbers[torch.arange(len(best), device=best.device), best]
        mode = best + self.plain_modes
        return self._digits(share, mode, self.modes.digits(mode, told))

    def _shapes(self, amplitudes: Tensor) -> tuple[Tensor, Tensor]:
        """The gain's cell (B, 1), and the waves (B, W) that modes are made of, by the gain it tells."""
        share = self._whole_gain(gain_share(amplitudes))
        return share, amplitudes[:, self.mode_waves] / gain_of(self._gain_number(share))

    def _where_judged(self, moves: Tensor) -> Tensor:
        """(B, t', N', 2) of displacements (B, t, N, 2): where modes are held against each other."""
        side, rows = self.waves.side, self.judged.rows
        some = moves[:, self._judged_steps].view(len(moves), len(self._judged_steps), side, side, 2)
        return some[:, :, rows][:, :, :, rows].flatten(2, 3)

    def _off(self, truth: Tensor, share: Tensor, modes: Tensor, told: Tensor) -> Tensor:
        """Mean distance (B, C) of what C modes of each window decode to, over ``JUDGED_IDS``.

        Args:
            truth: from ``_where_judged``.
            share: (B, 1), the gain's cell.
            modes: (B, C).
            told: (B, C, P), their numbers.
        """
        batch, tries, counts = *modes.shape, len(JUDGED_IDS)
        mode = modes.flatten()
        shapes = self.modes.previews(mode, told.flatten(0, 1)).flatten(0, 1)
        ids = torch.tensor(JUDGED_IDS, device=mode.device).clamp(max=self.num_codes).repeat(len(mode))
        gain = self._gain_number(share).repeat_interleave(tries * counts, dim=0)
        nothing = shapes.new_zeros(len(shapes), 0, self.code_width)
        told_by = Told(gain, mode.repeat_interleave(counts), ids, shapes, nothing)
        off = self.said(told_by, self.judged).view(batch, tries * counts, *truth.shape[1:]) - truth[:, None]
        distance: Tensor = off.norm(dim=-1).mean(dim=(2, 3))
        return distance.view(batch, tries, counts).mean(dim=2)

    def _digits(self, share: Tensor, mode: Tensor, rest: Tensor) -> Tensor:
        """Digits before rounding (B, d, K) from a gain's cell (B, 1), a mode (B,) and all other digits."""
        first = torch.zeros(len(mode), self.code_width, device=mode.device)
        for places, number in ((self._gain_places, share[:, 0]), (self._mode_places, mode)):
            first[:, places] = digits_of_whole(number, self._levels_at(places))
        return torch.cat([first[:, None] + 0.5, rest], dim=1)

    def displacements_of(self, digits: Tensor) -> Tensor:
        """As ``DisplacementTokenizer.displacements_of``."""
        ids = torch.full((len(digits),), digits.shape[1], device=digits.device)
        return self.said(self.told(digits, ids))

    def told(self, digits: Tensor, ids: Tensor) -> Told:
        """What the first ``ids`` (B,) of whole digits (B, 1 to d, K) tell, each of 1 to their number."""
        gain = whole_of_digits(digits[:, 0, self._gain_places], self._levels_at(self._gain_places))
        share, mode = self._gain_number(gain.to(digits)[:, None]), self.modes_of(digits)
        # Where objects are told, the waves of no motion.
        of_waves = torch.where(mode < len(self.modes), mode, STILL)
        return Told(share, mode, ids, self.modes.shapes(of_waves, digits[:, 1:], ids - 1), digits[:, 1:])

    def modes_of(self, digits: Tensor) -> Tensor:
        """(B,) int64, the mode that the first id tells, of whole digits (B, 1 to d, K)."""
        mode = whole_of_digits(digits[:, 0, self._mode_places], self._levels_at(self._mode_places))
        return mode.clamp(max=len(self.modes) + len(self.objects) - 1)

    @property
    def kinds_of_modes(self) -> dict[str, range]:
        """What modes tell a window by, to their numbers."""
        waves, all_modes = len(self.modes), len(self.modes) + len(self.objects)
        return {
            "no motion": range(STILL, STILL + 1),
            "waves": range(STILL + 1, self.plain_modes),
            "waves and the network": range(self.plain_modes, waves),
            "objects": range(waves, all_modes),
        }

    def said(self, told: Told, waves: Waves | None = None) -> Tensor:
        """Displacements (B, t, N, 2) since frame 0 of what is told, where ``waves`` are told: everywhere."""
        waves = waves or self.waves
        moves = self._moved(told.shapes, waves)
        learned = (told.mode >= self.plain_modes) & (told.mode < len(self.modes))
        moves = self._put(moves, learned, told, lambda some: self._learned(some, waves))
        for number, objects in self._object_modes.items():

            def decoded(some: Told, objects: Objects = objects) -> Tensor:
                return displacements_of(objects.motion(some.rest, some.ids - 1), waves)

            moves = self._put(moves, told.mode == number, told, decoded)
        return moves * gain_of(told.share)[..., None, None]

    @staticmethod
    def _put(moves: Tensor, rows: Tensor, told: Told, decoded: Callable[[Told], Tensor]) -> Tensor:
        """``moves`` (B, ...) with what is ``decoded`` of the windows where ``rows`` (B,) is true."""
        (found,) = rows.nonzero(as_tuple=True)
        if not len(found):
            return moves
        return moves.index_put((found,), decoded(Told(*(column[found] for column in told))))

    def _moved(self, shapes: Tensor, waves: Waves) -> Tensor:
        """(B, t, N, 2) where ``waves`` are told, divided by the gain, of shapes (B, W)."""
        amplitudes = shapes.new_zeros(len(shapes), self.num_waves)
        amplitudes[:, self.mode_waves] = shapes
        return waves.displacements(amplitudes)

    def _learned(self, told: Told, waves: Waves) -> Tensor:
        """As ``said``, divided by the gain, of windows in learned modes."""
        batch, (in_time, on_side, _, _) = len(told.share), self.waves.shape
        typical = self.get_buffer("_typical")
        asked = torch.cat([torch.asinh(told.shapes / typical), 2 * told.share - 1], dim=1)
        context = self.of_mode(told.mode) + self.of_count(told.ids - 1)
        more, motion, outlines = self.decoder(asked, context).split(self._parts, dim=1)
        total = under = self._moved(told.shapes + more * typical, waves)
        over_time = waves.over_time() @ motion.view(batch, SHEETS, in_time, 6)
        place = torch.cartesian_prod(waves.get_buffer("places"), waves.get_buffer("places"))
        affine = torch.cat([torch.ones_like(place[:, :1]), place], dim=1)
        sheets = affine @ over_time.view(*over_time.shape[:3], 3, 2)
        logits = waves.surfaces(outlines.view(batch, SHEETS + 1, on_side**2))
        logits[:, 0] += _FIRST_SHARE
        shares = logits.softmax(dim=1)
        for sheet in range(SHEETS):
            total = total + (sheets[:, sheet] - under) * shares[:, sheet + 1, None, :, None]
        return total

    def _whole_gain(self, share: Tensor) -> Tensor:
        """The number of the gain's cell, of its number in [0, 1)."""
        cells = math.prod(self._levels_at(self._gain_places))
        return (share * cells).floor().clamp(0, cells - 1)

    def _gain_number(self, whole: Tensor) -> Tensor:
        return (whole + 0.5) / math.prod(self._levels_at(self._gain_places))

    def _levels_at(self, places: Sequence[int]) -> list[int]:
        """Levels of the first id's digits at ``places``, in that order."""
        return [self.config.model.fsq_levels[place] for place in places]


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

    def forward(self, values: Tensor, context: Tensor) -> Tensor:
        hidden = self.first(values) + context
        for block in self.blocks:
            hidden = hidden + block(hidden)
        output: Tensor = self.last(self.norm(hidden))
        return output
