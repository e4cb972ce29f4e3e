"""The CoTracker adapter against plain calls of its predictor, window by window, with random weights.

    python -m benchmarks.cotracker --checkout co-tracker [--entry cotracker3_offline] [--device cuda]
        [--strides 1 4 16] [--autocast bf16] [--batch 8] [--grid 20] [--windows 4] [--compile]

For each stride it prints the largest difference of the tracks, in pixels of 480x640 frames, from plain
calls in float32 and in the same precision; the adapter's seconds a window (CPU time of the
process on a CPU), and how many times that plain float32 calls take; and the peak memory of both.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amplify_motion_tokenizer.config import CoTrackerConfig
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.trackers.cotracker import CoTracker
from amplify_motion_tokenizer.trackers.cotracker.tracker import AUTOCAST
from amplify_motion_tokenizer.trackers.windows import FrameWindow, iter_windows
from amplify_motion_tokenizer.video.clips import Frame
from benchmarks.support.plain_cotracker import plain_call, random_predictor

SIZE = (480, 640)


def measured(call: Callable[[], list[np.ndarray]], device: str) -> tuple[list[np.ndarray], float, float]:
    """What ``call`` returns, its seconds, and the peak memory so far in GiB."""
    on_gpu = device != "cpu"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again
    begin = clock()
    result = call()
    seconds = clock() - begin
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else _peak_of_process()
    return result, seconds, peak


def _peak_of_process() -> float:
    """GiB since /proc/self/clear_refs was written."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 2**20


def difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Largest, after the first row, which is the query."""
    return max(float(np.abs(a - b)[1:].max()) for a, b in zip(one, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkout", required=True)
    parser.add_argument("--entry", default="cotracker3_offline")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--grid", type=int, default=20)
    parser.add_argument("--autocast", choices=list(AUTOCAST), default="no")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    device, dtype = arguments.device, AUTOCAST[arguments.autocast]
    queries = query_grid("row_major", arguments.grid, SIZE)
    predictor = random_predictor(arguments.checkout, arguments.entry)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pth"
        torch.save(predictor.model.state_dict(), weights)
        settings = CoTrackerConfig(
            checkout=arguments.checkout,
            weights=str(weights),
            window_batch_size=arguments.batch,
            autocast=arguments.autocast,
            compile=arguments.compile,
        )
        tracker = CoTracker(arguments.entry, settings, device)
    predictor.to(device)

    def plain(windows: list[FrameWindow], dtype: Any) -> list[np.ndarray]:
        return [plain_call(predictor, window, queries, device, dtype)[0] for window in windows]

    def ours(windows: list[FrameWindow]) -> list[np.ndarray]:
        return [result.tracks_xy_px for result in tracker.track(windows, queries)]

    place = torch.cuda.get_device_name() if device != "cpu" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{place}: {arguments.entry}, {len(queries)} points, {arguments.length} frames, ", end="")
    print(f"batch {arguments.batch}, autocast {arguments.autocast}, compile {arguments.compile}")
    print("stride  px to plain  px to plain, same precision  s a window  time ratio  GiB ours  GiB plain")
    for stride in arguments.strides:
        frames = arguments.length + stride * (arguments.windows - 1)
        video, _ = render_clip("mixed", 0, SIZE, frames)
        clip = (Frame(rgb, index / 20) for index, rgb in enumerate(video))
        windows = list(iter_windows(clip, arguments.length, stride))
        if device != "cpu" or arguments.compile:  # what is set up on first use is not timed
            ours(windows), plain(windows[:1], None)
        found, seconds, peak = measured(partial(ours, windows), device)
        exact, plain_seconds, plain_peak = measured(partial(plain, windows, None), device)
        same = exact if dtype is None else plain(windows, dtype)
        row = f"{stride:6}  {difference(found, exact):11.5f}  {difference(found, same):27.5f}  "
        row += f"{seconds / len(windows):10.4f}  "
        print(f"{row}{plain_seconds / seconds:9.2f}x  {peak:8.2f}  {plain_peak:9.2f}", flush=True)


if __name__ == "__main__":
    main()
