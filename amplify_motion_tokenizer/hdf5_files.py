"""Opens HDF5 files that others wrote, which must hold all of their data themselves.

HDF5 can say that a group or an array lies in another file, or in raw bytes of one: whoever opens such a file
would read, and copy into tracks, what its writer chose on the reader's machine.
"""

from __future__ import annotations

import math
from pathlib import Path

import h5py

from amplify_motion_tokenizer.errors import TokenizerError

_ROOM = 2**30
"""Bytes that a data set may declare in a file of any size: room for windows that were never written."""
_MOST_UNFOLDED = 1032
"""Times its own bytes that a file's data sets may declare; deflate packs no tighter."""


def open_hdf5(path: Path, error: type[TokenizerError], advice: str) -> h5py.File:
    """Opens an HDF5 file for reading; nothing that it holds lies in another file.

    Args:
        path: the file.
        error: what to raise.
        advice: what to do where it is no HDF5 file.

    Raises:
        TokenizerError: ``error``; it is no regular file, no HDF5 file, damaged, or has parts elsewhere.
    """
    if path.exists() and not path.is_file():
        raise error(f"{path}: is no file with data in it (a folder, a pipe or a device); {advice}")
    try:
        # Files appear under their name only when they are complete, so a lock would guard nothing.
        file = h5py.File(path, "r", locking=False)
    except OSError as fault:
        raise error(f"{path}: cannot be opened as HDF5 ({fault}); {advice}") from None
    try:
        elsewhere = _part_elsewhere(file)
    except (OSError, RuntimeError, ValueError, KeyError, SystemError) as fault:  # the last from a callback
        file.close()
        raise error(f"{path}: is damaged ({fault}); {advice}") from None
    if elsewhere is not None:
        file.close()
        raise error(
            f"{path}: {elsewhere}, which is not followed, as it could be any file here or fill all memory; "
            "expected a file that holds its data itself: make one with h5repack or h5copy"
        )
    return file


def _part_elsewhere(file: h5py.File) -> str | None:
    """The first part that is not in the file; None where there is none. Links are not followed."""
    size = file.id.get_filesize()

    def visited(name: bytes, info: h5py.h5l.LinkInfo) -> str | None:
        shown = name.decode("utf-8", errors="replace")
        if info.type not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            return f"{shown} is a link to another file"
        if info.type == h5py.h5l.TYPE_SOFT:
            return None  # it leads to another part of this file, which is visited too
        part = h5py.h5o.open(file.id, name)
        if not isinstance(part, h5py.h5d.DatasetID):
            return None
        declared = math.prod(part.shape) * part.dtype.itemsize
        if declared > max(_ROOM, _MOST_UNFOLDED * size):
            return f"{shown} declares {declared} bytes in a file of {size}"
        layout = part.get_create_plist()
        if layout.get_layout() == h5py.h5d.VIRTUAL:
            return f"{shown} is a virtual data set, whose numbers lie in other data sets"
        return f"{shown} has its numbers in another file" if layout.get_external_count() else None

    found: str | None = file.id.links.visit(visited, info=True)
    return found
