"""What codes say of a window as one vector, so that windows with like motion have near vectors.

A digit of an id is of one wave or another, so digits cannot be compared as they stand: codes are decoded.

Letters: S windows, V views, T frames, g points on a side of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer
from amplify_motion_tokenizer.errors import UsageError

POOLED = (3, 4, 4)
"""Stretches of time, rows and columns of the frame, over each of which displacements are averaged."""

STILL = 1 / 480
"""Root mean square displacement, in shorter sides of the frame, that counts half as much as a large one does:
half a pixel of 240 rows, so that what is left of the tracker's noise has no shape."""


def motion_vectors(tracks_xy_px: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """(S, K) vectors of tracks, as long as 1 at most; their Euclidean distance is from 0, the same, to 2.

    A vector is the shape of the displacements since frame 0, averaged over ``POOLED``, times
    n / (n + ``STILL``), n being their root mean square: how fast something moves counts only near standing
    still.

    Args:
        tracks_xy_px: (S, [V, ]T, N, 2), (x, y) pixels; N is a square grid.
        size: (height, width) of the frames in pixels.
    """
    moves = (tracks_xy_px - tracks_xy_px[..., :1, :, :])[..., 1:, :, :] / min(size)
    return _shapes(averaged(moves, POOLED), STILL)


def half_vectors(
    tracks_xy_px: Tensor, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors (S, K) of the first and of the second half of windows, as ``motion_vectors``.

    A half of h of the t = T - 1 steps has the shape of its one displacement, and fades at h / t of ``STILL``.

    Args:
        tracks_xy_px: (S, [V, ]T, N, 2), (x, y) pixels; N is a square grid.
        size: (height, width) of the frames in pixels.
    """
    steps = tracks_xy_px.shape[-3] - 1
    half = max(1, steps // 2)
    places = [tracks_xy_px[..., at : at + 1, :, :] / min(size) for at in (0, half, min(2 * half, steps))]
    still = STILL * half / steps
    whole = (1, *POOLED[1:])
    return _shapes(averaged(places[1] - places[0], whole), still), _shapes(
        averaged(places[2] - places[1], whole), still
    )


def averaged(moves: Tensor, parts: tuple[int, int, int]) -> Tensor:
    """(S, K) means of moves (S, [V, ]t, N, 2) over so many stretches of time, rows and columns of the frame.

    N is a square grid, row by row. Where there are fewer steps or points than parts, K is less.
    """
    side = math.isqrt(moves.shape[-2])
    fields = moves.reshape(-1, moves.shape[-3], side, side, 2).permute(0, 4, 1, 2, 3)
    steps, rows, columns = (min(most, own) for most, own in zip(parts, fields.shape[2:], strict=True))
    return adaptive_avg_pool3d(fields, (steps, rows, columns)).reshape(len(moves), -1)


def _shapes(means: Tensor, still: float) -> NDArray[np.float32]:
    """Moves (S, K) in shorter sides of the frame as shapes of length n / (n + ``still``)."""
    length = means.square().sum(dim=1, keepdim=True).sqrt()
    mean = length * math.sqrt(2 / max(means.shape[1], 1))
    return (means / length.clamp(min=1e-12) * (mean / (mean + still))).numpy()


def _decoded(codes: MotionCodes, tokenizer: Tokenizer) -> tuple[Tensor, tuple[int, int]]:
    """The tracks that codes of a clip tell, and the size of frames that they are in."""
    # Displacements are taken in shorter sides, and a move in a frame of one shape is that in any.
    height, width = codes.meta.get("tracked_size") or (240, 320)
    with torch.inference_mode():
        return tokenizer.decode(codes, (height, width))[0], (height, width)


def vectors_of(codes: MotionCodes, tokenizer: Tokenizer) -> NDArray[np.float32]:
    """``motion_vectors`` (S, K) of what codes of a clip tell.

    Raises:
        ValueError: codes are of another tokenizer.
    """
    return motion_vectors(*_decoded(codes, tokenizer))


def all_vectors(codes: MotionCodeSet, tokenizer: Tokenizer) -> Mapping[str, NDArray[np.float32]]:
    """``vectors_of`` each clip, by name.

    Raises:
        ValueError: codes are of another tokenizer.
    """
    return {name: vectors_of(clip, tokenizer) for name, clip in codes.items()}


def changes_within(codes: MotionCodes, tokenizer: Tokenizer) -> NDArray[np.float64]:
    """(S,) distance of the ``half_vectors`` of each window of a clip: from 0, the motion goes on, to 2.

    Raises:
        ValueError: codes are of another tokenizer.
        UsageError: windows are of one step, in which nothing can change.
    """
    if tokenizer.config.num_steps < 2:
        raise UsageError(f"codes of {codes.clip} are of windows of one step, which tell no change of motion")
    before, after = half_vectors(*_decoded(codes, tokenizer))
    return np.asarray(np.linalg.norm(after - before, axis=1), np.float64)
