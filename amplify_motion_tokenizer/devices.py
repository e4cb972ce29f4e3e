"""Which devices and cores this machine has, and the device that a setting names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from amplify_motion_tokenizer.errors import ConfigError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str, key: str) -> torch.device:
    """The device called ``name``: auto, cpu, mps, cuda, or cuda:N for the GPU of that number, from 0.

    "auto" is CUDA, else MPS, else the CPU, whichever is there first.

    Raises:
        ConfigError: no device has that name, or this machine lacks it; names ``key``, the setting that
            holds the name, and the devices that are there.
    """
    import torch  # here, as what asks for cores alone need not wait for it

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cuda", *(f"cuda:{number}" for number in range(gpus))] if gpus else []
    there += ["mps"] if torch.backends.mps.is_available() else []
    there += ["cpu"]
    if name == "auto":
        return torch.device(there[0])
    # There is one CPU and one MPS device, which torch also calls number 0.
    if re.sub(r"^(cpu|mps):0$", r"\1", name) not in there:
        known = re.fullmatch(r"(cpu|mps|cuda)(:\d+)?", name)
        found = "is not available" if known else "is not a device"
        raise ConfigError(f"{key} = {name!r} {found}; allowed here: auto, {', '.join(there)}")
    return torch.device(name)


def available_cores() -> int:
    """CPU cores that this process may use, by its affinity and its container's limit (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = Path("/sys/fs/cgroup/cpu.max")
    quota, period = limit.read_text().split() if limit.is_file() else ("max", "")
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
