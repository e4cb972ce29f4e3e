"""Masks of the steps and points of a window that count in the loss."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config


def static_mask(
    velocities: Tensor, metric: str, threshold: float, min_keep: int, valid_steps: Tensor | None = None
) -> Tensor:
    """Points that move enough to count, as in the keypoint reproduction.

    A point's score is a statistic over its real steps of its speed, the L2 norm of its W-normalised velocity.

    Args:
        velocities: (B, t, N, 2), W-normalised, in either axis order.
        metric: max, mean or p95 (95th percentile, linear interpolation).
        threshold: points that score at least this are kept.
        min_keep: a window that keeps fewer keeps its min_keep highest scores instead (all points when
            there are fewer); of equal scores the lower index wins.
        valid_steps: (B,) int64, steps of each window that are real, the first ones; None: all.

    Returns:
        (B, N) bool, True for points that are kept.

    Raises:
        ValueError: when the metric is unknown.
    """
    score = motion_score(velocities, metric, valid_steps)
    keep = score >= threshold
    too_few = keep.sum(dim=1) < min_keep
    if too_few.any():
        order = score[too_few].argsort(dim=1, descending=True, stable=True)
        keep[too_few] = torch.zeros_like(keep[too_few]).scatter(1, order[:, :min_keep], True)
    return keep


def motion_score(velocities: Tensor, metric: str, valid_steps: Tensor | None = None) -> Tensor:
    """(B, N) statistic over real steps of the speed of velocities (B, t, N, 2), as in ``static_mask``.

    It is 0 in windows without a real step.
    """
    steps = velocities.shape[1]
    if valid_steps is not None and (valid_steps < steps).any():
        scores = velocities.new_zeros(len(velocities), velocities.shape[2], dtype=torch.float32)
        for count in filter(None, torch.unique(valid_steps).tolist()):
            alike = valid_steps == count
            scores[alike] = motion_score(velocities[alike, :count], metric)
        return scores
    if metric == "max":
        return _highest_squared_speeds(velocities, 1)[0].sqrt_()
    if metric == "mean":
        # Summed by hand: torch's norm takes seven times as long over an axis of two.
        squared = velocities.float().square()
        return (squared[..., 0] + squared[..., 1]).sqrt_().mean(dim=1)
    if metric == "p95":
        # Of a percentile only the highest few count: sorting them all takes 30 times as long, and
        # ``torch.quantile`` refuses inputs of more than 16 million elements. Only those are rooted.
        position = 0.95 * (steps - 1)
        highest = _highest_squared_speeds(velocities, steps - math.floor(position))
        above, below = highest[steps - 1 - math.ceil(position)], highest[-1]
        return below.sqrt().lerp(above.sqrt(), position % 1)
    raise ValueError(f"metric is {metric!r}; expected 'max', 'mean' or 'p95'")


def _highest_squared_speeds(velocities: Tensor, count: int) -> list[Tensor]:
    """(B, N) float32 each, the highest first, of velocities (B, t, N, 2): kept while the steps go by.

    In numpy, a step at a time and in the same few arrays, which stay in the CPU's caches.
    """
    by_step = velocities.float().numpy(force=True)
    batch, steps, points, axes = by_step.shape
    squared, value, lower = (np.empty((batch, points, *more), np.float32) for more in ((axes,), (), ()))
    highest = [np.full((batch, points), -np.inf, np.float32) for _ in range(count)]
    for step in range(steps):
        np.square(by_step[:, step], out=squared)
        np.add(squared[..., 0], squared[..., 1], out=value)
        for kept in highest[:-1]:
            np.minimum(kept, value, out=lower)
            np.maximum(kept, value, out=kept)
            value, lower = lower, value
        np.maximum(highest[-1], value, out=highest[-1])
    return [torch.from_numpy(kept).to(velocities.device) for kept in highest]


def counting_mask(
    velocities_wnorm: Tensor | None, visibility: Tensor, finite: Tensor, valid_steps: Tensor, config: Config
) -> Tensor:
    """(B, t, N) bool, which elements count; steps that are padding do not, and decide nothing.

    Args:
        velocities_wnorm: (B, t, N, 2), W-normalised; None: the static filter leaves no points out.
        visibility: (B, T, N), confidence 0..1.
        finite: (B, N) bool, points whose track is finite.
        valid_steps: (B,) int64, steps of each window that are real, the first ones.
        config: ``data.static_filter``, ``data.min_visibility`` and ``data.min_visible_share``.
    """
    static, points = config.data.static_filter, finite
    if static.enable and velocities_wnorm is not None:
        # A point that is lost somewhere must not be one of the min_keep.
        known = velocities_wnorm if finite.all() else velocities_wnorm.where(finite[:, None, :, None], 0.0)
        points = finite & static_mask(known, static.metric, static.threshold, static.min_keep, valid_steps)
    # In numpy, whose comparisons and operations on bool are up to ten times as fast.
    visible = visibility.numpy() >= np.float32(config.data.min_visibility)
    steps = visible[:, 1:] & visible[:, :-1]
    real = valid_steps.numpy()
    if (real < steps.shape[1]).any():
        steps &= (np.arange(steps.shape[1]) < real[:, None])[..., None]
    share = np.array([np.count_nonzero(window) for window in steps]) / (np.maximum(real, 1) * steps.shape[2])
    enough = share >= config.data.min_visible_share
    steps &= (points.numpy() & enough[:, None])[:, None]
    return torch.from_numpy(steps)
