"""What search can compare of windows: codes, decoded or as they stand, and what they are held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d

from amplify_motion_tokenizer import Tokenizer, decode_tracks, load_tokenizer
from amplify_motion_tokenizer.codes.motion_vectors import STILL, motion_vectors
from amplify_motion_tokenizer.codes.tracks import encode_tracks
from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.evaluation.plain_coders import PcaCoder, made_up_components
from amplify_motion_tokenizer.trackers.windows import SEEN
from benchmarks.support.moving_windows import GRID, LENGTH

Floats = NDArray[np.float32]

BITS_OF_ID = 11
"""Of the shipped tokenizers, and of the PCA coder's ids."""


class Coders(NamedTuple):
    """What makes codes."""

    tokenizers: dict[str, Tokenizer]
    pca: dict[int, PcaCoder]
    """By how many ids a window has."""

    @staticmethod
    def shipped(ids: Sequence[int]) -> Coders:
        components = made_up_components(GRID, LENGTH)
        return Coders(
            {name: load_tokenizer(name, "cpu") for name in ("transform", "codec")},
            {count: PcaCoder(components, count) for count in ids},
        )


class Compared(NamedTuple):
    """One way to compare windows."""

    name: str
    bits: int
    """Of a window."""
    vectors: Floats
    """(S, K)."""
    metric: str = "euclidean"
    """euclidean, absolute (sum of differences), equal (share of equal numbers) or random."""

    def to(self, other: Compared) -> Floats:
        """(S, M) distances of these windows to those of ``other``, compared in the same way."""
        if self.metric == "random":
            return np.random.default_rng(0).random((len(self.vectors), len(other.vectors)), np.float32)
        one, two = torch.from_numpy(self.vectors), torch.from_numpy(other.vectors)
        order = {"euclidean": 2.0, "absolute": 1.0, "equal": 0.0}[self.metric]
        return np.asarray(torch.cdist(one, two, p=order).numpy())


def compared(
    tracks_xy_px: Tensor, visibility: Tensor, size: tuple[int, int], coders: Coders
) -> list[Compared]:
    """All ways to compare windows.

    Args:
        tracks_xy_px: (S, T, N, 2) of the tracker.
        visibility: (S, T, N), 0 to 1.
        size: (height, width) of the frames in pixels.
        coders: one PCA coder for each number of ids of which codes are taken.
    """
    found = []
    for name, tokenizer in coders.tokenizers.items():
        ids = encode_tracks(tokenizer, tracks_xy_px, visibility, size)
        for count in coders.pca:
            tracks = decode_tracks(tokenizer, ids[:, :count], size)
            found.append(Compared(f"{name}'s codes", BITS_OF_ID * count, motion_vectors(tracks, size)))
    bits, codec = BITS_OF_ID * ids.shape[1], coders.tokenizers["codec"]
    digits = codec.digits(ids) / torch.tensor(codec.config.model.fsq_levels)
    found.append(Compared("codec's digits by their levels", bits, digits.flatten(1).numpy(), "absolute"))
    found.append(Compared("codec's ids, share of equal ones", bits, ids.float().numpy(), "equal"))
    seen, sizes = visibility >= SEEN, torch.tensor([size]).expand(len(ids), 2)
    for count, pca in coders.pca.items():
        tracks = pca(tracks_xy_px, seen, sizes)
        found.append(Compared("PCA codes", BITS_OF_ID * count, motion_vectors(tracks, size)))
    start = tracks_xy_px[:, :1]
    moves = fill_lost(tracks_xy_px - start, seen)
    vectors = motion_vectors(start + moves, size)
    whole = (moves[:, 1:] / min(size)).flatten(1).numpy()
    steps = (moves[:, 1:] - moves[:, :-1]) / min(size)
    shapes = _as_shapes(_rounded(moves[:, 1:] / min(size), bits, 0.25))
    return [
        *found,
        Compared("tracks, averaged", 32 * vectors.shape[1], vectors),
        Compared("displacements, averaged, rounded to bits", bits, shapes),
        Compared("velocities, averaged, rounded to bits", bits, _rounded(steps, bits, 0.05)),
        Compared("displacements, every point and step", 32 * whole.shape[1], whole),
        Compared("velocities, every point and step", 32 * whole.shape[1], steps.flatten(1).numpy()),
        Compared("random order", 0, np.zeros((len(ids), 1), np.float32), "random"),
    ]  # fmt: skip


def _rounded(moves: Tensor, bits: int, most: float) -> Floats:
    """(S, K) means of moves over 2 x 2 fields of the frame and as many stretches of time as ``bits`` allow.

    Numbers are told in 11 bits each, evenly from -``most`` to ``most``.

    Args:
        moves: (S, t, N, 2) in shorter sides of the frame.
        bits: of a window.
        most: in shorter sides.
    """
    side = math.isqrt(moves.shape[2])
    fields = moves.reshape(len(moves), -1, side, side, 2).permute(0, 4, 1, 2, 3)
    pooled = adaptive_avg_pool3d(fields, (bits // BITS_OF_ID // 8, 2, 2)).flatten(1)
    cells = 2**BITS_OF_ID / (2 * most)
    return np.asarray(((pooled.clamp(-most, most) * cells).round() / cells).numpy())


def _as_shapes(numbers: Floats) -> Floats:
    """Numbers (S, K) as ``motion_vectors`` takes displacements: of a size that counts near 0 alone."""
    length = np.linalg.norm(numbers, axis=1, keepdims=True)
    return np.asarray(numbers / np.maximum(length, 1e-9) * (length / (length + STILL)), np.float32)
