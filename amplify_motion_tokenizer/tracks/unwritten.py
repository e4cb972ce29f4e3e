"""Rows of track files that have room and were never written, which must not read as points at rest."""

from __future__ import annotations

import h5py
import numpy as np
from numpy.typing import NDArray


def lose_unwritten(tracks: NDArray[np.float32], fill: float) -> NDArray[np.float32]:
    """Makes windows NaN that hold nothing but ``fill``, what a file gives for rows that were never written.

    They would read as points that rest in one place, all of them in the same. No grid of points does.

    Args:
        tracks: (R, T, N, 2), changed in place.
        fill: of the data set, mostly 0.
    """
    for row in np.flatnonzero((tracks[:, :1] == fill).all(axis=(1, 2, 3))):
        if (tracks[row] == fill).all():
            tracks[row] = np.nan
    return tracks


def count_unwritten(data: h5py.Dataset) -> int:
    """Rows for which no room was taken yet, where one tells; others may be unwritten too."""
    if data.is_virtual or data.external or not len(data):
        return 0
    if data.chunks is None:
        return 0 if data.id.get_storage_size() else len(data)
    row_bytes = int(np.prod(data.shape[1:])) * data.dtype.itemsize
    if data.id.get_create_plist().get_nfilters() or data.chunks[1:] != data.shape[1:] or not row_bytes:
        return 0
    written: int = data.id.get_storage_size() // row_bytes
    return max(0, len(data) - written)
