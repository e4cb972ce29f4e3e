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
    side = math.isqrt(moves.shape[-2])
    fields = moves.reshape(-1, moves.shape[-3], side, side, 2).permute(0, 4, 1, 2, 3)
    steps, rows, columns = (min(most, own) for most, own in zip(POOLED, fields.shape[2:], strict=True))
    pooled = adaptive_avg_pool3d(fields, (steps, rows, columns)).reshape(len(moves), -1)
    size_of_move = pooled.square().sum(dim=1, keepdim=True).sqrt()
    mean = size_of_move * math.sqrt(2 / max(pooled.shape[1], 1))
    return (pooled / size_of_move.clamp(min=1e-12) * (mean / (mean + STILL))).numpy()


def vectors_of(codes: MotionCodes, tokenizer: Tokenizer) -> NDArray[np.float32]:
    """``motion_vectors`` (S, K) of what codes of a clip tell.

    Raises:
        ValueError: codes are of another tokenizer.
    """
    # Displacements are taken in shorter sides, and a move in a frame of one shape is that in any.
    size = codes.meta.get("tracked_size") or (240, 320)
    tracks, _ = tokenizer.decode(codes, (int(size[0]), int(size[1])))
    return motion_vectors(tracks, (int(size[0]), int(size[1])))


def all_vectors(codes: MotionCodeSet, tokenizer: Tokenizer) -> Mapping[str, NDArray[np.float32]]:
    """``vectors_of`` each clip, by name.

    Raises:
        ValueError: codes are of another tokenizer.
    """
    with torch.inference_mode():
        return {name: vectors_of(clip, tokenizer) for name, clip in codes.items()}
