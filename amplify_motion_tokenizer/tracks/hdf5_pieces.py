"""Rows of a data set read straight from the places in the file that HDF5 tells of once.

On one core a window of 400 tracks took 75 us through HDF5 and its file 400 us to open, against 5 us for the
bytes.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from amplify_motion_tokenizer.errors import TrackFileError

Rows = NDArray[np.int64]

_SHUFFLE, _DEFLATE = h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE
_PACKINGS: tuple[tuple[int, ...], ...] = ((), (_DEFLATE,), (_SHUFFLE, _DEFLATE))
"""Filters, in the order in which they were applied, that are undone here; HDF5 undoes all others."""


@dataclass(frozen=True)
class Pieces:
    """Where the rows of a data set are in its file, and how they are packed."""

    path: Path
    starts: Rows
    """(S,) where each row begins, in bytes from the start of the file."""
    row_bytes: int
    """Of a row that is unpacked."""
    item_bytes: int
    filters: tuple[int, ...] = ()
    sizes: Rows | None = None
    """(S,) bytes of each row as it is packed; None where there are no filters."""
    skipped: Rows | None = None
    """(S,) a bit for each of the filters that was left out of a row, as it would not have shrunk."""

    def read(self, descriptor: int, row: int, into: memoryview) -> None:
        """Puts ``row`` of the file that is open as ``descriptor`` in ``into``, ``row_bytes`` bytes.

        Raises:
            TrackFileError: the file ends before, or the row does not unpack to what it should.
        """
        if self.sizes is None or self.skipped is None:
            if os.preadv(descriptor, [into], int(self.starts[row])) != self.row_bytes:
                raise self._cut()
            return
        size, skipped = int(self.sizes[row]), int(self.skipped[row])
        content = os.pread(descriptor, size, int(self.starts[row]))
        if len(content) != size:
            raise self._cut()
        applied = [code for number, code in enumerate(self.filters) if not skipped >> number & 1]
        if _DEFLATE in applied:
            content = self._inflated(content)
        if len(content) != self.row_bytes:
            raise self._damaged(f"{len(content)} bytes in the place of {self.row_bytes}")
        if _SHUFFLE not in applied:
            into[:] = content
            return
        planes = np.frombuffer(content, np.uint8).reshape(self.item_bytes, -1)
        items = np.frombuffer(into, np.uint8).reshape(-1, self.item_bytes)
        for number, plane in enumerate(planes):
            items[:, number] = plane

    def _inflated(self, content: bytes) -> bytes:
        try:
            return zlib.decompressobj().decompress(content, self.row_bytes + 1)
        except zlib.error as error:
            raise self._damaged(str(error)) from None

    def _cut(self) -> TrackFileError:
        return TrackFileError(f"{self.path}: ends within a window; preprocess its clip again")

    def _damaged(self, reason: str) -> TrackFileError:
        return TrackFileError(f"{self.path}: holds a damaged window ({reason}); preprocess its clip again")


def pieces_of(data: h5py.Dataset | None, dtype: DTypeLike, path: Path) -> Pieces | None:
    """Where the rows of ``data`` are in ``path``.

    None where they are not plain rows of ``dtype``, each in one piece: those are to be read through HDF5.
    """
    if data is None or data.dtype != dtype or data.is_virtual or data.external or not len(data):
        return None
    if data.file.filename != str(path):  # an external link led to another file
        return None
    create = data.id.get_create_plist()
    filters = tuple(create.get_filter(number)[0] for number in range(create.get_nfilters()))
    if filters not in _PACKINGS or data.file.userblock_size:
        return None
    row_bytes = int(np.prod(data.shape[1:])) * data.dtype.itemsize
    if data.chunks is None:
        start = data.id.get_offset()
        starts = None if start is None else np.int64(start) + row_bytes * np.arange(len(data))
        return None if starts is None else Pieces(path, starts, row_bytes, data.dtype.itemsize)
    if data.chunks[1:] != data.shape[1:] or (filters and data.chunks[0] != 1):
        return None
    return _chunk_pieces(data, path, row_bytes, filters)


def _chunk_pieces(data: h5py.Dataset, path: Path, row_bytes: int, filters: tuple[int, ...]) -> Pieces | None:
    chunk_rows = data.chunks[0]
    found = np.full((-(-len(data) // chunk_rows), 3), -1)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        found[chunk.chunk_offset[0] // chunk_rows] = chunk.byte_offset, chunk.size, chunk.filter_mask

    # All in one go: asked for a single chunk, HDF5 walks over those before it.
    data.id.chunk_iter(note)
    starts, sizes, skipped = found.T.copy()
    if starts.min() < 0:
        return None
    if filters:
        # More than a row can be packed to; memory for it must not be taken.
        if (sizes > row_bytes + row_bytes // 64 + 64).any():
            return None
        return Pieces(path, starts, row_bytes, data.dtype.itemsize, filters, sizes, skipped)
    starts = (starts[:, None] + row_bytes * np.arange(chunk_rows)).reshape(-1)[: len(data)]
    return Pieces(path, starts, row_bytes, data.dtype.itemsize)
