"""Codes as JSON, an object for each clip.

``clip``, ``meta``, and of each window: ``codes`` (ids), ``start_frames`` (index among the tracked frames),
``start_seconds``, ``end_seconds``, ``step_seconds``, ``source_frames`` and ``end_source_frames`` (index of
its first and last real frame in the source), ``valid_steps``, ``motion_energy``, ``visible_share``. What is
not known is null, and -1 where it is a frame. Vectors are in ``<clip>.pt`` beside it where they were saved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
from amplify_motion_tokenizer.files import write_json
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

REPRODUCTION_KEYS = {"codes": "code_sequences", "start_frames": "window_starts"}
"""Keys that have another name in the keypoint reproduction's files."""


def json_of(codes: MotionCodes) -> dict[str, Any]:
    """The JSON object of a clip."""
    return {
        "clip": codes.clip,
        "codes": codes.ids.tolist(),
        "start_frames": codes.starts.tolist(),
        "start_seconds": _numbers(codes.seconds[:, 0]),
        "end_seconds": _numbers(codes.seconds[:, 1]),
        "step_seconds": _numbers(codes.step_seconds),
        "source_frames": codes.source_frames[:, 0].tolist(),
        "end_source_frames": codes.source_frames[:, 1].tolist(),
        "valid_steps": codes.valid_steps.tolist(),
        "motion_energy": _numbers(codes.motion_energy),
        "visible_share": _numbers(codes.visible_share),
        "meta": dict(codes.meta),
    }


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
        check_kinds(where, content, _MAY, UsageError)
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
    for name in _MAY:
        if name in content and len(content[name]) != count:
            raise UsageError(f"{where}: {name} are {len(content[name])} numbers; expected {count}")

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
        clip=content["clip"],
        meta=meta,
    )


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
        write_json(path, json_of(codes))

    def read(self, path: Path) -> list[MotionCodes]:
        """See ``CodeFormat``; reads either system's keys."""
        try:
            content = parse_json(read_regular(path))
        except OSError as error:
            raise missing(path, error) from None
        except ValueError as error:
            raise damaged(path, error) from None
        return [codes_of_json(content, str(path))]

    def meta(self, path: Path) -> Mapping[str, Any]:
        """See ``CodeFormat``; the rest of the file is not checked."""
        try:
            content = parse_json(read_regular(path))
        except (OSError, ValueError):
            return {}
        meta = content.get("meta") if isinstance(content, dict) else None
        known = isinstance(meta, dict) and meta.get("format_version", FORMAT_VERSION) == FORMAT_VERSION
        return meta if meta and known else {}


FORMAT = JsonFormat()
