"""Clips on the machines of a Ray cluster: the local pool's generator, with actors in the place of processes.

What is shared, the manifest above all, belongs to this process; actors write files that are their clip's own,
so the output must be on a file system that all nodes see. Ray itself is kept in one child (``ray_pool``).
"""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import pickle
import re
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from amplify_motion_tokenizer.devices import available_cores
from amplify_motion_tokenizer.errors import TokenizerError, UsageError, WorkerError
from amplify_motion_tokenizer.files import temporary_file
from amplify_motion_tokenizer.jobs import ray_pool
from amplify_motion_tokenizer.jobs.child_logs import Record
from amplify_motion_tokenizer.jobs.ray_actor import Given
from amplify_motion_tokenizer.jobs.ray_share import Asked
from amplify_motion_tokenizer.jobs.workers import (
    ENDS_WITHIN_S,
    Work,
    end_process,
    held_back,
    on_signal,
    took_too_long,
)
from amplify_motion_tokenizer.temporary_names import writer
from amplify_motion_tokenizer.version import versions
from amplify_motion_tokenizer.video.remote import in_this_process_alone

logger = logging.getLogger(__name__)

Thing = TypeVar("Thing")
Result = TypeVar("Result")

_REACHED_WITHIN_S = 10.0
"""Seconds that the address of a cluster may take to answer; Ray itself would try for minutes."""


@dataclass(frozen=True, kw_only=True)
class Ray:
    """Ray as what runs clips: where its cluster is."""

    address: str | None = None
    """HOST:PORT, or auto for the cluster that this machine belongs to; None: one of this machine alone, which
    the run starts and ends."""

    def check(self) -> None:
        """Finds out what can be known before anything is begun, without importing Ray.

        Raises:
            UsageError: Ray is not installed, or no cluster is at the address.
        """
        if importlib.util.find_spec("ray") is None:
            raise UsageError(f"--engine ray needs ray, which is not installed; {ray_pool.INSTALL}")
        if self.address in (None, "auto"):
            return
        match = re.fullmatch(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})", self.address or "")
        if match is None or int(match["port"]) > 65535:
            raise UsageError(
                f"--ray-address {self.address}: expected HOST:PORT, such as 10.0.0.1:6379, or auto; start "
                "this command on a node of the cluster"
            )
        try:
            place = (match["host"].strip("[]"), int(match["port"]))
            socket.create_connection(place, _REACHED_WITHIN_S).close()
        except OSError as error:
            raise UsageError(
                f"--ray-address {self.address}: no Ray cluster answers there ({error}); start one with ray "
                "start --head --port PORT"
            ) from None

    def check_input(self, source: str | Path) -> None:
        """Raises UsageError for an input that no other process sees."""
        if in_this_process_alone(source):
            raise UsageError(
                f"--engine ray cannot read {source}, which is in the memory of this process; give a folder "
                "or URL that all nodes see"
            )


@dataclass(frozen=True, kw_only=True)
class RayActors:
    """The actors that are to run clips."""

    ray: Ray
    asked: Asked
    recycle_after: int = ray_pool.CLIPS_AN_ACTOR
    """Clips after which an actor ends and a new one takes its place."""


class Seen(NamedTuple):
    """What all nodes must see under the same paths."""

    outputs: Sequence[Path] = ()
    """Folders that actors write into."""
    inputs: Sequence[Path] = ()
    """Files or folders that they read."""


NOTHING = Seen()


def run_in_actors(
    items: Sequence[Thing],
    actors: RayActors,
    prepare: Callable[[int], Work[Thing, Result]],
    limit_s: float | None = None,
    seen: Seen = NOTHING,
    name: Callable[[Thing], str] = str,
) -> Generator[tuple[Thing, Result | TokenizerError], None, None]:
    """What is made of each item, by actors of a Ray cluster, as they finish.

    An actor has one item at a time. An item whose actor dies, with its process or its node, is tried once
    more by another actor; where that dies too, its outcome is a WorkerError. Log records and warnings of
    actors are logged here, with the outcome of the item that they came up at. Closing the generator ends the
    actors, and the cluster where it was started here.

    Args:
        items: picklable.
        actors: how many, and where.
        prepare: picklable; called once in each actor with the number of threads that it may use. It returns
            what makes a picklable result of an item.
        limit_s: seconds that an item may take; its actor is ended then, and it is not tried again.
        seen: what all nodes must see.
        name: of an item, for messages.

    Yields:
        An item, and its result or the TokenizerError that it ended with.

    Raises:
        UsageError: Ray is not installed, its cluster cannot be joined or was lost, or a node has other
            versions or does not see the files.
        TokenizerError: the work cannot be prepared; or no actor is left.
        RuntimeError: it cannot be prepared for another reason; with the traceback.
    """
    actors.ray.check()
    with ExitStack() as held:
        made = [held.enter_context(temporary_file(folder)) for folder in seen.outputs]
        driver = _Driver(actors, limit_s, pickle.dumps(prepare), _given((*made, *seen.inputs)))
        held.callback(driver.end)
        waiting = iter(range(len(items)))
        while not isinstance(message := driver.receive(), ray_pool.Ended):
            if isinstance(message, ray_pool.Ask):
                number = next(waiting, None)
                driver.give(number, None if number is None else items[number])
            elif isinstance(message, ray_pool.Failed):
                raise message.error
            elif isinstance(message, Record):
                message.log()
            elif isinstance(message, ray_pool.Died):
                if outcome := _death(message, name(items[message.number])):
                    yield items[message.number], outcome
            elif isinstance(message, ray_pool.Late):
                yield items[message.number], took_too_long(limit_s, "Ray actor")
            else:
                outcome, records = pickle.loads(message.content)
                for record in records:
                    record.log()
                yield items[message.number], outcome


def _given(seen: Sequence[Path]) -> Given:
    return Given(
        versions=versions(),
        folder=os.getcwd(),
        seen=tuple(os.path.abspath(path) for path in seen),
        writes_for=writer(),
        log_level=logging.getLogger().getEffectiveLevel(),
    )


def _death(died: ray_pool.Died, name: str) -> WorkerError | None:
    """The error of an item whose actors died; None where it is tried again, which is told."""
    if died.again:
        logger.warning("%s: its Ray actor died %s; it is tried once more", name, died.told)
        return None
    return WorkerError(
        f"its Ray actor died, and another one again, {died.told}; if memory ran out, lower "
        "tracking.num_workers"
    )


class _Driver:
    """This process's side of the one that Ray is kept in."""

    def __init__(self, actors: RayActors, limit_s: float | None, prepare: bytes, given: Given) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        asked = (actors.ray.address or "local", available_cores(), actors.asked)
        limits = ray_pool.Limits(actors.recycle_after, limit_s)
        self._process = spawn.Process(
            target=ray_pool.serve,
            args=(theirs, *asked, prepare, given, limits),
            daemon=True,
        )
        # Ctrl-C reaches all processes of a terminal; the child leaves it to this one.
        with on_signal(signal.SIGINT, signal.SIG_IGN), held_back(signal.SIGTERM):
            self._process.start()
        theirs.close()
        self._started = self._ends = False

    def give(self, number: int | None, item: Any) -> None:
        """Answers an ``Ask``."""
        self._send(None if number is None else ray_pool.Item(number, pickle.dumps(item)))

    def _send(self, message: ray_pool.Item | None) -> None:
        try:
            self._connection.send(message)
        except ConnectionError:
            return  # it is dead, as receiving will tell

    def receive(self) -> Any:
        """The next message; after the last one, Ended or Failed, the process ends by itself.

        Raises:
            UsageError: the process ended, as Ray ends processes that lose their cluster.
            RuntimeError: it could not start; its traceback is on standard error.
        """
        try:
            message = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
        else:
            self._started = True
            self._ends = isinstance(message, ray_pool.Ended | ray_pool.Failed)
            return message
        if not self._started and self._process.exitcode == 1:
            raise RuntimeError("the process that uses Ray could not start; its traceback is above")
        raise UsageError(
            f"the Ray cluster was lost (its process here ended with status {self._process.exitcode}); "
            f"{ray_pool.GOES_ON}"
        )

    def end(self) -> None:
        """Ends the actors, the process, and the cluster where it is the process's."""
        if self._ends:
            self._process.join(ENDS_WITHIN_S)
        end_process(self._process)
        self._connection.close()
