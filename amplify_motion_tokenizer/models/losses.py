"""The loss over velocity classes, of logits, labels and a mask of the elements that count.

Letters: B windows, V views, t steps, N points, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import LossConfig


def class_weights(loss: LossConfig, class_grid: tuple[int, int]) -> Tensor:
    """(C,) float32 weight of each velocity class of a (rows, columns) grid.

    It is 1, and ``loss.alpha_center`` for the centre class, no motion; both sides of the grid are odd.
    """
    weights = torch.ones(math.prod(class_grid))
    weights[len(weights) // 2] = loss.alpha_center
    return weights


def element_losses(logits: Tensor, labels: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Focal loss (Lin et al. 2017) of every element: -w_y (1 - p_y)^gamma log p_y, in float32.

    Gamma 0 is cross entropy, and with weights of 1 AMPLIFY's ``relative_ce``.

    Args:
        logits: (..., t, N, C), or (..., 1, N, C) when all steps share one distribution; then nothing
            of size t * C is made.
        labels: (..., t, N) int64 in [0, C).
        weights: (C,) from ``class_weights``.
        gamma: focusing exponent, at least 0.

    Returns:
        (..., t, N) float32.

    Raises:
        ValueError: when the shapes do not fit together.
    """
    check_logits(logits, labels)
    log_p = _gather_labels(logits.float().log_softmax(dim=-1), labels)
    # Kept above 0, where the power of an exponent below 1 has no finite slope.
    miss = (-log_p.expm1()).clamp(min=torch.finfo(torch.float32).tiny)
    return -weights.to(labels.device)[labels] * miss**gamma * log_p


def masked_loss(
    logits: Tensor, labels: Tensor, mask: Tensor, weights: Tensor, gamma: float
) -> tuple[Tensor, Tensor]:
    """Sum of ``element_losses`` over the elements of each view that count, and how many they are.

    The loss is the sum over views of weight * sum / max(count, 1). The division is left to the caller,
    because the mean spans all accumulated batches of all processes.

    Args:
        logits: as in ``element_losses``, (B, [V, ]t or 1, N, C).
        labels: (B, [V, ]t, N) int64 in [0, C).
        mask: bool, one value per point (B, [V, ]N) or per element; True where an element counts.
        weights: as in ``element_losses``.
        gamma: as in ``element_losses``.

    Returns:
        (sums (V,) float32, counts (V,) int64), V = 1 without the axis. A view where nothing counts has
        sum 0 and gradients of 0.

    Raises:
        ValueError: when the shapes do not fit together.
    """
    losses = element_losses(logits, labels, weights, gamma)
    counted = expand_mask(mask, labels)
    return view_sums(torch.where(counted, losses, 0.0)), view_sums(counted)


def view_sums(values: Tensor) -> Tensor:
    """(V,) sums of values (B, V, t, N), or (1,) of (B, t, N)."""
    by_view = values if values.ndim == 4 else values[:, None]
    return by_view.sum(dim=(0, 2, 3))


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Raises ValueError unless logits are (..., t or 1, N, C) for labels (..., t, N)."""
    *lead, steps, points = labels.shape
    fitting = ((*lead, steps, points), (*lead, 1, points))
    if logits.ndim != labels.ndim + 1 or tuple(logits.shape[:-1]) not in fitting:
        expected = ", ".join(map(str, (*lead, f"{steps} or 1", points, "C")))
        raise ValueError(
            f"logits are {tuple(logits.shape)}; expected ({expected}) for labels {tuple(labels.shape)}"
        )


def expand_mask(mask: Tensor, labels: Tensor) -> Tensor:
    """``mask``, one value per point (..., N) or per element, as a view of the labels' shape (..., t, N)."""
    per_element = mask.unsqueeze(-2) if mask.ndim == labels.ndim - 1 else mask
    return per_element.expand_as(labels)


def _gather_labels(log_p: Tensor, labels: Tensor) -> Tensor:
    if log_p.shape[-3] == labels.shape[-2]:
        return log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    # One distribution per point: its steps are several look-ups in the same row of classes.
    return log_p.squeeze(-3).gather(-1, labels.movedim(-2, -1)).movedim(-1, -2)
