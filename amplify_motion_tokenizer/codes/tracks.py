"""Tracks that are in memory to codes, with any tokenizer of one view.

Letters: B windows, T frames, N points, d ids of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from amplify_motion_tokenizer.codes.encoding import Extra, GatheredBatches, encode_views
from amplify_motion_tokenizer.codes.given import Array, given_tracks
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.inputs import encoder_input
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.models import MotionTokenizer

if TYPE_CHECKING:
    from amplify_motion_tokenizer.codes.tokenizer import Tokenizer

CHUNK_WINDOWS = 32
"""Windows that become model input at a time: what is made of them stays in the CPU's caches."""


@torch.no_grad()
def encode_tracks(
    tokenizer: MotionTokenizer | Tokenizer, tracks_xy_px: Array, visibility: Array, size: tuple[int, int]
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
    check_one_view(tokenizer)
    view = given_tracks(tracks_xy_px, visibility, size, tokenizer.config)
    ids = [torch.empty(0, tokenizer.num_codes, dtype=torch.int64)]
    for chunk in _chunks(view):
        inputs = encoder_input([chunk], tokenizer.config)
        ids.append(tokenizer.tokenize(inputs.velocities.to(tokenizer.device)).cpu())
    every = torch.cat(ids)
    return every[0] if np.ndim(tracks_xy_px) == 3 else every


def encode_view(
    model: MotionTokenizer, config: Config, view: ViewTracks, save: Sequence[Extra] = ()
) -> dict[str, Tensor]:
    """What ``encode_views`` gives of windows of one view, however many; at least one."""
    made = GatheredBatches()
    for chunk in _chunks(view):
        made.add(encode_views([chunk], model, config, save))
    return made.taken()


def _chunks(view: ViewTracks) -> list[ViewTracks]:
    """``view`` in parts of CHUNK_WINDOWS windows."""
    parts = range(0, len(view.visibility), CHUNK_WINDOWS)
    return [
        view._replace(
            tracks_xy_px=view.tracks_xy_px[first : first + CHUNK_WINDOWS],
            visibility=view.visibility[first : first + CHUNK_WINDOWS],
        )
        for first in parts
    ]


def check_one_view(tokenizer: MotionTokenizer | Tokenizer) -> None:
    """Raises ValueError unless tracks of one view are all that ``tokenizer`` takes."""
    if len(tokenizer.config.data.views) > 1 or tokenizer.config.conditioned:
        raise ValueError("encode_tracks is for tokenizers of one view that take no images; use encode")
