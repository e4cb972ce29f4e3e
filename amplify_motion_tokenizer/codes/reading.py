"""Reads the codes that inference wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import MAX_CODES
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import CODES
from amplify_motion_tokenizer.kinds import (
    FLAG,
    MAPPING,
    TEXT,
    Kind,
    check_kinds,
    list_of,
    require_kinds,
    whole_from,
)

FORMAT_VERSION = 1
"""Of code files, in their ``meta``."""

_STEP_MODELS = ("amplify",)
"""Models whose tokens are the steps of a window, for older codes, which lack ``tokens_are_steps``."""

Ids = NDArray[np.int64]


class ClipCodes(NamedTuple):
    """Codes of one clip."""

    clip: str
    starts: Ids
    """(S,) first frames of its windows, among the tracked frames; ascending."""
    codes: Ids
    """(S, V, t) ids."""
    valid_steps: Ids
    """(S,) how many of the model's steps are real, the first ones; the rest repeats the clip's last frame."""

    def kind(self, kinds: Collection[str]) -> str | None:
        """The one of ``kinds`` at the end of a rendered clip's name, such as 003_pan; None where none is."""
        match = re.fullmatch(r"\d+_(\w+)", self.clip.rsplit("/", 1)[-1])
        return match[1] if match and match[1] in kinds else None


class CodeSet(NamedTuple):
    """The codes that one run of inference wrote."""

    clips: list[ClipCodes]
    """The clips that have windows."""
    codebook_size: int
    """K."""
    stride: int
    """Tracked frames between the starts of two windows."""
    length: int
    """Tracked frames of a window."""
    num_steps: int
    """t, the model's steps of a window."""
    token_frames: float | None
    """Tracked frames from one token to the next; None where tokens are of the whole window."""

    def lags(self, wanted: int) -> list[int]:
        """1 to ``wanted``, as far as windows that many strides apart overlap."""
        return [lag for lag in range(1, wanted + 1) if lag * self.stride < self.length]

    def shift(self, lag: int) -> int | None:
        """Tokens by which windows ``lag`` strides apart differ; None where no two tokens share a step."""
        shift = None if self.token_frames is None else lag * self.stride / self.token_frames
        tokens = self.clips[0].codes.shape[-1]
        return int(shift) if shift is not None and shift.is_integer() and shift < tokens else None


def read_codes(folder: str | Path) -> CodeSet:
    """The codes that inference wrote.

    Raises:
        UsageError: ``codes.jsonl`` is missing, damaged or of another version, or holds no windows.
    """
    path = Path(folder) / CODES
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); give inference's output folder"
        ) from None
    except ValueError as error:
        raise UsageError(f"{path}: is damaged or of another version ({error}); run inference again") from None
    try:
        metas = [_meta(line, _where(path, number)) for number, line in enumerate(lines, start=1)]
        clips = [
            _clip(line, meta, _where(path, number))
            for number, (line, meta) in enumerate(zip(lines, metas, strict=True), start=1)
            if line["codes"]
        ]
    except UsageError as error:
        raise UsageError(f"{error}; run inference again") from None
    if not clips:
        raise UsageError(
            f"{path}: holds no windows of any clip, expected at least one; run inference on clips that move"
        )
    meta = metas[0]
    other = next((number for number, each in enumerate(metas, start=1) if each != meta), None)
    if other is not None or len({clip.codes.shape[1:] for clip in clips}) > 1:
        raise UsageError(f"{path}: holds codes of several runs; run inference again with --overwrite")
    length, num_steps = meta["tracked_length"], meta["sequence_length"] - 1
    token_frames = (length - 1) / num_steps if _of_steps(meta) else None
    return CodeSet(clips, meta["codebook_size"], meta["window_stride"], length, num_steps, token_frames)


_LINE: dict[str, Kind] = {
    "clip": TEXT,
    "codes": list_of(list_of(whole_from(0))),
    "start_frames": list_of(whole_from(0)),
    "meta": MAPPING,
}
_LINE_MAY: dict[str, Kind] = {"valid_steps": list_of(whole_from(0))}
"""Codes of before do not say it: all steps are real."""
_META: dict[str, Kind] = {
    "model": TEXT,
    "codebook_size": whole_from(2, MAX_CODES),
    "sequence_length": whole_from(2),
    "tracked_length": whole_from(2),
    "window_stride": whole_from(1),
}
_META_MAY: dict[str, Kind] = {"tokens_are_steps": FLAG}
"""Facts about the run that a line may lack, as lines of older codes do."""


def _where(path: Path, number: int) -> str:
    return f"{path}: is damaged or of another version (line {number})"


def _meta(line: Any, where: str) -> dict[str, Any]:
    """The facts about the run in a line of ``codes.jsonl``, once every value of the line is of its kind."""
    require_kinds(where, line, _LINE, UsageError)
    check_kinds(where, line, _LINE_MAY, UsageError)
    version = version_of(line["meta"])
    if version != FORMAT_VERSION:
        raise UsageError(f"{where}: format version {version!r}, expected {FORMAT_VERSION}")
    require_kinds(f"{where}: meta", line["meta"], _META, UsageError)
    check_kinds(f"{where}: meta", line["meta"], _META_MAY, UsageError)
    return {key: line["meta"][key] for key in (*_META, *_META_MAY) if key in line["meta"]}


def version_of(meta: Mapping[str, Any]) -> Any:
    """The format version of a code file with ``meta``; the first ones do not say it."""
    return meta.get("format_version", 1)


def _of_steps(meta: dict[str, Any]) -> bool:
    """Whether tokens are the steps of a window, t of each view with tokens of its own, t fast."""
    return bool(meta.get("tokens_are_steps", meta["model"] in _STEP_MODELS))


def _clip(line: dict[str, Any], meta: dict[str, Any], where: str) -> ClipCodes:
    rows, starts, size = line["codes"], line["start_frames"], meta["codebook_size"]
    width = len(rows[0])
    if not width or any(len(row) != width for row in rows) or len(starts) != len(rows):
        raise UsageError(
            f"{where}: codes are {len(rows)} windows of {sorted({len(row) for row in rows})} ids with "
            f"{len(starts)} start_frames; expected as many ids in each window, and a start for each"
        )
    codes = np.array(rows, np.int64)
    if codes.max() >= size:
        found = f"ids of {line['clip']} are {codes.min()} to {codes.max()}"
        raise UsageError(f"{where}: {found}; expected 0 to {size - 1}")
    tokens = meta["sequence_length"] - 1 if _of_steps(meta) else width
    if width % tokens:
        raise UsageError(f"{where}: codes are {width} ids a window; expected a multiple of {tokens} steps")
    if any(later <= earlier for earlier, later in zip(starts, starts[1:], strict=False)):
        raise UsageError(f"{where}: start_frames of {line['clip']} do not ascend, as they should")
    steps = meta["sequence_length"] - 1
    valid_steps = line.get("valid_steps", [steps] * len(rows))
    if len(valid_steps) != len(rows) or max(valid_steps) > steps:
        raise UsageError(
            f"{where}: valid_steps of {line['clip']} are {len(valid_steps)} numbers of at most "
            f"{max(valid_steps, default=0)}; expected {len(rows)} of at most {steps}"
        )
    ids = codes.reshape(len(codes), -1, tokens)
    return ClipCodes(line["clip"], np.array(starts, np.int64), ids, np.array(valid_steps, np.int64))
