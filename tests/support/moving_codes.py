"""Codes of made-up tracks whose motion is known, by the shipped transform tokenizer."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from amplify_motion_tokenizer import MotionCodes, Tokenizer
from amplify_motion_tokenizer.geometry import query_grid

SIZE = (48, 64)
FPS, LENGTH, GRID = 20, 16, 20

Motion = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From places (N, 2) in a frame of SIZE, (x, y), to moves (N, 2) in pixels a frame."""


def pan(right: float, down: float = 0) -> Motion:
    return lambda xy: np.tile(np.float32([right, down]), (len(xy), 1))


def zoom(share: float) -> Motion:
    return lambda xy: (share * (xy - np.float32([32, 24]))).astype(np.float32)


def codes_of(
    tokenizer: Tokenizer, clip: str, motions: Sequence[Motion], starts: Sequence[int]
) -> MotionCodes:
    """Codes of a clip whose frame f moves to the next by ``motions[f]``, of the windows at ``starts``.

    The clip has as many frames as motions, and one more.
    """
    grid = query_grid("row_major", GRID, SIZE)
    windows = []
    for start in starts:
        tracks = [grid]
        for motion in motions[start : start + LENGTH - 1]:
            tracks.append(tracks[-1] + motion(tracks[-1]))
        windows.append(np.stack(tracks))
    seen = np.ones((len(starts), LENGTH, GRID**2), bool)
    made = tokenizer.encode_tracks(
        np.stack(windows), seen, size=SIZE, fps=FPS, starts=list(starts), clip=clip
    )
    frames = torch.stack([made.starts, made.starts + LENGTH - 1], dim=1)
    return dataclasses.replace(made, source_frames=frames)
