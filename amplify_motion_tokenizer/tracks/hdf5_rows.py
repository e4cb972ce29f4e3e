"""Reads windows of a track file straight from the places in the file that HDF5 tells of once.

On one core a window of 400 tracks took 75 us through HDF5 and its file 400 us to open, against 5 us for the
bytes. What HDF5 has in another form (compressed, of another type, in pieces) is still read through it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.tracks.hdf5_groups import damage_named
from amplify_motion_tokenizer.tracks.stored import ViewArrays
from amplify_motion_tokenizer.tracks.unwritten import lose_unwritten

if TYPE_CHECKING:
    from amplify_motion_tokenizer.tracks.hdf5 import TrackFile

Rows = NDArray[np.int64]
"""(S,) where each window of a data set begins, in bytes from the start of the file."""


class TrackReader:
    """Reads one track file in one process; it may be closed at any time, and opens again when it is asked.

    Args:
        clip: the file; its ``views`` are read.
    """

    def __init__(self, clip: TrackFile) -> None:
        self._clip = clip
        self._descriptor: int | None = None
        self._hdf5: h5py.File | None = None
        self._identity: tuple[int, ...] = ()
        self._places: list[tuple[Rows, Rows]] | None = None
        self._fills: list[float] = []
        self._valid_steps: Rows | None = None

    def close(self) -> None:
        """Closes the file; where the windows lie in it is remembered."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._hdf5 is not None:
            self._hdf5.close()
        self._descriptor = self._hdf5 = None

    def __del__(self) -> None:
        self.close()

    def read_into(
        self, rows: Sequence[int] | Rows, into: Sequence[ViewArrays], places: Sequence[int] | Rows
    ) -> None:
        """Puts window ``rows[i]`` of each view at ``places[i]`` of its arrays.

        Raises:
            TrackFileError: the file is gone or damaged.
        """
        descriptor = self._open() if self._descriptor is None else self._descriptor
        if self._places is None:
            read = self._clip.read(self._through_hdf5(), list(rows))
            for arrays, (tracks, visibility) in zip(into, read, strict=True):
                arrays.tracks_xy_px[places], arrays.visibility[places] = tracks, visibility
            return
        for arrays, starts, fill in zip(into, self._places, self._fills, strict=True):
            for array, start in zip(arrays, starts, strict=True):
                window_bytes, content = array[0].nbytes, array.data.cast("B")
                targets = (np.asarray(places) * window_bytes).tolist()
                for offset, target in zip(start[rows].tolist(), targets, strict=True):
                    window = content[target : target + window_bytes]
                    if os.preadv(descriptor, [window], offset) != window_bytes:
                        raise TrackFileError(
                            f"{self._clip.path}: ends within a window; preprocess its clip again"
                        )
            if not math.isnan(fill):
                tracks = arrays.tracks_xy_px
                for place in (at for at in places if (tracks[at, 0] == fill).all()):
                    lose_unwritten(tracks[place : place + 1], fill)

    def valid_steps(self, rows: Sequence[int] | Rows) -> NDArray[np.int64]:
        """(R,) of windows ``rows``, as ``TrackFile.valid_steps``.

        Raises:
            TrackFileError: the file is gone or damaged.
        """
        if self._descriptor is None:
            self._open()
        assert self._valid_steps is not None, "found with the places of the windows"
        return self._valid_steps[rows]

    def first_frames(self, rows: Sequence[int] | Rows) -> list[NDArray[np.uint8]]:
        """As ``TrackFile.read_first_frames``."""
        return self._clip.read_first_frames(self._through_hdf5(), list(rows))

    def _through_hdf5(self) -> h5py.File:
        if self._hdf5 is None:
            self._hdf5 = self._clip.open()
        return self._hdf5

    def _open(self) -> int:
        try:
            self._descriptor = os.open(self._clip.path, os.O_RDONLY)
        except OSError as error:
            raise TrackFileError(
                f"{self._clip.path}: cannot be opened any more ({error.strerror}); run the command again"
            ) from None
        state = os.fstat(self._descriptor)
        identity = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
        if identity != self._identity:
            # The first time, or the file was made anew since.
            try:
                self._places = self._find_places()
            except TrackFileError:
                self.close()
                raise
            self._identity = identity
        return self._descriptor

    def _find_places(self) -> list[tuple[Rows, Rows]] | None:
        """Where the windows of each view lie; None where one must be read through HDF5."""
        with self._clip.open() as file, damage_named(self._clip.path):
            self._clip.check_unchanged(file)
            self._valid_steps = self._clip.valid_steps(file)
            if not hasattr(os, "preadv"):
                return None
            views = self._clip.data_sets(file)
            self._fills = [float(tracks.fillvalue) for tracks, _ in views]
            found = [tuple(_row_places(data, self._clip.path) for data in view) for view in views]
        places = [(tracks, seen) for tracks, seen in found if tracks is not None and seen is not None]
        return places if len(places) == len(found) else None


def _row_places(data: h5py.Dataset | None, path: Path) -> Rows | None:
    """Where rows of ``data`` begin in ``path``; None where they are not plain float32, each in one piece."""
    if data is None or data.dtype != np.float32 or data.is_virtual or data.external or not len(data):
        return None
    if data.file.filename != str(path):  # an external link led to another file
        return None
    create = data.id.get_create_plist()
    if create.get_nfilters() or data.file.userblock_size:
        return None
    row_bytes = int(np.prod(data.shape[1:])) * data.dtype.itemsize
    if data.chunks is None:
        start = data.id.get_offset()
        return None if start is None else np.int64(start) + row_bytes * np.arange(len(data))
    if data.chunks[1:] != data.shape[1:]:
        return None
    chunk_rows = data.chunks[0]
    starts = np.full(-(-len(data) // chunk_rows), -1)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        starts[chunk.chunk_offset[0] // chunk_rows] = chunk.byte_offset

    # All in one go: asked for a single chunk, HDF5 walks over those before it.
    data.id.chunk_iter(note)
    if starts.min() < 0:
        return None
    offsets: Rows = (starts[:, None] + row_bytes * np.arange(chunk_rows)).reshape(-1)
    return offsets[: len(data)]
