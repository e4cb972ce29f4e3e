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

CHARACTER = (1.5, 1.0, 1.0)
"""Weights of the three numbers of ``_character``, chosen, as the numbers themselves, on rendered clips of
other seeds than the ones that docs/measured/search.md measures on."""

FARTHEST = math.sqrt(4 + sum(weight**2 for weight in CHARACTER))
"""Largest distance of two ``motion_vectors``."""


def motion_vectors(tracks_xy_px: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """(S, K) vectors of tracks; their Euclidean distance is from 0, the same motion, to ``FARTHEST``.

    The first numbers are the shape of the displacements since frame 0, averaged over ``POOLED``, of length
    n / (n + ``STILL``), n being their root mean square: how fast something moves counts only near standing
    still. Shapes that have nothing in common are 1.4 apart, opposite ones 2. The last three are
    ``_character`` times ``CHARACTER``.

    Args:
        tracks_xy_px: (S, [V, ]T, N, 2), (x, y) pixels; N is a square grid.
        size: (height, width) of the frames in pixels.
    """
    places = tracks_xy_px / min(size)
    moves = places - places[..., :1, :, :]
    shapes = _shapes(_averaged(moves[..., 1:, :, :], POOLED[0]), STILL)
    return np.concatenate([shapes, _character(places).numpy() * np.array(CHARACTER, np.float32)], axis=1)


def _character(places: Tensor) -> Tensor:
    """(S, 3) what kind of motion places (S, [V, ]T, N, 2), in shorter sides of the frame, tell; 0 to 1 each.

    How much of it no shift, turn and zoom of the whole frame explains (of things that move by themselves),
    how much of the way is left at the end (little where something trembles or turns back), and how much
    the points move one way. All fade near standing still, and are means over views.
    """
    steps = places.shape[-3] - 1
    ends = torch.linspace(0, steps, min(POOLED[0], steps) + 1).round().long()
    stretches = places[..., ends[1:], :, :] - places[..., ends[:-1], :, :]
    still = STILL / (len(ends) - 1)
    whole, left = _size(stretches), _size(_beyond_similarity(places[..., :1, :, :], stretches))
    each = places[..., 1:, :, :] - places[..., :-1, :, :]
    way = each.square().sum(dim=-1).mean(dim=-1).sqrt().sum(dim=-1)
    net = _size(places[..., -1:, :, :] - places[..., :1, :, :])
    one_way = each.mean(dim=-2).norm(dim=-1).mean(dim=-1) / (
        each.norm(dim=-1).mean(dim=(-1, -2)) + STILL / steps
    )
    found = torch.stack([left / (whole + still), net / (way + STILL), one_way], dim=-1)
    return found.flatten(1, -2).mean(dim=1) if found.ndim > 2 else found


def _size(moves: Tensor) -> Tensor:
    """(S, [V]) root mean square length of moves (S, [V, ]t, N, 2)."""
    return moves.square().sum(dim=-1).mean(dim=(-1, -2)).sqrt()


def _beyond_similarity(places: Tensor, moves: Tensor) -> Tensor:
    """What the best similarity leaves of moves (S, [V, ]t, N, 2) of points at places (S, [V, ]1, N, 2).

    Least squares over all points, in each stretch of time.
    """
    arms = torch.view_as_complex((places - places.mean(dim=-2, keepdim=True)).contiguous())
    rest = torch.view_as_complex((moves - moves.mean(dim=-2, keepdim=True)).contiguous())
    power = arms.abs().square().sum(dim=-1, keepdim=True).clamp(min=1e-12)
    turn = (arms.conj() * rest).sum(dim=-1, keepdim=True) / power
    return torch.view_as_real(rest - turn * arms)


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
    return _shapes(_averaged(places[1] - places[0], 1), still), _shapes(
        _averaged(places[2] - places[1], 1), still
    )


def _averaged(moves: Tensor, stretches: int) -> Tensor:
    """(S, K) means of moves (S, [V, ]t, N, 2) over so many stretches of time and the fields of ``POOLED``."""
    side = math.isqrt(moves.shape[-2])
    fields = moves.flatten(0, -4)
    fields = fields.reshape(*fields.shape[:2], side, side, 2).permute(0, 4, 1, 2, 3)
    wanted = (stretches, *POOLED[1:])
    steps, rows, columns = (min(most, own) for most, own in zip(wanted, fields.shape[2:], strict=True))
    numbers = math.prod(moves.shape[1:-3]) * 2 * steps * rows * columns
    if not len(moves):
        return moves.new_empty(0, numbers)
    return adaptive_avg_pool3d(fields, (steps, rows, columns)).reshape(len(moves), numbers)


def _shapes(means: Tensor, still: float) -> NDArray[np.float32]:
    """Moves (S, K) in shorter sides of the frame as shapes of length n / (n + ``still``)."""
    length = means.square().sum(dim=1, keepdim=True).sqrt()
    mean = length * math.sqrt(2 / max(means.shape[1], 1))
    return (means / length.clamp(min=1e-12) * (mean / (mean + still))).numpy()


def _decoded(codes: MotionCodes, tokenizer: Tokenizer) -> tuple[Tensor, tuple[int, int]]:
    """The tracks that codes of a clip tell, and the size of frames that they are in.

    What was taken out of them as the camera's motion stays out.
    """
    # Displacements are taken in shorter sides, and a move in a frame of one shape is that in any.
    height, width = codes.meta.get("tracked_size") or (240, 320)
    with torch.inference_mode():
        return tokenizer.decode(codes, (height, width), camera=False)[0], (height, width)


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
