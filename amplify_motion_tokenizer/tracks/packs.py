"""Packs: a folder of track files as a few memory-mapped arrays, smaller and somewhat faster to train from.

``python -m amplify_motion_tokenizer pack`` makes one. Its layout (S windows of all clips, V views, T
frames, N points)::

    pack.json            version, settings, views, length T, num_points N, max_error_px, and of each clip in
                         order: name, windows, sizes (height, width of each view, or null), fps and
                         source_fps (or null; older packs lack them), max_error_px; padded and timed
                         (older packs lack them), whether frames of some window repeat the clip's last one,
                         and whether it is known of some window when its frames are
    first.npy            float32 (S, V, N, 2), (x, y) pixels of the tracked frames, in the first frame where
                         they are not lost, which is mostly frame 0; 0 where all are lost
    units.npy            int8 (S, V, N), a track's unit is 2**units pixels
    displacements.npy    int16 (S, V, T, N, 2), positions less ``first``, in the track's unit; LOST
                         where a position is NaN, infinite or FAR
    visibility.npy       uint8 (S, V, T, N), confidence in 1 / 200, rounded down; UNSEEN where it is NaN or
                         negative, which no threshold passes
    first_frames.npy     uint8 (S, V, h, w, 3), where the track files hold them
    valid_steps.npy      int64 (S,), how many of the T - 1 steps are real; only where ``padded`` is true, else
                         all are
    places.npy           (S,) of PLACE, where in its clip each window is; older packs, which lack ``placed``,
                         do not have it
    source_frame.npy     int64 (S, V, T), index of each frame in the source, -1: not known; only where
                         ``timed`` is true
    step_seconds.npy     float64 (S, V), mean seconds from one of a window's frames to the next, NaN: not
                         known; only where ``timed`` is true

Displacements are rounded to the nearest unit: 1/256 pixel, or where a track goes 128 pixels or further from
its first position, the finest power of two that holds it. So positions are off by at most half a unit
(``max_error_px``), and a stray point spoils its own track of that window alone. A confidence reads up to
1/200 too low, and stays on its side of every threshold that is a multiple of 0.005, such as 0.25 and 0.6;
where windows are resampled in time, one that is interpolated may not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config.gone import settings_now
from amplify_motion_tokenizer.damaged_files import DamagedError, load_array
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.file_names import PACK_INDEX
from amplify_motion_tokenizer.files import read_json
from amplify_motion_tokenizer.tracks.base import OpenClip
from amplify_motion_tokenizer.tracks.pack_index import read_index
from amplify_motion_tokenizer.tracks.selection import select_demos
from amplify_motion_tokenizer.tracks.stored import (
    ViewArrays,
    WindowPlaces,
    WindowTimes,
    check_starts,
    check_times,
)

LOST = -(2**15)
"""Stands for a position that is lost."""
UNSEEN = 255
"""Stands for a confidence that is NaN or negative."""
LEVELS = 200


PLACE = np.dtype([("start_frame", "<i8"), ("start_time", "<f8")])
"""What ``places.npy`` has of a window, as a track file has it."""


class PackArrays(NamedTuple):
    """The arrays of a pack, memory-mapped."""

    first: NDArray[np.float32]
    units: NDArray[np.int8]
    displacements: NDArray[np.int16]
    visibility: NDArray[np.uint8]
    first_frames: NDArray[np.uint8] | None
    valid_steps: NDArray[np.int64] | None
    places: NDArray[np.void] | None
    source_frame: NDArray[np.int64] | None
    step_seconds: NDArray[np.float64] | None

    def close(self) -> None:
        """Nothing to do: the mappings go with the arrays."""

    def __enter__(self) -> PackArrays:
        return self

    def __exit__(self, *_: object) -> None: ...


class PackedClip:
    """One clip of a pack, read as a ``TrackFile`` is.

    Args:
        folder: the pack.
        index: what its ``pack.json`` holds.
        number: the clip's place in the index.
        first_row: the place of its first window among the windows of all clips.
        views: names of the views to read, in this order.

    Attributes: all that ``TrackFile`` has, and
        view_rows: of each of the views, its place on the axis V.
    """

    stores: Literal["positions"] = "positions"
    unwritten = 0

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
        self.settings: dict[str, Any] | None = None if made is None else settings_now(made, str(folder))
        self.first_row = first_row
        self._index = index

    def reader(self) -> PackReader:
        """A reader of the whole pack's windows for a loader; it belongs to one process."""
        return PackReader(self)

    def open(self) -> PackArrays:
        """The arrays of the whole pack; a process may share them with its workers.

        Raises:
            TrackFileError: an array is missing or damaged, or another pack has taken the place of this one.
        """
        arrays = _open_arrays(self.path, self._index)
        if read_json(self.path / PACK_INDEX) != self._index:
            raise TrackFileError(f"{self.path}: has changed since it was first opened; run the command again")
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
        confidence = np.divide(seen, np.float32(LEVELS), dtype=np.float32)
        if seen.max(initial=0) == UNSEEN:
            confidence[seen == UNSEEN] = np.nan
        return tracks, confidence

    def valid_steps(self, arrays: PackArrays) -> NDArray[np.int64]:
        """(S,) as ``TrackFile.valid_steps``."""
        return self.read_valid_steps(arrays, self.first_row + np.arange(self.num_windows))

    def read_valid_steps(self, arrays: PackArrays, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """(R,) real steps of windows ``at`` of the whole pack."""
        if arrays.valid_steps is None:
            return np.full(len(at), self.length - 1, np.int64)
        return np.asarray(arrays.valid_steps[at])

    def places(self, arrays: PackArrays) -> WindowPlaces:
        """Where in the clip its windows are.

        Raises:
            TrackFileError: the pack is an older one, which does not say.
        """
        if arrays.places is None:
            raise TrackFileError(
                f"{self.path}: does not say where its windows begin, as an older pack; pack the track files "
                "again"
            )
        own = arrays.places[self.first_row : self.first_row + self.num_windows]
        starts, start_seconds = np.array(own["start_frame"]), np.array(own["start_time"])
        check_starts(starts, start_seconds, self.path)
        return WindowPlaces.of(starts, start_seconds, self.times(arrays))

    def times(self, arrays: PackArrays) -> WindowTimes:
        """As ``TrackFile.times``."""
        if arrays.source_frame is None or arrays.step_seconds is None:
            return WindowTimes.unknown(self.num_windows, len(self.views), self.length)
        rows = slice(self.first_row, self.first_row + self.num_windows)
        times = WindowTimes(
            arrays.source_frame[rows, self.view_rows], arrays.step_seconds[rows, self.view_rows]
        )
        check_times(times, self.path)
        return times

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
    """Reads windows of all clips of a pack, as ``TrackReader`` reads the windows of one file.

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

    def valid_steps(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """As ``TrackReader.valid_steps``, with rows of the whole pack."""
        return self._clip.read_valid_steps(self._opened(), rows)

    def first_frames(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """As ``TrackReader.first_frames``, with rows of the whole pack."""
        return self._clip.read_frames(self._opened(), rows)

    def _opened(self) -> PackArrays:
        if self._arrays is None:
            self._arrays = self._clip.open()
        return self._arrays


def find_packed(folder: Path) -> dict[str, OpenClip[PackedClip]]:
    """The clips of a pack by name, in its order, each as what opens it with the views that are wanted.

    Raises:
        TrackFileError: as ``read_pack``.
    """
    index = _checked_index(folder)
    rows = np.cumsum([0, *(clip["windows"] for clip in index["clips"])]).tolist()

    paths = (folder / PACK_INDEX, *sorted(folder.glob("*.npy")))

    def opening(number: int) -> OpenClip[PackedClip]:
        return OpenClip(
            paths,
            lambda views: PackedClip(folder, index, number, rows[number], _views(folder, index, views)),
        )

    return {clip["name"]: opening(number) for number, clip in enumerate(index["clips"])}


def read_pack(folder: Path, views: Sequence[str] | None, dataset: str | None = None) -> dict[str, PackedClip]:
    """The clips of a pack by name, in its order.

    Args:
        folder: the pack.
        views: names of the views to read, in this order; None reads all.
        dataset: a dataset string, which selects clips as ``select_demos`` does; None takes all.

    Raises:
        TrackFileError: the pack's index is damaged or of another version, it lacks a view, or the dataset
            selects none of its clips.
        ConfigError: the dataset string is malformed.
    """
    clips = {name: opened(views) for name, opened in find_packed(folder).items()}
    return clips if dataset is None else {name: clips[name] for name in select_demos([*clips], dataset)}


def _checked_index(folder: Path) -> dict[str, Any]:
    index = read_index(folder)
    _check_arrays(folder, index)
    return index


def _views(folder: Path, index: Mapping[str, Any], views: Sequence[str] | None) -> Sequence[str]:
    """``views``, which the pack has; a pack of one view serves as the default one, as a file does."""
    there: list[str] = index["views"]
    views = there if views is None else views
    missing = [view for view in views if view not in there]
    if missing and len(views) == len(there) == 1:
        return there
    if missing:
        raise TrackFileError(
            f"{folder}: lacks the view {missing[0]}; it holds {', '.join(there)}, which data.views may name"
        )
    return views


def _check_arrays(folder: Path, index: Mapping[str, Any]) -> None:
    """Refuses arrays that are missing, damaged, or of other shapes or values than the index says."""
    arrays = _open_arrays(folder, index)
    windows = sum(clip["windows"] for clip in index["clips"])
    lead = windows, len(index["views"])
    length, points, frame = (index[key] for key in ("length", "num_points", "frame_size"))
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "first": (np.float32, (points, 2)),
        "units": (np.int8, (points,)),
        "displacements": (np.int16, (length, points, 2)),
        "visibility": (np.uint8, (length, points)),
    }
    if frame is not None:
        shapes["first_frames"] = (np.uint8, (*frame, 3))
    expected_shapes = {name: (dtype, lead + rest) for name, (dtype, rest) in shapes.items()}
    if arrays.valid_steps is not None:
        expected_shapes["valid_steps"] = (np.int64, (windows,))
    if arrays.places is not None:
        expected_shapes["places"] = (PLACE, (windows,))
    if arrays.source_frame is not None:
        expected_shapes["source_frame"] = (np.int64, (*lead, length))
        expected_shapes["step_seconds"] = (np.float64, lead)
    for name, (dtype, shape) in expected_shapes.items():
        array = getattr(arrays, name)
        if array.dtype != dtype or array.shape != shape:
            expected = f"expected {np.dtype(dtype)} {shape}; pack the track files again"
            raise TrackFileError(f"{folder / name}.npy: is {array.dtype} {array.shape}, {expected}")
    steps = arrays.valid_steps
    if steps is not None and len(steps) and not 0 <= int(steps.min()) <= int(steps.max()) < length:
        raise TrackFileError(
            f"{folder / 'valid_steps'}.npy: holds {steps.min()} to {steps.max()}, expected 0 to "
            f"{length - 1}; pack the track files again"
        )


def _open_arrays(folder: Path, index: Mapping[str, Any]) -> PackArrays:
    untimed = not index.get("timed", False)
    absent = {
        "first_frames": index["frame_size"] is None,
        "valid_steps": not index.get("padded", False),
        "places": not index.get("placed", False),
        "source_frame": untimed,
        "step_seconds": untimed,
    }
    try:
        arrays: list[Any] = [
            None if absent.get(name) else load_array(folder / f"{name}.npy", in_place=True)
            for name in PackArrays._fields
        ]
    except (OSError, DamagedError) as error:
        raise TrackFileError(f"{folder}: is damaged ({error}); pack the track files again") from None
    return PackArrays(*arrays)
