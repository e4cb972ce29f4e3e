"""Codes of one clip as they are made: JSON lines that can be read while they grow.

A line with ``meta`` says how the codes are made: the first one says it all, with the clip's name, and later
ones what has become known since (a list there goes on from the list before). Every other line is a window,
with the columns of ``json_file``, called as one window's. The last line's ``meta`` says why it ``ended``.
"""

from __future__ import annotations

import json
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.codes.files.json_file import codes_of_json, json_of
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.jobs.workers import held_back

OF_WINDOW = {
    "start_frames": "start_frame",
    "start_seconds": "start_seconds",
    "end_seconds": "end_seconds",
    "step_seconds": "step_seconds",
    "source_frames": "source_frame",
    "end_source_frames": "end_source_frame",
    "valid_steps": "valid_steps",
    "motion_energy": "motion_energy",
    "visible_share": "visible_share",
    "codes": "ids",
}
"""Columns of ``json_file`` to the keys of a window's line."""

_MAY = {"camera": "camera", "camera_codes": "camera_ids"}
"""Columns that only codes without the camera's motion have: in every line, or in none."""

ENDED = "ended"
"""Key of ``meta`` that says why no line follows."""


class CodeLines:
    """Writes codes as they are made, each line whole and at once.

    Args:
        write: takes the bytes of a line.
        clip: the clip's name.
        meta: how the codes are made.
    """

    def __init__(self, write: Callable[[bytes], object], clip: str, meta: Mapping[str, Any]) -> None:
        self._write, self.windows = write, 0
        self._told: dict[str, Any] = {}
        self._line({"clip": clip, "meta": dict(meta)})

    def add(self, codes: MotionCodes) -> None:
        """Writes a line for each window of ``codes``."""
        content = json_of(codes)
        keys = OF_WINDOW | {column: key for column, key in _MAY.items() if column in content}
        for row in zip(*(content[column] for column in keys), strict=True):
            self._line(dict(zip(keys.values(), row, strict=True)))
            self.windows += 1

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Writes what of ``facts`` has changed since it was told; of lists, which only grow, what is new."""
        changed = {key: value for key, value in facts.items() if self._told.get(key) != value}
        if changed:
            self._line({"meta": {key: self._news(key, value) for key, value in changed.items()}})
            # A copy, as the lists go on growing.
            self._told |= {k: list(v) if isinstance(v, list) else v for k, v in changed.items()}

    def _news(self, key: str, value: Any) -> Any:
        return value[len(self._told.get(key, ())) :] if isinstance(value, list) else value

    def _line(self, content: Mapping[str, Any]) -> None:
        line = (json.dumps(content, allow_nan=False) + "\n").encode()
        with held_back(signal.SIGINT):  # so that it is whole
            self._write(line)


def is_stream(first: Any) -> bool:
    """Whether a file whose first line holds ``first`` is one that ``CodeLines`` writes."""
    return isinstance(first, Mapping) and "meta" in first and not {"codes", "code_sequences"} & first.keys()


def codes_of_lines(lines: Sequence[Any], path: Path) -> MotionCodes:
    """The codes of the clip whose lines were read; a warning tells where they have not ended.

    Args:
        lines: of ``path``, each as JSON.
        path: for messages.

    Raises:
        UsageError: a line is not what ``CodeLines`` writes.
    """
    meta: dict[str, Any] = {}
    columns: dict[str, list[Any]] = {column: [] for column in OF_WINDOW}
    for number, line in enumerate(lines, start=1):
        if isinstance(line, Mapping) and isinstance(line.get("meta"), Mapping):
            for key, value in line["meta"].items():
                meta[key] = [*meta.get(key, ()), *value] if isinstance(value, list) else value
        elif isinstance(line, Mapping) and set(OF_WINDOW.values()) <= line.keys():
            for column, key in (OF_WINDOW | _MAY).items():
                if key in line:
                    columns.setdefault(column, []).append(line[key])
        else:
            raise UsageError(
                f"{path}: line {number} is neither a window's nor has meta; remove it, or run inference again"
            )
    codes = codes_of_json({"clip": lines[0].get("clip"), "meta": meta, **columns}, str(path))
    if ENDED not in meta:
        warnings.warn(f"{path}: has not ended; it holds {len(codes)} windows so far", stacklevel=2)
    return codes
