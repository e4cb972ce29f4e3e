"""What motion codes are like: how many are in use, and how alike overlapping windows are written.

Letters: S windows, V views with tokens of their own (else 1), t tokens of a view, K codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.evaluation.metrics import code_histogram, code_usage
from amplify_motion_tokenizer.file_names import CODES
from amplify_motion_tokenizer.scenes import KINDS

STEP_MODELS = ("amplify",)
"""Values of ``model.name`` whose tokens are the steps of a window, t of each view, t fast."""

Ids = NDArray[np.int64]


class ClipCodes(NamedTuple):
    """Codes of one clip."""

    clip: str
    starts: Ids
    """(S,) first frames of its windows, among the tracked frames; ascending."""
    codes: Ids
    """(S, V, t) ids."""

    @property
    def kind(self) -> str | None:
        """The kind of scene that the name of a rendered clip, such as 003_pan, ends with."""
        match = re.fullmatch(r"\d+_(\w+)", self.clip.rsplit("/", 1)[-1])
        return match[1] if match and match[1] in KINDS else None


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
    of_steps = meta["model"] in STEP_MODELS
    token_frames = (length - 1) / (meta["sequence_length"] - 1) if of_steps else None
    return CodeSet(clips, meta["codebook_size"], meta["window_stride"], length, token_frames)


def _clip(line: dict[str, Any], meta: dict[str, Any]) -> ClipCodes:
    codes = np.array(line["codes"], np.int64)
    if not 0 <= codes.min() <= codes.max() < meta["codebook_size"]:
        raise ValueError(f"ids of {line['clip']} are {codes.min()} to {codes.max()}")
    tokens = meta["sequence_length"] - 1 if meta["model"] in STEP_MODELS else codes.shape[1]
    return ClipCodes(
        line["clip"], np.array(line["start_frames"], np.int64), codes.reshape(len(codes), -1, tokens)
    )


def code_report(codes: CodeSet, num_lags: int) -> dict[str, Any]:
    """``code_summary`` of all clips, ``overall``, and of those of each kind of scene, ``kinds``.

    Args:
        codes: from ``read_codes``.
        num_lags: neighbours that a window is compared with, as far as they overlap.
    """
    kinds = sorted({clip.kind for clip in codes.clips if clip.kind})
    of_kind = {
        kind: codes._replace(clips=[clip for clip in codes.clips if clip.kind == kind]) for kind in kinds
    }
    return {
        "codebook_size": codes.codebook_size,
        "window_stride": codes.stride,
        "lags": codes.lags(num_lags),
        "overall": code_summary(codes, num_lags),
        "kinds": {kind: code_summary(part, num_lags) for kind, part in of_kind.items()},
    }


def code_summary(codes: CodeSet, num_lags: int) -> dict[str, Any]:
    """Usage of the codes, and how alike windows are that start some strides apart.

    ``same_position`` is, for each of ``codes.lags``, the share of tokens with equal ids at the same place
    in both windows; ``same_step`` that of tokens about the same step of the clip, for models whose tokens
    are steps. Beside each stands what any two windows have in common, ``chance_...``: the mean over all
    pairs of different windows. NaN where there is nothing to compare.
    """
    ids = np.concatenate([clip.codes for clip in codes.clips])
    lags = codes.lags(num_lags)
    pairs = [_pairs(codes.clips, lag * codes.stride) for lag in lags]
    usage = code_usage(code_histogram(torch.from_numpy(ids), codes.codebook_size))
    content: dict[str, Any] = {
        "clips": len(codes.clips),
        "windows": len(ids),
        "unique_codes": usage.unique,
        "perplexity": usage.perplexity,
        "pairs": [len(pair) for pair in pairs],
        "same_position": [_same(ids, pair, 0) for pair in pairs],
        "chance_position": [_chance(ids, 0, codes.codebook_size)] * len(lags),
    }
    if codes.token_frames is not None:
        shifts = [codes.shift(lag) for lag in lags]
        content["same_step"] = [_same(ids, pair, shift) for pair, shift in zip(pairs, shifts, strict=True)]
        content["chance_step"] = [_chance(ids, shift, codes.codebook_size) for shift in shifts]
    return content


def _pairs(clips: Sequence[ClipCodes], frames: int) -> Ids:
    """(P, 2) rows, among those of all clips, of windows of a clip that start ``frames`` apart."""
    found, row = [], 0
    for clip in clips:
        later = np.searchsorted(clip.starts, clip.starts + frames)
        earlier = np.flatnonzero(later < len(clip.starts))
        earlier = earlier[clip.starts[later[earlier]] == clip.starts[earlier] + frames]
        found.append(row + np.stack([earlier, later[earlier]], axis=1))
        row += len(clip.starts)
    return np.concatenate(found)


def _same(ids: Ids, pairs: Ids, shift: int | None) -> float:
    """Share of equal ids, a window's token k + shift against its later neighbour's token k."""
    if shift is None or not len(pairs):
        return float("nan")
    earlier, later = ids[pairs[:, 0]], ids[pairs[:, 1]]
    return float((earlier[..., shift:] == later[..., : ids.shape[-1] - shift]).mean())


def _chance(ids: Ids, shift: int | None, codebook_size: int) -> float:
    """``_same`` of all ordered pairs of different windows, from how often each id stands at each place."""
    count = len(ids)
    if shift is None or count < 2:
        return float("nan")
    earlier, later = (
        part.reshape(count, -1).T for part in (ids[..., shift:], ids[..., : ids.shape[-1] - shift])
    )
    equal = sum(
        int(np.bincount(a, minlength=codebook_size) @ np.bincount(b, minlength=codebook_size))
        for a, b in zip(earlier, later, strict=True)
    )
    # Less those of a window with itself.
    return float((equal - (earlier == later).sum()) / (earlier.size * (count - 1)))
