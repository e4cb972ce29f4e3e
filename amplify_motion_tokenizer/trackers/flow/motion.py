"""How the surroundings of each point move: the affine motion of the neighbours that move like it.

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
"""Weight of the last frame's warp in a fit, counted in neighbours one grid step away."""
ALIKE_PX = 0.7
"""Disagreement in one frame that halves a neighbour's weight for the rest of the window."""


@dataclass(frozen=True)
class Neighbours:
    """The k nearest neighbours of each of N points in the first frame; points are the last axis."""

    index: NDArray[np.intp]
    """(k, N)."""
    grid_step: np.float32
    """Median distance of the nearest neighbours, in pixels; at least 1."""
    away: Floats
    """(2, k, N): how far a neighbour is in x and y, in grid steps."""
    products: Floats
    """(6, k, N): 1, dx, dy, dx dx, dx dy and dy dy."""
    weight: Floats
    """(k, N), less with distance."""

    @classmethod
    def of(cls, xy: Floats) -> Neighbours:
        """Neighbours of points (N, 2)."""
        count = min(NEIGHBOURS, len(xy) - 1)
        index = np.empty((count, len(xy)), np.intp)
        for point in range(len(xy)):
            distance = ((xy - xy[point]) ** 2).sum(axis=1)
            distance[point] = np.inf
            index[:, point] = np.argsort(distance, kind="stable")[:count]
        away = xy.T[:, index] - xy.T[:, None]
        distance = np.sqrt(away[0] ** 2 + away[1] ** 2)
        grid_step = np.float32(max(np.median(distance[:1]), 1) if count else 1)
        away, distance = away / grid_step, distance / grid_step
        products = np.concatenate([np.ones_like(away[:1]), away, away[:1] * away, away[1:] ** 2])
        weight = np.exp(-0.5 * (distance / np.float32(REACH)) ** 2)
        return cls(index, grid_step, away, products, weight)

    def repeated(self, windows: int) -> Neighbours:
        """Neighbours of the points of ``windows`` windows with the same queries, one window after another."""
        first = np.arange(windows) * self.index.shape[1]
        index = np.concatenate([self.index + point for point in first], axis=1)
        away, products, weight = (
            np.tile(column, windows) for column in (self.away, self.products, self.weight)
        )
        return Neighbours(index, self.grid_step, away, products, weight)

    def first(self, points: int) -> Neighbours:
        """Neighbours of the first ``points`` points."""
        away, products, weight = (x[..., :points] for x in (self.away, self.products, self.weight))
        return Neighbours(self.index[:, :points], self.grid_step, away, products, weight)

    def around(self, xy: Floats) -> Floats:
        """(2, k, N) where the neighbours are, seen from each point, when points are at ``xy`` (N, 2)."""
        return np.stack([column[self.index] - column for column in np.ascontiguousarray(xy.T)])


class Motion(NamedTuple):
    """Motion around N points since the first frame."""

    xy: Floats
    """(N, 2), where the motion takes the points."""
    warp: Floats
    """(N, 2, 2), how the points' surroundings have turned and grown."""
    weight: Floats
    """(k, N), how much each neighbour agrees with the motion."""


class LocalMotion:
    """Tells the motion around points from the motion of their neighbours; P points in all open windows.

    Attributes:
        warp: (P, 2, 2), how each point's surroundings have turned and grown by the last frame learnt.
    """

    def __init__(self, neighbours: Neighbours) -> None:
        """Starts without an open window; ``neighbours`` are the neighbours of a window's N queries."""
        self._of_window = self._of_most = neighbours
        self._alike = neighbours.weight[:, :0]
        self.warp = np.zeros((0, 2, 2), np.float32)

    @property
    def _neighbours(self) -> Neighbours:
        """Neighbours of the P points."""
        points, window_points = len(self.warp), self._of_window.index.shape[1]
        if points > self._of_most.index.shape[1]:
            self._of_most = self._of_window.repeated(points // window_points)
        return self._of_most.first(points)

    def begin(self) -> None:
        """Opens a window, whose N points are the last."""
        still = np.broadcast_to(np.eye(2, dtype=np.float32), (self._of_window.index.shape[1], 2, 2))
        self.warp = np.concatenate([self.warp, still])
        self._alike = np.concatenate([self._alike, self._of_window.weight], axis=1)

    def end(self) -> None:
        """Closes the window that was opened first."""
        points = self._of_window.index.shape[1]
        self.warp, self._alike = self.warp[points:], self._alike[:, points:]

    def total(self, values: Floats) -> Floats:
        """(P,) sum of each point's value and its neighbours' ``values`` (P,), by how much they move alike."""
        return np.asarray(values + (self._alike * values[self._neighbours.index]).sum(axis=0))

    def fit(self, xy: Floats, trust: Floats) -> Motion:
        """The motion that neighbours agree on, which are now at ``xy`` (P, 2) and count by ``trust`` (P,)."""
        around = self._neighbours.around(xy)
        weight = start = self._alike * trust[self._neighbours.index]
        for outlier in OUTLIER_PX:
            at, slope = self._solve(weight, around)
            error = self._error(around, at, slope) / np.float32(outlier**2)
            weight = start / ((1 + error) * (1 + error))
        warp = np.asarray(slope / self._neighbours.grid_step, np.float32)
        return Motion(xy + at.T, np.moveaxis(warp, -1, 0), weight)

    def average(self, weight: Floats, values: Floats) -> Floats:
        """Weighted mean of the neighbours' ``values`` (N,), by ``weight`` (k, N)."""
        total = weight.sum(axis=0) + np.float32(1e-3)
        return np.asarray((weight * values[self._neighbours.index]).sum(axis=0) / total)

    def learn(self, xy: Floats, warp: Floats, seen: NDArray[np.bool_]) -> None:
        """Takes weight from neighbours that moved otherwise, where both were ``seen`` (N,) at ``xy``."""
        self.warp = warp
        near = self._neighbours
        slope = np.moveaxis(warp, 0, -1) * near.grid_step
        error = self._error(near.around(xy), np.zeros((2, 1), np.float32), slope)
        alike = near.weight / (1 + error / np.float32(ALIKE_PX**2))
        np.minimum(self._alike, alike, out=self._alike, where=seen & seen[near.index])

    def _solve(self, weight: Floats, around: Floats) -> tuple[Floats, Floats]:
        """Least squares with a ridge towards the last warp: points (2, N), slopes (2, 2, N) a grid step."""
        near, ridge = self._neighbours, np.float32(STIFFNESS)
        # Sums over the neighbours, each (N,): of weights, then times dx, dy, dx dx, dx dy and dy dy.
        total, x, y, xx, xy, yy = np.einsum("kn,mkn->mn", weight, near.products)
        total = total + np.float32(1e-9)
        mean_x, mean_y = x / total, y / total
        xx, xy, yy = xx - x * mean_x + ridge, xy - x * mean_y, yy - y * mean_y + ridge
        # Each (2, N): the places' x and y, also times dx and dy.
        weighted = around * weight
        place = weighted.sum(axis=1)
        by_x, by_y = (np.einsum("akn,kn->an", weighted, away) for away in near.away)
        before_x, before_y = ridge * near.grid_step * self.warp.T
        by_x, by_y = by_x - place * mean_x + before_x, by_y - place * mean_y + before_y
        determinant = xx * yy - xy * xy
        slope_x, slope_y = (by_x * yy - by_y * xy) / determinant, (by_y * xx - by_x * xy) / determinant
        return place / total - slope_x * mean_x - slope_y * mean_y, np.stack([slope_x, slope_y], axis=1)

    def _error(self, around: Floats, at: Floats, slope: Floats) -> Floats:
        """(k, N) squared distances of the neighbours from where an affine motion has them."""
        dx, dy = self._neighbours.away
        off_x, off_y = (
            place - (by_x * dx + by_y * dy + start)
            for place, start, (by_x, by_y) in zip(around, at, slope, strict=True)
        )
        return np.asarray(off_x * off_x + off_y * off_y)
