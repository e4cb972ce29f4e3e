"""Codes by the token, as their statistics take them.

Letters: S windows, V views with tokens of their own (else 1), t tokens of a view, K codes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.errors import UsageError

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


def code_set(codes: MotionCodeSet) -> CodeSet:
    """The clips of ``codes`` that have windows, by the token.

    Raises:
        UsageError: none has, or their ids are no whole number of views.
    """
    clips = [each for each in codes.values() if len(each)]
    if not clips:
        raise UsageError(
            f"{codes.path}: holds no windows of any clip, expected at least one; run inference on clips that "
            "move"
        )
    meta = clips[0].meta
    length, num_steps, width = meta["tracked_length"], meta["sequence_length"] - 1, clips[0].ids.shape[1]
    tokens = num_steps if _of_steps(meta) else width
    if width % tokens:
        raise UsageError(
            f"{codes.path}: codes are {width} ids a window; expected a multiple of {tokens} steps; run "
            "inference again"
        )
    found = [
        ClipCodes(
            each.clip,
            each.starts.numpy(),
            each.ids.numpy().reshape(len(each), -1, tokens),
            each.valid_steps.numpy(),
        )
        for each in clips
    ]
    token_frames = (length - 1) / num_steps if _of_steps(meta) else None
    return CodeSet(found, meta["codebook_size"], meta["window_stride"], length, num_steps, token_frames)


def _of_steps(meta: Mapping[str, Any]) -> bool:
    """Whether tokens are the steps of a window, t of each view with tokens of its own, t fast."""
    return bool(meta.get("tokens_are_steps", meta["model"] in _STEP_MODELS))
