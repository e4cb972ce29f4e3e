"""How the codec is judged in training, and how softly its learned digits are quantised meanwhile.

Letters: B windows, d ids, K digits of an id, t steps, N points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.models.quantizer import NOISY, SOFT, Stage

if TYPE_CHECKING:
    from amplify_motion_tokenizer.models.displacement.codec import CodecTokenizer


PREFIXES = (4, 8, 16)
"""Numbers of ids that a window is told by in training, each as often."""

POWER = 0.6
"""An error counts by the window's motion to the power of minus this: 0 for pixels, 1 for shares."""

ROWS = 240
"""Rows of the frame whose pixels motion is told in."""


@dataclass(frozen=True, kw_only=True)
class CodecLoss:
    """What decides the codec's loss at each moment of its training."""

    soft: float = SOFT
    """Share of the steps without quantising."""
    noisy: float = NOISY
    """Share of the steps after them with noise in the place of rounding."""
    power: float = POWER
    """As ``POWER``."""


class Pool(NamedTuple):
    """Made-up windows in the form that training takes, in half the bytes."""

    gain: Tensor
    """(B, 1) float32, root mean square displacement in shorter sides of the frame."""
    amplitudes: Tensor
    """(B, waves) float16, divided by the gain."""
    targets: Tensor
    """(B, t, N, 2) float16, displacements divided by the gain."""
    seen: Tensor
    """(B, t, N) bool."""

    def take(self, rows: Tensor, steps: Tensor) -> Pool:
        """Some windows, with their targets at some steps."""
        at = rows[:, None], steps
        return Pool(self.gain[rows], self.amplitudes[rows], self.targets[at], self.seen[at])


def loss_of(
    model: CodecTokenizer, pool: Pool, steps: Tensor, ids: Tensor, options: CodecLoss, progress: float
) -> Tensor:
    """Mean over windows of the distance of points that are seen, weighed by ``options.power``.

    Args:
        model: in training.
        pool: B windows, with the targets at ``steps``.
        steps: which of the t.
        ids: (B,), by how many ids each is told.
        options: how.
        progress: share of the training that is over.
    """
    stage = stage_of(options, progress)
    _, made = training_pass(model, pool.amplitudes.float() * pool.gain, steps.tolist(), ids, stage)
    off = made / pool.gain[..., None, None] - pool.targets.float()
    distance = (off.square().sum(dim=-1) + 1e-8).sqrt() * pool.seen
    share = distance.sum(dim=(1, 2)) / pool.seen.sum(dim=(1, 2)).clamp(min=1)
    motion = pool.gain[:, 0] * ROWS
    return (share * motion / (motion + 1) ** options.power).mean()


def training_pass(
    model: CodecTokenizer, amplitudes: Tensor, steps: Sequence[int] | None, ids: Tensor, stage: Stage
) -> tuple[Tensor, Tensor]:
    """What training makes of windows.

    Args:
        model: in training.
        amplitudes: (B, all waves).
        steps: which of the t; None: all.
        ids: (B,), by how many ids each is told.
        stage: how the learned digits are quantised.

    Returns:
        Digits (B, d, K) before rounding; displacements (B, t, N, 2) since frame 0 at ``steps``.
    """
    with torch.no_grad():
        plain = model.plain_digits(amplitudes)
    digits = model.moved(plain, amplitudes)
    return digits, model.said(model.told(in_stage(model, digits, stage), ids), steps)


def random_prefixes(count: int, ids: int, device: torch.device) -> Tensor:
    """(count,) int64: how many of its ids each window is told by, of ``PREFIXES`` as often.

    At most ``ids``.
    """
    choices = torch.tensor(PREFIXES, device=device).clamp(max=ids)
    return choices[torch.randint(len(choices), (count,), device=device)]


def stage_of(options: CodecLoss, progress: float) -> Stage:
    """How digits are quantised when the share ``progress`` of the training is over."""
    if progress >= options.soft + options.noisy:
        return "round"
    return "noise" if progress >= options.soft else "none"


def quantised(model: CodecTokenizer, digits: Tensor, options: CodecLoss, progress: float) -> Tensor:
    """Digits (B, d, K) as the decoder is given them: the first ids whole, the others by ``progress``."""
    return in_stage(model, digits, stage_of(options, progress))


def in_stage(model: CodecTokenizer, digits: Tensor, stage: Stage) -> Tensor:
    """Digits (B, d, K) as the decoder is given them: the first ids whole, the others as ``stage`` says."""
    whole = model.whole_digits(digits) + 0.5
    plain, learned = whole[:, : model.plain_ids].detach(), digits[:, model.plain_ids :]
    if stage == "round":
        learned = learned + (whole[:, model.plain_ids :] - learned).detach()
    elif stage == "noise":
        learned = learned + torch.rand_like(learned) - 0.5
    return torch.cat([plain, learned], dim=1)
