"""Latency of live codes: from the moment a frame can be read to the line that holds its window's codes.

    python -m benchmarks.latency [--size 480 640] [--stride 4] [--seconds 20] [--fps 20]

A rendered clip is sent through a pipe, each picture at its own time as a camera would, to
``codes.following.follow`` in this process, which decodes, tracks and encodes as ``infer --follow -`` does
with the shipped codec. Told are the time from a window's last picture to its line, on the clock and in CPU
seconds of the process, where other programs do not count; and how all CPU seconds were shared out.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from amplify_motion_tokenizer.codes import following
from amplify_motion_tokenizer.codes.overrides import overridden
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.trackers.flow.tracker import FlowTracker
from amplify_motion_tokenizer.video import live
from benchmarks.support.measuring import positive
from benchmarks.support.sending import y4m

WARM = 3
"""Windows at the start that do not count: libraries set themselves up."""


class Sender(threading.Thread):
    """Sends pictures, and waits after each that ends a window for its line.

    Attributes:
        waits: (seconds, CPU seconds of the process) from each such picture to its line.
    """

    def __init__(
        self, pipe: Path, parts: Sequence[bytes], length: int, stride: int, interval_s: float
    ) -> None:
        super().__init__(daemon=True)
        self.waits: list[tuple[float, float]] = []
        self._pipe, self._parts, self._length, self._stride = pipe, parts, length, stride
        self._interval_s = interval_s
        self._line = threading.Semaphore(0)

    def write(self, line: bytes) -> None:
        """Takes a line of codes."""
        if b'"ids"' in line:
            self._line.release()

    def run(self) -> None:
        pipe = os.open(self._pipe, os.O_WRONLY)
        began = time.perf_counter()
        for number, part in enumerate(self._parts):
            if number == self._length:
                began = time.perf_counter() - number * self._interval_s  # the reader is set up from here on
            time.sleep(max(0.0, began + number * self._interval_s - time.perf_counter()))
            sent = time.perf_counter(), time.process_time()
            while part:
                part = part[os.write(pipe, part) :]
            if number >= self._length - 1 and (number - self._length + 1) % self._stride == 0:
                self._line.acquire()
                self.waits.append((time.perf_counter() - sent[0], time.process_time() - sent[1]))
        os.close(pipe)


@contextmanager
def counted(spent: defaultdict[str, float]) -> Iterator[None]:
    """Counts the CPU seconds of each stage, by the thread that it runs in, while the block runs."""
    stages: list[tuple[Any, str, str]] = [
        (live._Reader, "_frames", "decode"),
        (live, "ToRGB", "to RGB"),
        (FlowTracker, "track", "track"),
        (following, "encode_views", "encode"),
    ]
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in stages]

    def timed(label: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        began = time.thread_time()
        try:
            return call(*arguments, **named)
        finally:
            spent[label] += time.thread_time() - began

    def each(label: str, items: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := timed(label, next, items, end)) is not end:
            yield item

    def source(windows: Iterator[Any]) -> Iterator[Any]:
        """What the tracker asks for is not the tracker's time."""
        end = object()
        while True:
            began = time.thread_time()
            window = next(windows, end)
            took = time.thread_time() - began
            spent["track"] -= took
            spent["frames"] += took
            if window is end:
                return
            yield window

    (reader, _, frames), (_, _, to_rgb), (_, _, track), (_, _, encode) = kept
    live._Reader._frames = lambda self, packets: each("decode", frames(self, packets))  # type: ignore
    live.ToRGB = lambda *made: functools.partial(timed, "to RGB", to_rgb(*made))  # type: ignore
    FlowTracker.track = lambda self, windows, queries: each(  # type: ignore
        "track", track(self, source(iter(windows)), queries)
    )
    following.encode_views = lambda *arguments: timed("encode", encode, *arguments)  # type: ignore
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=positive, nargs=2, default=[480, 640], metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--stride", type=positive, default=4)
    parser.add_argument("--seconds", type=positive, default=20)
    parser.add_argument("--fps", type=positive, default=20)
    parser.add_argument("--threads", type=positive, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    checkpoint = load_checkpoint("default")
    settings = {
        "tracking.window_stride": args.stride,
        "video.threads": args.threads,
        "video.size": {"shorter": min(args.size)},
        "video.target_fps": float(args.fps),
        "inference.device": "cpu",
    }
    config = overridden(checkpoint, settings)
    parts = y4m(render_clip("mixed", 0, tuple(args.size), args.seconds * args.fps)[0], args.fps)
    spent: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder, counted(spent):
        pipe = Path(folder) / "pipe"
        os.mkfifo(pipe)
        sender = Sender(pipe, parts, config.tracked_length, args.stride, 1 / args.fps)
        sender.start()
        began = time.process_time()
        following.follow(str(pipe), checkpoint, config, sender.write)
        total = time.process_time() - began
    clock, cpu = (np.array(column[WARM:]) * 1e3 for column in zip(*sender.waits, strict=True))
    print(f"{len(parts)} pictures, {len(clock)} windows: {vars(args)}")
    for name, times in (("clock", clock), ("CPU", cpu)):
        print(f"  {name:5} ms: p50 {np.quantile(times, 0.5):.1f}   p95 {np.quantile(times, 0.95):.1f}")
    each = {name: 1e3 * seconds / len(parts) for name, seconds in spent.items()}
    shares = "   ".join(f"{name} {ms:.2f} ({ms / sum(each.values()):.0%})" for name, ms in each.items())
    print(f"  CPU ms a picture: {shares}; all, with loading the tokenizer, {1e3 * total / len(parts):.2f}")


if __name__ == "__main__":
    main()
