"""Where training stands, and the random states of every process, as a checkpoint can hold them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor


@dataclass
class TrainState:
    """Where training stands."""

    step: int = 0
    """Optimiser steps done."""
    epoch: int = 0
    """Epochs done."""
    step_in_epoch: int = 0
    """Steps done of the epoch under way."""
    best_loss: float = math.inf
    """Lowest validation loss of a finished epoch (training loss where nothing is held out)."""
    windows: int = 0
    """Training windows."""
    windows_per_step: int = 0
    """Windows of a full step over all processes; with ``windows``, what steps of an epoch refer to."""


def seed_process(seed: int, rank: int) -> None:
    """Gives each process its own stream of random numbers (dropout), decided by seed and rank."""
    torch.manual_seed(seed * 1_000_003 + rank)


def get_random_states(accelerator: Accelerator) -> list[dict[str, Tensor]]:
    """The states of all processes, in the order of their ranks; every process must call it."""
    state = {"cpu": torch.get_rng_state()}
    if accelerator.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(accelerator.device)
    elif accelerator.device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    states: list[dict[str, Tensor]] = gather_object([state])
    return states


def set_random_state(state: dict[str, Tensor]) -> None:
    """Sets this process's state, as far as its devices are here."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
