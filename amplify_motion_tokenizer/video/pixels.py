"""Pixels of images: lookups between them, and frames resized."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.video.clips import RGB

Floats = NDArray[np.float32]

MOST_ROWS = 16384
"""Rows that one call of cv2.remap is given, which takes fewer than 32,767."""


def bilinear(image: Floats, x: Floats, y: Floats, border: int = cv2.BORDER_REPLICATE) -> Floats:
    """``image`` (h, w[, c]) at ``x`` and ``y`` (N, n), as (N, n[, c]).

    Outside there are the border's values, or 0 with cv2.BORDER_CONSTANT as ``border``.
    """
    blocks = [
        cv2.remap(
            image,
            np.ascontiguousarray(x[rows]),
            np.ascontiguousarray(y[rows]),
            cv2.INTER_LINEAR,
            borderMode=border,
        )
        for rows in (slice(start, start + MOST_ROWS) for start in range(0, len(x), MOST_ROWS))
    ]
    found = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return np.asarray(found, np.float32)


def small_frame(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A frame (H, W, 3), RGB, stretched to (side, side, 3): what vision encoders are conditioned on.

    Bilinear without antialiasing, as AMPLIFY stretches frames to 224 x 224. With a side of 224 the model
    sees that stretch of the tracked frame, rounded to whole levels (less than one level apart). With the
    side of a square frame nothing changes, and the stretch is the model's. Any other side means that frames
    are resampled twice. The tracked frame itself was resized from the source's, and may be padded.
    """
    if rgb.shape[:2] == (side, side):
        return rgb
    return np.asarray(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def resized_size(size: tuple[int, int], shorter: int | None) -> tuple[int, int]:
    """(height, width) whose shorter side is ``shorter`` with the aspect of ``size``; None keeps it."""
    if shorter is None:
        return size
    height, width = (max(1, int(side * shorter / min(size) + 0.5)) for side in size)
    return height, width


def resize(rgb: RGB, size: tuple[int, int]) -> RGB:
    """``rgb`` at ``size`` (height, width), averaged when it shrinks."""
    height, width = rgb.shape[:2]
    if (height, width) == size:
        return rgb
    method = cv2.INTER_AREA if size[0] * size[1] < height * width else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, size[::-1], interpolation=method), np.uint8)
