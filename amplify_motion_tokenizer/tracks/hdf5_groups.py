"""The groups and arrays of an HDF5 track file, checked and read; ``hdf5`` has the layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer import hdf5_files
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.tracks.hdf5_int16 import (
    CONFIDENCE,
    MOVES,
    int16_shape,
    is_int16,
    read_int16,
    steps_and_queries,
)
from amplify_motion_tokenizer.tracks.stored import WindowTimes, check_starts, check_times
from amplify_motion_tokenizer.tracks.unwritten import lose_unwritten
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW


def read_view(group: h5py.Group, rows: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Windows ``rows`` of a view: tracks (R, T, N, 2), (x, y) px, and visibility (R, T, N), both float32.

    A view without ``vis`` counts as visible everywhere; windows that were never written are NaN.
    """
    if is_int16(group):
        steps, queries = steps_and_queries(group, Path(group.file.filename))
        moves, levels = (gather(group[name], rows) for name in (MOVES, CONFIDENCE))
        return read_int16(steps[list(rows)], queries, moves, levels)
    data = group["tracks"]
    tracks = lose_unwritten(gather(data, rows).astype(np.float32, copy=False), data.fillvalue)
    if "vis" not in group:
        return tracks, np.ones(tracks.shape[:3], np.float32)
    return tracks, gather(group["vis"], rows).astype(np.float32, copy=False)


def window_data(group: h5py.Group) -> h5py.Dataset:
    """The data set that holds the positions of a view, a row for each window."""
    data: h5py.Dataset = group[MOVES if is_int16(group) else "tracks"]
    return data


def gather(data: h5py.Dataset, rows: Sequence[int]) -> NDArray[Any]:
    """The ``rows`` of a data set, in any order; one read each, as HDF5's own selection is 50 times slower."""
    found = np.empty((len(rows), *data.shape[1:]), data.dtype)
    place, shape = data.id.get_space(), (1, *data.shape[1:])
    into, rest = h5py.h5s.create_simple(shape), (0,) * (data.ndim - 1)
    for number, row in enumerate(rows):
        if not 0 <= row < data.shape[0]:
            raise IndexError(f"row {row} of {data.name}, which has {data.shape[0]}")
        place.select_hyperslab((int(row), *rest), shape)
        data.id.read(into, place, found[number : number + 1])
    return found


def window_shape(group: h5py.Group, path: Path) -> tuple[int, int, int]:
    """(S, T, N) of a view.

    Raises:
        TrackFileError: its arrays have other shapes than the layout says.
    """
    if is_int16(group):
        return int16_shape(group, path)
    shape = group["tracks"].shape
    if len(shape) != 4 or shape[-1] != 2:
        raise TrackFileError(
            f"{path}: {group.name}/tracks has shape {shape}, expected (starts, T, N, 2); remake it"
        )
    for data in (group[name] for name in ("tracks", "vis") if name in group):
        if data.dtype.kind not in "biuf":
            raise TrackFileError(f"{path}: {data.name} is {data.dtype}, expected real numbers; remake it")
    if "vis" in group and group["vis"].shape != shape[:3]:
        raise TrackFileError(
            f"{path}: {group.name}/vis has shape {group['vis'].shape}, expected {shape[:3]}; remake it"
        )
    return shape[0], shape[1], shape[2]


def valid_steps(group: h5py.Group, path: Path) -> NDArray[np.int64]:
    """(S,) how many of the T - 1 steps of each window of a view are real; all of them where it does not say.

    Raises:
        TrackFileError: they are of another shape or type, or more than a window has.
    """
    windows, length, _ = window_shape(group, path)
    if "valid_steps" not in group:
        return np.full(windows, length - 1, np.int64)
    found = group["valid_steps"]
    if found.shape != (windows,) or found.dtype.kind not in "iu":
        raise TrackFileError(
            f"{path}: valid_steps are {found.dtype} {found.shape}, expected whole numbers ({windows},)"
        )
    found = found[:]
    if windows and not 0 <= int(found.min()) <= int(found.max()) < length:
        raise TrackFileError(
            f"{path}: valid_steps are {found.min()} to {found.max()}, expected 0 to {length - 1}; remake it"
        )
    return np.asarray(found, np.int64)


def window_starts(
    group: h5py.Group, fps: float | None, path: Path, in_order: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(S,) first frame of each window of a view, and (S,) seconds from the clip's first frame to it.

    A file without ``start_frame`` is AMPLIFY's, whose row t begins at frame t.

    Args:
        group: the view.
        fps: rate of the tracked frames; None: not known.
        path: the file.
        in_order: whether windows must follow each other in time; if not, no two may begin at one frame.

    Raises:
        TrackFileError: a column is of another shape or type, or the starts are not so.
    """
    windows, _, _ = window_shape(group, path)
    found = {name: group[name] for name in ("start_frame", "start_time") if name in group}
    for name, column in found.items():
        kinds, words = ("iu", "whole numbers") if name == "start_frame" else ("f", "numbers")
        if column.shape != (windows,) or column.dtype.kind not in kinds:
            raise TrackFileError(
                f"{path}: {name} is {column.dtype} {column.shape}, expected {words} ({windows},); remake it"
            )
    starts = np.asarray(found["start_frame"][:] if "start_frame" in found else np.arange(windows), np.int64)
    even = starts * np.float64(np.nan if fps is None else 1 / fps)
    seconds = np.asarray(found["start_time"][:] if "start_time" in found else even, np.float64)
    check_starts(starts if in_order else np.sort(starts), seconds, path)
    return starts, seconds


def window_times(groups: Sequence[h5py.Group], path: Path) -> WindowTimes:
    """When the frames of all windows of the views ``groups`` are; unknown where the file does not say.

    Raises:
        TrackFileError: it says it in arrays of other shapes or types than the layout has.
    """
    windows, length, _ = window_shape(groups[0], path)
    times = WindowTimes.unknown(windows, len(groups), length)
    for view, group in enumerate(groups):
        for name, into in times._asdict().items():
            if name not in group:
                continue
            data, wanted = group[name], into[:, view]
            if data.shape != wanted.shape or data.dtype.kind != wanted.dtype.kind:
                raise TrackFileError(
                    f"{path}: {data.name} is {data.dtype} {data.shape}, expected {wanted.dtype} "
                    f"{wanted.shape}; remake it"
                )
            wanted[...] = data[...]
    check_times(times, path)
    return times


def tracked_size(group: h5py.Group) -> tuple[int, int] | None:
    """(height, width) of a view's tracked frames in pixels; None where the file does not say.

    Raises:
        ValueError: the size that the file states is none that a frame can have.
    """
    sizes = hdf5_files.number(group, "height"), hdf5_files.number(group, "width")
    if sizes[0] is None or sizes[1] is None:
        return None
    height, width = int(sizes[0]), int(sizes[1])
    if min(height, width) < 1:
        raise ValueError(f"{group.name} has height {height} and width {width}; expected at least 1")
    return height, width


def first_frame_size(groups: Sequence[h5py.Group], path: Path) -> tuple[int, int] | None:
    """(h, w) of the first frames of all views in pixels; None where a view has none.

    Raises:
        TrackFileError: its arrays have other shapes or types than the layout says.
    """
    if not all("first_frames" in group for group in groups):
        return None
    frames = [group["first_frames"] for group in groups]
    expected = (window_shape(groups[0], path)[0], *frames[0].shape[1:3], 3)
    for data in frames:
        if data.shape != expected or data.dtype != np.uint8:
            raise TrackFileError(
                f"{path}: {data.name} is {data.dtype} {data.shape}, expected uint8 {expected} in every view; "
                "preprocess again with tracking.first_frames"
            )
    return expected[1], expected[2]


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns what h5py raises for damaged or foreign content into a TrackFileError that names the file."""
    try:
        yield
    except (
        OSError,
        LookupError,
        ArithmeticError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrackFileError(f"{path}: is damaged or of another layout ({reason}); remake it") from None


def open_hdf5(path: Path) -> h5py.File:
    """Opens a track file for reading; TrackFileError as ``hdf5_files.open_hdf5`` raises it."""
    return hdf5_files.open_hdf5(path, TrackFileError, _ADVICE)


def open_for_texts(path: Path) -> AbstractContextManager[h5py.File]:
    """Opens a track file for reading its attributes; TrackFileError as ``hdf5_files`` raises it."""
    return hdf5_files.open_for_texts(path, TrackFileError, _ADVICE)


_ADVICE = "remove it and run preprocessing again"


def view_groups(file: h5py.File, path: Path, views: Sequence[str] | None) -> list[h5py.Group]:
    """The groups of ``views``, None being all; a file with one view serves as the default view.

    Raises:
        TrackFileError: the file holds no views, or lacks one of ``views``.
    """
    root = file.get("root")
    entries = dict(root.items()) if isinstance(root, h5py.Group) else {}
    there = [
        name
        for name, item in entries.items()
        if isinstance(item, h5py.Group) and ("tracks" in item or is_int16(item))
    ]
    if not there:
        raise TrackFileError(
            f"{path}: holds no root/<view>/tracks, expected AMPLIFY's track layout; remove it or remake it"
        )
    if views is None or (tuple(views) == (DEFAULT_VIEW,) and len(there) == 1):
        return [file["root"][name] for name in there]
    missing = [view for view in views if view not in there]
    if missing:
        raise TrackFileError(
            f"{path}: lacks the view {missing[0]}; it holds {', '.join(there)}, which data.views may name"
        )
    return [file["root"][view] for view in views]
