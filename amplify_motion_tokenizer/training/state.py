"""The state of training and the random states of every process, as a checkpoint can hold them."""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.kinds import (
    MAPPING,
    NUMBER,
    TEXT,
    Kind,
    check_kinds,
    or_none,
    require_kinds,
    whole_from,
)
from amplify_motion_tokenizer.models.checkpoint import Checkpoint

_NO_NAN: Kind = (lambda value: NUMBER[0](value) and value == value, "a number")


@dataclass
class TrainState:
    """The state of training, between two optimiser steps."""

    step: int = 0
    """Optimiser steps done."""
    epoch: int = 0
    """Epochs done."""
    step_in_epoch: int = 0
    """Steps done of the epoch under way."""
    best_loss: float = math.inf
    """Lowest validation loss so far (training loss of an epoch where nothing is held out)."""
    stale_validations: int = 0
    """Validations since the one of ``best_loss``."""
    skipped_steps: int = 0
    """Steps that were not applied because their loss or gradients were not finite."""
    run_id: str = ""
    """Name of the run for trackers that go on with it; empty until a run starts."""
    windows: int = 0
    """Training windows."""
    windows_per_step: int = 0
    """Windows of a full step over all processes; with ``windows``, what steps of an epoch refer to."""
    clips: str = ""
    """Hash of the training clips' names and numbers of windows; empty in older checkpoints."""
    course_step: int = 0
    """A step after the warm-up at which ..."""
    course_share: float = 0.0
    """... so much of the learning rate's course was done, 0 to 1; see ``schedule.Course``."""
    course_end: int = 0
    """The step at which all of it is done; 0 in older checkpoints."""
    began_with: str = ""
    """The file whose weights the run began with, and its hash; empty where they were random."""


_STATE: dict[str, Kind] = {
    each.name: {"int": whole_from(0, 2**53), "float": _NO_NAN, "str": TEXT}[str(each.type)]
    for each in fields(TrainState)
}


def check_saved(checkpoint: Checkpoint) -> None:
    """Refuses a checkpoint whose state of training is none; one without any is fine.

    Raises:
        CheckpointError: names the first value that is missing or wrong.
    """
    saved = checkpoint.training
    if saved is None:
        return
    require_kinds(f"{checkpoint.path}: training", saved, {"state": MAPPING, "optimizer": or_none(MAPPING)})
    require_kinds(f"{checkpoint.path}: training state", saved["state"], {"step": _STATE["step"]})
    check_kinds(f"{checkpoint.path}: training state", saved["state"], _STATE)
    unknown = sorted(str(name) for name in saved["state"].keys() - _STATE.keys())
    if unknown:
        raise CheckpointError(
            f"{checkpoint.path}: training state holds {', '.join(unknown)}, which is not known here; use the "
            "version of this package that wrote it"
        )


@contextmanager
def state_fits(path: Path) -> Iterator[None]:
    """Names the checkpoint ``path`` where its state of training cannot be taken up within the block.

    Raises:
        CheckpointError: the optimiser, the random states or what else there is does not fit this run.
    """
    try:
        yield
    except (
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        IndexError,
        AttributeError,
        OverflowError,
    ) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path}: its state of training does not fit ({reason:.200}); go on from another checkpoint of "
            "the run, or begin anew from its weights with --init"
        ) from error


def new_run_id() -> str:
    """A name that no other run has."""
    return secrets.token_hex(4)


def seed_process(seed: int, rank: int) -> None:
    """Gives each process its own stream of random numbers (dropout), decided by seed and rank."""
    own = seed * 1_000_003 + rank
    torch.manual_seed(own)
    random.seed(own)
    np.random.seed(own % 2**32)


def get_random_states(accelerator: Accelerator) -> list[dict[str, Any]]:
    """The states of all processes, in the order of their ranks; every process must call it."""
    legacy: Any = np.random.get_state()
    name, keys, *rest = legacy
    state: dict[str, Any] = {
        "cpu": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
    }
    if accelerator.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(accelerator.device)
    elif accelerator.device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    states: list[dict[str, Any]] = gather_object([state])
    return states


def set_random_state(state: dict[str, Any]) -> None:
    """Sets this process's state, as far as its devices are here and the file knows it."""
    torch.set_rng_state(state["cpu"])
    if "python" in state:
        random.setstate(state["python"])
        np.random.set_state(tuple(state["numpy"]))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


class Position(NamedTuple):
    """The place of an optimiser step in the run."""

    step: int
    """The step's number in the run, from 1."""
    epoch: int
    """The step's epoch, from 0."""
    step_in_epoch: int
    """The step's number in its epoch, from 0."""


class SkippedSteps:
    """Which steps were not applied because their loss or gradients are not finite.

    A step leaves that as a flag on the device; it is read when something is logged or written, so
    that no step waits for it.
    """

    def __init__(self) -> None:
        self._flags: list[tuple[Position, Tensor]] = []

    def add(self, position: Position, skipped: Tensor) -> None:
        """Notes a step's flag, a bool scalar on the device."""
        self._flags.append((position, skipped))

    def take(self) -> list[Position]:
        """The skipped steps since the last call."""
        if not self._flags:
            return []
        positions, flags = zip(*self._flags, strict=True)
        self._flags = []
        return [place for place, flag in zip(positions, torch.stack(flags).tolist(), strict=True) if flag]


def some_names(names: Sequence[str], shown: int = 5) -> str:
    """The first names in a row, and how many more there are."""
    unique = sorted(set(names))
    more = f" and {len(unique) - shown} more" if len(unique) > shown else ""
    return ", ".join(unique[:shown]) + more
