"""Numbers of windows that probes read: of codes, and of the tracks that the codes were made of.

Letters: S windows, V views, t steps of a window, N points, d ids of a window, D numbers of an id's vector, K
numbers of a window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.motion_vectors import averaged
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer
from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.evaluation.grid_windows import GridWindows, by_rows
from amplify_motion_tokenizer.evaluation.plain_coders import LEVELS, PcaCoder, made_up_components
from amplify_motion_tokenizer.tracks.stored import RecordedClip

Floats = NDArray[np.float32]

FINE = (5, 10, 10)
"""Stretches of time, rows and columns of the frame of the raw velocities that are told as finely as this."""

_COARSE_SIDES = (4, 3, 2, 1)
"""Rows and columns of the frame that velocities are averaged over, the most that fit."""


class Numbers(NamedTuple):
    """What a probe reads."""

    of_windows: Floats
    """(S, K)."""
    components: int = 0
    """Principal components of them that a probe takes, fitted on the windows that it is fitted on; 0: all."""


def of_codes(codes: MotionCodes, tokenizer: Tokenizer, width: int) -> dict[str, Floats]:
    """What codes of a clip tell, by name.

    Args:
        codes: of ``tokenizer``.
        tokenizer: that made them.
        width: K at most of the velocities.

    Raises:
        ValueError: codes are of another tokenizer.
    """
    levels = tokenizer.config.model.fsq_levels
    size = codes.meta.get("tracked_size") or (240, 320)  # velocities are shares of a frame, whatever its size
    with torch.inference_mode():
        vectors = codes.latents
        if vectors is None:
            vectors = tokenizer.codes_of(codes.ids.to(tokenizer.device)).cpu()
        tracks, _ = tokenizer.decode(codes, (size[0], size[1]))
    return {
        "ids": digits_as_numbers(tokenizer.digits(codes.ids), levels),
        "latents": vectors.flatten(1).numpy(),
        "decoded velocities": velocities(tracks, (size[0], size[1]), parts_of(width, tracks.shape[-3] - 1)),
    }


def digits_as_numbers(digits: Tensor, levels: Sequence[int]) -> Floats:
    """(S, K) 0 and 1: which of its levels each digit is, of digits (S, d, levels)."""
    each = [one_hot(digits[..., place], level) for place, level in enumerate(levels)]
    return np.asarray(torch.cat(each, dim=-1).flatten(1).numpy(), np.float32)


def latent_width(tokenizer: Tokenizer) -> int:
    """Numbers of a window's vectors, d times D."""
    return int(tokenizer.num_codes * tokenizer.code_width)


def parts_of(width: int, steps: int) -> tuple[int, int, int]:
    """Stretches of time, rows and columns to average over, so that ``width`` numbers are not exceeded.

    Rows and columns are as many as leave two stretches, 4 at most.
    """
    enough = (side for side in _COARSE_SIDES if 2 * 2 * side**2 <= width)
    side = next(enough, 1)
    return max(1, min(steps, width // (2 * side**2))), side, side


def velocities(tracks_xy_px: Tensor, size: tuple[int, int], parts: tuple[int, int, int]) -> Floats:
    """(S, K) mean moves from one frame to the next, in shorter sides of the frame, over ``parts``.

    Args:
        tracks_xy_px: (S, [V, ]T, N, 2), (x, y) pixels, finite; N is a square grid, row by row.
        size: (height, width) of the frames in pixels.
        parts: stretches of time, rows and columns of the frame.
    """
    return np.asarray(averaged(tracks_xy_px.diff(dim=-3) / min(size), parts).numpy(), np.float32)


def windows_of(clip: RecordedClip, codes: MotionCodes) -> GridWindows:
    """The tracks of the windows of ``codes``, of the clip's first view, row by row.

    Raises:
        TrackFileError: the file lacks one of the windows, or is of tracks of other frames.
    """
    fps = codes.meta.get("fps")
    if clip.fps and fps and abs(clip.fps - fps) > 1e-4 * fps:
        raise TrackFileError(f"{clip.path}: is of {clip.fps:g} frames a second, and codes of {fps:g}")
    with clip.open() as file:
        rows = {start: row for row, start in enumerate(clip.starts(file).tolist())}
        missing = [start for start in codes.starts.tolist() if start not in rows]
        if missing or clip.sizes[0] is None:
            lacks = f"the window at frame {missing[0]}" if missing else "the size of its frames"
            raise TrackFileError(f"{clip.path}: lacks {lacks}; give the tracks that the codes were made of")
        tracks, visibility = clip.read(file, [rows[start] for start in codes.starts.tolist()])[0]
    found = (torch.as_tensor(tracks).float(), torch.as_tensor(visibility).float())
    return by_rows(GridWindows(*found, clip.sizes[0], None), clip.path)


def pca_coder(tokenizer: Tokenizer, windows: GridWindows) -> PcaCoder:
    """A coder of tracks in as many bits as the tokenizer's, by principal components of made-up motion."""
    length, points = windows.visibility.shape[1:]
    bits = tokenizer.num_codes * math.log2(tokenizer.codebook_size)
    ids = max(1, int(bits / math.log2(math.prod(LEVELS))))
    return PcaCoder(made_up_components(math.isqrt(points), length), ids)


def of_tracks(windows: GridWindows, width: int, coder: PcaCoder) -> dict[str, Floats]:
    """What tracks of a clip tell, by name, as ``of_codes``.

    Args:
        windows: tracks.
        width: K at most of velocities, but the fine ones.
        coder: from ``pca_coder``.
    """
    start = windows.tracks_xy_px[:, :1]
    tracks = start + fill_lost(windows.tracks_xy_px - start, windows.seen)
    coarse, given = parts_of(width, tracks.shape[1] - 1), (windows.tracks_xy_px, windows.seen, windows.sizes)
    return {
        "PCA ids": digits_as_numbers(coder.digits(*given), LEVELS),
        "PCA codes, decoded": velocities(coder(*given), windows.size, coarse),
        "raw velocities": velocities(tracks, windows.size, coarse),
        "raw velocities, fine": velocities(tracks, windows.size, FINE),
    }
