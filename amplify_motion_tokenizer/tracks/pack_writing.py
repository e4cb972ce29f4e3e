"""Writes packs of clips with stored positions; ``packs`` has the layout."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.file_names import PACK_INDEX
from amplify_motion_tokenizer.files import (
    remove_unfinished_beside,
    sync,
    unfinished_folder,
    write_json,
    write_text,
)
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.tracks.pack_index import FORMAT_VERSION
from amplify_motion_tokenizer.tracks.packs import LEVELS, LOST, PLACE, UNSEEN
from amplify_motion_tokenizer.tracks.stored import PositionClip, WindowTimes

logger = logging.getLogger(__name__)


WARN_ERROR_PX = 1 / 16
"""Clips with positions that may be further off than this many pixels are named in a warning."""


FAR = 2.0**100
"""Pixels from which a position is lost too, so that float32 holds all displacements."""


_LIMIT = 2**15 - 1


_FINEST = -8
"""The finest unit's power of two: finer than any tracker."""


_CONFIDENCES = np.arange(LEVELS + 1, dtype=np.float32) / np.float32(LEVELS)
"""What the numbers of ``visibility.npy`` stand for."""


_NAMED = 10
"""Clips that the warning names."""


_ROWS = 64
"""Windows that packing holds at a time."""


def write_pack(
    clips: Mapping[str, PositionClip], output: Path, texts: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Packs track files into the new folder ``output``; returns the content of its index.

    Warns of clips with positions that may be off by more than WARN_ERROR_PX.

    Args:
        clips: the clips by name, in the order that they get.
        output: the pack, which appears under its name when all of it is there.
        texts: further files of the pack, by name, such as the config that the tracks were made with.

    Raises:
        UsageError: ``output`` exists, or cannot be written.
        TrackFileError: a file is damaged, or files differ in T, N, views or size of their first frames.
    """
    if output.exists():
        raise UsageError(f"{output} exists; choose another name, nothing is overwritten")
    index = _index(clips)
    remove_unfinished_beside(output)
    try:
        with unfinished_folder(output) as folder:
            folder.mkdir(parents=True)
            errors_px = _write_parts(clips, folder, index)
            for name, text in (texts or {}).items():
                write_text(folder / name, text)
            folder.rename(output)
            sync(output.parent)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({error.strerror or error})") from error
    _warn_of_errors(errors_px)
    return index


def _write_parts(clips: Mapping[str, PositionClip], folder: Path, index: dict[str, Any]) -> dict[str, float]:
    """All files of a pack, the index last; the largest error of each clip's positions in pixels."""
    errors_px = _write_arrays(clips, folder, index)
    index["padded"] = _write_valid_steps(clips, folder, index["length"])
    index["placed"] = True
    _write_places(clips, folder)
    index["timed"] = _write_times(clips, folder)
    index["max_error_px"] = max(errors_px.values())
    for clip in index["clips"]:
        clip["max_error_px"] = errors_px[clip["name"]]
    for array in folder.glob("*.npy"):
        sync(array)
    write_json(folder / PACK_INDEX, index)
    return errors_px


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
        array = np.lib.format.open_memmap(folder / name, "w+", dtype, (total, views, *shape))
        _reserve(folder / name)
        return array

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


def _reserve(path: Path) -> None:
    """Takes the room on disk that a file says it has: a full disk would end the process at some write.

    Raises:
        OSError: there is too little.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def _write_valid_steps(clips: Mapping[str, PositionClip], folder: Path, length: int) -> bool:
    """Returns whether some window is padded; only then there is anything to write."""
    counts = []
    for clip in clips.values():
        with clip.open() as file:
            counts.append(clip.valid_steps(file))
    valid_steps = np.concatenate(counts)
    padded = bool((valid_steps < length - 1).any())
    if padded:
        np.save(folder / "valid_steps.npy", valid_steps)
    return padded


def _write_places(clips: Mapping[str, PositionClip], folder: Path) -> None:
    rows = []
    for clip in clips.values():
        with clip.open() as file:
            places = clip.places(file)
        own = np.zeros(clip.num_windows, PLACE)
        own["start_frame"], own["start_time"] = places.starts, places.start_seconds
        rows.append(own)
    np.save(folder / "places.npy", np.concatenate(rows))


def _write_times(clips: Mapping[str, PositionClip], folder: Path) -> bool:
    """Returns whether it is known of any window when its frames are, so that there is anything to write."""
    found = []
    for clip in clips.values():
        with clip.open() as file:
            found.append(clip.times(file))
    times = WindowTimes(*(np.concatenate(column) for column in zip(*found, strict=True)))
    timed = bool((times.source_frame >= 0).any() or np.isfinite(times.step_seconds).any())
    if timed:
        for name, array in times._asdict().items():
            np.save(folder / f"{name}.npy", array)
    return timed


def _packed_tracks(
    tracks: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]], NDArray[np.int16]]:
    """``first``, ``units`` and ``displacements`` of tracks (R, T, N, 2)."""
    known = np.abs(tracks) < FAR
    tracks = np.where(known, tracks, np.float32(0))
    first = np.take_along_axis(tracks, known.argmax(axis=1)[:, None], axis=1)
    moved = np.where(known, tracks - first, np.float32(0))
    # The larger of x and y; below 1 px the finest unit serves anyway, and 0 has no power of two.
    largest = np.abs(moved).max(axis=(1, 3), initial=1)
    units = np.maximum(np.frexp(largest / _LIMIT)[1], _FINEST)
    counts = np.rint(np.ldexp(moved, -units[:, None, :, None]))
    return first[:, 0], units, np.where(known, counts, LOST).astype(np.int16)


def _packed_visibility(confidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Levels of confidences (R, T, N); compared, not multiplied, so that each stays on its level's side."""
    levels = np.searchsorted(_CONFIDENCES, confidence, side="right") - 1
    return np.where(confidence >= 0, levels, UNSEEN).astype(np.uint8)
