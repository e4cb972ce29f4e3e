"""Waves over the time and the grid of a window, and how much motion goes by each.

A wave is the product of a quarter-wave sine over time, 0 in frame 0 where nothing has moved yet, and a
cosine over the rows and one over the columns of the grid (the DST-VII and the DCT-II). They are functions of
(time, place) and orthonormal on every grid and number of steps, so that an amplitude means the same on all.

Letters: B windows, t steps, N points, g points on a side, K waves over time, J over a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

MOST_IN_TIME, MOST_ON_A_SIDE = 8, 12
"""Waves over time and over each side of the grid; quicker and finer ones are left out."""


class Waves(nn.Module):
    """Between velocities and amplitudes of waves; an amplitude is in the unit of the displacements.

    The sum of the squares of all amplitudes is the mean square displacement, as far as waves can tell it.

    Args:
        steps: t.
        side: g.
    """

    def __init__(self, steps: int, side: int) -> None:
        super().__init__()
        self.steps, self.side = steps, side
        self.rows = list(range(side))
        """Points of a side, of those that there are, that are told."""
        in_time, on_side = min(MOST_IN_TIME, steps), min(MOST_ON_A_SIDE, side)
        self.shape = (in_time, on_side, on_side, 2)
        sines, cosines = _quarter_sines(steps, in_time), _cosines(side, on_side)
        sums = torch.ones(steps, steps, dtype=torch.float64).tril()
        self._hold("places", ((torch.arange(side) * 2 + 1) / side - 1).double())
        self._hold("_to_time", sines.mT @ sums / math.sqrt(steps))
        self._hold("_from_time", sines * math.sqrt(steps))
        self._hold("_to_side", cosines.mT / math.sqrt(side))
        self._hold("_from_side", cosines * math.sqrt(side))

    def amplitudes(self, velocities: Tensor) -> Tensor:
        """(B, K J J 2) from (B, t, N, 2): of each wave over time, rows, columns and the axes x and y."""
        batch, (in_time, on_side, _, _) = len(velocities), self.shape
        time = self.get_buffer("_to_time") @ velocities.flatten(2)
        to_side = self.get_buffer("_to_side")
        rows = to_side @ time.view(batch, in_time, self.side, self.side * 2)
        columns = to_side @ rows.view(batch, in_time * on_side, self.side, 2)
        return columns.view(batch, math.prod(self.shape))

    def displacements(self, amplitudes: Tensor, steps: Sequence[int] | None = None) -> Tensor:
        """(B, t, N, 2) since frame 0, from (B, K J J 2); of some ``steps`` (0 is the first) or all."""
        batch, (in_time, on_side, _, _) = len(amplitudes), self.shape
        over_time = self.over_time(steps)
        time = over_time @ amplitudes.view(batch, in_time, on_side**2 * 2)
        from_side = self.get_buffer("_from_side")
        columns = from_side @ time.view(batch, len(over_time) * on_side, on_side, 2)
        rows = from_side @ columns.view(batch, len(over_time), on_side, self.side * 2)
        return rows.view(batch, len(over_time), self.side**2, 2)

    def surfaces(self, amplitudes: Tensor) -> Tensor:
        """(B, C, N) surfaces over the grid from the amplitudes (B, C, J J) of their waves."""
        from_side, on_side = self.get_buffer("_from_side"), self.shape[1]
        square = amplitudes.view(*amplitudes.shape[:2], on_side, on_side)
        return (from_side @ square @ from_side.mT).flatten(2)

    def thinned(self, steps: Sequence[int], points: Sequence[int]) -> Waves:
        """The same waves, told at some steps and at some points of each side; only for what decodes."""
        fewer = Waves(self.steps, self.side)
        fewer.side, fewer.rows = len(points), list(points)
        for name, rows in {"places": points, "_from_time": steps, "_from_side": points}.items():
            fewer.register_buffer(name, self.get_buffer(name)[list(rows)], persistent=False)
        return fewer

    def over_time(self, steps: Sequence[int] | None = None) -> Tensor:
        """(t, K), the waves over time at all steps, or at some."""
        waves = self.get_buffer("_from_time")
        return waves if steps is None else waves[list(steps)]

    def _hold(self, name: str, matrix: Tensor) -> None:
        self.register_buffer(name, matrix.float().contiguous(), persistent=False)


def velocities_of(displacements: Tensor) -> Tensor:
    """(B, t, N, 2) moves per step of displacements (B, t, N, 2) since frame 0."""
    return torch.cat([displacements[:, :1], displacements.diff(dim=1)], dim=1)


def deviations(shape: tuple[int, ...]) -> Tensor:
    """Typical amplitude of each wave where the root of the sum of all squares is 1: (K J J 2) float64.

    Their squares are 0.09 / ((1 + 1.2 k)^2.1 (1 + 3 (i^2 + j^2))) for the wave k over time, i over rows and j
    over columns; twice that where i + j <= 1: what a camera does to all of its view. Read off 12,000 windows
    of made-up motion, whose own numbers lie within a third of an octave of it.
    """
    k, i, j, _ = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in shape), indexing="ij")
    squares = 0.09 / ((1 + 1.2 * k) ** 2.1 * (1 + 3 * (i**2 + j**2)))
    return torch.where(i + j <= 1, 2 * squares, squares).sqrt().flatten()


def _quarter_sines(steps: int, number: int) -> Tensor:
    time, wave = torch.arange(1, steps + 1, dtype=torch.float64), torch.arange(number) + 0.5
    return (math.pi * wave * time[:, None] / (steps + 0.5)).sin() * math.sqrt(2 / (steps + 0.5))


def _cosines(side: int, number: int) -> Tensor:
    place, wave = torch.arange(side, dtype=torch.float64) + 0.5, torch.arange(number)
    waves = (math.pi * wave * place[:, None] / side).cos() * math.sqrt(2 / side)
    waves[:, 0] /= math.sqrt(2)
    return waves
