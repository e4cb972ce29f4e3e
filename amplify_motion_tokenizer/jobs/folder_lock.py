"""Keeps an output folder to one run at a time: two runs would lose each other's lines of its manifest.

The system holds the lock and frees it when the process ends, however it ends, so that there is none to clear
away. Across machines it holds where the file system passes locks on, as NFS 4 does.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import LOCK, LOCK_OWNER
from amplify_motion_tokenizer.files import failure_named
from amplify_motion_tokenizer.foreign_json import parse_json, read_regular

logger = logging.getLogger(__name__)


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Within it no other run has ``folder``, which must be there.

    Raises:
        UsageError: another run has it; tells the process, its machine and since when. Or the disk is full.
    """
    lock = _acquired(folder)
    owner = folder / LOCK_OWNER
    try:
        if lock is not None:
            told = {"process": os.getpid(), "host": socket.gethostname(), "since": time.time()}
            with failure_named(owner):
                owner.write_text(json.dumps(told), encoding="utf-8")
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


def _acquired(folder: Path) -> Any:
    """The lock of ``folder``, held; None where its file system has no locks, which is told."""
    path = folder / LOCK
    while True:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{folder} is another run's {_told(folder / LOCK_OWNER)}; wait until it ends, or give "
                "another --output"
            ) from None
        except (OSError, NotImplementedError) as error:
            logger.warning(
                "%s cannot be locked (%s): give the folder to one run at a time, as two would lose lines of "
                "its manifest",
                folder, error,
            )  # fmt: skip
            return None
        if path.exists():
            return lock
        lock.release()  # the run that had it has just ended, and removed the file


def _told(owner: Path) -> str:
    """Who has the folder, as far as it can be known: (process 7 on host, for 3 minutes)."""
    with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
        found = parse_json(read_regular(owner))
        minutes = (time.time() - float(found["since"])) / 60
        return f"(process {found['process']} on {found['host']}, for {minutes:.0f} minutes)"
    return "(which does not say its process)"
