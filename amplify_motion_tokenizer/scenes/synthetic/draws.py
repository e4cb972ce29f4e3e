"""Random numbers of a batch of windows, each from a stream of its own.

A window's numbers follow from (seed, its index) alone, so that it is the same in every batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Draws:
    """Draws for B windows; every call takes the next numbers of each window's stream.

    Args:
        seed: at least 0.
        indices: index of each window, at least 0.
    """

    def __init__(self, seed: int, indices: Sequence[int]) -> None:
        self._streams = [
            np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64))) for index in indices
        ]

    def __len__(self) -> int:
        """B."""
        return len(self._streams)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) float32 in [low, high)."""
        drawn = self._empty(shape)
        for stream, row in zip(self._streams, drawn, strict=True):
            stream.random(out=row, dtype=np.float32)
        return torch.from_numpy(drawn).view(len(self), *shape).mul_(high - low).add_(low)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) float32, standard normal."""
        drawn = self._empty(shape)
        for stream, row in zip(self._streams, drawn, strict=True):
            stream.standard_normal(out=row, dtype=np.float32)
        return torch.from_numpy(drawn).view(len(self), *shape)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) float32 in [low, high), both above 0: each factor of two is as likely."""
        return self.uniform(math.log(low), math.log(high), *shape).exp_()

    def happens(self, probability: float, *shape: int) -> Tensor:
        """(B, *shape) bool."""
        return self.uniform(0, 1, *shape) < probability

    def choice(self, weights: Sequence[float], *shape: int) -> Tensor:
        """(B, *shape) int64, an index into ``weights``, each as likely as its weight."""
        edges = torch.tensor(weights).cumsum(0) / sum(weights)
        return torch.searchsorted(edges, self.uniform(0, 1, *shape)).clamp_(max=len(weights) - 1)

    def direction(self, *shape: int) -> Tensor:
        """(B, *shape, 2) float32, unit vectors."""
        angle = self.uniform(0, 2 * math.pi, *shape)
        return torch.stack([angle.cos(), angle.sin()], dim=-1)

    def _empty(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return np.empty((len(self), math.prod(shape)), np.float32)
