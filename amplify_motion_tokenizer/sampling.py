"""Images looked up between their pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

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
