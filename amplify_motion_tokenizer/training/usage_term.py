"""A code-usage term with a gradient: how much the codes of a window tell which window it is.

Every FSQ digit, before it is rounded, is softly assigned to its levels. The entropy of the assignment's
mean over the batch is to be high, so that windows spread over the levels, and the entropy of single
assignments low, so that each window decides. With equal weights their difference is the information
that a soft digit holds about its window (Krause et al. 2010; per code in MAGVIT-v2, Yu et al. 2024).
Each of the d codes has a batch mean of its own: codes that differ from one another but are the same for
all windows say nothing, and earn nothing.

The entropy of the histogram of ids has no gradient, and is a logged figure only.

Letters: B windows, d codes a window, K digits a code, L levels of a digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from amplify_motion_tokenizer.config import Config

_NO_LEVEL = -1e4
"""Log-probability, before normalising, of levels that a digit does not have: finite, for the gradient."""


TEMPERATURE = 1.0
"""Temperature of a digit's soft assignment to its levels, in squared level steps."""


class Usage(NamedTuple):
    """Entropies of soft digits, each divided by log L and averaged over codes and digits: 0 to 1."""

    batch_entropy: Tensor
    """Entropy of the mean assignment of all windows: 1 when they spread evenly over the levels."""
    sample_entropy: Tensor
    """Mean over windows of their own assignment's entropy: 0 when every digit lies at one level."""


class UsageSums(NamedTuple):
    """Sums over windows, which add up over processes."""

    assigned: Tensor
    """(d, K, L) assignments."""
    entropies: Tensor
    """(d, K) entropies of the assignments, in nats."""
    windows: Tensor
    """(d,) number of windows."""


def soft_assignments(digits: Tensor, levels: Sequence[int], temperature: float) -> Tensor:
    """Log-probabilities (..., K, L) of a digit's levels: softmax of -(distance^2) / temperature.

    Args:
        digits: (..., K) float32, in units of the levels: level l lies at l.
        levels: levels of each of the K digits; L is the largest.
        temperature: above 0, in squared level steps. A digit half-way between two levels is assigned
            to both alike; the smaller the temperature, the sharper the change between them.
    """
    positions = torch.arange(max(levels), device=digits.device)
    logits = -(digits.unsqueeze(-1) - positions).square() / temperature
    missing = torch.stack([positions >= count for count in levels])
    return logits.masked_fill(missing, _NO_LEVEL).log_softmax(dim=-1)


def usage_sums(digits: Tensor, real: Tensor, levels: Sequence[int], temperature: float) -> UsageSums:
    """The sums of windows' digits (B, d, K) where ``real``, (B,) or (B, d), is True."""
    real = (real if real.ndim == 2 else real[:, None]).expand(digits.shape[:2])
    log_p = soft_assignments(digits, levels, temperature)
    p = log_p.exp()
    entropies = -(p * log_p).sum(dim=-1)
    assigned, entropies = (
        torch.where(real.view(*real.shape, *[1] * (values.ndim - 2)), values, 0.0).sum(dim=0)
        for values in (p, entropies)
    )
    return UsageSums(assigned, entropies, real.sum(dim=0).to(digits.dtype))


def usage_of(sums: UsageSums, levels: Sequence[int]) -> Usage:
    """The entropies of summed windows; 0 of no windows."""
    windows = sums.windows.clamp(min=1)[:, None]
    mean = sums.assigned / windows[..., None]
    # No level is quite unused, where the entropy's slope would be infinite.
    batch = -(mean * mean.clamp(min=torch.finfo(mean.dtype).tiny).log()).sum(dim=-1)
    most = torch.stack([mean.new_full((), math.log(level)) for level in levels])
    return Usage((batch / most).mean(), (sums.entropies / windows / most).mean())


class UsageTerm:
    """What ``loss.usage`` adds to the loss: weight * (sample entropy - batch entropy).

    The windows are one micro-batch of all processes; accumulated micro-batches have terms of their own, which
    are averaged. With more than one process each gets the gradient of its own windows.

    Args:
        config: ``loss.usage`` and the FSQ levels.
        accelerator: sums over processes.
    """

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self._weight = config.loss.usage.weight
        self._levels = config.model.fsq_levels
        self._accelerator = accelerator
        # Gradients are averaged over processes and summed over micro-batches.
        share = accelerator.num_processes / config.training.gradient_accumulation_steps
        self._scale = self._weight * share
        self._last: Usage | None = None

    def __call__(self, digits: Tensor, real: Tensor) -> Tensor:
        """The term, a scalar; every process must call it. 0 where the weight is 0.

        Args:
            digits: (B, d, K), ``TokenizerOutput.digits``.
            real: (B, d) bool, False for codes of windows that only pad the batch, and of padding.
        """
        if not self._weight:
            return digits.new_zeros(())
        own = usage_sums(digits, real, self._levels, TEMPERATURE)
        usage = usage_of(UsageSums(*(self._over_processes(value) for value in own)), self._levels)
        self._last = Usage(*(value.detach() for value in usage))
        term = usage.sample_entropy - usage.batch_entropy
        loss: Tensor = self._scale * term
        return loss

    def _over_processes(self, own: Tensor) -> Tensor:
        """The sum over processes, of which this process's share alone has a gradient."""
        others: Tensor = self._accelerator.reduce(own.detach(), "sum") - own.detach()
        return own + others

    def logged(self) -> dict[str, float]:
        """The last call's entropies by name; empty where the weight is 0."""
        if self._last is None:
            return {}
        return {f"usage_{name}": float(value) for name, value in self._last._asdict().items()}
