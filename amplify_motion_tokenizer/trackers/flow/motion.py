"""How the surroundings of each point move: affine motion of its neighbours, of those that move like it.

Which neighbours move alike is learnt over the window: as in Brox and Malik 2010, "Object Segmentation by
Long Term Analysis of Point Trajectories", the largest disagreement so far counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.trackers.flow.patches import Floats, inverse

NEIGHBOURS = 24
REACH = 1.5
"""Standard deviation of the neighbours' weights over their distance, in steps of the query grid."""
OUTLIER_PX = (6.0, 3.0, 3.0)
"""Disagreement that leaves a quarter of the weight, after each fit of the affine motion."""
STIFFNESS = 0.3
"""Weight of the warp before, in neighbours one step away."""
ALIKE_PX = 3.0
"""Disagreement in one frame that halves a neighbour's weight for the rest of the window."""


class Motion(NamedTuple):
    """Local motion since the first frame, of N points."""

    xy: Floats
    """(N, 2) where the neighbours' motion puts the point."""
    warp: Floats
    """(N, 2, 2) how its surroundings have turned and grown."""
    support: Floats
    """(N,) weight of the neighbours that agree."""


@dataclass(frozen=True)
class Neighbours:
    """The k nearest neighbours of each of N points in the first frame."""

    index: NDArray[np.intp]
    """(N, k)."""
    grid_step: np.float32
    """Median distance of the nearest neighbours, in pixels; at least 1."""
    basis: Floats
    """(N, k, 3): 1, and how far a neighbour is in x and y, in grid steps."""
    weight: Floats
    """(N, k) less with distance."""

    @classmethod
    def of(cls, xy_px: Floats) -> Neighbours:
        """Neighbours of points (N, 2)."""
        count = min(NEIGHBOURS, len(xy_px) - 1)
        index = np.empty((len(xy_px), count), np.intp)
        for point, own_index in enumerate(index):
            distance = ((xy_px - xy_px[point]) ** 2).sum(axis=1)
            distance[point] = np.inf
            own_index[:] = np.argsort(distance, kind="stable")[:count]
        away = xy_px[index] - xy_px[:, None]
        distance = np.sqrt((away**2).sum(axis=-1))
        grid_step = np.float32(max(np.median(distance[:, :1]), 1) if count else 1)
        away, distance = away / grid_step, distance / grid_step
        basis = np.concatenate([np.ones_like(away[..., :1]), away], axis=-1)
        return cls(index, grid_step, basis, np.exp(-0.5 * (distance / np.float32(REACH)) ** 2))


class LocalMotion:
    """Tells the motion around each of N points from that of its neighbours.

    Attributes:
        warp: (N, 2, 2), how each point's surroundings have turned and grown by the last frame learnt.
    """

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._alike = np.ones_like(neighbours.weight)
        self.warp = np.tile(np.eye(2, dtype=np.float32), (len(neighbours.index), 1, 1))

    def fit(self, xy: Floats, trust: Floats) -> Motion:
        """The motion that neighbours agree on, which are now at ``xy`` (N, 2) and count by ``trust`` (N,)."""
        around = self._around(xy)
        weight = start = self._neighbours.weight * self._alike * trust[self._neighbours.index]
        for allowed in OUTLIER_PX:
            at, slope = self._solve(weight, around)
            weight = start / (1 + self._error(at, slope, around) / np.float32(allowed**2)) ** 2
        return Motion(xy + at, np.asarray(slope / self._neighbours.grid_step), np.einsum("pk->p", weight))

    def learn(self, xy: Floats, warp: Floats, seen: NDArray[np.bool_]) -> None:
        """Takes weight from neighbours that moved otherwise, where both were ``seen`` (N,) at ``xy``."""
        self.warp = warp
        error = self._error(np.zeros_like(xy), warp * self._neighbours.grid_step, self._around(xy))
        alike = 1 / (1 + error / np.float32(ALIKE_PX**2))
        both = seen[:, None] & seen[self._neighbours.index]
        np.minimum(self._alike, alike, out=self._alike, where=both)

    def _around(self, xy: Floats) -> Floats:
        """(N, 2, k) where the neighbours are, from each point."""
        return np.stack([column[self._neighbours.index] - column[:, None] for column in xy.T], axis=1)

    def _solve(self, weight: Floats, around: Floats) -> tuple[Floats, Floats]:
        """Weighted least squares with a ridge towards the last warp: (N, 2) and, a grid step, (N, 2, 2)."""
        weighted = self._neighbours.basis * weight[..., None]
        moments = np.swapaxes(self._neighbours.basis, 1, 2) @ weighted
        products = around @ weighted
        total = moments[:, :1, :1] + np.float32(1e-6)
        mean_away, mean_around = moments[:, :1, 1:] / total, products[:, :, :1] / total
        ridge = np.float32(STIFFNESS) * np.eye(2, dtype=np.float32)
        spread = moments[:, 1:, 1:] - moments[:, 1:, :1] * mean_away + ridge
        before = np.float32(STIFFNESS) * self._neighbours.grid_step * self.warp
        shared = products[:, :, 1:] - products[:, :, :1] * mean_away + before
        slope = shared @ inverse(spread)
        return (mean_around - slope @ np.swapaxes(mean_away, 1, 2))[..., 0], slope

    def _error(self, at: Floats, slope: Floats, around: Floats) -> Floats:
        """(N, k) squared distances of the neighbours from where the affine motion has them."""
        expected = np.concatenate([at[..., None], slope], axis=-1) @ np.swapaxes(self._neighbours.basis, 1, 2)
        off = around - expected
        return np.asarray(off[:, 0] ** 2 + off[:, 1] ** 2)
