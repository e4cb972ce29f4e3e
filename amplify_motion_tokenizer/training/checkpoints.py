"""The checkpoints in a run's folder: which are kept, and which a run goes on from.

At every moment, also between two writes, the folder holds a whole state to go on from.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from amplify_motion_tokenizer.config import Config, TrainingConfig
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.file_names import (
    BEST,
    LAST,
    checkpoints_in,
    numbers_of,
    optimizer_name,
    step_name,
)
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from amplify_motion_tokenizer.models.torch_files import peek_step, read_torch
from amplify_motion_tokenizer.training.state import TrainState, check_saved

logger = logging.getLogger(__name__)


class RunFiles:
    """Writes a run's checkpoints and removes the ones that need not be kept; for one process alone.

    Args:
        folder: the run's folder.
        training: what is kept, and how.
    """

    def __init__(self, folder: Path, training: TrainingConfig) -> None:
        self.folder = folder
        self.training = training
        found = {path.name: peek_step(path) for path in checkpoints_in(folder)}
        self._steps = {name: step for name, step in found.items() if step is not None}

    def write(
        self,
        name: str,
        *,
        model: Mapping[str, Tensor],
        config: Config,
        track_settings: dict[str, Any] | None,
        metrics: Mapping[str, float],
        training: dict[str, Any],
    ) -> None:
        """Writes the checkpoint ``name`` as ``save_checkpoint`` does, and removes what is not kept."""
        step = training["state"]["step"]
        if name == LAST:
            self._set_last_aside(step)
        save_checkpoint(
            self.folder / name,
            model=model,
            config=config,
            track_settings=track_settings,
            metrics=metrics,
            training=training,
        )
        self._steps[name] = step
        self._prune(step)

    def _set_last_aside(self, step: int) -> None:
        before = self._steps.get(LAST)
        if self.training.keep_last > 1 and before is not None and before != step:
            os.replace(self.folder / LAST, self.folder / step_name(before))
            self._steps[step_name(before)] = self._steps.pop(LAST)

    def _prune(self, step: int) -> None:
        # Steps ahead of this one are of a run that was resumed from an earlier state.
        numbers = numbers_of("step", self.folder)
        older = [number for number in numbers if number < step][: self.training.keep_last - 1]
        for number in set(numbers) - set(older):
            self._remove(step_name(number))
        # Of checkpoints written before, which kept the optimiser's state in a file of its own.
        for number in set(numbers_of("optimizer", self.folder)) - set(self._steps.values()):
            (self.folder / optimizer_name(number)).unlink()

    def _remove(self, name: str) -> None:
        (self.folder / name).unlink()
        self._steps.pop(name, None)


def _loaded(path: Path) -> Checkpoint:
    """A checkpoint, and its state of training, if any, checked."""
    checkpoint = load_checkpoint(path)
    check_saved(checkpoint)
    return checkpoint


def load_state(path: Path) -> Checkpoint:
    """A checkpoint with the optimiser's state, which once could lie in a file of its own.

    Raises:
        CheckpointError: as ``load_checkpoint``; or the optimiser's file is missing or damaged.
    """
    checkpoint = _loaded(path)
    training = checkpoint.training
    if training is not None and training["optimizer"] is None:
        step = training["state"]["step"]
        beside = path.with_name(optimizer_name(step))
        try:
            content = read_torch(beside)
        except CheckpointError as error:
            raise CheckpointError(
                f"{path}: cannot be resumed without its optimiser's state: {error}"
            ) from None
        if not isinstance(content, dict) or content.get("step") != step or "optimizer" not in content:
            raise CheckpointError(
                f"{beside}: is not the optimiser's state of step {step}, which {path} needs"
            )
        training["optimizer"] = content["optimizer"]
    return checkpoint


def run_id_in(folder: Path) -> str | None:
    """The id of the run whose checkpoints ``folder`` holds; None where none of them tells it."""
    for path in checkpoints_in(folder):
        with suppress(CheckpointError):  # a damaged one tells nothing
            run_id = run_id_of(_loaded(path))
            if run_id is not None:
                return run_id
    return None


def run_id_of(checkpoint: Checkpoint) -> str | None:
    """The id of the run that wrote ``checkpoint``; None where it does not tell."""
    return checkpoint.training["state"].get("run_id") or None if checkpoint.training else None


def best_in_words(folder: Path) -> str:
    """Where the best checkpoint of a run is, of which epoch, and its loss, in one line.

    Raises:
        CheckpointError: ``best.pth`` is damaged, or holds no training state.
    """
    path = folder / BEST
    if not path.is_file():
        return f"{folder} holds no {BEST} yet: no epoch or validation has ended"
    checkpoint = _loaded(path)
    if checkpoint.training is None:
        raise CheckpointError(f"{path}: holds weights only, no training state; expected a run's checkpoint")
    state = TrainState(**checkpoint.training["state"])
    split = "val" if "val/loss" in checkpoint.metrics else "train_epoch"
    if f"{split}/loss" not in checkpoint.metrics:
        raise CheckpointError(f"{path}: does not say its loss; expected a run's checkpoint")
    within = f", in epoch {state.epoch + 1}" if state.step_in_epoch else f", epoch {state.epoch}"
    return (
        f"best checkpoint: {path} (step {state.step}{within}): "
        f"{split}/loss {checkpoint.metrics[f'{split}/loss']:.4f}"
    )


def newest_state(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a run: last.pth, or else the one of the most steps.

    Damaged ones are named in a warning. None where there are no checkpoints at all.

    Raises:
        CheckpointError: there are some, and all are damaged.
    """
    paths = checkpoints_in(folder)
    steps = {path: peek_step(path) for path in paths}

    def newness(path: Path) -> tuple[bool, float]:
        # Files that cannot be read come early, to be named. A run that was resumed from an earlier state
        # may have left others with more steps than it has now, so last.pth is first.
        step = steps[path]
        return path.name == LAST, math.inf if step is None else step

    order = sorted(paths, key=newness, reverse=True)
    damaged: list[str] = []
    for path in order:
        try:
            checkpoint = load_state(path)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        for problem in damaged:
            logger.warning("%s; going on from %s, step %s, instead", problem, path, steps[path])
        return checkpoint
    if damaged:
        raise CheckpointError(
            f"{folder}: none of its checkpoints is whole ({'; '.join(damaged)}); start a new run in "
            "another --output"
        )
    return None
