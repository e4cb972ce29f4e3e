"""A running mean of the weights, which often serves better than the weights of the last step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a model's parameters.

    After step n the mean moves by 1 - d towards the weights, d = min(decay, (1 + n) / (10 + n)): early
    means would else be those of the first, random weights. Steps that changed no weights do not count.

    Args:
        model: its present parameters are the first mean.
        decay: d of a long run.

    Attributes:
        means: by the names of the parameters.
        updates: n, steps so far, an int64 scalar on the weights' device, so that no step waits for it.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = dict(model.named_parameters())
        device = next(iter(self._parameters.values())).device
        self.updates = torch.zeros((), dtype=torch.int64, device=device)
        self.means = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, changed: Tensor) -> None:
        """Moves the means towards the model's weights after a step.

        Args:
            changed: bool scalar on the weights' device, whether the step changed them; else means and
                count stay as they are.
        """
        self.updates += changed
        # 1 - d, in a form that is as exact in float32.
        share = (9 / (10 + self.updates)).clamp(min=1 - self.decay) * changed
        means = list(self.means.values())
        moves = torch._foreach_sub(list(self._parameters.values()), means)
        torch._foreach_mul_(moves, share)
        torch._foreach_add_(means, moves)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within it the model holds the means; its own weights come back afterwards, bit for bit."""
        own = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._fill(self.means)
        try:
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
