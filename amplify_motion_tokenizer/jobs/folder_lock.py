"""Keeps an output folder to one run at a time: two runs would lose each other's lines of its manifest.

Shards (``jobs.shards``) have a manifest each: they share the folder among them, and with nobody else.

The system holds the lock and frees it when the process ends, however it ends, so that there is none to clear
away. Across machines it holds where the file system passes locks on, as NFS 4 does.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import LOCK, LOCK_OWNER, SHARDS
from amplify_motion_tokenizer.files import failure_named
from amplify_motion_tokenizer.foreign_json import parse_json, read_regular
from amplify_motion_tokenizer.jobs.shards import Shard, in_words, owner, shards_in

logger = logging.getLogger(__name__)


@contextmanager
def only_run(folder: Path, shard: Shard | None = None) -> Iterator[None]:
    """Within it no other run has ``folder``, which must be there; of a shard none its ``shard``, or all.

    Raises:
        UsageError: another run has it; tells the process, its machine and since when. Or the disk is full.
    """
    if shard is not None:
        with _shared(folder), _one_shard(folder, shard):
            yield
        return
    lock = _acquired(folder / LOCK, lambda: _taken(folder))
    try:
        if lock is not None:
            with failure_named(folder / LOCK_OWNER):
                (folder / LOCK_OWNER).write_text(json.dumps(owner()), encoding="utf-8")
        yield
    finally:
        if lock is not None:
            remove_lock(folder)
            lock.release()


def remove_lock(folder: Path) -> None:
    """Removes the files of a lock that this process holds, and is about to let go of by whatever end.

    While it is still held: whoever opened it before will not find it under its name.
    """
    for path in (folder / LOCK_OWNER, folder / LOCK):
        path.unlink(missing_ok=True)


@contextmanager
def beginning(folder: Path, shard: Shard | None) -> Iterator[None]:
    """Within it no other shard of ``folder`` begins, so what one finds there and what it writes agree."""
    lock = None if shard is None else FileLock(folder / SHARDS / "begin.lock")
    if lock is not None:
        try:
            lock.acquire(timeout=_LONGEST_BEGIN_S)
        except Timeout:
            raise UsageError(
                f"{folder / SHARDS}: another shard has been beginning for {_LONGEST_BEGIN_S} s; run again"
            ) from None
        except (OSError, NotImplementedError):
            lock = None  # as has been told
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


_LONGEST_BEGIN_S = 120
"""More than a thousand shards take that begin at once."""


@contextmanager
def _one_shard(folder: Path, shard: Shard) -> Iterator[None]:
    """Within it no other run has ``shard`` of ``folder``."""
    path = shard.file(folder, ".lock")
    with failure_named(path):
        path.parent.mkdir(exist_ok=True)
    lock = _acquired(path, lambda: f"shard {shard} of {folder} is another run's {_shard_told(folder, shard)}")
    try:
        yield
    finally:
        if lock is not None:
            path.unlink(missing_ok=True)
            lock.release()


@contextmanager
def _shared(folder: Path) -> Iterator[None]:
    """Within it no run has ``folder`` alone; others may share it too."""
    descriptor = _opened(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):  # whoever shares it last removes it
                _flock(descriptor, alone=True)
                (folder / LOCK).unlink(missing_ok=True)
            os.close(descriptor)


def _opened(folder: Path) -> int | None:
    """The lock file of ``folder``, open and locked to be shared; None where there are no locks, as told."""
    path = folder / LOCK
    while True:
        with failure_named(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _flock(descriptor, alone=False)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(_taken(folder)) from None
        except OSError as error:
            os.close(descriptor)
            _warn_of_no_locks(path, error)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # the run that had it has just ended, and removed the file


def _flock(descriptor: int, alone: bool) -> None:
    """Locks a file without waiting, as ``FileLock`` does on these systems, which cannot share.

    Raises:
        BlockingIOError: others hold it.
        OSError: there are no locks.
        UsageError: the system has no locks that can be shared.
    """
    try:
        import fcntl
    except ImportError:
        raise UsageError("--shard needs the file locks of Linux or macOS; run without --shard") from None
    fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)


def _acquired(path: Path, taken: Callable[[], str]) -> Any:
    """The lock file ``path``, held; None where its file system has no locks, which is told.

    Raises:
        UsageError: others hold it; says what ``taken`` tells.
    """
    while True:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(taken()) from None
        except (OSError, NotImplementedError) as error:
            _warn_of_no_locks(path, error)
            return None
        if path.exists():
            return lock
        lock.release()  # the run that had it has just ended, and removed the file


def _warn_of_no_locks(path: Path, error: Exception) -> None:
    folder = path.parent.parent if path.parent.name == SHARDS else path.parent
    logger.warning(
        "%s cannot be locked (%s): give the folder to one run at a time, as two would lose lines of "
        "its manifest",
        folder, error,
    )  # fmt: skip


def _taken(folder: Path) -> str:
    """Who has the folder, and what to do."""
    advice = "wait until it ends, or give another --output"
    running = [shard for shard in shards_in(folder) if shard.file(folder, ".lock").exists()]
    if running and not (folder / LOCK_OWNER).exists():
        return f"{folder} is in the works at {in_words(running)} {_shard_told(folder, running[0])}; {advice}"
    return f"{folder} is another run's {_told(folder / LOCK_OWNER)}; {advice}"


def _told(path: Path) -> str:
    """Which process has a folder, as far as it can be known: (process 7 on host, for 3 minutes)."""
    return _in_words(_read(path))


def _shard_told(folder: Path, shard: Shard) -> str:
    found = _read(shard.file(folder, ".state"))
    return _in_words(found.get("run") if isinstance(found, dict) else None)


def _read(path: Path) -> Any:
    with suppress(OSError, ValueError):
        return parse_json(read_regular(path))
    return None


def _in_words(found: Any) -> str:
    with suppress(ValueError, KeyError, TypeError, OverflowError):
        minutes = (time.time() - float(found["since"])) / 60
        process, host = int(found["process"]), str(found["host"])
        return f"(process {process} on {host:.100}, for {minutes:.0f} minutes)"
    return "(which does not say its process)"
