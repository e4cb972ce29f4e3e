"""Heads of decoders: logits, parts that depend on (window, view, step) or on the point, or one move each.

AMPLIFY's head is a two-layer perceptron over the concatenation [h_t, p_n, q_v] of a token, a point
embedding and a view embedding, added to h_t and projected to classes. Its first layer W1 = [A | P | Q]
splits over the three inputs, and its second layer merges with the projection:

    r = relu(A h_t + P p_n + Q q_v + b1)
    logits = proj(h_t + W2 r + b2) = (proj W2) r + proj h_t + proj b2 + c

so that per (view, step, point) one M -> classes product remains. It is the same function of the same
parameters.

Letters: B windows, V views, t steps, N points, M hidden width of the head, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class DenseHead(NamedTuple):
    """A head that holds its logits, for models whose logits are few."""

    distinct: Tensor
    """(B, [V, ]1, N, C), the same at every step, or (B, [V, ]t, N, C)."""

    def logits(self) -> Tensor:
        """(B, [V, ]t or 1, N, C)."""
        return self.distinct


class FactorisedHead(NamedTuple):
    """Logits of all (window, view, step, point), in parts that are small; ``logits`` makes them."""

    steps: Tensor
    """(B, [V, ]t, M), the hidden layer's input from the window, the view and the step."""
    points: Tensor
    """(B or 1, N, M), the hidden layer's input from the point; 1 when it is the same for all windows."""
    weight: Tensor
    """(C, M), hidden layer to classes."""
    base: Tensor
    """(B, [V, ]t, C), logits before what the hidden layer adds."""

    def logits(self) -> Tensor:
        """(B, [V, ]t, N, C)."""
        lead = [1] * (self.steps.ndim - 2)
        points = self.points.reshape(len(self.points), *lead, *self.points.shape[1:])
        hidden = (self.steps[..., None, :] + points).relu()
        return hidden @ self.weight.mT + self.base[..., None, :]

    def with_views(self) -> FactorisedHead:
        """The head with the axis V, of length 1 where it had none."""
        if self.steps.ndim == 4:
            return self
        return self._replace(steps=self.steps.unsqueeze(1), base=self.base.unsqueeze(1))


class FieldHead(NamedTuple):
    """A head that says one move for each point and step; its distributions are what lies around that."""

    moves_px: Tensor
    """(B, t, N, 2), (x, y) pixels of the reference size a step."""
    width: int
    """W, side of the square of C velocity classes."""

    def logits(self) -> Tensor:
        """(B, t, N, C)."""
        half = (self.width - 1) / 2
        centres = torch.arange(self.width, device=self.moves_px.device) - half
        off = -SHARPNESS * (self.moves_px.clamp(-half, half)[..., None] - centres).square()
        return (off[..., 1, :, None] + off[..., 0, None, :]).flatten(-2)

    def answers(self) -> Tensor:
        """(B, t, N) int64, the class of each move."""
        half = (self.width - 1) // 2
        column, row = (self.moves_px.clamp(-half, half) + half).round().long().unbind(dim=-1)
        return row * self.width + column


Head = DenseHead | FactorisedHead | FieldHead

SHARPNESS = 0.5
"""Of the class distributions around a move: 1 / (2 pixels^2)."""


CHUNK_BYTES = {"cpu": 8 << 20, "cuda": 128 << 20}
"""Logits held at a time, by device type: what fits a CPU's caches, and what keeps a GPU busy."""


def head_answers(head: Head) -> Tensor:
    """(B, [V, ]t or 1, N) int64, the most likely class of each element: the argmax of ``head.logits()``.

    Few of a factorised head's logits are held at a time, and none of a field's made.
    """
    if isinstance(head, FieldHead):
        return head.answers()
    if not isinstance(head, FactorisedHead):
        return head.logits().argmax(dim=-1)
    views = head.with_views()
    shape = (*views.steps.shape[:-1], views.points.shape[1])
    classes = torch.empty(shape, dtype=torch.long, device=views.base.device)
    for where in chunks(classes.shape, views.weight):
        classes[where] = part_of_head(views, *where).logits().argmax(dim=-1)
    return classes if views is head else classes.squeeze(1)


def head_means(head: Head, values: Tensor) -> Tensor:
    """(B, [V, ]t or 1, N, E): the mean of ``values`` (C, E) under each of the head's distributions."""
    if not isinstance(head, FactorisedHead):
        return head.logits().softmax(dim=-1) @ values
    views = head.with_views()
    shape = (*views.steps.shape[:-1], views.points.shape[1])
    means = values.new_empty(*shape, values.shape[1])
    for where in chunks(torch.Size(shape), views.weight):
        means[where] = part_of_head(views, *where).logits().softmax(dim=-1) @ values
    return means if views is head else means.squeeze(1)


def chunks(shape: torch.Size, weight: Tensor) -> Iterator[tuple[slice, int]]:
    """(windows, view) in turn, so many windows that their float32 logits fit ``CHUNK_BYTES``."""
    batch, views, steps, points = shape
    room = CHUNK_BYTES.get(weight.device.type, CHUNK_BYTES["cuda"])
    size = max(1, room // (4 * steps * points * len(weight)))
    for view in range(views):
        for first in range(0, batch, size):
            yield slice(first, min(first + size, batch)), view


def part_of_head(head: FactorisedHead, windows: slice, view: int) -> FactorisedHead:
    """The head of some windows of one view: steps (k, t, M), points (k or 1, N, M), base (k, t, C)."""
    points = head.points if len(head.points) == 1 else head.points[windows]
    return FactorisedHead(head.steps[windows, view], points, head.weight, head.base[windows, view])
