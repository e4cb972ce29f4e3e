"""Learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable

from amplify_motion_tokenizer.config import TrainingConfig


def rate_factor(training: TrainingConfig, total_steps: int) -> Callable[[int], float]:
    """Factor on the learning rate by step: linear warm-up, then constant or half a cosine to 0."""

    def factor(step: int) -> float:
        if step < training.warmup_steps:
            return (step + 1) / training.warmup_steps
        if training.schedule == "constant":
            return 1.0
        done = (step - training.warmup_steps) / max(1, total_steps - training.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor
