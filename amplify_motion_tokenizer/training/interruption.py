"""What comes from outside a step: SIGTERM, Ctrl-C (SIGINT), and the time since the last checkpoint.

All processes must stop and save after the same step, yet a signal reaches them at different moments
and their clocks differ. So each hands its requests, to stop or to save, to the step, which adds them to a
sum over processes that it makes anyway, at its beginning, and all act on the same result when the step is
queued.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""Signals that end a run after the step under way."""

SAME_INTERRUPT_S = 1.0
"""Ctrl-C reaches a launcher and its processes, and the launcher passes it on: that is no second one."""


class Requests(NamedTuple):
    """What the processes together ask for after a step: to stop, to save."""

    stop: signal.Signals | None
    """The signal that ends the run."""
    save: bool
    """Whether a checkpoint is due."""


def read_requests(sums: Sequence[float]) -> Requests:
    """The requests of all processes together, from the sum over processes of ``Interruption.requests``."""
    *stops, save = (count > 0 for count in sums)
    stop = next((number for number, asked in zip(STOPPING, stops, strict=True) if asked), None)
    return Requests(stop, save)


class Interruption:
    """Notes the ``STOPPING`` signals while ``listening``, and when a checkpoint is due by the clock.

    Args:
        save_every_minutes: time between two checkpoints; None never asks for one. Give it to one
            process only, whose clock then counts for all.
    """

    def __init__(self, save_every_minutes: float | None) -> None:
        self._interval_s = None if save_every_minutes is None else 60 * save_every_minutes
        self._saved_at = time.monotonic()
        self._noted: set[int] = set()
        self._interrupted_at: float | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it the signals are noted and nothing else; but a second Ctrl-C ends the process at once.

        Signals belong to the main thread alone. One that is ignored, as Ctrl-C is by a shell's background
        jobs, stays so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._note) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        self._noted.add(number)
        if number != signal.SIGINT:
            return
        now = time.monotonic()
        if self._interrupted_at is None:
            self._interrupted_at = now
            if logger.isEnabledFor(logging.INFO):
                # Not through a stream: the handler may have come in the middle of a write to it.
                os.write(2, b"\nstopping after this step, to save it; Ctrl-C again stops at once\n")
        elif now - self._interrupted_at > SAME_INTERRUPT_S:
            raise KeyboardInterrupt

    def requests(self) -> Tensor:
        """(3,) float32 on the CPU, each 1 or 0: this process got SIGTERM, it got SIGINT, it is to save."""
        elapsed = time.monotonic() - self._saved_at
        save = self._interval_s is not None and elapsed >= self._interval_s
        return torch.tensor([*(float(number in self._noted) for number in STOPPING), float(save)])

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
