"""Random states of every process, as plain tensors that a checkpoint can hold."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor


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
