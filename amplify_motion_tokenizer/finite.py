"""Which positions are known: trackers and other writers leave NaN or infinity where a point is lost."""

from __future__ import annotations

import torch
from torch import Tensor


def all_finite(values: Tensor) -> bool:
    """Whether neither NaN nor infinity is among ``values``; False too where their sum overflows.

    One pass over them, a quarter of what looking at each costs; a loader asks it of every batch.
    """
    return bool(values.sum().isfinite())


def finite_points(tracks_xy_px: Tensor) -> Tensor:
    """(..., N) bool from (..., T, N, 2): True where a point's position is finite in every frame."""
    if all_finite(tracks_xy_px):
        *lead, _, points, _ = tracks_xy_px.shape
        return torch.ones((*lead, points), dtype=torch.bool, device=tracks_xy_px.device)
    return tracks_xy_px.isfinite().all(dim=-1).all(dim=-2)
