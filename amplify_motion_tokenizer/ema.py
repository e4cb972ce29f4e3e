"""A running mean of the weights, which often serves better than the weights of the last step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a model's parameters.

    After step n the mean moves by 1 - d towards the weights, d = min(decay, (1 + n) / (10 + n)): early
    means would else be those of the first, random weights.

    Args:
        model: its present parameters are the first mean.
        decay: d of a long run.

    Attributes:
        means: by the names of the parameters.
        updates: n, steps so far.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._parameters = dict(model.named_parameters())
        self.means = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the means towards the model's weights, which a step has changed."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.means.values()), list(self._parameters.values()), 1 - decay)

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
