"""Tracks that are in memory to codes, and codes back to tracks, with any tokenizer.

Letters: B windows, V views, T frames, t = T - 1 steps, N points, d ids of a window.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.data.inputs import from_tracks, moves_px
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.geometry import integrate_velocities, query_grid
from amplify_motion_tokenizer.models import MotionTokenizer

Array = Tensor | NDArray[Any]

CHUNK_WINDOWS = 32
"""Windows that become model input at a time: what is made of them stays in the CPU's caches."""

_NORMALISED = 2.0
"""Where no position is above this, in a frame of more than a few pixels, positions are not pixels."""


@torch.no_grad()
def encode_tracks(
    tokenizer: MotionTokenizer, tracks_xy_px: Array, visibility: Array, size: tuple[int, int]
) -> Tensor:
    """Ids of windows of tracks of one view, each of which begins on the query grid.

    Args:
        tokenizer: of one view, in evaluation mode, not conditioned on images.
        tracks_xy_px: (B, T, N, 2) or (T, N, 2), (x, y) pixels of the frames; T is resampled where the
            tokenizer has another.
        visibility: (B, T, N) or (T, N), confidence 0 to 1, or bool.
        size: (height, width) of the frames in pixels.

    Returns:
        (B, d) or (d,) int64, on the CPU.

    Raises:
        ValueError: naming the shape, unit or order that was expected and what was found.
    """
    tracks = torch.as_tensor(tracks_xy_px).float()
    seen = torch.as_tensor(visibility).float()
    _check(tokenizer, tracks, seen, size)
    single = tracks.ndim == 3
    if single:
        tracks, seen = tracks[None], seen[None]
    ids = [torch.empty(0, tokenizer.num_codes, dtype=torch.int64)]
    for first in range(0, len(tracks), CHUNK_WINDOWS):
        rows = slice(first, first + CHUNK_WINDOWS)
        inputs = from_tracks([ViewTracks(tracks[rows], seen[rows], size)], tokenizer.config, truth=False)
        ids.append(tokenizer.tokenize(inputs.velocities.to(tokenizer.device)).cpu())
    every = torch.cat(ids)
    return every[0] if single else every


@torch.no_grad()
def decode_tracks(
    tokenizer: MotionTokenizer, ids: Array, size: tuple[int, int], first_xy_px: Array | None = None
) -> Tensor:
    """Tracks that ids tell.

    Args:
        tokenizer: that made them.
        ids: (B, d) or (d,) whole numbers; fewer than d, the first ones, where those are a code.
        size: (height, width) of the frames to show them in, in pixels.
        first_xy_px: (N, 2) or (B, N, 2), where the points are in frame 0; None is the query grid.

    Returns:
        ([B, ][V, ]T, N, 2) float32, (x, y) pixels, on the CPU.

    Raises:
        ValueError: ids are outside of the codebook, or have another shape.
    """
    found = torch.as_tensor(ids).long().to(tokenizer.device)
    single = found.ndim == 1
    codes = tokenizer.codes_of(found[None] if single else found)
    moves = moves_px(tokenizer.reconstruct(codes), size, tokenizer.config).cpu()
    config = tokenizer.config
    if first_xy_px is None:
        first_xy_px = query_grid(config.tracking.query_order, config.data.grid_size, size)
    first = torch.as_tensor(first_xy_px).float()
    first = first.view(-1, *[1] * (moves.ndim - 4), *first.shape[-2:]).expand_as(moves[..., 0, :, :])
    tracks = integrate_velocities(first, moves)
    return tracks[0] if single else tracks


def _check(tokenizer: MotionTokenizer, tracks: Tensor, seen: Tensor, size: tuple[int, int]) -> None:
    config = tokenizer.config
    if config.input_kind.view_axis or config.conditioned:
        raise ValueError("encode_tracks is for tokenizers of one view that take no images; use encode")
    if tracks.ndim not in (3, 4) or tracks.shape[-1] != 2 or tracks.shape[-2] != config.num_points:
        expected = f"(B, T, {config.num_points}, 2) or (T, {config.num_points}, 2)"
        raise ValueError(f"tracks_xy_px are {tuple(tracks.shape)}; expected {expected}")
    if seen.shape != tracks.shape[:-1]:
        raise ValueError(f"visibility is {tuple(seen.shape)}; expected {tuple(tracks.shape[:-1])}")
    if tracks.shape[-3] < 2:
        raise ValueError(f"tracks_xy_px have {tracks.shape[-3]} frame; expected 2 or more")
    known = tracks[tracks.isfinite()]
    if known.numel() and min(size) > 2 * _NORMALISED and known.abs().max() <= _NORMALISED:
        raise ValueError(
            f"tracks_xy_px reach {float(known.abs().max()):g}; expected (x, y) pixels of a frame of "
            f"{size[0]} x {size[1]} (height x width), not normalised positions"
        )
