"""Reads windows of a track file for a loader, past HDF5 where it can be.

What HDF5 has in a form that ``hdf5_pieces`` does not know is read through it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.tracks import hdf5_int16
from amplify_motion_tokenizer.tracks.hdf5_groups import damage_named
from amplify_motion_tokenizer.tracks.hdf5_int16 import CONFIDENCE, MOVES, decode, decode_confidence
from amplify_motion_tokenizer.tracks.hdf5_pieces import Pieces, Rows, pieces_of
from amplify_motion_tokenizer.tracks.stored import ViewArrays
from amplify_motion_tokenizer.tracks.unwritten import lose_unwritten

if TYPE_CHECKING:
    from amplify_motion_tokenizer.tracks.hdf5 import TrackFile


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
        self._views: list[_View] | None = None
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
        if self._views is None:
            read = self._clip.read(self._through_hdf5(), list(rows))
            for arrays, (tracks, visibility) in zip(into, read, strict=True):
                arrays.tracks_xy_px[places], arrays.visibility[places] = tracks, visibility
            return
        at = list(zip(np.asarray(rows).tolist(), np.asarray(places).tolist(), strict=True))
        for arrays, view in zip(into, self._views, strict=True):
            for row, place in at:
                view.read(descriptor, row, arrays.tracks_xy_px[place], arrays.visibility[place])

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
                self._views = self._find_places()
            except TrackFileError:
                self.close()
                raise
            self._identity = identity
        return self._descriptor

    def _find_places(self) -> list[_View] | None:
        """Where the windows of each view lie; None where one must be read through HDF5."""
        with self._clip.open() as file, damage_named(self._clip.path):
            self._clip.check_unchanged(file)
            self._valid_steps = self._clip.valid_steps(file)
            if not hasattr(os, "preadv"):
                return None
            found = [self._view(file[view]) for view in self._clip.views]
        views = [view for view in found if view is not None]
        return views if len(views) == len(found) else None

    def _view(self, group: h5py.Group) -> _View | None:
        path = self._clip.path
        if hdf5_int16.is_int16(group):
            moves = pieces_of(group[MOVES], np.int16, path)
            levels = pieces_of(group[CONFIDENCE], np.uint8, path)
            if moves is None or levels is None:
                return None
            steps, queries = hdf5_int16.steps_and_queries(group, path)
            rooms = (np.empty(group[name].shape[1:], group[name].dtype) for name in (MOVES, CONFIDENCE))
            return _Int16View(moves, levels, steps, queries, *rooms)
        data = group["tracks"]
        tracks, seen = (pieces_of(each, np.float32, path) for each in (data, group.get("vis")))
        return None if tracks is None or seen is None else _Float32View(tracks, seen, float(data.fillvalue))


class _View(Protocol):
    """The windows of one view in a file."""

    def read(self, descriptor: int, row: int, tracks: NDArray[np.float32], seen: NDArray[np.float32]) -> None:
        """Puts window ``row`` of the open file in ``tracks`` (T, N, 2) and ``seen`` (T, N)."""


class _Float32View(NamedTuple):
    """Positions as they are."""

    tracks: Pieces
    seen: Pieces
    fill: float
    """What rows hold that were never written."""

    def read(self, descriptor: int, row: int, tracks: NDArray[np.float32], seen: NDArray[np.float32]) -> None:
        """As in ``_View``."""
        self.tracks.read(descriptor, row, tracks.data.cast("B"))
        self.seen.read(descriptor, row, seen.data.cast("B"))
        if not math.isnan(self.fill) and (tracks[0] == self.fill).all():
            lose_unwritten(tracks[None], self.fill)


class _Int16View(NamedTuple):
    """Moves as whole numbers (``hdf5_int16``)."""

    moves: Pieces
    levels: Pieces
    steps: NDArray[np.float32]
    queries: NDArray[np.float32]
    read_moves: NDArray[np.int16]
    """(T - 1, N, 2), for what is read."""
    read_levels: NDArray[np.uint8]
    """(T, N), for what is read."""

    def read(self, descriptor: int, row: int, tracks: NDArray[np.float32], seen: NDArray[np.float32]) -> None:
        """As in ``_View``."""
        self.moves.read(descriptor, row, self.read_moves.data.cast("B"))
        self.levels.read(descriptor, row, self.read_levels.data.cast("B"))
        decode(self.read_moves, self.steps[row], self.queries, tracks)
        decode_confidence(self.read_levels, seen)
