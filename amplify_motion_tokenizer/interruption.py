"""What comes from outside a step: SIGTERM, and the time that has passed since the last checkpoint.

All processes must stop and save after the same step, yet a signal reaches them at different moments
and their clocks differ. So each hands its wishes to the step, which adds them to a sum over processes
that it makes anyway, at its beginning, and all act on the same result when the step is queued.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Interruption:
    """Notes SIGTERM while ``listening``, and when a checkpoint is due by the clock.

    Args:
        save_every_minutes: time between two checkpoints; None never wishes for one. Give it to one
            process only, whose clock then counts for all.
    """

    def __init__(self, save_every_minutes: float | None) -> None:
        self._interval_s = None if save_every_minutes is None else 60 * save_every_minutes
        self._saved_at = time.monotonic()
        self._terminated = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it SIGTERM is noted and nothing else; signals belong to the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _note(self, *_: object) -> None:
        self._terminated = True

    def wishes(self) -> Tensor:
        """(2,) float32 on the CPU, 1 where this process wishes to stop, and to save."""
        elapsed = time.monotonic() - self._saved_at
        save = self._interval_s is not None and elapsed >= self._interval_s
        return torch.tensor([float(self._terminated), float(save)])

    def saved(self) -> None:
        """A checkpoint has been written: its interval begins anew."""
        self._saved_at = time.monotonic()


def _event() -> torch.cuda.Event:
    event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


class HostCopy:
    """A small tensor on its way to the host, while the device goes on with what is queued after it."""

    def __init__(self, tensor: Tensor) -> None:
        # Only CUDA's copies can be waited for one by one.
        self._copy = tensor.to("cpu", non_blocking=tensor.is_cuda)
        self._copied = _event() if tensor.is_cuda else None

    def numbers(self) -> list[float]:
        """The values; waits for the copy alone."""
        if self._copied is not None:
            self._copied.synchronize()
        numbers: list[float] = self._copy.tolist()
        return numbers
