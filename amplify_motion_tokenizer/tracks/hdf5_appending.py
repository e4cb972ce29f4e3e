"""Appends windows to the data sets of a view in an HDF5 track file; ``hdf5`` has the layout."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.trackers.windows import WindowTracks

_TOGETHER = 16
"""Windows that are written at once: a call of HDF5 takes longer than its bytes."""
_CHUNK_ROWS = {0: 1024, 1: 256}
"""Windows in a chunk of arrays with so many axes; of others one, as one is what a loader reads."""
_PACKED = ("first_frames", "source_frame")
"""Data sets that gzip shrinks: frames to three quarters and less, their numbers to almost nothing."""


class ViewRows:
    """The data sets of one view, as they grow.

    Args:
        group: the view's group in the open file.
    """

    def __init__(self, group: h5py.Group) -> None:
        self._group = group
        self._data: dict[str, h5py.Dataset] = {}
        self._waiting: list[dict[str, NDArray[Any]]] = []

    def append(self, window: WindowTracks) -> None:
        """Adds a window to the end of every data set, some windows later."""
        self._waiting.append(_row(window))
        if len(self._waiting) == _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Writes what waits to be written."""
        waiting, self._waiting = self._waiting, []
        for name in waiting[0] if waiting else ():
            rows = np.stack([row[name] for row in waiting])
            if name not in self._data:
                self._data[name] = self._created(name, rows)
            data = self._data[name]
            count = data.shape[0]
            data.resize(count + len(rows), axis=0)
            data[count:] = rows

    def _created(self, name: str, rows: NDArray[Any]) -> h5py.Dataset:
        shape = rows.shape[1:]
        return self._group.create_dataset(
            name,
            (0, *shape),
            rows.dtype,
            maxshape=(None, *shape),
            chunks=(_CHUNK_ROWS.get(len(shape), 1), *shape),
            # Rows of tracks that are never written read as lost.
            fillvalue=np.nan if name == "tracks" else None,
            **({"compression": "gzip", "compression_opts": 1} if name in _PACKED else {}),
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
