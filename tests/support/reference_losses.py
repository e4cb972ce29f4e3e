"""The loss in the forms in which the golden vectors and hand-worked cases state it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from amplify_motion_tokenizer.models.losses import masked_loss


def focal_loss(
    logits: Tensor, labels: Tensor, mask: Tensor, gamma: float, alpha_center: float, alpha_other: float
) -> tuple[Tensor, Tensor]:
    """(sum, count) with one weight for the centre class and one for all others."""
    weights = torch.full((logits.shape[-1],), alpha_other)
    weights[len(weights) // 2] = alpha_center
    sums, counts = masked_loss(logits, labels, mask, weights, gamma)
    return sums.sum(), counts.sum()


def relative_cross_entropy(logits: Tensor, labels: Tensor, weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """AMPLIFY's loss: (weighted sum over views, elements of one view)."""
    everything = torch.ones_like(labels, dtype=torch.bool)
    sums, counts = masked_loss(logits, labels, everything, torch.ones(logits.shape[-1]), gamma=0.0)
    return (sums * torch.tensor(tuple(weights))).sum(), counts[0]
