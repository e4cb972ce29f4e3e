"""How temporary files are named: after the process that removes them, and its host."""

from __future__ import annotations

import os
import re
import secrets
import socket
import zlib

TEMPORARY = re.compile(r"\.(?P<process>\d+)-(?P<host>[0-9a-f]{8})-[0-9a-f]{8}\.tmp(\..*)?")
"""Names of temporary files and folders."""

WRITES_FOR = "AMT_WRITES_FOR"
"""Environment variable of processes whose temporary files are another process's, as ``writer`` names it: that
one removes them in the end, wherever they run."""


def host() -> str:
    """How temporary files name this machine."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def writer() -> str:
    """How temporary files name the process that they are of, and its host."""
    return os.environ.get(WRITES_FOR) or _own_name()


def temporary_name(suffix: str = "", own: bool = False) -> str:
    """A name that no other file has; short, as the name of the file itself may be as long as names can be.

    Args:
        suffix: its end.
        own: whether it names this process, whatever other process it writes for.
    """
    return f".{_own_name() if own else writer()}-{secrets.token_hex(4)}.tmp{suffix}"


def _own_name() -> str:
    return f"{os.getpid()}-{host()}"
