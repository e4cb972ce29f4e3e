"""A folder of track files as a few memory-mapped arrays, smaller and somewhat faster to train from.

``python -m amplify_motion_tokenizer pack`` makes one. Its layout (S windows of all clips, V views, T
frames, N points)::

    pack.json            version, settings, views, length T, num_points N, max_error_px, and of each clip in
                         order: name, windows, sizes (height, width of each view, or null), fps and
                         source_fps (or null; older packs lack them), max_error_px
    first.npy            float32 (S, V, N, 2), (x, y) pixels of the tracked frames, in the first frame where
                         they are not lost, which is mostly frame 0; 0 where all are lost
    units.npy            int8 (S, V, N), a track's unit is 2**units pixels
    displacements.npy    int16 (S, V, T, N, 2), positions less those of ``first``, in the track's unit; LOST
                         where a position is NaN, infinite or FAR
    visibility.npy       uint8 (S, V, T, N), confidence in 1 / 200, rounded down; UNSEEN where it is NaN or
                         negative, which no threshold passes
    first_frames.npy     uint8 (S, V, h, w, 3), where the track files hold them

Displacements are rounded to the nearest unit: 1/256 pixel, or where a track goes 128 pixels or further from
its first position, the finest power of two that holds it. So positions are off by at most half a unit
(``max_error_px``), and a stray point spoils its own track of that window alone. A confidence reads up to
1/200 too low, and stays on its side of every threshold that is a multiple of 0.005, such as 0.25 and 0.6;
where windows are resampled in time, one that is interpolated may not.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config.gone import settings_now
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.file_names import PACK_INDEX
from amplify_motion_tokenizer.files import read_json, sync, write_json
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.tracks.selection import select_demos
from amplify_motion_tokenizer.tracks.stored import PositionClip, ViewArrays

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
LOST = -(2**15)
"""Stands for a position that is lost."""
UNSEEN = 255
"""Stands for a confidence that is NaN or negative."""
WARN_ERROR_PX = 1 / 16
"""Clips with positions that may be further off are named in a warning."""
FAR = 2.0**100
"""Pixels from which a position is lost too, so that float32 holds all displacements."""
_LIMIT = 2**15 - 1
_FINEST = -8
"""The finest unit's power of two: finer than any tracker."""
_LEVELS = 200
_CONFIDENCES = np.arange(_LEVELS + 1, dtype=np.float32) / np.float32(_LEVELS)
"""What the numbers of ``visibility.npy`` stand for."""
_NAMED = 10
"""Clips that the warning names."""
_ROWS = 64
"""Windows that packing holds at a time."""


class PackArrays(NamedTuple):
    """The arrays of a pack, memory-mapped."""

    first: NDArray[np.float32]
    units: NDArray[np.int8]
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

    stores: Literal["positions"] = "positions"

    def __init__(
        self, folder: Path, index: Mapping[str, Any], number: int, first_row: int, views: Sequence[str]
    ) -> None:
        clip = index["clips"][number]
        self.path = folder
        self.name: str = clip["name"]
        self.num_windows: int = clip["windows"]
        self.fps: float | None = clip.get("fps")
        self.source_fps: float | None = clip.get("source_fps")
        self.length: int = index["length"]
        self.num_points: int = index["num_points"]
        self.views = list(views)
        self.view_rows = [index["views"].index(view) for view in views]
        sizes = [clip["sizes"][row] for row in self.view_rows]
        self.sizes = [None if size is None else (int(size[0]), int(size[1])) for size in sizes]
        size = index["frame_size"]
        self.frame_size = None if size is None else (int(size[0]), int(size[1]))
        made = index["settings"]
        self.settings: dict[str, Any] | None = None if made is None else settings_now(made)
        self.first_row = first_row
        self._index = index

    def reader(self) -> PackReader:
        """What reads windows of the whole pack for a loader; it belongs to one process."""
        return PackReader(self)

    def open(self) -> PackArrays:
        """The arrays of the whole pack; a process may share them with its workers.

        Raises:
            TrackFileError: an array is missing or damaged, or another pack has taken the place of this one.
        """
        arrays = _open_arrays(self.path, frames=self.frame_size is not None)
        if read_json(self.path / PACK_INDEX) != self._index:
            raise TrackFileError(f"{self.path}: has changed since it was indexed; start again")
        return arrays

    def read(self, arrays: PackArrays, rows: Sequence[int]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """As ``TrackFile.read``; lost positions are NaN, and so are confidences that are UNSEEN."""
        at = self.first_row + np.asarray(rows)
        return [self.read_view(arrays, at, view) for view in self.view_rows]

    def read_view(
        self, arrays: PackArrays, at: NDArray[np.int64], view: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Windows ``at`` of the whole pack, as ``read`` gives them, of the view in place ``view``."""
        moved = arrays.displacements[at, view]
        first = arrays.first[at, view]
        # As many units as numbers in ``first``: numpy multiplies by one unit for two numbers far slower.
        unit_px = np.ldexp(np.float32(1), arrays.units[at, view]).repeat(2, axis=-1).reshape(first.shape)
        tracks = np.multiply(moved, unit_px[:, None], dtype=np.float32)
        tracks += first[:, None]
        if moved.min(initial=0) == LOST:
            tracks[moved == LOST] = np.nan
        seen = arrays.visibility[at, view]
        confidence = np.divide(seen, np.float32(_LEVELS), dtype=np.float32)
        if seen.max(initial=0) == UNSEEN:
            confidence[seen == UNSEEN] = np.nan
        return tracks, confidence

    def check_first_frames(self) -> tuple[int, int]:
        """As ``TrackFile.check_first_frames``."""
        if self.frame_size is None:
            raise TrackFileError(
                f"{self.path}: holds no first frames of its windows; preprocess again with "
                "tracking.first_frames, and pack again"
            )
        return self.frame_size

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

    def first_frames(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """As ``TrackReader.first_frames``, with rows of the whole pack."""
        return self._clip.read_frames(self._opened(), rows)

    def _opened(self) -> PackArrays:
        if self._arrays is None:
            self._arrays = self._clip.open()
        return self._arrays


def read_pack(folder: Path, views: Sequence[str] | None, dataset: str | None = None) -> dict[str, PackedClip]:
    """The clips of a pack by name, in its order.

    Args:
        folder: the pack.
        views: those to read, in this order; None reads all.
        dataset: a dataset string, which selects clips as ``select_demos`` does; None takes all.

    Raises:
        TrackFileError: its index is damaged or of another version, it lacks a view, or the dataset
            selects none.
        ConfigError: the dataset string is malformed.
    """
    try:
        index = read_json(folder / PACK_INDEX)
        if index["format_version"] != FORMAT_VERSION:
            raise TrackFileError(
                f"{folder / PACK_INDEX}: format version {index['format_version']}, expected "
                f"{FORMAT_VERSION}; pack the track files again"
            )
        there = index["views"]
        views = there if views is None else views
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
        raise TrackFileError(
            f"{folder / PACK_INDEX}: is damaged ({error}); pack the track files again"
        ) from None
    by_name = {clip.name: clip for clip in clips}
    names = list(by_name) if dataset is None else select_demos(list(by_name), dataset)
    return {name: by_name[name] for name in names}


def write_pack(clips: Mapping[str, PositionClip], output: Path) -> dict[str, Any]:
    """Packs track files into the new folder ``output``; returns the content of its index.

    Warns of clips with positions that may be off by more than WARN_ERROR_PX.

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
        errors_px = _write_arrays(clips, unfinished, index)
        index["max_error_px"] = max(errors_px.values())
        for clip in index["clips"]:
            clip["max_error_px"] = errors_px[clip["name"]]
        for array in unfinished.glob("*.npy"):
            sync(array)
        write_json(unfinished / PACK_INDEX, index)
        unfinished.rename(output)
        sync(output.parent)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _warn_of_errors(errors_px)
    return index


def _index(clips: Mapping[str, PositionClip]) -> dict[str, Any]:
    first = next(iter(clips.values()))
    for clip in clips.values():
        for fact in ("views", "length", "num_points", "frame_size", "settings"):
            found, expected = getattr(clip, fact), getattr(first, fact)
            if found != expected:
                raise TrackFileError(
                    f"{clip.path}: {fact} is {found}, and {expected} in {first.path}; pack files of one kind"
                )
    return {
        "format_version": FORMAT_VERSION,
        "settings": first.settings,
        "views": [view.rsplit("/", 1)[-1] for view in first.views],
        "length": first.length,
        "num_points": first.num_points,
        "frame_size": first.frame_size,
        "clips": [
            {
                "name": name,
                "windows": clip.num_windows,
                "sizes": clip.sizes,
                "fps": clip.fps,
                "source_fps": clip.source_fps,
            }
            for name, clip in clips.items()
        ],
    }


def _warn_of_errors(errors_px: Mapping[str, float]) -> None:
    """Names the clips with positions that may be off by more than WARN_ERROR_PX, the worst first."""
    coarse = sorted(
        ((error, name) for name, error in errors_px.items() if error > WARN_ERROR_PX), reverse=True
    )
    if coarse:
        named = ", ".join(f"{name} (up to {error:g} px)" for error, name in coarse[:_NAMED])
        logger.warning(
            "%d of %d clips have points that stray by thousands of pixels, whose tracks are off by more than "
            "%g px: %s%s; look at these clips, or leave them out",
            len(coarse),
            len(errors_px),
            WARN_ERROR_PX,
            named,
            f" and {len(coarse) - _NAMED} more, see max_error_px in {PACK_INDEX}"
            if len(coarse) > _NAMED
            else "",
        )


def _batches(clips: Mapping[str, PositionClip]) -> Iterator[tuple[str, Any, list[int]]]:
    total = sum(clip.num_windows for clip in clips.values())
    with Progress(total, "window", label="pack") as progress:
        for name, clip in clips.items():
            with clip.open() as file:
                for first in range(0, clip.num_windows, _ROWS):
                    rows = list(range(first, min(first + _ROWS, clip.num_windows)))
                    yield name, file, rows
                    progress.update(len(rows))


def _write_arrays(
    clips: Mapping[str, PositionClip], folder: Path, index: Mapping[str, Any]
) -> dict[str, float]:
    """Returns by how many pixels a position of each clip may be off; 0 for those without windows."""
    total = sum(clip.num_windows for clip in clips.values())
    views, length, points = len(index["views"]), index["length"], index["num_points"]

    def create(name: str, dtype: type, *shape: int) -> NDArray[Any]:
        return np.lib.format.open_memmap(folder / name, "w+", dtype, (total, views, *shape))

    first = create("first.npy", np.float32, points, 2)
    units = create("units.npy", np.int8, points)
    displacements = create("displacements.npy", np.int16, length, points, 2)
    visibility = create("visibility.npy", np.uint8, length, points)
    frames = None
    if index["frame_size"] is not None:
        frames = create("first_frames.npy", np.uint8, *index["frame_size"], 3)
    row, errors_px = 0, dict.fromkeys(clips, 0.0)
    for name, file, rows in _batches(clips):
        to = slice(row, row + len(rows))
        for view, (tracks, confidence) in enumerate(clips[name].read(file, rows)):
            first[to, view], units[to, view], displacements[to, view] = _packed_tracks(tracks)
            visibility[to, view] = _packed_visibility(confidence)
        if frames is not None:
            frames[to] = np.stack(clips[name].read_first_frames(file, rows), axis=1)
        errors_px[name] = max(errors_px[name], 0.5 * 2.0 ** float(units[to].max(initial=_FINEST)))
        row += len(rows)
    return errors_px


def _packed_tracks(
    tracks: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]], NDArray[np.int16]]:
    """``first``, ``units`` and ``displacements`` of tracks (R, T, N, 2)."""
    known = np.abs(tracks) < FAR
    tracks = np.where(known, tracks, np.float32(0))
    first = np.take_along_axis(tracks, known.argmax(axis=1)[:, None], axis=1)
    moved = np.where(known, tracks - first, np.float32(0))
    # The larger of x and y; below 1 px the finest unit serves anyway, and no power of two is that of 0.
    largest = np.abs(moved).max(axis=(1, 3), initial=1)
    units = np.maximum(np.frexp(largest / _LIMIT)[1], _FINEST)
    counts = np.rint(np.ldexp(moved, -units[:, None, :, None]))
    return first[:, 0], units, np.where(known, counts, LOST).astype(np.int16)


def _packed_visibility(confidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Levels of confidences (R, T, N); compared, not multiplied, so that each stays on its level's side."""
    levels = np.searchsorted(_CONFIDENCES, confidence, side="right") - 1
    return np.where(confidence >= 0, levels, UNSEEN).astype(np.uint8)


def _open_arrays(folder: Path, frames: bool) -> PackArrays:
    names = ["first", "units", "displacements", "visibility"] + ["first_frames"] * frames
    try:
        arrays: list[Any] = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]
    except (OSError, ValueError) as error:
        raise TrackFileError(f"{folder}: is damaged ({error}); pack the track files again") from None
    return PackArrays(*arrays, *[None] * (len(PackArrays._fields) - len(arrays)))
