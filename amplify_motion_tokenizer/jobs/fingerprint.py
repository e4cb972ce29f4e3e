"""Fingerprints of source files, which tell whether an output was made of them as they are now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.clips import RemoteFile


def total_bytes(paths: Iterable[Path | RemoteFile]) -> int:
    """Size of the files, each counted once; one that is missing counts 0, so its return changes the sum."""
    return sum(map(_bytes, set(paths)))


def _bytes(path: Path | RemoteFile) -> int:
    if isinstance(path, RemoteFile):
        return path.bytes or 0
    return path.stat().st_size if os.path.exists(path) else 0


_BLOCK, _BLOCKS = 1 << 16, 4


def fingerprint(paths: Iterable[Path]) -> str:
    """SHA-256, in hex, of the files' sizes and of blocks of each: its first, its last and some between.

    Files of up to four blocks of 64 KiB are read whole. The order of the files does not matter, and as for
    ``total_bytes`` each counts once and missing ones do not.

    Raises:
        VideoError: a file cannot be read.
    """
    digests = sorted(_blocks_digest(path) for path in set(paths) if os.path.exists(path))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _blocks_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(str(size).encode())
            if size <= _BLOCKS * _BLOCK:
                digest.update(file.read())
                return digest.digest()
            for number in range(_BLOCKS):
                file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}); copy it or leave it out") from error
    return digest.digest()


def is_made_of(record: Mapping[str, Any], paths: Sequence[Path | RemoteFile]) -> bool:
    """Whether ``record``, of tracks or codes, tells that they were made of the files as they are.

    By size alone where it has no fingerprint, as before there was one, and of files on another file system,
    of whose content a manifest tells (``Clip.identity``). A file that cannot be read is not as
    it was.
    """
    if record.get("source_bytes") != total_bytes(paths):
        return False
    here = [path for path in paths if isinstance(path, Path)]
    if not record.get("source_fingerprint") or len(here) < len(paths):
        return True
    try:
        return bool(record["source_fingerprint"] == fingerprint(here))
    except VideoError:
        return False
