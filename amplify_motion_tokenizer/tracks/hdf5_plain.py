"""Copies of track files in AMPLIFY's own layout, which its loader and other tools read: tracks of float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.files import atomic_path
from amplify_motion_tokenizer.tracks import hdf5_int16
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.tracks.hdf5_groups import damage_named, read_view, window_shape
from amplify_motion_tokenizer.tracks.hdf5_written import WrittenFile
from amplify_motion_tokenizer.tracks.record import FORMAT_VERSION

_TOGETHER = 64
"""Windows that are held at a time."""


def write_plain(source: Path, target: Path) -> None:
    """Writes the track file ``source`` as ``target``, the same numbers in float32; all else is copied.

    Raises:
        TrackFileError: ``source`` is no track file, or damaged.
        UsageError: ``target`` cannot be written.
    """
    clip = TrackFile(source, None)
    with clip.open() as old, atomic_path(target) as temporary, WrittenFile(temporary) as written:
        with h5py.File(written, "w") as new, damage_named(source):
            root = new.create_group("root")
            root.attrs.update(old["root"].attrs)
            if "format_version" in root.attrs:
                root.attrs["format_version"] = FORMAT_VERSION
            for view in clip.views:
                group = root.create_group(view.rsplit("/", 1)[-1])
                group.attrs.update(old[view].attrs)
                _copy_view(old[view], group, source)
        written.check()


def write_plain_tracks(clips: Mapping[str, Path], output: Path) -> None:
    """Writes track files by clip as ``<clip>.hdf5`` below ``output``, as ``write_plain`` does.

    Raises:
        TrackFileError: a file is none, is damaged, or would be written over.
    """
    targets = {name: output / f"{name}.hdf5" for name in clips}
    there = next((path for path in targets.values() if path.exists()), None)
    if there is not None:
        raise TrackFileError(f"{there}: exists, and nothing is overwritten; choose another folder")
    for name, source in clips.items():
        targets[name].parent.mkdir(parents=True, exist_ok=True)
        write_plain(source, targets[name])


def _copy_view(old: h5py.Group, new: h5py.Group, source: Path) -> None:
    packed = hdf5_int16.is_int16(old)
    for name, data in old.items():
        if not (packed and name in hdf5_int16.DATA_SETS):
            old.copy(data, new)
    if not packed:
        return
    windows, length, points = window_shape(old, source)
    shapes = {"tracks": (length, points, 2), "vis": (length, points)}
    made = [
        new.create_dataset(name, (windows, *shape), np.float32, chunks=(1, *shape))
        for name, shape in shapes.items()
    ]
    for first in range(0, windows, _TOGETHER):
        rows = range(first, min(first + _TOGETHER, windows))
        for data, values in zip(made, read_view(old, rows), strict=True):
            data[rows.start : rows.stop] = values
