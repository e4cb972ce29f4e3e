"""Codes that inference wrote, read back."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import CODES

_STEP_MODELS = ("amplify",)
"""Models whose tokens are the steps of a window, for codes of before ``tokens_are_steps`` was recorded."""

Ids = NDArray[np.int64]


class ClipCodes(NamedTuple):
    """Codes of one clip."""

    clip: str
    starts: Ids
    """(S,) first frames of its windows, among the tracked frames; ascending."""
    codes: Ids
    """(S, V, t) ids."""

    def kind(self, kinds: Collection[str]) -> str | None:
        """The one of ``kinds`` of scene that the name of a rendered clip, such as 003_pan, ends with."""
        match = re.fullmatch(r"\d+_(\w+)", self.clip.rsplit("/", 1)[-1])
        return match[1] if match and match[1] in kinds else None


class CodeSet(NamedTuple):
    """Codes of one run of inference."""

    clips: list[ClipCodes]
    """Those that have windows."""
    codebook_size: int
    """K."""
    stride: int
    """Tracked frames between the starts of two windows."""
    length: int
    """Tracked frames of a window."""
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


def read_codes(folder: Path) -> CodeSet:
    """The codes that inference wrote.

    Raises:
        UsageError: ``codes.jsonl`` is missing, damaged or of another version, or holds no windows.
    """
    path = folder / CODES
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        meta = lines[0]["meta"] if lines else {}
        clips = [_clip(line, meta) for line in lines if line["codes"]]
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); give inference's output folder"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: is damaged or of another version ({error}); run inference again") from None
    if not clips:
        raise UsageError(f"{path}: holds no windows")
    length = meta["tracked_length"]
    token_frames = (length - 1) / (meta["sequence_length"] - 1) if _of_steps(meta) else None
    return CodeSet(clips, meta["codebook_size"], meta["window_stride"], length, token_frames)


def _of_steps(meta: dict[str, Any]) -> bool:
    """Whether tokens are the steps of a window, t of each view with tokens of its own, t fast."""
    return bool(meta.get("tokens_are_steps", meta["model"] in _STEP_MODELS))


def _clip(line: dict[str, Any], meta: dict[str, Any]) -> ClipCodes:
    codes = np.array(line["codes"], np.int64)
    if not 0 <= codes.min() <= codes.max() < meta["codebook_size"]:
        raise ValueError(f"ids of {line['clip']} are {codes.min()} to {codes.max()}")
    tokens = meta["sequence_length"] - 1 if _of_steps(meta) else codes.shape[1]
    return ClipCodes(
        line["clip"], np.array(line["start_frames"], np.int64), codes.reshape(len(codes), -1, tokens)
    )
