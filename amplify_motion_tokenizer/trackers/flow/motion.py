"""How the surroundings of each point move: affine motion of its neighbours, of those that move like it.

Which neighbours move alike is learnt over the window: as in Brox and Malik 2010, "Object Segmentation by
Long Term Analysis of Point Trajectories", the largest disagreement so far counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.trackers.flow.patches import Floats

NEIGHBOURS = 12
REACH = 1.2
"""Standard deviation of the neighbours' weights over their distance, in steps of the query grid."""
OUTLIER_PX = (3.0, 1.5, 1.5)
"""Disagreement that leaves a quarter of the weight, after each fit of the affine motion."""
STIFFNESS = 0.6
"""Weight of the warp before, in neighbours one grid step away."""
ALIKE_PX = 0.7
"""Disagreement in one frame that halves a neighbour's weight for the rest of the window."""


@dataclass(frozen=True)
class Neighbours:
    """The k nearest neighbours of each of N points in the first frame."""

    index: NDArray[np.intp]
    """(N, k)."""
    grid_step: np.float32
    """Median distance of the nearest neighbours, in pixels; at least 1."""
    basis: Floats
    """(N, k, 3): 1, and how far a neighbour is in x and y, in grid steps."""
    products: Floats
    """(N, k, 6): the basis, and dx dx, dx dy and dy dy."""
    weight: Floats
    """(N, k), less with distance."""

    @classmethod
    def of(cls, xy: Floats) -> Neighbours:
        """Neighbours of points (N, 2)."""
        count = min(NEIGHBOURS, len(xy) - 1)
        index = np.empty((len(xy), count), np.intp)
        for point, nearest in enumerate(index):
            distance = ((xy - xy[point]) ** 2).sum(axis=1)
            distance[point] = np.inf
            nearest[:] = np.argsort(distance, kind="stable")[:count]
        away = xy[index] - xy[:, None]
        distance = np.sqrt((away**2).sum(axis=-1))
        grid_step = np.float32(max(np.median(distance[:, :1]), 1) if count else 1)
        away, distance = away / grid_step, distance / grid_step
        basis = np.concatenate([np.ones_like(away[..., :1]), away], axis=-1)
        products = np.concatenate([basis, away[..., :1] * away, away[..., 1:] ** 2], axis=-1)
        weight = np.exp(-0.5 * (distance / np.float32(REACH)) ** 2)
        return cls(index, grid_step, basis, products, weight)

    def around(self, xy: Floats) -> Floats:
        """(N, 2, k) where the neighbours are, seen from each point, when points are at ``xy`` (N, 2)."""
        return np.stack([column[self.index] - column[:, None] for column in xy.T], axis=1)


class Motion(NamedTuple):
    """Motion around N points since the first frame."""

    xy: Floats
    """(N, 2) where it puts the points."""
    warp: Floats
    """(N, 2, 2) how their surroundings have turned and grown."""
    weight: Floats
    """(N, k) how much each neighbour agrees."""


class LocalMotion:
    """Tells the motion around each of N points from that of their neighbours.

    Attributes:
        warp: (N, 2, 2), how each point's surroundings have turned and grown by the last frame learnt.
    """

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._alike = neighbours.weight.copy()
        self.warp = np.tile(np.eye(2, dtype=np.float32), (len(neighbours.index), 1, 1))

    def fit(self, xy: Floats, trust: Floats) -> Motion:
        """The motion that neighbours agree on, which are now at ``xy`` (N, 2) and count by ``trust`` (N,)."""
        around = self._neighbours.around(xy)
        weight = start = self._alike * trust[self._neighbours.index]
        for outlier in OUTLIER_PX:
            at, slope = self._solve(weight, around)
            error = self._error(around, at, slope) / np.float32(outlier**2)
            weight = start / ((1 + error) * (1 + error))
        return Motion(xy + at, np.asarray(slope / self._neighbours.grid_step, np.float32), weight)

    def average(self, weight: Floats, values: Floats) -> Floats:
        """Of the neighbours' ``values`` (N,), by ``weight`` (N, k)."""
        total = np.einsum("pk->p", weight) + np.float32(1e-3)
        return np.asarray(np.einsum("pk,pk->p", weight, values[self._neighbours.index]) / total)

    def learn(self, xy: Floats, warp: Floats, seen: NDArray[np.bool_]) -> None:
        """Takes weight from neighbours that moved otherwise, where both were ``seen`` (N,) at ``xy``."""
        self.warp = warp
        near = self._neighbours
        error = self._error(near.around(xy), np.zeros_like(xy), warp * near.grid_step)
        alike = near.weight / (1 + error / np.float32(ALIKE_PX**2))
        both = seen[:, None] & seen[near.index]
        np.minimum(self._alike, alike, out=self._alike, where=both)

    def _solve(self, weight: Floats, around: Floats) -> tuple[Floats, Floats]:
        """Least squares with a ridge towards the last warp: points (N, 2), slopes (N, 2, 2) a grid step."""
        near, ridge = self._neighbours, np.float32(STIFFNESS)
        # Sums over the neighbours, each (N,): of weights, then times dx, dy, dx dx, dx dy and dy dy.
        total, x, y, xx, xy, yy = np.ascontiguousarray((weight[:, None] @ near.products)[:, 0].T)
        total = total + np.float32(1e-9)
        mean_x, mean_y = x / total, y / total
        xx, xy, yy = xx - x * mean_x + ridge, xy - x * mean_y, yy - y * mean_y + ridge
        # Each (2, N): the places' x and y, also times dx and dy.
        place, by_x, by_y = np.ascontiguousarray(((around * weight[:, None]) @ near.basis).T)
        before_x, before_y = ridge * near.grid_step * self.warp.T
        by_x, by_y = by_x - place * mean_x + before_x, by_y - place * mean_y + before_y
        slope_x, slope_y = np.stack([by_x * yy - by_y * xy, by_y * xx - by_x * xy]) / (xx * yy - xy * xy)
        at = place / total - slope_x * mean_x - slope_y * mean_y
        return at.T, np.stack([slope_x, slope_y]).T

    def _error(self, around: Floats, at: Floats, slope: Floats) -> Floats:
        """(N, k) squared distances of the neighbours from where an affine motion has them."""
        affine = np.concatenate([at[..., None], slope], axis=-1)
        off = around - affine @ np.swapaxes(self._neighbours.basis, 1, 2)
        return np.asarray(off[:, 0] ** 2 + off[:, 1] ** 2)
