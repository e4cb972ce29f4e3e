"""Statistics of motion codes: how many are in use, and how alike overlapping windows are written.

Letters: S windows, V views with tokens of their own (else 1), t tokens of a view, K codes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from amplify_motion_tokenizer.codes.code_set import ClipCodes, CodeSet, Ids
from amplify_motion_tokenizer.evaluation.metrics import code_histogram, code_usage


def code_report(codes: CodeSet, num_lags: int, kinds: Collection[str] = ()) -> dict[str, Any]:
    """``code_summary`` of all clips, ``overall``, and of the clips of each kind of scene, ``kinds``.

    Args:
        codes: from ``code_set``.
        num_lags: neighbours that a window is compared with, as far as they overlap.
        kinds: names of the kinds of scene that clips may be of, such as ``scenes.KINDS``.
    """
    of_kind: dict[str, list[ClipCodes]] = {}
    for clip in codes.clips:
        kind = clip.kind(kinds)
        if kind is not None:
            of_kind.setdefault(kind, []).append(clip)
    return {
        "codebook_size": codes.codebook_size,
        "window_stride": codes.stride,
        "lags": codes.lags(num_lags),
        "overall": code_summary(codes, num_lags),
        "kinds": {
            kind: code_summary(codes._replace(clips=clips), num_lags)
            for kind, clips in sorted(of_kind.items())
        },
    }


def code_summary(codes: CodeSet, num_lags: int) -> dict[str, Any]:
    """Usage of the codes, and how alike windows are that start some strides apart.

    ``same_position`` is, for each of ``codes.lags``, the share of tokens with equal ids at the same place
    in both windows; ``same_step`` is the share among tokens about the same step of the clip, for models
    whose tokens are steps. Beside each stands what any two windows have in common, ``chance_...``: the mean
    over all pairs of different windows. NaN where there is nothing to compare. Windows with padding are left
    out and counted, as their codes tell of the padding too.
    """
    clips = [_whole(clip, codes.num_steps) for clip in codes.clips]
    ids = np.concatenate([clip.codes for clip in clips])
    lags = codes.lags(num_lags)
    pairs = [_pairs(clips, lag * codes.stride) for lag in lags]
    counts = code_histogram(torch.from_numpy(ids), codes.codebook_size)
    usage = code_usage(counts, codes.codebook_size)
    content: dict[str, Any] = {
        "clips": len(codes.clips),
        "windows": len(ids),
        "padded_windows": sum(len(clip.codes) for clip in codes.clips) - len(ids),
        "unique_codes": usage.unique,
        "perplexity": usage.perplexity,
        "pairs": [len(pair) for pair in pairs],
        "same_position": [_same(ids, pair, 0) for pair in pairs],
        "chance_position": [_chance(ids, 0)] * len(lags),
    }
    if codes.token_frames is not None:
        shifts = [codes.shift(lag) for lag in lags]
        content["same_step"] = [_same(ids, pair, shift) for pair, shift in zip(pairs, shifts, strict=True)]
        content["chance_step"] = [_chance(ids, shift) for shift in shifts]
    return content


def _whole(clip: ClipCodes, num_steps: int) -> ClipCodes:
    """``clip`` without the windows that have padding."""
    whole = clip.valid_steps == num_steps
    return clip._replace(
        starts=clip.starts[whole], codes=clip.codes[whole], valid_steps=clip.valid_steps[whole]
    )


def _pairs(clips: Sequence[ClipCodes], frames: int) -> Ids:
    """(P, 2) pairs of windows of one clip that start ``frames`` apart, by their rows among all windows."""
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


def _chance(ids: Ids, shift: int | None) -> float:
    """``_same`` of all ordered pairs of different windows, from how often each id stands at each place."""
    count = len(ids)
    if shift is None or count < 2:
        return float("nan")
    earlier, later = (
        part.reshape(count, -1).T for part in (ids[..., shift:], ids[..., : ids.shape[-1] - shift])
    )
    equal = sum(_equal_pairs(a, b) for a, b in zip(earlier, later, strict=True))
    # Less the pairs of a window with itself.
    return float((equal - (earlier == later).sum()) / (earlier.size * (count - 1)))


def _equal_pairs(one: Ids, other: Ids) -> int:
    """How many pairs of an id of ``one`` and an id of ``other`` are equal, of codebooks of any size."""
    ids, often = np.unique(one, return_counts=True)
    others, others_often = np.unique(other, return_counts=True)
    _, at, at_other = np.intersect1d(ids, others, assume_unique=True, return_indices=True)
    return int(often[at] @ others_often[at_other])
