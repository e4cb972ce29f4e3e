"""Worker processes that work side by side, each on one item after another, and how they end.

A worker computes, and writes files that are its item's own; what is shared belongs to the parent. Workers
are spawned, not forked, as neither CUDA nor running threads survive a fork. They end with their parent,
whatever ends it, at once: what they leave unfinished is the parent's to remove.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import textwrap
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from amplify_motion_tokenizer.devices import available_cores
from amplify_motion_tokenizer.errors import EXIT_TERMINATED, TokenizerError, UnexpectedError, WorkerError
from amplify_motion_tokenizer.jobs.child_logs import Record, pass_on_logs

_PACKAGE = str(Path(__file__).parents[1])

ENDS_WITHIN_S = 20.0
"""Seconds that a process has to end in order."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item], Result]


@contextmanager
def cleaned_up(clean_up: Callable[[], None]) -> Iterator[None]:
    """Calls ``clean_up`` after the block, whatever ends it, and after its workers.

    SIGTERM ends the process there and then, with status 143.
    """

    def end(*_: object) -> None:
        # No exception: Python drops one that a signal raises in a destructor.
        for worker in multiprocessing.active_children():
            end_process(worker)
        clean_up()
        os._exit(EXIT_TERMINATED)

    with on_signal(signal.SIGTERM, end):
        try:
            yield
        finally:
            clean_up()


def end_process(process: BaseProcess) -> None:
    """Ends a process and waits until it is gone.

    It may take ``ENDS_WITHIN_S`` to end what it began on other machines; workers of this module end at once.
    """
    process.terminate()
    process.join(ENDS_WITHIN_S)
    process.kill()
    process.join()


def attempt(work: Work[Item, Result], item: Item) -> Result | TokenizerError:
    """What ``work`` makes of ``item``, or the TokenizerError that it raises.

    Any other exception is this item's too, an UnexpectedError: libraries raise what they like on files that
    nobody looked at, and one of these must not end a run of weeks.
    """
    try:
        return work(item)
    except TokenizerError as error:
        return error
    except Exception as error:  # noqa: BLE001  the boundary of an item: recorded and told, never passed over
        return unexpected(error)


def unexpected(error: Exception) -> UnexpectedError:
    """``error`` in one line: its type, what it says, and where in this package it came up."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _PACKAGE in frame.filename]
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    said = textwrap.shorten(str(error), 300, placeholder=" ...")
    return UnexpectedError(f"{name}: {said}{place}" if said else f"{name}{place}")


def run_in_workers(
    items: Sequence[Item],
    count: int,
    prepare: Callable[[int], Work[Item, Result]],
    limit_s: float | None = None,
) -> Generator[tuple[Item, Result | TokenizerError], None, None]:
    """What is made of each item, by ``count`` worker processes, as they finish.

    A worker that is killed, say for its memory, costs its item alone: another takes its place. So does one
    that takes too long, which is killed. Log records and warnings of workers are logged here. Closing the
    generator ends the workers.

    Args:
        items: picklable.
        count: of processes.
        prepare: picklable; called once in each worker with the number of threads that it may use, so
            that all together have one per core. It returns what makes a picklable result of an item.
        limit_s: seconds that an item may take, from when its worker has started; None: any time.

    Yields:
        An item, and its result or the TokenizerError that it ended with: WorkerError for its worker's death.

    Raises:
        RuntimeError: a worker failed with another error; its traceback is on standard error.
    """
    threads = max(1, available_cores() // count)
    waiting, idle = deque(items), list[_Worker[Item, Result]]()
    busy: dict[Any, _Worker[Item, Result]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < count:
                worker = idle.pop() if idle else _Worker(prepare, threads)
                busy[worker.connection] = worker
                worker.give(waiting.popleft())
            for connection in _ready(busy, limit_s):
                worker = busy[connection]
                message = worker.receive(limit_s)
                if isinstance(message, _Begun):
                    worker.began = time.monotonic()
                    continue
                if isinstance(message, Record):
                    message.log()
                    continue
                del busy[connection]
                if worker.is_late:  # killed while its result was on the way
                    _end([worker])
                elif not isinstance(message, WorkerError):
                    idle.append(worker)
                yield worker.item, message
    finally:
        _end([*busy.values(), *idle])


def _ready(busy: dict[Any, _Worker[Item, Result]], limit_s: float | None) -> list[Any]:
    """The connections of workers that have said something, or have ended: at the latest at their limit."""
    if limit_s is None:
        return wait(list(busy))
    while True:
        began = [worker.began for worker in busy.values() if worker.began is not None]
        rest = max(0.0, min(began) + limit_s - time.monotonic()) if began else None
        found = wait(list(busy), rest)
        if found:
            return found
        for worker in busy.values():
            worker.end_if_late(limit_s)


class _Begun(NamedTuple):
    """A worker has started, and begins an item."""


class _Worker(Generic[Item, Result]):
    """The parent's side of a worker, at work on ``item``."""

    item: Item
    began: float | None
    """When it began its item; None while it starts."""

    def __init__(self, prepare: Callable[[int], Work[Item, Result]], threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        arguments = (theirs, prepare, threads, logging.getLogger().getEffectiveLevel())
        self.process = spawn.Process(target=_work, args=arguments, daemon=True)
        # Ctrl-C reaches all processes of a terminal; workers inherit to leave it to their parent.
        with on_signal(signal.SIGINT, signal.SIG_IGN), held_back(signal.SIGTERM):
            self.process.start()
        theirs.close()
        self.began, self._late = None, False

    def give(self, item: Item) -> None:
        self.item, self.began = item, None
        try:
            self.connection.send(item)
        except ConnectionError:
            return  # it is dead, as receiving will tell

    @property
    def is_late(self) -> bool:
        """Whether it was killed for the time that an item took."""
        return self._late

    def end_if_late(self, limit_s: float) -> None:
        """Kills the process where its item has taken ``limit_s``, which ``receive`` then tells."""
        if self.began is not None and time.monotonic() - self.began >= limit_s:
            self._late = True
            self.process.kill()

    def receive(self, limit_s: float | None = None) -> Result | TokenizerError | Record | _Begun:
        try:
            message: Result | TokenizerError | Record | _Begun = self.connection.recv()
            return message
        except (EOFError, ConnectionError):
            self.process.join()
            status = self.process.exitcode or 0
        if self._late:
            return took_too_long(limit_s, "worker process")
        if status == 1:
            raise RuntimeError(f"a worker failed at {self.item}; its traceback is above")
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return WorkerError(
            f"the worker process ended with {how}; if memory ran out, lower tracking.num_workers"
        )


def took_too_long(limit_s: float | None, what: str) -> WorkerError:
    """The error of an item that took ``limit_s`` seconds, when ``what`` ran it was ended."""
    return WorkerError(
        f"took longer than {limit_s:g} s, and its {what} was ended; leave the clip out, or raise "
        "tracking.clip_limit_s"
    )


def _end(workers: Sequence[_Worker[Any, Any]]) -> None:
    for worker in workers:
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


def _work(
    connection: Connection[Any, Any], prepare: Callable[[int], Work[Any, Any]], threads: int, log_level: int
) -> None:
    """The main loop of a worker process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pass_on_logs(log_level, connection.send)
    work = prepare(threads)
    while True:
        try:
            item = connection.recv()
            connection.send(_Begun())
            connection.send(attempt(work, item))
        except (EOFError, ConnectionError):
            return  # the parent has ended, as the thread is about to notice


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(EXIT_TERMINATED)


@contextmanager
def on_signal(number: signal.Signals, handler: Any) -> Iterator[None]:
    """Within it ``handler`` takes the signal; signals belong to the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def held_back(number: signal.Signals) -> Iterator[None]:
    """Handles the signal only after the block, which it must not cut in two.

    A worker that is half started is not yet among those to end, and half a line is none. Blocking the signal
    in this thread would not do, as another thread would take it for this one.
    """
    came: list[int] = []
    with on_signal(number, lambda which, _: came.append(which)):
        yield
    if came:
        signal.raise_signal(number)
