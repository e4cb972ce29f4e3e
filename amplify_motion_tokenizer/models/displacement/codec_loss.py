"""How the codec is judged in training. Its codes are fixed by then: only what is made of them is learned.

Letters: B windows, d ids, K digits of an id, t steps, N points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.models.displacement.tokenizer import ROWS

if TYPE_CHECKING:
    from amplify_motion_tokenizer.models.displacement.codec import CodecTokenizer

PREFIXES = (4, 8, 16)
"""Numbers of ids that most windows are told by in training, each as often."""

ANY_PREFIX = 0.2
"""Share of the windows that are told by any other number of ids."""

POWER = 0.6
"""An error counts by the window's motion to the power of minus this: 0 would be pixels, 1 shares of it."""


class Pool(NamedTuple):
    """Windows in the form that training takes, in half the bytes."""

    gain: Tensor
    """(B, 1) float32, root mean square displacement in shorter sides of the frame."""
    digits: Tensor
    """(B, d, K) uint8, whole digits, in the learned mode that fits best."""
    targets: Tensor
    """(B, t, N, 2) float16, displacements divided by the gain."""
    seen: Tensor
    """(B, t, N) bool."""

    def take(self, rows: Tensor, steps: Tensor) -> Pool:
        """Some windows, with their targets at some steps."""
        at = rows[:, None], steps
        return Pool(self.gain[rows], self.digits[rows], self.targets[at], self.seen[at])


def pool_of(model: CodecTokenizer, displacements: Tensor, seen: Tensor) -> Pool:
    """Windows for training.

    Args:
        model: whose modes are fitted.
        displacements: (B, t, N, 2) since frame 0, in shorter sides of the frame, lost points filled.
        seen: (B, t, N) bool.
    """
    parts = []
    for moves, visible in zip(torch.split(displacements, 256), torch.split(seen, 256), strict=True):
        velocities = torch.cat([moves[:, :1], moves.diff(dim=1)], dim=1)
        amplitudes = model.waves.amplitudes(velocities)
        gain = amplitudes.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
        digits = model.whole_digits(model.learned_digits(amplitudes))
        targets = (moves / gain[..., None, None]).clamp(-1000, 1000)
        parts.append(Pool(gain, digits.to(torch.uint8), targets.half(), visible))
    return Pool(*(torch.cat(column) for column in zip(*parts, strict=True)))


def loss_of(model: CodecTokenizer, pool: Pool, steps: Tensor, ids: Tensor) -> Tensor:
    """Mean over windows of the distance of points that are seen, weighed by the window's motion.

    Args:
        model: in training.
        pool: B windows, with the targets at ``steps``.
        steps: which of the t.
        ids: (B,), by how many ids each is told.
    """
    some = model.waves.thinned(steps.tolist(), range(model.waves.side))
    said = model.said(model.told(pool.digits.float(), ids), some)
    off = said / pool.gain[..., None, None] - pool.targets.float()
    distance = (off.square().sum(dim=-1) + 1e-8).sqrt() * pool.seen
    share = distance.sum(dim=(1, 2)) / pool.seen.sum(dim=(1, 2)).clamp(min=1)
    motion = pool.gain[:, 0] * ROWS
    return (share * motion / (motion + 1) ** POWER).mean()


def random_prefixes(
    count: int, ids: int, device: torch.device, random: torch.Generator | None = None
) -> Tensor:
    """(count,) int64: by how many of its ids each window is told in training, 1 to ``ids``.

    Args:
        count: B.
        ids: d.
        device: where the numbers go.
        random: on the CPU; None is torch's own.
    """
    choices = torch.tensor(PREFIXES).clamp(max=ids)
    usual = choices[torch.randint(len(choices), (count,), generator=random)]
    other = torch.randint(1, ids + 1, (count,), generator=random)
    return torch.where(torch.rand(count, generator=random) < ANY_PREFIX, other, usual).to(device)
