"""A folder of track files as a few memory-mapped arrays, smaller and somewhat faster to train from.

``python -m amplify_motion_tokenizer.pack`` makes one. Its layout (S windows of all clips, V views, T
frames, N points)::

    pack.json            version, settings, views, length T, num_points N, units_per_px, max_error_px, and of
                         each clip in order: name, windows, sizes (height, width of each view, or null)
    first.npy            float32 (S, V, N, 2), (x, y) pixels of the tracked frames, positions in frame 0
    displacements.npy    int16 (S, V, T, N, 2), positions less those of frame 0, in 1 / units_per_px pixels;
                         LOST where a position is NaN or infinite
    visibility.npy       uint8 (S, V, T, N), confidence in 1 / 255; 0.5 stays on its side
    first_frames.npy     uint8 (S, V, h, w, 3), where the track files hold them

Displacements are rounded to the nearest unit, the finest power of two that the largest one allows, so a
position is off by at most half a unit (``max_error_px``).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from amplify_motion_tokenizer.demo_selection import select_demos
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.files import read_json, sync, write_json
from amplify_motion_tokenizer.track_files import TrackFile
from amplify_motion_tokenizer.track_rows import ViewArrays

INDEX = "pack.json"
"""Written last: a folder without it is no pack."""
FORMAT_VERSION = 1
LOST = -(2**15)
"""Stands for a position that is not finite."""
_LIMIT = 2**15 - 1
_MAX_UNITS = 256
"""Units in a pixel at most: finer than any tracker."""
_ROWS = 64
"""Windows that packing holds at a time."""


class PackArrays(NamedTuple):
    """The arrays of a pack, memory-mapped."""

    first: NDArray[np.float32]
    displacements: NDArray[np.int16]
    visibility: NDArray[np.uint8]
    first_frames: NDArray[np.uint8] | None

    def close(self) -> None:
        """Nothing to do: the mappings go with the arrays."""

    def __enter__(self) -> PackArrays:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PackedClip:
    """One clip of a pack, read as a ``TrackFile`` is.

    Args:
        folder: the pack.
        index: what its ``pack.json`` holds.
        number: of the clip, in the order of the index.
        first_row: its first window among all.
        views: those to read, in this order.

    Attributes: as those of ``TrackFile``, and
        view_rows: of each of the views, its place on the axis V.
    """

    def __init__(
        self, folder: Path, index: Mapping[str, Any], number: int, first_row: int, views: Sequence[str]
    ) -> None:
        clip = index["clips"][number]
        self.path = folder
        self.name: str = clip["name"]
        self.num_windows: int = clip["windows"]
        self.length: int = index["length"]
        self.num_points: int = index["num_points"]
        self.views = list(views)
        self.view_rows = [index["views"].index(view) for view in views]
        sizes = [clip["sizes"][row] for row in self.view_rows]
        self.sizes = [None if size is None else (int(size[0]), int(size[1])) for size in sizes]
        self.frame_size = None if index["frame_size"] is None else tuple(index["frame_size"])
        self.settings: dict[str, Any] | None = index["settings"]
        self.first_row = first_row
        self._px = np.float32(1 / index["units_per_px"])

    def open(self) -> PackArrays:
        """The arrays of the whole pack; a process may share them with its workers.

        Raises:
            TrackFileError: an array is missing or damaged.
        """
        return _open_arrays(self.path, frames=self.frame_size is not None)

    def read(self, arrays: PackArrays, rows: Sequence[int]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """As ``TrackFile.read``; lost positions are NaN."""
        at = self.first_row + np.asarray(rows)
        return [self.read_view(arrays, at, view) for view in self.view_rows]

    def read_view(
        self, arrays: PackArrays, at: NDArray[np.int64], view: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Windows ``at`` of the whole pack, as ``read`` gives them, of the view in place ``view``."""
        units = arrays.displacements[at, view]
        tracks = np.multiply(units, self._px, dtype=np.float32)
        tracks += arrays.first[at, view][:, None]
        if units.min(initial=0) == LOST:
            tracks[units == LOST] = np.nan
        return tracks, np.multiply(arrays.visibility[at, view], np.float32(1 / 255), dtype=np.float32)

    def check_first_frames(self) -> tuple[int, int]:
        """As ``TrackFile.check_first_frames``."""
        if self.frame_size is None:
            raise TrackFileError(
                f"{self.path}: holds no first frames of its windows; preprocess again with "
                "tracking.first_frames, and pack again"
            )
        return self.frame_size[0], self.frame_size[1]

    def read_first_frames(self, arrays: PackArrays, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        """As ``TrackFile.read_first_frames``."""
        return self.read_frames(arrays, self.first_row + np.asarray(rows))

    def read_frames(self, arrays: PackArrays, at: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """First frames of windows ``at`` of the whole pack."""
        self.check_first_frames()
        frames = arrays.first_frames
        return [] if frames is None else [frames[at, view] for view in self.view_rows]


class PackReader:
    """Reads windows of all clips of a pack, as ``TrackReader`` reads those of a file.

    Args:
        clip: any clip of the pack.
    """

    def __init__(self, clip: PackedClip) -> None:
        self._clip = clip
        self._arrays: PackArrays | None = None

    def close(self) -> None:
        """Lets go of the mappings."""
        self._arrays = None

    def read_into(
        self, rows: NDArray[np.int64], into: Sequence[ViewArrays], places: NDArray[np.int64]
    ) -> None:
        """As ``TrackReader.read_into``, with rows of the whole pack."""
        for view, arrays in zip(self._clip.view_rows, into, strict=True):
            arrays.tracks_xy_px[places], arrays.visibility[places] = self._clip.read_view(
                self._opened(), rows, view
            )

    def first_frames(self, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        """As ``TrackReader.first_frames``, with rows of the whole pack."""
        return self._clip.read_frames(self._opened(), np.asarray(rows))

    def _opened(self) -> PackArrays:
        if self._arrays is None:
            self._arrays = self._clip.open()
        return self._arrays


def is_pack(folder: Path) -> bool:
    """Whether ``folder`` holds a pack."""
    return (folder / INDEX).is_file()


def read_pack(folder: Path, views: Sequence[str], dataset: str | None = None) -> dict[str, PackedClip]:
    """The clips of a pack by name, in its order.

    Args:
        folder: the pack.
        views: those to read, in this order.
        dataset: a dataset string, which selects clips as ``select_demos`` does; None takes all.

    Raises:
        TrackFileError: its index is damaged or of another version, it lacks a view, or the dataset
            selects none.
        ConfigError: the dataset string is malformed.
    """
    try:
        index = read_json(folder / INDEX)
        if index["format_version"] != FORMAT_VERSION:
            raise TrackFileError(
                f"{folder / INDEX}: format version {index['format_version']}, expected {FORMAT_VERSION}; "
                "pack the track files again"
            )
        there = index["views"]
        missing = [view for view in views if view not in there]
        if missing and len(views) == len(there) == 1:
            views, missing = there, []  # as a file with one view serves as the default one
        if missing:
            raise TrackFileError(
                f"{folder}: lacks the view {missing[0]}; it holds {', '.join(there)}; set data.views to those"
            )
        rows = np.cumsum([0, *(clip["windows"] for clip in index["clips"])])
        clips = [PackedClip(folder, index, i, int(rows[i]), views) for i in range(len(index["clips"]))]
    except (UsageError, KeyError, TypeError, IndexError) as error:
        raise TrackFileError(f"{folder / INDEX}: is damaged ({error}); pack the track files again") from None
    by_name = {clip.name: clip for clip in clips}
    names = list(by_name) if dataset is None else select_demos(list(by_name), dataset)
    return {name: by_name[name] for name in names}


def write_pack(clips: Mapping[str, TrackFile], output: Path) -> dict[str, Any]:
    """Packs track files into the new folder ``output``; returns the content of its index.

    Raises:
        UsageError: ``output`` exists, or cannot be written.
        TrackFileError: a file is damaged, or files differ in T, N, views or size of their first frames.
    """
    if output.exists():
        raise UsageError(f"{output} exists; choose another name, nothing is overwritten")
    index = _index(clips)
    unfinished = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        _write_arrays(clips, unfinished, index)
        for array in unfinished.glob("*.npy"):
            sync(array)
        write_json(unfinished / INDEX, index)
        unfinished.rename(output)
        sync(output.parent)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return index


def _index(clips: Mapping[str, TrackFile]) -> dict[str, Any]:
    first = next(iter(clips.values()))
    for clip in clips.values():
        for fact in ("views", "length", "num_points", "frame_size", "settings"):
            found, expected = getattr(clip, fact), getattr(first, fact)
            if found != expected:
                raise TrackFileError(
                    f"{clip.path}: {fact} is {found}, and {expected} in {first.path}; pack files of one kind"
                )
    units = _units_per_px(clips)
    return {
        "format_version": FORMAT_VERSION,
        "settings": first.settings,
        "views": [view.rsplit("/", 1)[-1] for view in first.views],
        "length": first.length,
        "num_points": first.num_points,
        "frame_size": first.frame_size,
        "units_per_px": units,
        "max_error_px": 0.5 / units,
        "clips": [
            {"name": name, "windows": clip.num_windows, "sizes": clip.sizes} for name, clip in clips.items()
        ],
    }


def _units_per_px(clips: Mapping[str, TrackFile]) -> float:
    """The finest unit that holds every displacement, a power of two."""
    largest = 0.0
    for clip, file, rows in _batches(clips, "measure"):
        for tracks, _ in clip.read(file, rows):
            moved = np.abs(tracks - tracks[:, :1])
            largest = max(largest, float(moved[np.isfinite(moved)].max(initial=0.0)))
    units = float(_MAX_UNITS)
    while largest * units > _LIMIT - 1:
        units /= 2
    return units


def _batches(clips: Mapping[str, TrackFile], title: str) -> Iterator[tuple[TrackFile, Any, list[int]]]:
    total = sum(clip.num_windows for clip in clips.values())
    with tqdm(total=total, unit="window", desc=title) as progress:
        for clip in clips.values():
            with clip.open() as file:
                for first in range(0, clip.num_windows, _ROWS):
                    rows = list(range(first, min(first + _ROWS, clip.num_windows)))
                    yield clip, file, rows
                    progress.update(len(rows))


def _write_arrays(clips: Mapping[str, TrackFile], folder: Path, index: Mapping[str, Any]) -> None:
    total = sum(clip.num_windows for clip in clips.values())
    views, length, points = len(index["views"]), index["length"], index["num_points"]

    def create(name: str, dtype: type, *shape: int) -> NDArray[Any]:
        return np.lib.format.open_memmap(folder / name, "w+", dtype, (total, views, *shape))

    first = create("first.npy", np.float32, points, 2)
    displacements = create("displacements.npy", np.int16, length, points, 2)
    visibility = create("visibility.npy", np.uint8, length, points)
    frames = None
    if index["frame_size"] is not None:
        frames = create("first_frames.npy", np.uint8, *index["frame_size"], 3)
    row = 0
    for clip, file, rows in _batches(clips, "pack"):
        to = slice(row, row + len(rows))
        for view, (tracks, confidence) in enumerate(clip.read(file, rows)):
            first[to, view] = tracks[:, 0]
            displacements[to, view] = _to_units(tracks, index["units_per_px"])
            visibility[to, view] = np.floor(confidence.clip(0, 1) * 255 + 0.5)
        if frames is not None:
            frames[to] = np.stack(clip.read_first_frames(file, rows), axis=1)
        row += len(rows)


def _to_units(tracks: NDArray[np.float32], units_per_px: float) -> NDArray[np.int16]:
    moved = (tracks - tracks[:, :1]) * np.float32(units_per_px)
    return np.where(np.isfinite(moved), np.rint(moved), LOST).astype(np.int16)


def _open_arrays(folder: Path, frames: bool) -> PackArrays:
    names = ["first", "displacements", "visibility"] + ["first_frames"] * frames
    try:
        arrays: list[Any] = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]
    except (OSError, ValueError) as error:
        raise TrackFileError(f"{folder}: is damaged ({error}); pack the track files again") from None
    return PackArrays(*arrays, *[None] * (len(PackArrays._fields) - len(arrays)))
