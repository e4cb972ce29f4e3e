"""What stops a run or warns before it is wasted: steps that are not finite, and a codebook that collapses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config


class Position(NamedTuple):
    """A step."""

    step: int
    """Its number in the run, from 1."""
    epoch: int
    """Its epoch, from 0."""
    step_in_epoch: int
    """Its number in the epoch, from 0."""


class SkippedSteps:
    """Which steps were not applied because their loss or gradients are not finite.

    A step leaves that as a flag on the device; it is read when something is logged or written, so
    that no step waits for it.
    """

    def __init__(self) -> None:
        self._flags: list[tuple[Position, Tensor]] = []

    def add(self, position: Position, skipped: Tensor) -> None:
        """Notes a step's flag, a bool scalar on the device."""
        self._flags.append((position, skipped))

    def take(self) -> list[Position]:
        """The skipped steps since the last call."""
        if not self._flags:
            return []
        positions, flags = zip(*self._flags, strict=True)
        self._flags = []
        return [place for place, flag in zip(positions, torch.stack(flags).tolist(), strict=True) if flag]


def some_names(names: Sequence[str], shown: int = 5) -> str:
    """The first names in a row, and how many more there are."""
    unique = sorted(set(names))
    more = f" and {len(unique) - shown} more" if len(unique) > shown else ""
    return ", ".join(unique[:shown]) + more


class CollapseAlarm:
    """Tells when a codebook has collapsed: so few codes are in use that codes say little.

    Args:
        config: section training.collapse, and the codebook's size.
    """

    def __init__(self, config: Config) -> None:
        self.limits = config.training.collapse
        self.codebook_size = config.codebook_size
        self._usage_weight = config.loss.usage.weight
        self._sounding = False

    def collapsed(self, usage: Mapping[str, float]) -> bool:
        """Whether ``unique_codes`` or ``normalized_entropy`` of ``usage`` is below its limit."""
        few = usage["unique_codes"] < self.limits.min_unique_codes
        return few or usage["normalized_entropy"] < self.limits.min_entropy

    def sounds(self, usage: Mapping[str, float], step: int) -> bool:
        """Whether to warn now: the codebook has collapsed since the last call, after the warm-up."""
        before, self._sounding = self._sounding, step > self.limits.after_steps and self.collapsed(usage)
        return self._sounding and not before

    def advice(self, usage: Mapping[str, float], when: str) -> str:
        """What was found, and what to try."""
        return (
            f"the codebook has collapsed {when}: {usage['unique_codes']:.0f} of {self.codebook_size} codes, "
            f"normalised entropy {usage['normalized_entropy']:.3f}, so codes say little; raise "
            f"loss.usage.weight (now {self._usage_weight:g}; see docs/codebook.md), train longer or on "
            "more varied clips, lower training.learning_rate or warm it up (training.warmup_steps), lower "
            "loss.alpha_center or raise data.static_filter.threshold where center_share is high, or take "
            "fewer codes (model.fsq_levels)"
        )
