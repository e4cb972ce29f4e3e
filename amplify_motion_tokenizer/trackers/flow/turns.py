"""How most of the picture turns and grows between two frames, told from their dense flow.

DIS matches patches that are only shifted, and a patch of the first frame is looked for as it was turned a
frame ago. Both fail where the camera turns by more than a few degrees a frame. What most of the picture does
is told first, so that only the rest has to be found.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Grey = NDArray[np.uint8]

Affine = NDArray[np.float64]
"""(2, 3), from (x, y, 1) in pixels of one image to (x, y) of another."""

SPACING_PX = 12
"""Distance of the places at which flow is looked at."""
LEAST_PLACES = 4
"""Fewer in a row or column, as in images of up to 42 pixels, tell no common motion from chance."""
ROUNDS = 8
"""Fits, each with less weight for what the fit before it did not explain."""
LEAST_SPREAD = 0.25
"""Square pixels; flow that is off by this is as good as any."""
WITHIN_PX = 2.0
"""Flow that is no further from the common motion goes with it ..."""
MOST = 0.5
"""... which is one when this share of the places does."""
LEAST_TURN = 0.03
"""Change of a distance, as by 1.7 degrees or 3 %, below which flow and patches need no help."""
HINT = 0.5
"""A fit that finds less than this share of it ends the search."""


def camera_turn(forward: Floats) -> Affine | None:
    """The affine motion that most of the picture makes, told from its flow (h, w, 2).

    None where that motion turns and grows by little, or where no affine motion fits most of the picture.
    """
    start = SPACING_PX // 2
    flow = forward[start::SPACING_PX, start::SPACING_PX].astype(np.float64)
    rows, columns, _ = flow.shape
    if min(rows, columns) < LEAST_PLACES:
        return None
    places, flow = _places(rows, columns), flow.reshape(-1, 2)
    weight = np.ones(len(places))
    for _ in range(ROUNDS):
        weighted = (places * weight[:, None]).T
        change = np.linalg.solve(weighted @ places, weighted @ flow)
        if np.abs(change[:2]).max() < HINT * LEAST_TURN:
            return None
        error = ((flow - places @ change) ** 2).sum(axis=1)
        weight = 1 / (1 + error / max(float(np.median(error)), LEAST_SPREAD)) ** 2
    turn = np.eye(2, 3) + change.T
    most = (error < WITHIN_PX**2).mean() >= MOST
    far = np.abs(change[:2]).max() >= LEAST_TURN
    return turn if most and far and np.linalg.det(turn[:, :2]) > 0 else None


@lru_cache(maxsize=8)
def _places(rows: int, columns: int) -> NDArray[np.float64]:
    """(rows * columns, 3), (x, y, 1) of the places at which flow is looked at, in pixels; read-only."""
    y, x = SPACING_PX // 2 + SPACING_PX * np.mgrid[:rows, :columns].reshape(2, -1).astype(np.float64)
    places = np.stack([x, y, np.ones_like(x)], axis=1)
    places.setflags(write=False)
    return places


def turned(image: Grey, turn: Affine) -> Grey:
    """(h, w): each place shows what ``image`` (h, w) has where ``turn`` takes it; outside, its border."""
    size, flags = (image.shape[1], image.shape[0]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(image, turn, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.uint8)


def inverse(turn: Affine) -> Affine:
    """The affine motion that undoes ``turn``."""
    return np.asarray(cv2.invertAffineTransform(turn))


def turned_flow(turn: Affine, rest: Floats) -> Floats:
    """Flow (h, w, 2) that goes along ``rest`` (h, w, 2), found in an image ``turned``, then with ``turn``."""
    height, width, _ = rest.shape
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    return np.asarray(cv2.transform(places + rest, turn) - places, np.float32)
