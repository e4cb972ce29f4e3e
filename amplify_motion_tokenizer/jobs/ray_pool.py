"""The process in which Ray is kept: it gives clips to actors, one at a time to each, and passes results on.

Ray handles signals, prints, and ends the process that uses it when it loses its cluster, each in its own way;
in a process of its own none of that is the run's. The process asks its parent for items, so that no more of
them are on their way than there are actors, and ends with it.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import re
import signal
import sys
import textwrap
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from amplify_motion_tokenizer.errors import EXIT_TERMINATED, TokenizerError, UsageError, WorkerError
from amplify_motion_tokenizer.jobs.child_logs import Record
from amplify_motion_tokenizer.jobs.ray_actor import Actor, Given, Started
from amplify_motion_tokenizer.jobs.ray_share import Asked, Node, Share, share

CLIPS_AN_ACTOR = 1000
"""Clips after which an actor ends and a new one takes its place: decoders and drivers that lose a little
memory with each clip would fill a node within weeks. A start takes some 5 seconds."""

TRIES = 2
"""How often a clip is tried whose actor dies: once more, as nodes can go, but no more, as clips can kill."""

SILENT_S = 30.0
"""Seconds without any actor after which it is told that the cluster has no room."""

ENDS_WITHIN_S = 5.0
"""Seconds that actors which were ended may take to be gone."""

INSTALL = "pip install 'ray>=2.40' (or this package with the extra ray)"


GOES_ON = "what is done stays, run again to go on"


class Ask(NamedTuple):
    """Asks for the next item: the answer is an ``Item``, or None when there is none left."""


class Item(NamedTuple):
    """An item on its way."""

    number: int
    content: bytes


class Outcome(NamedTuple):
    """What an actor made of an item: pickled, with the log."""

    number: int
    content: bytes


class Died(NamedTuple):
    """An actor died at work on an item."""

    number: int
    told: str
    """Where and of what, as far as Ray knows."""
    again: bool
    """Whether the item is tried again; else it has failed."""


class Late(NamedTuple):
    """An item took too long; its actor was ended, and it is not tried again."""

    number: int


class Limits(NamedTuple):
    """When actors end."""

    recycle_after: int
    """Items after which one ends, and another takes its place."""
    item_s: float | None
    """Seconds that an item may take; None: any time."""


class Failed(NamedTuple):
    """The run cannot go on."""

    error: Exception


class Ended(NamedTuple):
    """There was nothing left to do."""


def serve(
    connection: Connection[Any, Any],
    address: str,
    cores: int,
    asked: Asked,
    prepare: bytes,
    given: Given,
    limits: Limits,
) -> None:
    """The main function of the process.

    Args:
        connection: to the parent, which answers ``Ask``.
        address: HOST:PORT of a cluster, auto for the one on this machine, or local for one of this process.
        cores: that a cluster of this process has.
        asked: the actors that are wanted.
        prepare: as for ``Actor.start``.
        given: to each actor.
        limits: of actors.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # standard output, where Ray tells of dead actors
    try:
        ray = _joined(address, cores)
        with closing(_Pool(ray, connection, prepare, given, limits)) as pool, _losses_told(ray):
            pool.run(asked)
            connection.send(Ended())
    except (TokenizerError, RuntimeError) as error:
        connection.send(Failed(error))
    except (EOFError, ConnectionError):
        return  # the parent has ended, and its actors have just been ended too
    except Exception:  # noqa: BLE001  the boundary of a process: told by its parent, never passed over
        connection.send(Failed(RuntimeError(f"the process that uses Ray failed:\n{traceback.format_exc()}")))


@contextmanager
def _losses_told(ray: Any) -> Iterator[None]:
    """Turns what Ray raises of itself, not of an actor, into a UsageError."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise UsageError(f"the Ray cluster was lost ({_gist(error)}); {GOES_ON}") from None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # which becomes SystemExit, so that actors are ended too


def _joined(address: str, cores: int) -> Any:
    """The module ``ray``, connected.

    Raises:
        UsageError: it is not installed, or the cluster cannot be joined.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise UsageError(f"--engine ray needs ray, which cannot be imported ({error}); {INSTALL}") from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    own = {"num_cpus": cores, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, configure_logging=False, **own)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        said = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise UsageError(f"the Ray cluster {address} cannot be joined ({said})") from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # Ray's own handler prints, too
    return ray


class _Slot:
    """An actor, and what it is at work on: an item, or its start."""

    def __init__(self, actor: Any, first: bool) -> None:
        self.actor, self.first = actor, first
        self.node = "unknown"
        self.done = 0
        self.began = 0.0
        self.item: Item | None = None


class _Pool:
    """Actors, each at work on one item, and the items on their way.

    An actor that dies costs its item one of ``TRIES``, and a new one takes its place. One that cannot start
    ends the run where it is one of the first, as the cluster is not fit then; later, when there is much to
    lose, it is told, and the run goes on with the others while there are any.
    """

    def __init__(
        self, ray: Any, connection: Connection[Any, Any], prepare: bytes, given: Given, limits: Limits
    ) -> None:
        self._ray, self._connection = ray, connection
        self._kind = ray.remote(max_restarts=0)(Actor)
        self._prepare, self._given, self._limits = ray.put(prepare), given, limits
        self._share = Share(0, 0, 0.0, 0.0)
        self._starting: dict[Any, _Slot] = {}
        self._busy: dict[Any, _Slot] = {}
        self._idle: list[_Slot] = []
        self._waiting: deque[Item] = deque()
        self._tries: dict[int, int] = {}
        self._exhausted = False

    def run(self, asked: Asked) -> None:
        """Runs all items.

        Raises:
            TokenizerError: the cluster is not fit for the run.
            RuntimeError: the work could not be prepared; with the traceback.
        """
        resources = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        nodes = [Node(each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in resources]
        self._share = share(nodes, asked)
        self._log(logging.INFO, f"{self._share}, on {len(nodes)} nodes")
        for _ in range(self._share.count):
            self._add(first=True)
        told = False
        while self._busy or self._has_work():
            self._feed()
            timeout = self._rest() if self._busy else None if told else SILENT_S
            ready, _ = self._ray.wait([*self._busy, *self._starting], timeout=timeout)
            for ref in ready:
                if ref in self._busy:
                    self._ended(ref, self._busy.pop(ref))
                else:
                    self._started(ref, self._starting.pop(ref))
            if not ready and self._busy:
                self._end_late()
            elif not ready:
                told = True
                self._log(logging.WARNING, f"the Ray cluster has no room yet for {self._share}; waiting")

    def _rest(self) -> float | None:
        """Seconds until an item has taken too long; None where none can."""
        if self._limits.item_s is None:
            return None
        began = min(slot.began for slot in self._busy.values())
        return max(0.0, began + self._limits.item_s - time.monotonic())

    def _end_late(self) -> None:
        """Ends the actors whose item has taken too long."""
        late = [ref for ref, slot in self._busy.items() if self._is_late(slot)]
        for ref in late:
            slot = self._busy.pop(ref)
            assert slot.item is not None
            self._tries.pop(slot.item.number, None)
            self._ray.kill(slot.actor)
            self._connection.send(Late(slot.item.number))
            if self._has_work():
                self._add()

    def _is_late(self, slot: _Slot) -> bool:
        limit = self._limits.item_s
        return limit is not None and time.monotonic() - slot.began >= limit

    def close(self) -> None:
        """Ends the actors, waits until they are gone and write nothing more, and leaves the cluster."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what it asks for is being done
        slots = [*self._starting.values(), *self._busy.values(), *self._idle]
        answers = [slot.actor.is_here.remote() for slot in slots]
        for slot in slots:
            self._ray.kill(slot.actor)
        if answers:
            self._ray.wait(answers, num_returns=len(answers), timeout=ENDS_WITHIN_S)
        self._ray.shutdown()

    def _add(self, first: bool = False) -> None:
        """Asks for an actor; Ray starts it when there is room."""
        own = self._share
        slot = _Slot(self._kind.options(num_cpus=own.num_cpus, num_gpus=own.num_gpus).remote(), first)
        ref = slot.actor.start.remote(self._prepare, own.threads, own.num_gpus > 0, self._given)
        self._starting[ref] = slot

    def _has_work(self) -> bool:
        """Whether an item is waiting; asks for one where none is."""
        if not self._waiting and not self._exhausted:
            self._connection.send(Ask())
            item = self._connection.recv()
            if item is None:
                self._exhausted = True
            else:
                self._waiting.append(item)
        return bool(self._waiting)

    def _feed(self) -> None:
        while self._idle and self._has_work():
            slot = self._idle.pop()
            slot.item = self._waiting.popleft()
            slot.began = time.monotonic()
            self._busy[slot.actor.run.remote(slot.item.content)] = slot

    def _started(self, ref: Any, slot: _Slot) -> None:
        errors = self._ray.exceptions
        try:
            started: Started = self._ray.get(ref)
        except errors.RayTaskError as error:
            cause = error.cause
            own = isinstance(cause, TokenizerError)
            failure = cause if own else RuntimeError(f"a Ray actor could not prepare its work:\n{error}")
        except errors.RayError as error:
            failure = WorkerError(f"a Ray actor could not start: {_gist(error)}")
        else:
            slot.node = started.node
            for record in started.records:
                self._connection.send(record)
            self._idle.append(slot)
            return
        self._ray.kill(slot.actor)
        others = self._busy or self._idle or self._starting
        if slot.first or (not others and self._has_work()):
            raise failure
        self._log(logging.WARNING, f"the run goes on with one Ray actor less: {failure}")

    def _ended(self, ref: Any, slot: _Slot) -> None:
        item, slot.item = slot.item, None
        assert item is not None
        errors = self._ray.exceptions
        try:
            content: bytes = self._ray.get(ref)
        except errors.RayTaskError as error:
            raise RuntimeError(f"a Ray actor failed:\n{error}") from None
        except errors.RayError as error:
            self._ray.kill(slot.actor)  # where it is out of reach, it may be alive
            self._died(item, f"on node {slot.node} ({_gist(error)})")
            return
        self._tries.pop(item.number, None)
        self._connection.send(Outcome(item.number, content))
        slot.done += 1
        if slot.done < self._limits.recycle_after:
            self._idle.append(slot)
            return
        self._ray.kill(slot.actor)
        if self._has_work():
            self._add()

    def _died(self, item: Item, told: str) -> None:
        tries = self._tries.pop(item.number, 0) + 1
        self._connection.send(Died(item.number, told, tries < TRIES))
        if tries < TRIES:
            self._tries[item.number] = tries
            self._waiting.append(item)
            self._feed()  # where another actor has nothing to do
        if self._has_work():
            self._add()

    def _log(self, level: int, text: str) -> None:
        if level >= self._given.log_level:
            self._connection.send(Record(__name__, level, text))


def _gist(error: Exception) -> str:
    """What Ray says of a death, in a few words: its own text is a page of advice."""
    text = " ".join(str(error).split())
    found = re.search(r"The actor (?:is dead|died) because (?:of )?(.*)", text)
    said = (found[1] if found else text).partition(" Some common causes")[0]
    return textwrap.shorten(said, 300, placeholder=" ...").rstrip(". ")
