"""Appends windows to the data sets of a view in an HDF5 track file; ``hdf5`` has the layout."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config.tracks import Store
from amplify_motion_tokenizer.trackers.rounding import STEPS_PX
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks import hdf5_int16
from amplify_motion_tokenizer.tracks.hdf5_int16 import CONFIDENCE, LOST, MOVES, QUERIES, STEP

_TOGETHER = 16
"""Windows that are written at once: a call of HDF5 takes longer than its bytes."""
_CHUNK_ROWS = {0: 256, 1: 64}
"""Windows in a chunk of arrays with so many axes; of others one, as one is what a loader reads."""
_FILLS = {"tracks": np.nan, MOVES: LOST, STEP: STEPS_PX[0]}
"""What rows read as that are never written: positions as lost."""
_PACKED = ("first_frames", "source_frame")
"""Data sets that gzip shrinks: frames to three quarters and less, their numbers to almost nothing."""


class ViewRows:
    """The data sets of one view, as they grow.

    Args:
        group: the view's group in the open file.
        store: ``tracking.store``. Windows that int16 cannot hold exactly make the view one of float32.
    """

    def __init__(self, group: h5py.Group, store: Store) -> None:
        self._group = group
        self._int16, self._gzip = store != "float32", store == "gzip"
        self._data: dict[str, h5py.Dataset] = {}
        self._waiting: list[dict[str, NDArray[Any]]] = []

    @property
    def is_int16(self) -> bool:
        """Whether windows were written, and are int16."""
        return MOVES in self._data

    def append(self, window: WindowTracks) -> None:
        """Adds a window to the end of every data set, some windows later."""
        self._waiting.append(_row(window))
        if len(self._waiting) == _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Writes what waits to be written."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        columns = {name: np.stack([row[name] for row in waiting]) for name in waiting[0]}
        self._write(self._smaller(columns) if self._int16 else columns)

    def finish(self, length: int, points: int, frame_shape: tuple[int, ...] | None) -> None:
        """Writes the rest; of a view without windows data sets of no rows, T frames and N points.

        Args:
            length: T.
            points: N.
            frame_shape: of a first frame; None where none are kept.
        """
        self.flush()
        if self._data:
            return
        kinds: dict[str, tuple[type, tuple[int, ...]]] = {
            "tracks": (np.float32, (length, points, 2)),
            "vis": (np.float32, (length, points)),
            "start_frame": (np.int64, ()),
            "start_time": (np.float64, ()),
            "step_seconds": (np.float64, ()),
            "source_frame": (np.int64, (length,)),
            "valid_steps": (np.int64, ()),
        }
        if frame_shape is not None:
            kinds["first_frames"] = np.uint8, frame_shape
        for name, (dtype, shape) in kinds.items():
            self._group.create_dataset(name, (0, *shape), dtype)

    def _smaller(self, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """``columns`` with int16 rows in the place of tracks, where these are rounded."""
        tracks, confidence = columns["tracks"], columns["vis"]
        if QUERIES not in self._group:
            self._group[QUERIES] = tracks[0, 0]
        rows = hdf5_int16.encoded(tracks, confidence, self._group[QUERIES][:])
        if rows is None:
            self._widen()
            return columns
        return rows | {name: column for name, column in columns.items() if name not in ("tracks", "vis")}

    def _widen(self) -> None:
        """Makes the view one of float32, with what was written before."""
        self._int16 = False
        if MOVES in self._data:
            queries = self._group[QUERIES][:]
            for first in range(0, len(self._data[MOVES]), _TOGETHER):
                rows = (self._data[name][first : first + _TOGETHER] for name in (STEP, MOVES, CONFIDENCE))
                steps, moves, levels = rows
                tracks, seen = hdf5_int16.read_int16(steps, queries, moves, levels)
                self._write({"tracks": tracks, "vis": seen})
        for name in hdf5_int16.DATA_SETS:
            self._data.pop(name, None)
            if name in self._group:
                del self._group[name]

    def _write(self, columns: dict[str, NDArray[Any]]) -> None:
        for name, rows in columns.items():
            if name not in self._data:
                self._data[name] = self._created(name, rows)
            data = self._data[name]
            count = data.shape[0]
            data.resize(count + len(rows), axis=0)
            data[count:] = rows

    def _created(self, name: str, rows: NDArray[Any]) -> h5py.Dataset:
        shape = rows.shape[1:]
        packed = name in _PACKED or (self._gzip and name in (MOVES, CONFIDENCE))
        return self._group.create_dataset(
            name,
            (0, *shape),
            rows.dtype,
            maxshape=(None, *shape),
            chunks=(_CHUNK_ROWS.get(len(shape), 1), *shape),
            fillvalue=_FILLS.get(name),
            # High and low bytes apart, as those that change little shrink most.
            shuffle=packed and name == MOVES,
            **({"compression": "gzip", "compression_opts": 1} if packed else {}),
        )


def _row(window: WindowTracks) -> dict[str, NDArray[Any]]:
    """The window's row of each data set."""
    step_seconds = np.nan if window.step_seconds is None else window.step_seconds
    row: dict[str, NDArray[Any]] = {
        "tracks": np.asarray(window.tracks_xy_px, np.float32),
        "vis": np.asarray(window.visibility, np.float32),
        "start_frame": np.asarray(window.start, np.int64),
        "start_time": np.asarray(window.time_s, np.float64),
        "step_seconds": np.asarray(step_seconds, np.float64),
        "source_frame": np.asarray(window.source_frames or [-1] * len(window.visibility), np.int64),
        "valid_steps": np.asarray(window.valid_steps, np.int64),
    }
    more = {"first_frames": window.first_frame, "camera": window.camera}
    return row | {name: value for name, value in more.items() if value is not None}
