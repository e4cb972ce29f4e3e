"""AMPLIFY's loss, ``relative_ce``: cross entropy over velocity classes, with a weight per view.

Letters: B windows, V views, t steps, N points, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

DEFAULT_VIEW_WEIGHTS: Mapping[str, float] = {"agentview": 0.9, "eye_in_hand": 0.1}
"""AMPLIFY's weights by name of the view; views that are not named weigh 1."""


def view_weights(views: Sequence[str], weights: Mapping[str, float] | None = None) -> tuple[float, ...]:
    """The weight of each view, in their order.

    Args:
        views: names.
        weights: by name; None is AMPLIFY's. Views that it does not name weigh 1.
    """
    known = DEFAULT_VIEW_WEIGHTS if weights is None else weights
    return tuple(float(known.get(view, 1.0)) for view in views)


def relative_cross_entropy(logits: Tensor, labels: Tensor, weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Sum of the weighted cross entropy, and the number of elements of one view.

    AMPLIFY's loss, the sum over views of weight * mean over windows, steps and points, is
    loss_sum / count. The division is left to the caller, because the mean spans all accumulated batches
    of all processes; both numbers simply add up over them. Computed in float32.

    Args:
        logits: (B, V, t, N, C), any float type.
        labels: (B, V, t, N) int64 in [0, C).
        weights: V numbers; see ``view_weights``.

    Returns:
        (loss_sum float32, count int64 = B * t * N), both scalars.

    Raises:
        ValueError: when the shapes or the number of weights do not fit together.
    """
    if labels.ndim != 4 or logits.ndim != 5 or logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits are {tuple(logits.shape)} and labels {tuple(labels.shape)}; "
            "expected (B, V, t, N, C) and (B, V, t, N)"
        )
    if len(weights) != labels.shape[1]:
        raise ValueError(f"{len(weights)} weights for {labels.shape[1]} views; expected one for each")
    losses = F.cross_entropy(logits.float().flatten(0, 3), labels.flatten(), reduction="none")
    per_view = losses.reshape(labels.shape).sum(dim=(0, 2, 3))
    loss_sum = (per_view * per_view.new_tensor(tuple(weights))).sum()
    return loss_sum, labels[:, 0].new_tensor(labels[:, 0].numel())
