"""The loss of a ``FactorisedHead`` without its logits, which at AMPLIFY's sizes are most of a step's memory.

Logits are made for a few windows of one view at a time, turned into losses, likeliest classes and gradients,
and forgotten: forward and backward are one pass with three matrix products, and nothing of the size
B * V * t * N * C is ever held. The gradient of a view's sum is linear in what arrives from above, so the
gradients of the parts can be made before that is known.

Letters: B windows, V views, t steps, N points, M hidden width of the head, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.models.heads import FactorisedHead, Head, chunks, part_of_head
from amplify_motion_tokenizer.models.losses import expand_mask, masked_loss


class HeadLoss(NamedTuple):
    """What one pass over a head's logits gives."""

    sums: Tensor
    """(V,) float32, sum of ``losses.element_losses`` over the elements of each view that count."""
    classes: Tensor
    """(B, [V, ]t or 1, N) int64, the most likely class of every element, counted or not."""


ChunkLoss = Callable[
    [FactorisedHead, Tensor, Tensor, Tensor, float, bool], tuple[Tensor, Tensor, FactorisedHead | None]
]
"""``chunk_loss``, or its compiled form."""


def head_loss(
    head: Head, labels: Tensor, mask: Tensor, weights: Tensor, gamma: float, of_chunk: ChunkLoss | None = None
) -> HeadLoss:
    """The loss of any head, by ``losses.masked_loss`` or without the logits; see ``factorised_loss``."""
    if isinstance(head, FactorisedHead):
        return factorised_loss(head, labels, mask, weights, gamma, of_chunk)
    logits = head.logits()
    sums, _ = masked_loss(logits, labels, mask, weights, gamma)
    return HeadLoss(sums, logits.detach().argmax(dim=-1))


def factorised_loss(
    head: FactorisedHead,
    labels: Tensor,
    mask: Tensor,
    weights: Tensor,
    gamma: float,
    of_chunk: ChunkLoss | None = None,
) -> HeadLoss:
    """``losses.masked_loss`` and ``argmax`` of ``head.logits()``, without holding the logits.

    Args:
        head: the head.
        labels: (B, [V, ]t, N) int64 in [0, C).
        mask: bool (B, [V, ]N) or (B, [V, ]t, N), True where an element counts.
        weights: (C,) from ``losses.class_weights``.
        gamma: focusing exponent, at least 0.
        of_chunk: what makes the loss of a chunk; by default ``chunk_loss``.

    Raises:
        ValueError: when the shapes do not fit together.
    """
    expected = (*head.steps.shape[:-1], head.points.shape[1])
    if labels.shape != expected:
        raise ValueError(f"labels are {tuple(labels.shape)}; expected {expected} for this head")
    kind = head.weight.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        # float16 would not hold the sums of slopes, nor the least of them: no scaler is before them.
        dtype = torch.float32 if dtype == torch.float16 else dtype
        head = FactorisedHead(*(part.to(dtype) for part in head))
    has_views, counted = labels.ndim == 4, expand_mask(mask, labels)
    if not has_views:
        labels, counted = labels.unsqueeze(1), counted.unsqueeze(1)
    # Asked here: within ``forward`` gradients are off, and parameters say that they need one in any case.
    wanted = torch.is_grad_enabled() and any(part.requires_grad for part in head)
    sums, classes = _FactorisedLoss.apply(  # type: ignore[no-untyped-call]
        *head.with_views(), labels, counted, weights.to(labels.device), gamma, wanted, of_chunk or chunk_loss
    )
    return HeadLoss(sums, classes if has_views else classes.squeeze(1))


class _FactorisedLoss(torch.autograd.Function):
    """See the module's docstring. Gradients are made in ``forward``, and weighed in ``backward``."""

    @staticmethod
    def forward(
        ctx: Any,
        steps: Tensor,
        points: Tensor,
        weight: Tensor,
        base: Tensor,
        labels: Tensor,
        counted: Tensor,
        class_weights: Tensor,
        gamma: float,
        wanted: bool,
        of_chunk: ChunkLoss,
    ) -> tuple[Tensor, Tensor]:
        head = FactorisedHead(steps, points, weight, base)
        sums = torch.zeros(steps.shape[1], device=steps.device)
        classes = torch.empty_like(labels)
        grads = _Gradients.zero(head) if wanted else None
        with torch.autocast(steps.device.type, enabled=False):
            for where in chunks(labels.shape, weight):
                total, classes[where], slopes = of_chunk(
                    part_of_head(head, *where), labels[where], counted[where], class_weights, gamma, wanted
                )
                sums[where[1]] += total
                if grads is not None and slopes is not None:
                    grads.add(*where, slopes)
        if grads is not None:
            ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(classes)
        return sums, classes

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        grads = _Gradients(*ctx.saved_tensors)
        return *grads.weighed(upstream[0]), *[None] * 6


def chunk_loss(
    part: FactorisedHead, labels: Tensor, counted: Tensor, class_weights: Tensor, gamma: float, slopes: bool
) -> tuple[Tensor, Tensor, FactorisedHead | None]:
    """The loss of some windows of one view: all that is done with their logits.

    Args:
        part: the head of these windows: steps (k, t, M), points (k or 1, N, M), base (k, t, C).
        labels: (k, t, N) int64.
        counted: (k, t, N) bool.
        class_weights: (C,).
        gamma: focusing exponent.
        slopes: whether the gradients are wanted.

    Returns:
        Sum of the losses, a scalar; most likely classes (k, t, N) int64; and the sum's gradients in the
        shapes of the parts, float32, or None.
    """
    hidden = (part.steps[:, :, None] + part.points[:, None]).relu_()
    logits = torch.matmul(hidden, part.weight.mT).float().add_(part.base[:, :, None])
    losses, classes, of_logits = _focal(logits, labels, counted, class_weights, gamma)
    if not slopes:
        return losses.sum(), classes, None
    of_logits = of_logits.to(part.weight.dtype)
    of_weight = of_logits.flatten(0, -2).mT @ hidden.flatten(0, -2)
    of_hidden = torch.matmul(of_logits, part.weight).mul_(hidden.sign_())  # relu: hidden is 0 or above
    of_points = of_hidden.sum(dim=1, dtype=torch.float32)
    gradients = FactorisedHead(
        steps=of_hidden.sum(dim=-2, dtype=torch.float32),
        points=of_points.sum(dim=0, keepdim=True) if len(part.points) == 1 else of_points,
        weight=of_weight.float(),
        base=of_logits.sum(dim=-2, dtype=torch.float32),
    )
    return losses.sum(), classes, gradients


def _focal(
    logits: Tensor, labels: Tensor, counted: Tensor, class_weights: Tensor, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses and likeliest classes (k, t, N) of float32 logits (k, t, N, C), which become the losses' slopes.

    With y the label, l = -w (1 - p_y)^gamma log p_y and dl/dz_j = g ([j = y] - p_j), where
    g = dl/d(log p_y) = -w ((1 - p_y)^gamma - gamma (1 - p_y)^(gamma - 1) p_y log p_y).
    """
    index = labels.unsqueeze(-1)
    of_label = logits.gather(-1, index)
    highest, classes = logits.max(dim=-1, keepdim=True)
    probabilities = logits.sub_(highest).exp_()
    total = probabilities.sum(dim=-1, keepdim=True)
    log_p = of_label - highest - total.log()
    # Kept above 0, where the power of an exponent below 1 has no finite slope.
    miss = (-log_p.expm1()).clamp(min=torch.finfo(torch.float32).tiny)
    scale = torch.where(counted.unsqueeze(-1), class_weights[index], 0.0)
    losses = -scale * miss**gamma * log_p
    slope = -scale * (miss**gamma - gamma * miss ** (gamma - 1) * log_p.exp() * log_p)
    slopes = probabilities.mul_(-slope / total).scatter_add_(-1, index, slope)
    return losses.squeeze(-1), classes.squeeze(-1), slopes


class _Gradients(NamedTuple):
    """Gradients of the views' sums, in float32; gradients of what views share are kept apart by view."""

    steps: Tensor
    """(B, V, t, M)."""
    points: Tensor
    """(V, B or 1, N, M)."""
    weight: Tensor
    """(V, C, M)."""
    base: Tensor
    """(B, V, t, C)."""

    @staticmethod
    def zero(head: FactorisedHead) -> _Gradients:
        views = head.steps.shape[1]
        return _Gradients(
            head.steps.new_empty(head.steps.shape, dtype=torch.float32),
            head.points.new_zeros((views, *head.points.shape), dtype=torch.float32),
            head.weight.new_zeros((views, *head.weight.shape), dtype=torch.float32),
            head.base.new_empty(head.base.shape, dtype=torch.float32),
        )

    def add(self, windows: slice, view: int, part: FactorisedHead) -> None:
        """Adds the gradients of some windows of one view, which ``chunk_loss`` gave."""
        self.steps[windows, view], self.base[windows, view] = part.steps, part.base
        self.weight[view] += part.weight
        self.points[view, windows if self.points.shape[1] > 1 else slice(None)] += part.points

    def weighed(self, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradients of the head's parts, for the gradient (V,) of the sums."""
        by_view = upstream.view(-1, 1, 1)
        return (
            self.steps * by_view,
            torch.tensordot(upstream, self.points, dims=1),
            torch.tensordot(upstream, self.weight, dims=1),
            self.base * by_view,
        )
