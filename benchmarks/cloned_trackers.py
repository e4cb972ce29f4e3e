"""How long a tracker from a clone takes for a window, with random weights, beside the embedded tracker.

    python -m benchmarks.cloned_trackers --checkout tapnet --tracker bootstapir [--device cuda] [--batch 8]
        [--windows 1] [--length 16] [--grid 20] [--set resolution=512]

Prints seconds for a window of 480x640 frames, CPU time of the process on a CPU, and the peak memory on a GPU.
Weights do not decide how long it takes; what they track is of no meaning.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from amplify_motion_tokenizer.config import Config, TrackingConfig
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker
from amplify_motion_tokenizer.trackers.alltracker import AllTracker
from amplify_motion_tokenizer.trackers.bootstapir import BootsTapir
from amplify_motion_tokenizer.trackers.checkouts import CheckoutTracker
from amplify_motion_tokenizer.trackers.tapnext import TapNext
from amplify_motion_tokenizer.trackers.windows import FrameWindow, iter_windows
from amplify_motion_tokenizer.video.clips import Frame

SIZE = (480, 640)


def untrained(kind: type[CheckoutTracker]) -> type[CheckoutTracker]:
    """``kind`` with random weights; the file that settings name is not read."""

    def randomised(self: CheckoutTracker, model: nn.Module, path: Path) -> None:
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():  # some are made as whatever memory held
            parameter.data = 0.02 * torch.randn(parameter.shape, generator=generator)

    return type(f"Untrained{kind.__name__}", (kind,), {"read_weights": randomised})


def seconds(call: Callable[[], object], device: str) -> float:
    """Seconds that ``call`` takes: of the clock on a GPU, of the process's CPU time on a CPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    begin = clock()
    call()
    return clock() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkout", required=True)
    parser.add_argument("--tracker", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--grid", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=NUMBER")
    arguments = parser.parse_args()
    kinds = {name: kind for kind in (BootsTapir, TapNext, AllTracker) for name in kind.weights_urls}
    kind = kinds[arguments.tracker]
    settings = dataclasses.replace(
        getattr(TrackingConfig(), kind.section),
        checkout=arguments.checkout,
        weights=__file__,
        window_batch_size=arguments.batch,
        **{name: int(number) for name, _, number in (pair.partition("=") for pair in arguments.set)},
    )
    tracking = TrackingConfig(tracker=arguments.tracker, device=arguments.device, **{kind.section: settings})
    tracker = untrained(kind).from_config(Config(tracking=tracking))
    queries = query_grid("row_major", arguments.grid, SIZE)
    video, _ = render_clip("mixed", 0, SIZE, arguments.length * arguments.windows)
    clip = (Frame(rgb, index / 20) for index, rgb in enumerate(video))
    windows = list(iter_windows(clip, arguments.length, arguments.length))

    def track(by: PointTracker, some: list[FrameWindow]) -> list[np.ndarray]:
        return [result.tracks_xy_px for result in by.track(some, queries)]

    if arguments.device != "cpu":  # what is set up on first use is not timed
        track(tracker, windows)
    taken = seconds(lambda: track(tracker, windows), arguments.device) / len(windows)
    flow = seconds(lambda: track(make_tracker(Config()), windows), "cpu") / len(windows)
    print(f"{arguments.tracker}: {len(queries)} points, {arguments.length} frames, batch {arguments.batch}")
    print(f"{taken:.2f} s a window; the embedded tracker {flow:.2f} s of the CPU: {taken / flow:.0f}x")
    if arguments.device != "cpu":
        print(f"{torch.cuda.get_device_name()}, {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
