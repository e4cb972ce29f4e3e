"""How many bits ids really take, and how evenly their digits are used.

Letters: B windows, d ids of a window, K digits of an id, of L levels each.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

CODER = "constriction"
"""The package whose range coder counts the bits; the extra ``rate`` installs it."""

_FIRST_COUNT = 0.5
"""What each digit counts before it has been seen: the estimator of Krichevsky and Trofimov."""


def range_coder() -> ModuleType | None:
    """The module ``stream`` of ``CODER``; None where it is not installed."""
    try:
        module = importlib.import_module(CODER)
    except ImportError:
        return None
    stream: ModuleType = module.stream
    return stream


def digits_of(ids: Tensor, levels: Sequence[int]) -> Tensor:
    """The FSQ digits (..., K) int64 of ids (...), the first digit the quickest."""
    of_levels = torch.tensor(levels)
    return ids[..., None] // (of_levels.cumprod(0) // of_levels) % of_levels


def coded_bits(ids: Tensor, levels: Sequence[int]) -> float:
    """Bits a window of the ids (B, d) in a range coder's stream, by a model that learns as it reads.

    Every digit of every place has a model of its own, which knows nothing at first: the probability of the
    digit n in a window is (1/2 + how often it stood there in the windows before) / (L / 2 + their number).
    So the stream can be read without anything else, and few windows cost what learning them costs: it can
    take more than log2 of the codebook. What one digit or window says of another is not made use of.

    Args:
        ids: in the order of the windows.
        levels: of an id's digits.

    Returns:
        Length of the stream by B; NaN without windows, or where ``CODER`` is not installed.
    """
    stream = range_coder()
    if stream is None or not len(ids):
        return math.nan
    encoder, family = stream.queue.RangeEncoder(), stream.model.Categorical(perfect=False)
    before = torch.arange(len(ids))[:, None]
    for of_place in digits_of(ids, levels).unbind(dim=1):
        for digits, count in zip(of_place.unbind(dim=1), levels, strict=True):
            seen = F.one_hot(digits, count)
            known = seen.cumsum(dim=0) - seen + _FIRST_COUNT
            shares = known / (before + _FIRST_COUNT * count)
            encoder.encode(digits.int().numpy(), family, shares.float().numpy())
    return float(encoder.num_bits() / len(ids))


def digit_use(ids: Tensor, levels: Sequence[int]) -> Tensor:
    """(d, K) entropy of each digit of each place over its most, log2 L; NaN without windows."""
    found = digits_of(ids, levels)
    use = torch.full((ids.shape[1], len(levels)), math.nan, dtype=torch.float64)
    for place in range(ids.shape[1] if len(ids) else 0):
        for digit, count in enumerate(levels):
            shares = torch.bincount(found[:, place, digit], minlength=count).double() / len(ids)
            use[place, digit] = torch.special.entr(shares).sum() / math.log(count)
    return use
