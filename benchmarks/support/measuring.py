"""What benchmarks share: numbers from the command line, clocks, memory and floors."""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from pathlib import Path

import torch

from amplify_motion_tokenizer.config import Config

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def positive(text: str) -> int:
    """A number from the command line, at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def square(text: str) -> int:
    """A number from the command line that is a square, as a grid's points are."""
    number = positive(text)
    side = math.isqrt(number)
    if side**2 != number:
        raise argparse.ArgumentTypeError(f"{text} is no square; {side**2} and {(side + 1) ** 2} are")
    return number


def frame_size(text: str) -> tuple[int, int]:
    """(height, width) in pixels from the command line, HEIGHTxWIDTH."""
    height, width = map(int, text.split("x"))
    return height, width


def clock_of(device: str) -> str:
    """The clock of ratios: on a CPU that others share, only the process's own time means something."""
    return "cpu" if torch.device(device).type == "cpu" else "wall"


def peak_bytes() -> int:
    """Most memory that this process has had."""
    if sys.platform == "linux":
        # What getrusage tells there begins at the peak of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def flops_per_second(device: str, bf16: bool) -> float:
    """What this machine reaches on one large product with the threads that torch has, by ``clock_of``."""
    dtype, clock = torch.bfloat16 if bf16 else torch.float32, CLOCKS[clock_of(device)]
    a, b = (torch.randn(shape, device=device, dtype=dtype) for shape in ((2048, 768), (768, 3072)))
    best = float("inf")
    for _ in range(10):
        began = clock()
        for _ in range(3):
            a @ b
        if a.is_cuda:
            torch.cuda.synchronize()
        best = min(best, (clock() - began) / 3)
    return 2.0 * 2048 * 768 * 3072 / best


def encoder_products(config: Config) -> int:
    """Multiply-adds of a window's matrix products up to its codes, which the function cannot do without."""
    model, steps, points = config.model, config.num_steps, config.num_points
    dim, layers, codes = model.hidden_dim, model.num_layers, model.encoder_sequence_len
    if model.name == "amplify":
        features = len(config.data.views) * points
        return steps * dim * (2 * features + layers * (12 * dim + 2 * steps))
    if model.keypoint.tokens == "point":
        return points * dim * (2 * steps + codes + layers * (12 * dim + 2 * points))
    tokens = steps * points
    # Causal attention needs half of its two (S, S) products.
    return tokens * dim * (2 + codes + layers * (12 * dim + tokens))
