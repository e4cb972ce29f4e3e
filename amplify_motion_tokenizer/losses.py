"""Focal loss over velocity classes, and the mask that leaves still points out of it.

Letters: B windows, t steps, N points, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def focal_loss(
    logits: Tensor, labels: Tensor, mask: Tensor, gamma: float, alpha_center: float, alpha_other: float
) -> tuple[Tensor, Tensor]:
    """Sum of the focal loss (Lin et al. 2017) over the elements that count, and how many they are.

    An element's loss is -alpha_y (1 - p_y)^gamma log p_y. The mean is left to the caller, because its
    denominator, max(count, 1), spans all accumulated batches of all processes. Computed in float32.

    Args:
        logits: (B, t, N, C), or (B, 1, N, C) when all steps share one distribution; then nothing of
            size t * C is made.
        labels: (B, t, N) int64 in [0, C).
        mask: bool, (B, N) or anything that broadcasts to (B, t, N); True where an element counts.
        gamma: focusing exponent, at least 0; 0 is weighted cross entropy.
        alpha_center: weight of the centre class, C // 2.
        alpha_other: weight of every other class.

    Returns:
        (loss_sum float32, count int64), both scalars. An empty mask gives 0 with gradients of 0.

    Raises:
        ValueError: when the shapes do not fit together.
    """
    check_logits(logits, labels)
    counted = expand_mask(mask, labels)
    log_p = _gather_labels(logits.float().log_softmax(dim=-1), labels)
    # Kept above 0, where the power of an exponent below 1 has no finite slope.
    miss = (-log_p.expm1()).clamp(min=torch.finfo(torch.float32).tiny)
    alpha = torch.where(labels == logits.shape[-1] // 2, alpha_center, alpha_other)
    losses = -alpha * miss**gamma * log_p
    return torch.where(counted, losses, 0.0).sum(), counted.sum()


def static_mask(velocities: Tensor, metric: str, threshold: float, min_keep: int) -> Tensor:
    """Points that move enough to count, as in the keypoint reproduction.

    A point's score is a statistic over time of its speed, the L2 norm of its W-normalised velocity.

    Args:
        velocities: (B, t, N, 2), W-normalised, in either axis order.
        metric: max, mean or p95 (95th percentile, linear interpolation).
        threshold: points that score at least this are kept.
        min_keep: a window that keeps fewer keeps its min_keep highest scores instead (all points when
            there are fewer); of equal scores the lower index wins.

    Returns:
        (B, N) bool, True for points that are kept.

    Raises:
        ValueError: when the metric is unknown.
    """
    speed = torch.linalg.vector_norm(velocities.float(), dim=-1)
    if metric == "max":
        score = speed.amax(dim=1)
    elif metric == "mean":
        score = speed.mean(dim=1)
    elif metric == "p95":
        score = _quantile_over_steps(speed, 0.95)
    else:
        raise ValueError(f"metric is {metric!r}; expected 'max', 'mean' or 'p95'")
    keep = score >= threshold
    order = score.argsort(dim=1, descending=True, stable=True)
    highest = torch.zeros_like(keep).scatter(1, order[:, :min_keep], True)
    too_few = keep.sum(dim=1, keepdim=True) < min_keep
    return torch.where(too_few, highest, keep)


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Raises ValueError unless logits are (B, t or 1, N, C) for labels (B, t, N)."""
    batch, steps, points = labels.shape
    if logits.ndim != 4 or tuple(logits.shape[:3]) not in ((batch, steps, points), (batch, 1, points)):
        raise ValueError(
            f"logits are {tuple(logits.shape)}; expected ({batch}, {steps} or 1, {points}, C) "
            f"for labels {tuple(labels.shape)}"
        )


def expand_mask(mask: Tensor, labels: Tensor) -> Tensor:
    """``mask``, one value per point (B, N) or per element, as a view of the labels' shape (B, t, N)."""
    per_element = mask.unsqueeze(1) if mask.ndim == 2 else mask
    return per_element.expand_as(labels)


def _gather_labels(log_p: Tensor, labels: Tensor) -> Tensor:
    if log_p.shape[1] == labels.shape[1]:
        return log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    # One distribution per point: its steps are several look-ups in the same row of classes.
    return log_p[:, 0].gather(-1, labels.movedim(1, -1)).movedim(-1, 1)


def _quantile_over_steps(speed: Tensor, q: float) -> Tensor:
    # Not torch.quantile, which refuses inputs of more than 16 million elements.
    position = q * (speed.shape[1] - 1)
    low, high = math.floor(position), math.ceil(position)
    ordered = speed.sort(dim=1).values
    return ordered[:, low].lerp(ordered[:, high], position - low)
