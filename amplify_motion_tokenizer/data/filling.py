"""Lost points filled from their neighbours, for models that read a window as one field of motion."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

POWER = 4.0
"""Neighbours count by their distance to the power of minus this."""


def fill_lost(displacements: Tensor, seen: Tensor) -> Tensor:
    """Displacements of points where they are seen; elsewhere the mean of those seen in the same frame.

    The mean is weighted by the inverse of the distance on the grid, to the fourth power. Where no point is
    seen in a frame, nothing has moved since the last frame in which one was, or since the first.

    Args:
        displacements: (B, T, N, 2) float, moves since frame 0 of a square grid of N points; whatever is
            in the place of an unseen point is not looked at, NaN included.
        seen: (B, T, N) bool.

    Returns:
        (B, T, N, 2), finite where all that is seen is.
    """
    some = ~seen.flatten(1).all(dim=1)
    if not some.any():
        return displacements
    filled = displacements.clone()
    filled[some] = _filled(displacements[some], seen[some])
    return filled


def _filled(displacements: Tensor, seen: Tensor) -> Tensor:
    known = torch.where(seen[..., None], displacements, 0.0)
    # Axes first: the product then runs over whole rows, in half the time.
    values = torch.stack([*known.unbind(dim=-1), seen.to(known.dtype)])
    sums = values @ _closeness(seen.shape[-1]).to(known)
    means = (sums[:2] / sums[2].clamp(min=torch.finfo(known.dtype).tiny)).permute(1, 2, 3, 0)
    blind = ~seen.any(dim=-1)
    if blind.any():
        frames = torch.arange(seen.shape[1], device=seen.device)
        last = torch.where(blind, 0, frames).cummax(dim=1).values
        rows = torch.arange(len(seen), device=seen.device)[:, None]
        before = torch.where(seen[..., None], known, means)[rows, last]
        means = torch.where((blind & (last > 0))[..., None, None], before, means)
    return torch.where(seen[..., None], known, means)


@functools.lru_cache(maxsize=4)
def _closeness(points: int) -> Tensor:
    """(N, N), what each point of the grid counts for each other; not 0 for itself, which is then unseen."""
    side = round(points**0.5)
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()
    squared = (place[:, None] - place).square().sum(dim=-1)
    return (squared + 0.5).pow(-POWER / 2)
