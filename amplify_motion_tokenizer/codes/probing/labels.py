"""What clips show, by labels in files of one's own, and what that says of a window.

A table (CSV or Parquet) has a column ``clip`` and any others, each of which is a target; with a column
``frame``, a row is a frame of the source. JSON is an object of clips, each an object of targets: a text, a
number, or a list of them, one for each frame (a list of lists for several numbers). A target ``task`` is
none: it tells which task a clip is of.

Of a window a label of its clip is told as it is. Numbers of frames are told as their change from the
window's first to its last frame, or as their sum over its steps. Texts of frames are told where all of the
window's frames have the same. Letters: S windows, F frames of a clip, D numbers.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.damaged_files import DamagedError
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.files import read_json
from amplify_motion_tokenizer.foreign_parquet import read_rows
from amplify_motion_tokenizer.video.lerobot import parquet

TASK, CLIP, FRAME = "task", "clip", "frame"
"""Columns that are no targets."""

ENDINGS = (".json", ".csv", ".parquet")
"""Of files of labels."""


@dataclass(frozen=True)
class ClipLabels:
    """What is known of one clip, by the names of targets."""

    of_clip: Mapping[str, str | float] = field(default_factory=dict)
    of_frames: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """(F,) text or (F, D) float64, by frame of the source."""
    of_windows: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Numbers by the first tracked frame of a window."""
    task: str | None = None

    def targets(self, codes: MotionCodes, summed: bool) -> dict[str, NDArray[Any]]:
        """What the labels say of each window of ``codes``: (S,) text, "" where not known, or (S, D) float64.

        Args:
            codes: of the clip.
            summed: whether numbers of frames are summed over a window's steps (from its first frame to the
                last but one) instead of told as their change.

        Raises:
            UsageError: labels are of frames, and codes do not say theirs, or have others.
        """
        found: dict[str, NDArray[Any]] = {}
        for name, value in self.of_clip.items():
            text = isinstance(value, str)
            found[name] = np.array([value] * len(codes)) if text else np.full((len(codes), 1), float(value))
        for name, by_start in self.of_windows.items():
            starts = codes.starts.tolist()
            found[name] = np.array([[by_start.get(start, np.nan)] for start in starts], np.float64)
        for name, values in self.of_frames.items():
            first, last = _ends(codes, name, len(values))
            found[name] = _same(values, first, last) if values.dtype.kind == "U" else (
                _sums(values, first, last) if summed else values[last] - values[first]
            )  # fmt: skip
        return found


def read_table(path: Path) -> dict[str, ClipLabels]:
    """The labels in a JSON, CSV or Parquet file, by clip.

    Raises:
        UsageError: it cannot be read, or is of another layout.
    """
    if path.suffix == ".json":
        return {clip: _of_json(path, clip, said) for clip, said in read_json(path).items()}
    rows = _csv_rows(path) if path.suffix == ".csv" else _parquet_rows(path)
    if not rows or CLIP not in rows[0] or len(rows[0]) < 2:
        found = ", ".join(rows[0]) if rows else "no rows"
        raise UsageError(f"{path}: has {found}; expected a column {CLIP} and at least one target")
    by_clip: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_clip[str(row.pop(CLIP))].append(row)
    numeric = {name: all(_is_number(row[name]) for row in rows) for name in rows[0]}
    return {clip: _of_rows(path, clip, own, numeric) for clip, own in by_clip.items()}


def _of_rows(path: Path, clip: str, rows: list[dict[str, Any]], numeric: Mapping[str, bool]) -> ClipLabels:
    if FRAME not in rows[0]:
        if len(rows) > 1:
            raise UsageError(
                f"{path}: has {len(rows)} rows of the clip {clip}; expected one, or a column {FRAME}"
            )
        return _of_json(path, clip, {name: _typed(rows[0][name], numeric[name]) for name in rows[0]})
    try:
        rows.sort(key=lambda row: int(row[FRAME]))
        frames = [int(row[FRAME]) for row in rows]
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{path}: the column {FRAME} of the clip {clip} holds no whole numbers") from None
    if frames != list(range(len(rows))):
        raise UsageError(f"{path}: rows of the clip {clip} are not of its frames 0 to {len(rows) - 1}, once")
    names = [name for name in rows[0] if name not in (FRAME, TASK)]
    said: dict[str, Any] = {name: [_typed(row[name], numeric[name]) for row in rows] for name in names}
    task = {TASK: str(rows[0][TASK])} if TASK in rows[0] else {}
    return _of_json(path, clip, said | task)


def _of_json(path: Path, clip: str, said: Any) -> ClipLabels:
    if not isinstance(said, Mapping):
        raise UsageError(f"{path}: {clip}: is {said!r:.40}; expected an object of targets")
    of_clip: dict[str, str | float] = {}
    of_frames: dict[str, NDArray[Any]] = {}
    for name, value in said.items():
        if name == TASK:
            continue
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            of_clip[name] = value
        else:
            of_frames[name] = _frames(path, clip, name, value)
    return ClipLabels(of_clip, of_frames, task=str(said[TASK]) if TASK in said else None)


def _frames(path: Path, clip: str, name: str, value: Any) -> NDArray[Any]:
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return np.array(value)
    try:
        numbers = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.empty(0)
    if isinstance(value, bool) or numbers.ndim not in (1, 2) or not numbers.size:
        raise UsageError(
            f"{path}: {clip}: {name}: is {value!r:.40}; expected a text, a number, or a list of one for each "
            "frame"
        )
    check_numbers(numbers, f"{path}: {clip}: {name}")
    return numbers.reshape(len(numbers), -1)


def check_numbers(numbers: NDArray[np.float64], where: str) -> None:
    """Raises UsageError where numbers, NaN apart, are so large that sums of them are infinite."""
    most = float(np.abs(numbers).max(initial=0, where=~np.isnan(numbers)))
    if most > float(np.finfo(np.float32).max):
        raise UsageError(f"{where}: holds {most:g}; expected numbers that 32 bits can hold")


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as CSV ({error})") from None
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise UsageError(f"{path}: line {number} has more or fewer cells than the head")
    return rows


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    parquet("labels in Parquet need")
    try:
        return read_rows(path)
    except (DamagedError, OSError) as error:
        raise UsageError(f"{path}: cannot be read as Parquet ({error})") from None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return isinstance(value, list)
    return True


def _typed(value: Any, numeric: bool) -> Any:
    if isinstance(value, list):
        return value
    return float(value) if numeric else str(value)


def _ends(codes: MotionCodes, name: str, frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last real frame of each window in the source."""
    first, last = codes.source_frames.numpy().T
    unknown = bool(len(codes)) and first.min() < 0
    if unknown or (len(codes) and last.max() >= frames):
        told = "do not say which frames they are of" if unknown else f"tell of frames up to {last.max()}"
        raise UsageError(
            f"codes of {codes.clip} {told}, and {name} has labels of {frames} frames; make codes of the "
            "clips that the labels are of"
        )
    return first, last


def _sums(values: NDArray[Any], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
    before = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])
    return np.asarray(before[last] - before[first], np.float64)


def _same(values: NDArray[Any], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[Any]:
    ends = zip(first, last, strict=True)
    return np.array([str(values[a]) if (values[a : b + 1] == values[a]).all() else "" for a, b in ends])
