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

DENSE_CODES = 2**20
"""Codes of the largest codebook of which each code has a place in memory to count it."""


def accuracy_counts(predicted: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Elements whose answer is the label, and elements that count.

    Args:
        predicted: (..., t, N) int64 classes, or (..., 1, N) when all steps share them.
        labels: (..., t, N) int64.
        mask: bool, (..., N) or (..., t, N).

    Returns:
        (correct, count), int64 scalars.
    """
    counted = expand_mask(mask, labels)
    return ((predicted == labels) & counted).sum(), counted.sum()


def no_motion_counts(labels: Tensor, mask: Tensor, class_grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """``accuracy_counts`` of always answering the centre class of the (rows, cols) grid, both odd."""
    counted = expand_mask(mask, labels)
    return ((labels == center_label(class_grid)) & counted).sum(), counted.sum()


def code_histogram(indices: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs, from int64 ids of any shape, as ``count_codes`` tells it.

    Raises:
        ValueError: when an id is outside [0, codebook_size).
    """
    flat = indices.flatten()
    if flat.numel() and (flat.min() < 0 or flat.max() >= codebook_size):
        found = f"{int(flat.min())} to {int(flat.max())}"
        raise ValueError(f"code ids are {found}; expected 0 to {codebook_size - 1}")
    return count_codes(flat, torch.ones_like(flat, dtype=torch.bool), codebook_size)


def count_codes(ids: Tensor, counted: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs, in memory that a large codebook does not decide.

    Up to DENSE_CODES codes the host does not wait for the device.

    Args:
        ids: int64, any shape; those outside [0, codebook_size) do not count.
        counted: bool, the same shape, False for ids that do not count.
        codebook_size: K.

    Returns:
        int64 (K,); for more than DENSE_CODES codes (2, M): ids of codes that occur, ascending, and how often.
    """
    counted = counted & (ids >= 0) & (ids < codebook_size)
    if codebook_size > DENSE_CODES:
        return torch.stack(torch.unique(ids[counted], return_counts=True))
    found = torch.where(counted, ids, 0).flatten()
    counts = torch.zeros(codebook_size, dtype=torch.int64, device=ids.device)
    return counts.scatter_add_(0, found, counted.flatten().long())


def no_codes(codebook_size: int, device: torch.device) -> Tensor:
    """``count_codes`` of nothing."""
    none = torch.empty(0, dtype=torch.int64, device=device)
    return count_codes(none, none.bool(), codebook_size)


def add_counts(one: Tensor, other: Tensor) -> Tensor:
    """The sum of what ``count_codes`` gave twice, of one codebook."""
    if one.ndim == 1:
        return one + other
    both = torch.cat([one, other], dim=1)
    ids, place = torch.unique(both[0], return_inverse=True)
    return torch.stack([ids, torch.zeros_like(ids).scatter_add_(0, place, both[1])])


def used_codes(counts: Tensor) -> tuple[Tensor, Tensor]:
    """(ids (M,), how often (M,)) of the codes that occur, int64 on the CPU, from ``count_codes``."""
    counts = counts.cpu()
    ids, often = (torch.arange(len(counts)), counts) if counts.ndim == 1 else (counts[0], counts[1])
    return ids[often > 0], often[often > 0]


class CodeUsage(NamedTuple):
    """How evenly codes are used. All but ``unique`` are NaN when there are no codes at all."""

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


def code_usage(counts: Tensor, codebook_size: int | None = None) -> CodeUsage:
    """Usage of a codebook of K codes, unused ones included.

    Args:
        counts: from ``count_codes`` or ``code_histogram``.
        codebook_size: K; None where ``counts`` is (K,).
    """
    size = len(counts) if codebook_size is None else codebook_size
    often = used_codes(counts)[1].double()
    if not len(often):
        return CodeUsage(0, *(math.nan,) * 4)
    shares = often / often.sum()
    # A single code gives -(1 * 0): keep minus zero out of logs.
    entropy = max(0.0, -float((shares * shares.log2()).sum()))
    perplexity = 2.0**entropy
    normalized = entropy / math.log2(size) if size > 1 else 0.0
    return CodeUsage(len(shares), entropy, normalized, perplexity, perplexity / size)


def amplify_code_usage(counts: Tensor, nominal_size: int) -> dict[str, float]:
    """AMPLIFY's ``perplexity`` and ``normalized_perplexity``, which it logs for each batch.

    The perplexity is 2^H, H = -sum p log2(p + 1e-10), in float32. It is divided by the smaller of the
    *nominal* codebook size and the number of ids, so it is no share of the codebook; ``code_usage`` is.

    Args:
        counts: how often each code occurs among the ids of the batch, from ``count_codes``.
        nominal_size: AMPLIFY's ``codebook_size``, such as 2048 for the levels 8, 8, 6, 5.

    Returns:
        ``amplify_perplexity`` and ``amplify_normalized_perplexity``; both are NaN when there are no codes.
    """
    often = used_codes(counts)[1]
    total = int(often.sum())
    shares = often.float() / max(1, total)
    perplexity = torch.exp2(-(shares * torch.log2(shares + 1e-10)).sum()).item() if total else math.nan
    return {
        "amplify_perplexity": perplexity,
        "amplify_normalized_perplexity": perplexity / max(1, min(nominal_size, total)),
    }


class Mean(NamedTuple):
    """A mean that is not yet divided, so that the means of batches and processes add up to one of all."""

    total: float
    """Sum of what is averaged."""
    weight: float
    """What the sum is divided by: the count, or the sum of the weights. Where it is 0 there is no mean."""

    def plus(self, other: Mean) -> Mean:
        """The mean of what both average."""
        return Mean(self.total + other.total, self.weight + other.weight)

    @property
    def value(self) -> float:
        """The mean; NaN where there is nothing to take it of."""
        return self.total / self.weight if self.weight else math.nan
