"""Opens HDF5 files that others wrote, which must hold all of their data themselves.

HDF5 can say that a group or an array lies in another file, or in raw bytes of one: whoever opens such a file
would read, and copy into tracks, what its writer chose on the reader's machine. Texts lie in heaps, as all
that has no fixed length, and HDF5 walks a damaged heap for ever: ``open_for_texts`` alone reads them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from amplify_motion_tokenizer.errors import TokenizerError

DAMAGE = (
    OSError, RuntimeError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError, SystemError,
)  # fmt: skip
"""What h5py raises of damaged or foreign content; SystemError where HDF5 calls a function back."""
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
    return _open(path, path, error, advice)


@contextmanager
def open_for_texts(path: Path, error: type[TokenizerError], advice: str) -> Iterator[h5py.File]:
    """As ``open_hdf5``, for a file whose attributes may be texts; it is closed after the block.

    Slower where many numbers are read: h5py asks this process for each of the file's bytes. A file that is
    still open when Python ends would end it with a crash, so that there is no way but this to open one.
    """
    _check_regular(path, error, advice)
    try:
        source = _SoundHeaps(path)
    except OSError as fault:
        raise error(f"{path}: cannot be opened ({fault.strerror}); {advice}") from None
    with source, _open(path, source, error, advice) as file:
        source.length_bytes = file.id.get_create_plist().get_sizes()[1]
        yield file


def number(item: h5py.Group, name: str) -> Any:
    """The number that an attribute holds; None where there is none of that name.

    Raises:
        ValueError: it is something else, which is not read.
    """
    if name not in item.attrs:
        return None
    if item.attrs.get_id(name).dtype.kind not in "iuf":
        raise ValueError(f"{name} of {item.name} is no number")
    return item.attrs[name]


def _check_regular(path: Path, error: type[TokenizerError], advice: str) -> None:
    if path.exists() and not path.is_file():
        raise error(f"{path}: is no file with data in it (a folder, a pipe or a device); {advice}")


def _open(path: Path, source: Path | io.RawIOBase, error: type[TokenizerError], advice: str) -> h5py.File:
    _check_regular(path, error, advice)
    try:
        # Files appear under their name only when they are complete, so a lock would guard nothing.
        file = h5py.File(source, "r", **{} if isinstance(source, io.RawIOBase) else {"locking": False})
    except DAMAGE as fault:
        raise error(f"{path}: cannot be opened as HDF5 ({fault}); {advice}") from None
    try:
        elsewhere = _part_elsewhere(file)
    except DAMAGE as fault:
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


_HEAP = b"GCOL"
"""Begins every heap."""
_MOST_HEAP = 2**24
"""Bytes of a heap that is read; HDF5 makes one of 4 KiB, or as large as the text in it."""
_HEAP_START = 8
"""Bytes of a heap before its length, and of an object in it before the object's."""


class _SoundHeaps(io.FileIO):
    """A file for h5py in which a heap reads as zeros where its objects do not lie one after the other.

    HDF5 then says that it is none.

    Args:
        path: the file.

    Attributes:
        length_bytes: bytes of a length in the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r")
        self.length_bytes = 8

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        read = memoryview(buffer).cast("B")
        read[count:] = bytes(len(read) - count)  # as HDF5's own way of reading does past the end
        if read[: len(_HEAP)].tobytes() == _HEAP and not _is_sound(read, self.length_bytes):
            read[:] = bytes(len(read))
        return count


def _is_sound(heap: memoryview, length_bytes: int) -> bool:
    """Whether a walk over the objects of a heap comes to its end."""

    def length_at(place: int) -> int:
        return int.from_bytes(heap[place + _HEAP_START : place + _HEAP_START + length_bytes], "little")

    def padded(length: int) -> int:
        return -(-length // 8) * 8

    size, head = length_at(0), padded(_HEAP_START + length_bytes)
    if size > _MOST_HEAP:
        return False
    if size > len(heap):
        return True  # HDF5 reads its head first, and then asks for all of it
    place = head
    while place + head <= size:
        free = heap[place : place + 2].tobytes() == b"\0\0"
        step = length_at(place) if free else head + padded(length_at(place))
        if not 0 < step <= size - place:
            return False
        place += step
    return True
