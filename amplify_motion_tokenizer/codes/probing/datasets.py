"""What clips show, by data sets: a robot's numbers in LeRobot's and LIBERO's, the truth of rendered scenes.

Letters: F frames of an episode, D numbers, S windows, T frames of a window, N points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.probing.labels import ENDINGS, ClipLabels, check_numbers, read_table
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.damaged_files import DamagedError
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.foreign_parquet import read_rows
from amplify_motion_tokenizer.hdf5_files import open_hdf5
from amplify_motion_tokenizer.scenes import KINDS, MOVING
from amplify_motion_tokenizer.trackers.windows import SEEN
from amplify_motion_tokenizer.tracks.find import find_recorded
from amplify_motion_tokenizer.tracks.stored import RecordedClip
from amplify_motion_tokenizer.video.input_files import files_below
from amplify_motion_tokenizer.video.lerobot import (
    DATA,
    INFO,
    LeRobotDataset,
    episode_name,
    parquet,
    read_dataset,
)
from amplify_motion_tokenizer.video.libero import find_demos, holds_demos

LEROBOT_COLUMN, LIBERO_COLUMN = "observation.state", "obs/ee_pos"
"""What is told of robots where nothing else is asked for: their state, and where LIBERO's gripper is."""

MOTION, MOVES, SPEED = "motion class", "camera or objects", "speed in octaves"
"""Targets of rendered scenes. Speed is the root mean square move of the points that are seen from one frame
to the next, in shorter sides of the frame: its logarithm to base 2, as it is over two orders of magnitude."""

SLOWEST = 1 / 2400
"""What is slower counts as being this fast: a tenth of a pixel a frame of 240 rows."""


def read_labels(
    path: Path, clips: Iterable[str], column: str | None = None, numbers: Sequence[int] = ()
) -> dict[str, ClipLabels]:
    """The labels in a file, in a robot's data set, or in the folder ``truth`` of rendered scenes, by clip.

    Args:
        path: a JSON, CSV or Parquet file; the folder of a LeRobotDataset v3; a file or folder of LIBERO's
            demos; or a folder of true tracks.
        clips: names of the clips that are asked for, which LIBERO's labels go by.
        column: of a robot's data set, what is told; None: ``LEROBOT_COLUMN`` or ``LIBERO_COLUMN``.
        numbers: which of the column's numbers; all where there are none.

    Raises:
        UsageError: there are no labels there, or they are damaged.
        TrackFileError: true tracks are damaged.
    """
    if not path.exists():
        raise UsageError(f"--labels {path}: does not exist; expected a file of labels or a data set")
    if path.suffix in ENDINGS:
        _check_no_column(path, column, numbers)
        return read_table(path)
    if (path / INFO).is_file():
        return _of_lerobot(read_dataset(path), column or LEROBOT_COLUMN, numbers)
    if _has_demos(path):
        return _of_libero(path, clips, column or LIBERO_COLUMN, numbers)
    _check_no_column(path, column, numbers)
    try:
        recorded = find_recorded(path)
    except TrackFileError as error:
        raise UsageError(
            f"--labels {path}: is no data set of LeRobot or LIBERO, no file that ends in "
            f"{', '.join(ENDINGS)}, and no truth of scenes ({error})"
        ) from None
    return {name: _of_scene(clip) for name, clip in recorded.items()}


def _check_no_column(path: Path, column: str | None, numbers: Sequence[int]) -> None:
    if column is not None or numbers:
        raise UsageError(f"--column and --numbers choose what a robot's data set tells; {path} is none")


def _chosen(values: NDArray[Any], numbers: Sequence[int], where: str) -> NDArray[np.float64]:
    """Values (F, ...) as (F, D), of which those ``numbers`` are taken."""
    try:
        found = np.asarray(values, np.float64).reshape(len(values), -1)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: is {values.dtype}, expected numbers; get the data set again") from None
    check_numbers(found, where)
    if not numbers:
        return found
    if not 0 <= min(numbers) <= max(numbers) < found.shape[1]:
        raise UsageError(f"{where}: has {found.shape[1]} numbers; --numbers are {list(numbers)}")
    return found[:, list(numbers)]


def _of_lerobot(data: LeRobotDataset, column: str, numbers: Sequence[int]) -> dict[str, ClipLabels]:
    where = f"{data.root / DATA}: {column}"
    wanted = data.info["features"].get(column)
    if not isinstance(wanted, Mapping) or not str(wanted.get("dtype")).startswith(("float", "int", "bool")):
        known = ", ".join(data.info["features"])
        raise UsageError(f"{data.root / INFO}: has no numbers {column}; give a --column of {known}")
    parts: dict[int, list[tuple[int, Any]]] = {row["episode_index"]: [] for row in data.episodes}
    for episode, frame, value in _lerobot_rows(data.root, column):
        parts.setdefault(episode, []).append((frame, value))
    found = {}
    for row in data.episodes:
        rows = sorted(parts[row["episode_index"]], key=lambda each: each[0])
        if [frame for frame, _ in rows] != list(range(row["length"])):
            raise UsageError(
                f"{where}: episode {row['episode_index']} has {len(rows)} rows, expected {row['length']} "
                "frames from 0 on; get the data set again"
            )
        values = _array([value for _, value in rows], where)
        tasks = row.get("tasks") or [None]
        found[episode_name(row["episode_index"])] = ClipLabels(
            of_frames={column: _chosen(values, numbers, where)}, task=tasks[0]
        )
    return found


def _array(values: list[Any], where: str) -> NDArray[Any]:
    try:
        return np.array(values)
    except ValueError:
        raise UsageError(f"{where}: is of several lengths; get the data set again") from None


def _lerobot_rows(root: Path, column: str) -> Iterable[tuple[int, int, Any]]:
    parquet()
    names = ("episode_index", "frame_index", column)
    for file in sorted((root / DATA).glob("*/*.parquet")):
        try:
            rows = read_rows(file, lambda _: names)
        except (DamagedError, OSError) as error:
            raise UsageError(f"{file}: cannot be read ({error}); get the data set again") from None
        for row in rows:
            places = row[names[0]], row[names[1]]
            if not all(isinstance(place, int) for place in places):
                raise UsageError(f"{file}: {' and '.join(names[:2])} are {places}; get the data set again")
            yield *places, row[column]


def _has_demos(path: Path) -> bool:
    files = [path] if path.is_file() else files_below(path)
    return any(holds_demos(file) for file in files if file.match("*_demo.hdf5"))


def _of_libero(
    path: Path, clips: Iterable[str], column: str, numbers: Sequence[int]
) -> dict[str, ClipLabels]:
    """Labels of the ``clips`` that have a demo, whatever the settings in the middle of their names are."""
    places = {_demo_key(demo.name): demo for demo in find_demos(path, Config(), {"view": ""})}
    found = {}
    for clip in clips:
        key = _demo_key(clip)
        if key in places:
            file = places[key].paths[0]
            values = _demo_values(file, f"data/{key[-1]}/{column}")
            chosen = _chosen(values, numbers, f"{file}: {column}")
            found[clip] = ClipLabels(of_frames={column: chosen}, task=key[-2])
    return found


def _demo_key(clip: str) -> tuple[str, ...]:
    """Suite, file and demo of a clip named <suite>/<settings>/<task>_demo/demo_<k>."""
    *suite, _, file, demo = clip.split("/") if clip.count("/") >= 2 else ("", "", *clip.split("/"), "")[-4:]
    return (*suite, file, demo)


def _demo_values(file: Path, place: str) -> NDArray[Any]:
    with open_hdf5(file, UsageError, "get LIBERO's demos again") as opened:
        values = opened.get(place)
        if not isinstance(values, h5py.Dataset) or values.dtype.kind not in "fiu" or not values.ndim:
            raise UsageError(f"{file}: has no numbers at {place}; give another --column, as actions")
        return np.asarray(values[()])


def _of_scene(clip: RecordedClip) -> ClipLabels:
    kind = clip.attributes.get("scene_kind")
    if kind not in KINDS:
        raise UsageError(
            f"{clip.path}: does not say which kind of scene it is; give the folder truth that scenes --truth "
            "wrote, or labels"
        )
    motion = KINDS[kind].label
    of_clip: dict[str, str | float] = {MOTION: motion, MOVES: MOVING.get(motion, "")}
    with clip.open() as file:
        starts = clip.starts(file).tolist()
        size, (tracks, visibility) = clip.sizes[0], clip.read(file, range(len(starts)))[0]
    assert size is not None  # ``scenes`` tells it
    speeds = _speeds(np.asarray(tracks, np.float64), np.asarray(visibility) >= SEEN, min(size))
    return ClipLabels(of_clip, of_windows={SPEED: dict(zip(starts, speeds, strict=True))})


def _speeds(tracks_xy_px: NDArray[np.float64], seen: NDArray[np.bool_], side_px: int) -> list[float]:
    """Of each window (S, T, N, 2); NaN where nothing is seen in two frames that follow each other."""
    moves = np.square(np.diff(tracks_xy_px, axis=1)).sum(axis=-1) / side_px**2
    both = seen[:, 1:] & seen[:, :-1]
    counts = both.sum(axis=(1, 2))
    sums = np.where(both, moves, 0).sum(axis=(1, 2))
    means = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return [float(each) for each in np.log2(np.sqrt(means).clip(min=SLOWEST))]
