"""How the codec is judged in training, and how softly its learned digits are quantised meanwhile.

Letters: B windows, d ids, K digits of an id, t steps, N points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from amplify_motion_tokenizer.models.displacement.codec import CodecTokenizer


@dataclass(frozen=True, kw_only=True)
class CodecLoss:
    """What decides the codec's loss at each moment of its training."""

    soft: float = 0.04
    """Share of the steps without quantising."""
    noisy: float = 0.4
    """Share of the steps after them with noise in the place of rounding."""
    power: float = 0.6
    """An error counts by the window's motion to the power of minus this: 0 for pixels, 1 for shares."""


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
    amplitudes = pool.amplitudes.float() * pool.gain
    with torch.no_grad():
        plain = model.plain_digits(amplitudes)
    digits = quantised(model, model.moved(plain, amplitudes), options, progress)
    made = model.said(model.told(digits, ids), steps.tolist())
    off = made / pool.gain[..., None, None] - pool.targets.float()
    distance = (off.square().sum(dim=-1) + 1e-8).sqrt() * pool.seen
    share = distance.sum(dim=(1, 2)) / pool.seen.sum(dim=(1, 2)).clamp(min=1)
    motion = pool.gain[:, 0] * 240
    return (share * motion / (motion + 1) ** options.power).mean()


def quantised(model: CodecTokenizer, digits: Tensor, options: CodecLoss, progress: float) -> Tensor:
    """Digits (B, d, K) as the decoder is given them: the first ids whole, the others by ``progress``."""
    whole = model.whole_digits(digits) + 0.5
    plain, learned = whole[:, : model.plain_ids].detach(), digits[:, model.plain_ids :]
    if progress >= options.soft + options.noisy:
        learned = learned + (whole[:, model.plain_ids :] - learned).detach()
    elif progress >= options.soft:
        learned = learned + torch.rand_like(learned) - 0.5
    return torch.cat([plain, learned], dim=1)
