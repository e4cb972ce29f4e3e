"""Names of devices to devices."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from amplify_motion_tokenizer.errors import ConfigError


def resolve_device(name: str, key: str) -> torch.device:
    """The device called ``name``; "auto" is CUDA, else MPS, else the CPU, whichever is there first.

    Raises:
        ConfigError: there is no such device here; names the config ``key``.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    allowed = f"auto, {', '.join(kind for kind, there in available.items() if there)}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{key} = {name} is not a device; allowed here: {allowed}") from None
    if not available.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise ConfigError(f"{key} = {name} is not available; allowed here: {allowed}")
    return device


def available_cores() -> int:
    """CPU cores that this process may use, by its affinity and its container's limit (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = Path("/sys/fs/cgroup/cpu.max")
    quota, period = limit.read_text().split() if limit.is_file() else ("max", "")
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
