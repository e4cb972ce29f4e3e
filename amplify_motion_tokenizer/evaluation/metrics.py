"""Accuracy and code usage. Everything is a count first, so that processes and steps can be summed.

Letters: B windows, t steps, N points, C classes, K codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.geometry import center_label
from amplify_motion_tokenizer.models.losses import expand_mask


def accuracy_counts(answers: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Elements whose answer is the label, and elements that count.

    Args:
        answers: (..., t, N) int64 classes, or (..., 1, N) when all steps share them.
        labels: (..., t, N) int64.
        mask: bool, (..., N) or (..., t, N).

    Returns:
        (correct, count), int64 scalars.
    """
    counted = expand_mask(mask, labels)
    return ((answers == labels) & counted).sum(), counted.sum()


def no_motion_counts(labels: Tensor, mask: Tensor, class_grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """``accuracy_counts`` of always answering the centre class of the (rows, cols) grid, both odd."""
    counted = expand_mask(mask, labels)
    return ((labels == center_label(class_grid)) & counted).sum(), counted.sum()


def code_histogram(indices: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs: (K,) int64 from int64 ids of any shape.

    Raises:
        ValueError: when an id is outside [0, codebook_size).
    """
    flat = indices.flatten()
    if flat.numel() and (flat.min() < 0 or flat.max() >= codebook_size):
        found = f"{int(flat.min())} to {int(flat.max())}"
        raise ValueError(f"code ids are {found}; expected 0 to {codebook_size - 1}")
    return torch.bincount(flat, minlength=codebook_size)


class CodeUsage(NamedTuple):
    """How evenly codes are used. All are 0 when there are no codes at all."""

    unique: int
    """Codes that occur at least once."""
    entropy: float
    """H of the codes' frequencies, in bits."""
    normalized_entropy: float
    """H / log2 K, with K the true codebook size; 1 when all codes are used alike."""
    perplexity: float
    """2^H, the number of codes that would give H if used alike."""
    normalized_perplexity: float
    """Perplexity / K."""


def code_usage(histogram: Tensor) -> CodeUsage:
    """Usage of a codebook from a (K,) histogram of all its codes, unused ones included."""
    counts = histogram.cpu().double()
    total, size = counts.sum(), len(counts)
    if total == 0:
        return CodeUsage(0, 0.0, 0.0, 0.0, 0.0)
    shares = counts[counts > 0] / total
    # A single code gives -(1 * 0): keep minus zero out of logs.
    entropy = max(0.0, -float((shares * shares.log2()).sum()))
    perplexity = 2.0**entropy
    normalized = entropy / math.log2(size) if size > 1 else 0.0
    return CodeUsage(len(shares), entropy, normalized, perplexity, perplexity / size)


def amplify_code_usage(histogram: Tensor, nominal_size: int) -> dict[str, float]:
    """AMPLIFY's ``perplexity`` and ``normalized_perplexity``, which it logs for each batch.

    The perplexity is 2^H, H = -sum p log2(p + 1e-10), in float32. It is divided by the smaller of the
    *nominal* codebook size and the number of ids, so it is no share of the codebook; ``code_usage`` is.

    Args:
        histogram: (K,) how often each code occurs among the ids of the batch.
        nominal_size: AMPLIFY's ``codebook_size``, such as 2048 for the levels 8, 8, 6, 5.

    Returns:
        ``amplify_perplexity`` and ``amplify_normalized_perplexity``; both are 0 when there are no codes.
    """
    count = int(histogram.sum())
    shares = histogram.cpu().float() / max(1, count)
    perplexity = torch.exp2(-(shares * torch.log2(shares + 1e-10)).sum()).item() if count else 0.0
    return {
        "amplify_perplexity": perplexity,
        "amplify_normalized_perplexity": perplexity / max(1, min(nominal_size, count)),
    }
