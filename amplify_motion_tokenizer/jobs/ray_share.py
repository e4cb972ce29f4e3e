"""How many Ray actors run clips, and what each of them asks of the cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from amplify_motion_tokenizer.errors import ConfigError, UsageError


class Node(NamedTuple):
    """What a machine of the cluster has in all, whether it is in use or not."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Asked:
    """The actors that a run would have; the cluster decides what of it there can be."""

    count: int | None
    """As many; None: one for each GPU where they take GPUs, else one for each core, or for each node."""
    most: int
    """No more than these, as there is no more to do."""
    devices: tuple[str, ...]
    """What settings say of where trackers and models run: auto, cpu, mps, cuda."""
    alone: bool
    """Whether one on the CPU takes a node for itself where ``count`` does not say, as a neural tracker's."""


@dataclass(frozen=True)
class Share:
    """Actors, and what each of them asks of Ray."""

    count: int
    threads: int
    """That each may use."""
    num_cpus: float
    num_gpus: float

    def __str__(self) -> str:
        gpus = f" and {self.num_gpus:g} GPUs" if self.num_gpus else ""
        return f"{self.count} Ray actors of {self.num_cpus:g} CPUs{gpus} each"


def share(nodes: Sequence[Node], asked: Asked) -> Share:
    """Shares out the nodes so that all actors have room, with as many cores each as there are.

    Actors take GPUs where a device is cuda, or auto and a node has one; nodes without are left out then. More
    actors than GPUs have a part of one each.

    Raises:
        ConfigError: a device is cuda, and no node has a GPU.
        UsageError: no node has a core.
    """
    for device in asked.devices:
        if device.startswith("cuda:"):
            raise ConfigError(f"device {device}: Ray gives each actor its GPU; give cuda or auto")
    nodes = [Node(math.floor(node.cpus), math.floor(node.gpus)) for node in nodes if node.cpus >= 1]
    if not nodes:
        raise UsageError("the Ray cluster has no CPUs; add nodes with ray start --address")
    with_gpus = [node for node in nodes if node.gpus]
    if "cuda" in asked.devices and not with_gpus:
        raise ConfigError("a device is cuda, and no node of the Ray cluster has a GPU; give auto or cpu")
    on_gpus = bool(with_gpus) and any(device in ("cuda", "auto") for device in asked.devices)
    nodes = with_gpus if on_gpus else nodes
    gpus = sum(int(node.gpus) for node in nodes) if on_gpus else 0
    usual = gpus or (len(nodes) if asked.alone else int(sum(node.cpus for node in nodes)))
    count = max(1, min(asked.count or usual, asked.most))
    per_gpu = math.ceil(count / gpus) if on_gpus else 0

    def room(cpus: float) -> int:
        """How many actors of so many cores the nodes hold."""
        per_node = [
            (math.floor(node.cpus / cpus + 1e-9), node.gpus * per_gpu if on_gpus else math.inf)
            for node in nodes
        ]
        return int(sum(map(min, per_node)))

    threads = next((n for n in range(int(max(node.cpus for node in nodes)), 0, -1) if room(n) >= count), 1)
    num_cpus = float(threads)
    if room(1) < count:  # more actors than cores: several have a part of one
        parts = next(parts for parts in range(2, count + 1) if room(1 / parts) >= count)
        num_cpus = _part(parts)
    return Share(count, threads, num_cpus, _part(per_gpu) if on_gpus else 0.0)


def _part(parts: int) -> float:
    """One of so many equal parts, in the steps of 0.0001 that Ray counts in, which together are no more."""
    return math.floor(10_000 / parts) / 10_000
