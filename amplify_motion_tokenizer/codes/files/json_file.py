"""Codes as JSON, an object for each clip.

``clip``, ``meta``, and of each window: ``codes`` (ids), ``start_frames`` (index among the tracked frames),
``start_seconds``, ``end_seconds``, ``step_seconds``, ``source_frames`` and ``end_source_frames`` (index of
its first and last real frame in the source), ``valid_steps``, ``motion_energy``, ``visible_share``. What is
not known is null, and -1 where it is a frame. Where the camera's motion was taken out there is ``camera``, of
each window, view, step and corner point (x, y), and perhaps ``camera_codes``. Vectors are in ``<clip>.pt``
beside it where they were saved.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amplify_motion_tokenizer.codes.files.base import (
    FORMAT_VERSION,
    CodeFormat,
    check_meta,
    check_values,
    damaged,
    missing,
)
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.files import atomic_path
from amplify_motion_tokenizer.foreign_json import parse_json, read_regular
from amplify_motion_tokenizer.kinds import (
    FINITE,
    MAPPING,
    TEXT,
    Kind,
    check_kinds,
    list_of,
    or_none,
    require_kinds,
    whole_from,
)

_FRAMES = list_of(whole_from(-1))
_NUMBERS = list_of(or_none(FINITE))
_NEEDED: dict[str, Kind] = {
    "clip": TEXT,
    "codes": list_of(list_of(whole_from(0))),
    "start_frames": list_of(whole_from(0)),
    "meta": MAPPING,
}
_MAY: dict[str, Kind] = {
    "start_seconds": _NUMBERS,
    "end_seconds": _NUMBERS,
    "step_seconds": _NUMBERS,
    "source_frames": _FRAMES,
    "end_source_frames": _FRAMES,
    "valid_steps": list_of(whole_from(0)),
    "motion_energy": _NUMBERS,
    "visible_share": _NUMBERS,
}
"""Columns that older codes lack: what they would say is not known, and all steps are real."""

_CAMERA: dict[str, Kind] = {
    "camera": list_of(list_of(list_of(list_of(list_of(or_none(FINITE)))))),
    "camera_codes": list_of(list_of(whole_from(0))),
}
"""Columns of codes from which the camera's motion was taken out."""

REPRODUCTION_KEYS = {"codes": "code_sequences", "start_frames": "window_starts"}
"""Keys that have another name in the keypoint reproduction's files."""


_ROWS = 1024
"""Windows whose text is made at once."""


def json_of(codes: MotionCodes) -> dict[str, Any]:
    """The JSON object of a clip."""
    every = slice(None)
    columns = {name: column(every) for name, column in _columns(codes).items()}
    return {"clip": codes.clip, **columns, "meta": dict(codes.meta)}


def json_pieces(codes: MotionCodes, renamed: Mapping[str, str] | None = None) -> Iterator[str]:
    """The text of ``json_of``, piece by piece: a list of all numbers takes ten times their memory.

    Args:
        codes: of a clip.
        renamed: keys that are to have another name.
    """
    yield f'{{"clip": {json.dumps(codes.clip)}'
    for name, column in _columns(codes).items():
        yield f", {json.dumps((renamed or {}).get(name, name))}: ["
        for first in range(0, len(codes), _ROWS):
            rows = json.dumps(column(slice(first, first + _ROWS)), allow_nan=False)
            yield (", " if first else "") + rows[1:-1]
        yield "]"
    yield f', "meta": {json.dumps(dict(codes.meta), allow_nan=False)}}}\n'


def _columns(codes: MotionCodes) -> dict[str, Callable[[slice], list[Any]]]:
    """What gives some windows' values of each column, by its key."""
    return {
        "codes": lambda rows: codes.ids[rows].tolist(),
        "start_frames": lambda rows: codes.starts[rows].tolist(),
        "start_seconds": lambda rows: _numbers(codes.seconds[rows, 0]),
        "end_seconds": lambda rows: _numbers(codes.seconds[rows, 1]),
        "step_seconds": lambda rows: _numbers(codes.step_seconds[rows]),
        "source_frames": lambda rows: codes.source_frames[rows, 0].tolist(),
        "end_source_frames": lambda rows: codes.source_frames[rows, 1].tolist(),
        "valid_steps": lambda rows: codes.valid_steps[rows].tolist(),
        "motion_energy": lambda rows: _numbers(codes.motion_energy[rows]),
        "visible_share": lambda rows: _numbers(codes.visible_share[rows]),
        **_camera_of(codes),
    }


def _camera_of(codes: MotionCodes) -> dict[str, Callable[[slice], list[Any]]]:
    """What gives the columns of ``_CAMERA`` that ``codes`` have."""
    found: dict[str, Callable[[slice], list[Any]]] = {}
    camera, ids = codes.camera, codes.camera_ids
    if camera is not None:
        found["camera"] = lambda rows: _nested(camera[rows])
    if ids is not None:
        found["camera_codes"] = lambda rows: ids[rows].tolist()
    return found


def _nested(numbers: Tensor) -> list[Any]:
    """Numbers of any shape, None for what is not known."""
    flat = np.array(_numbers(numbers.flatten()), object)
    nested: list[Any] = flat.reshape(numbers.shape).tolist()
    return nested


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """Writes UTF-8 text that comes piece by piece, atomically."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(pieces)


def codes_of_json(content: Any, where: str) -> MotionCodes:
    """The codes of a clip, from its JSON object, with either system's keys.

    Args:
        content: what was read.
        where: what to call it in messages.

    Raises:
        UsageError: it is not what ``json_of`` gives, or of another version.
    """
    if isinstance(content, Mapping) and "code_sequences" in content:
        content = {own: content[theirs] for own, theirs in REPRODUCTION_KEYS.items() if theirs in content} | {
            key: value for key, value in content.items() if key not in REPRODUCTION_KEYS.values()
        }
    try:
        require_kinds(where, content, _NEEDED, UsageError)
        check_kinds(where, content, _MAY | _CAMERA, UsageError)
        meta = check_meta(content["meta"], where)
        codes = _codes(content, meta, where)
    except UsageError as error:
        text = str(error)
        raise UsageError(text if "; r" in text else f"{text}; run inference again") from None
    check_values(codes, where)
    return codes


def _codes(content: Mapping[str, Any], meta: dict[str, Any], where: str) -> MotionCodes:
    rows, count = content["codes"], len(content["codes"])
    widths = sorted({len(row) for row in rows})
    if len(widths) > 1 or 0 in widths or len(content["start_frames"]) != count:
        raise UsageError(
            f"{where}: codes are {count} windows of {widths} ids with {len(content['start_frames'])} "
            "start_frames; expected as many ids in each window, and a start for each"
        )
    for name in _MAY | _CAMERA:
        if name in content and len(content[name]) != count:
            raise UsageError(f"{where}: {name} are {len(content[name])} values; expected {count}")

    def known(name: str, dtype: torch.dtype) -> Tensor:
        unknown: list[Any] = [None if dtype.is_floating_point else -1] * count
        values = content.get(name, unknown)
        return torch.tensor([math.nan if value is None else value for value in values], dtype=dtype)

    steps = content.get("valid_steps", [meta["sequence_length"] - 1] * count)
    f64, f32, i64 = torch.float64, torch.float32, torch.int64
    return MotionCodes(
        ids=torch.tensor(rows, dtype=i64).view(count, widths[0] if widths else meta.get("num_codes", 0)),
        starts=torch.tensor(content["start_frames"], dtype=i64),
        seconds=torch.stack([known("start_seconds", f64), known("end_seconds", f64)], dim=1),
        step_seconds=known("step_seconds", f64),
        source_frames=torch.stack([known("source_frames", i64), known("end_source_frames", i64)], dim=1),
        valid_steps=torch.tensor(steps, dtype=i64),
        motion_energy=known("motion_energy", f32),
        visible_share=known("visible_share", f32),
        **_camera(content, meta, where),
        clip=content["clip"],
        meta=meta,
    )


def _camera(content: Mapping[str, Any], meta: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The columns ``camera`` and ``camera_ids``, where ``content`` has them."""
    found: dict[str, Tensor] = {}
    count = len(content["codes"])
    if "camera" in content:
        views, steps = max(len(meta.get("views", ())), 1), meta["sequence_length"] - 1
        try:
            values = np.array(content["camera"], np.float32).reshape(count, views, steps, 4, 2)
        except ValueError as error:
            raise UsageError(
                f"{where}: camera is not {count} windows of {views} views, {steps} steps, 4 points ({error})"
            ) from None
        found["camera"] = torch.from_numpy(values)
    if "camera_codes" in content:
        rows, widths = content["camera_codes"], {len(row) for row in content["codes"]}
        if {len(row) for row in rows} != widths:
            raise UsageError(f"{where}: camera_codes are not as many in each window as codes")
        width = next(iter(widths), int(meta.get("num_codes", 0)))
        found["camera_ids"] = torch.tensor(rows, dtype=torch.int64).view(count, width)
    return found


def _numbers(column: Tensor) -> list[float | None]:
    """Values, null for NaN; of float32 the shortest decimals that give them back."""
    values = column.numpy()
    if values.dtype == np.float32:
        return [None if math.isnan(value) else float(str(value)) for value in values]
    return [None if math.isnan(value) else value for value in values.tolist()]


class JsonFormat(CodeFormat):
    """A file for each clip."""

    name = "json"
    ending = ".json"

    def write(self, path: Path, clips: Iterable[MotionCodes]) -> None:
        """See ``CodeFormat``."""
        (codes,) = clips
        write_pieces(path, json_pieces(codes))

    def read(self, path: Path) -> list[MotionCodes]:
        """See ``CodeFormat``; reads either system's keys."""
        try:
            content = parse_json(read_regular(path), finite=True)
        except OSError as error:
            raise missing(path, error) from None
        except ValueError as error:
            raise damaged(path, error) from None
        return [codes_of_json(content, str(path))]

    def meta(self, path: Path) -> Mapping[str, Any]:
        """See ``CodeFormat``; the rest of the file is not checked."""
        try:
            content = parse_json(read_regular(path), finite=True)
        except (OSError, ValueError):
            return {}
        meta = content.get("meta") if isinstance(content, dict) else None
        known = isinstance(meta, dict) and meta.get("format_version", FORMAT_VERSION) == FORMAT_VERSION
        return meta if meta and known else {}


FORMAT = JsonFormat()
