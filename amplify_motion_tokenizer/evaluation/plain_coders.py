"""Plain coders of motion, to hold tokenizers against: nothing, one similarity, principal components.

Letters: B windows, T frames, t = T - 1 steps, N points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.data.made_up import displacements_of_made_up
from amplify_motion_tokenizer.models.displacement.digits import GAIN, Digits, plan_with_gain
from amplify_motion_tokenizer.models.displacement.tokenizer import OCTAVES, SMALLEST, companded, expanded
from amplify_motion_tokenizer.models.displacement.waves import Waves, velocities_of

GAIN_LEVELS = 32
"""Levels of a PCA coder's gain, which takes 5 bits."""

LEVELS = (8, 8, 8, 4)
"""Levels of the digits of a plain coder's id, which takes 11 bits."""

FIT_WINDOWS, FIT_SEED = 6000, 1
"""Made-up windows that principal components are fitted on, and their seed."""

_FIT_CHUNK = 500
"""Windows of the fit that are in memory at a time."""

Coder = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From tracks (B, T, N, 2) (x, y) px, visible (B, T, N) bool and sizes (B, 2) to decoded tracks."""


def no_motion(tracks_xy_px: Tensor, visible: Tensor, sizes: Tensor) -> Tensor:
    """The coder of 0 bits: everything stays where it is in frame 0."""
    return tracks_xy_px[:, :1].expand_as(tracks_xy_px)


def global_similarity(tracks_xy_px: Tensor, visible: Tensor, sizes: Tensor) -> Tensor:
    """The best shift, turn and scale of the whole frame at each step, unrounded: 4 t numbers a window.

    Least squares over the points that are seen; where fewer than two are, nothing moves.
    """
    start = tracks_xy_px[:, :1].double()
    seen = (visible & visible[:, :1])[..., None].double()
    ends = torch.where(seen > 0, tracks_xy_px.double(), start)
    count = seen.sum(dim=2, keepdim=True).clamp(min=1)
    middle, there = (start * seen).sum(2, True) / count, (ends * seen).sum(2, True) / count
    place = torch.view_as_complex((start - middle).contiguous())
    goal = torch.view_as_complex(((ends - there) * seen).contiguous())
    power = (place.abs().square() * seen[..., 0]).sum(dim=2, keepdim=True)
    turn = (place.conj() * goal).sum(dim=2, keepdim=True) / power.clamp(min=1e-9)
    enough = (seen.sum(dim=2, keepdim=True) >= 2)[..., 0] & (power > 1e-9)
    moved = torch.view_as_real(torch.where(enough, turn, torch.ones_like(turn)) * place) + there
    return torch.where(enough[..., None], moved, start).to(tracks_xy_px.dtype)


class Components:
    """Principal components of windows' displacements by their gain, the strongest first.

    Args:
        displacements: parts of the windows, (B, t, N, 2) since frame 0 each, in shorter sides of the frame,
            lost points filled; N is a square grid.
    """

    def __init__(self, displacements: Iterable[Tensor]) -> None:
        products, windows = torch.zeros(1, dtype=torch.float64), 0
        for part in displacements:
            self.waves = Waves(part.shape[1], round(part.shape[2] ** 0.5))
            amplitudes = self.waves.amplitudes(velocities_of(part))
            gain = amplitudes.square().sum(dim=1, keepdim=True).sqrt()
            shape = (amplitudes / gain.clamp(min=SMALLEST)).double()
            products, windows = products + shape.mT @ shape, windows + len(part)
        powers, basis = torch.linalg.eigh(products / windows)
        self.basis = basis.flip(1).float()
        """(waves, waves), a component a column."""
        self.deviations = powers.flip(0).clamp(min=1e-12).sqrt()
        """(waves,) float64, root mean square of each component."""


class PcaCoder:
    """A transform coder whose basis and deviations are fitted: the bar for what is learned.

    Gain in 5 bits and principal components of displacements by gain, companded and told digit by digit as
    the transform tokenizer's waves are; only the basis and its deviations come from the windows of the fit.

    Args:
        fitted: the components.
        ids: of a window.
        levels: of an id's digits.
    """

    def __init__(self, fitted: Components, ids: int, levels: Sequence[int] = LEVELS) -> None:
        kept = min(len(fitted.deviations), 2 * ids * len(levels))
        deviations = fitted.deviations[:kept]
        self._waves = fitted.waves
        self._digits = Digits(plan_with_gain(deviations, levels, ids), levels)
        told = [component - 1 for component in self._digits.quantities if component != GAIN]
        self._basis, self._deviations = fitted.basis[:, told], deviations[told].float()

    def __call__(self, tracks_xy_px: Tensor, visible: Tensor, sizes: Tensor) -> Tensor:
        """Tracks coded and decoded, as ``Coder``."""
        sides = sizes.amin(dim=1).float()[:, None, None, None]
        digits, gain = self._coded(tracks_xy_px, visible, sides)
        told = self._digits.numbers(digits)[:, 1:]
        decoded = expanded(told, self._deviations) * gain @ self._basis.mT
        return with_start(tracks_xy_px, self._waves.displacements(decoded) * sides)

    def digits(self, tracks_xy_px: Tensor, visible: Tensor, sizes: Tensor) -> Tensor:
        """The digits (B, d, K) int64 of the ids that tracks are coded as, of ``levels`` each."""
        return self._coded(tracks_xy_px, visible, sizes.amin(dim=1).float()[:, None, None, None])[0].long()

    def _coded(self, tracks_xy_px: Tensor, visible: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
        """Whole digits (B, d, K), and the rounded gain (B, 1) that they tell; sides are (B, 1, 1, 1) px."""
        moves = fill_lost(tracks_xy_px - tracks_xy_px[:, :1], visible)[:, 1:] / sides
        amplitudes = self._waves.amplitudes(velocities_of(moves))
        gain = amplitudes.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-9)
        share = ((gain / SMALLEST).log2() / OCTAVES * GAIN_LEVELS).floor().clamp(0, GAIN_LEVELS - 1)
        gain = SMALLEST * torch.exp2(OCTAVES * (share + 0.5) / GAIN_LEVELS)
        numbers = companded(amplitudes @ self._basis / gain, self._deviations)
        numbers = torch.cat([(share + 0.5) / GAIN_LEVELS, numbers], dim=1)
        return self._digits.of_numbers(numbers).floor(), gain


def made_up_components(grid: int, frames: int) -> Components:
    """The components of ``FIT_WINDOWS`` windows of made-up motion, ``grid`` points a side, T ``frames``."""

    def parts() -> Iterator[Tensor]:
        for first in range(0, FIT_WINDOWS, _FIT_CHUNK):
            count = min(_FIT_CHUNK, FIT_WINDOWS - first)
            yield displacements_of_made_up(FIT_SEED, first, count, grid, frames)[0]

    return Components(parts())


def with_start(tracks_xy_px: Tensor, displacements_px: Tensor) -> Tensor:
    """Tracks (B, T, N, 2) from the first frame of true ones and displacements (B, t, N, 2) since then."""
    start = tracks_xy_px[:, :1]
    return torch.cat([start, start + displacements_px], dim=1)
