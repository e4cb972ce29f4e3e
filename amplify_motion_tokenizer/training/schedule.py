"""The learning rate's course over a run, whose length in steps may change when the run goes on.

A cosine follows the share of the run that is done, not the number of steps: other processes, batches or
clips make other numbers of steps of the same epochs. So a checkpoint keeps how much was done at some step,
and the rest of the course is spread over the steps that are left.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from amplify_motion_tokenizer.config import TrainingConfig


class Course(NamedTuple):
    """How much of the course after the warm-up is done at each step."""

    step: int
    """A step, at which ..."""
    share: float
    """... so much was done, 0 to 1."""
    end: int
    """The step at which all is done."""

    def done(self, step: int) -> float:
        """The share that is done before ``step``, 0 to 1; steps count from 0."""
        part = (step - self.step) / max(1, self.end - self.step)
        return self.share + (1 - self.share) * min(1.0, part)

    def ending_at(self, end: int, step: int, warmup_steps: int) -> Course:
        """The course that goes on from ``step`` without a jump and is done at another ``end``."""
        if end == self.end:
            return self
        if step <= warmup_steps:
            return whole_course(end, warmup_steps)
        return Course(step, self.done(step), end)


def whole_course(total_steps: int, warmup_steps: int) -> Course:
    """The course of a run of ``total_steps`` that begins."""
    return Course(warmup_steps, 0.0, total_steps)


def total_steps(training: TrainingConfig, steps_per_epoch: int) -> int:
    """Steps of a whole run."""
    steps = training.epochs * steps_per_epoch
    return min(steps, training.max_steps or steps)


def rate_factor(training: TrainingConfig, course: Course, step: int) -> float:
    """Factor on the learning rate of ``step``: linear warm-up, then constant or half a cosine to 0."""
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * course.done(step)))
