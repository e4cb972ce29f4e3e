"""How most of the picture turns and grows between two frames, told from their dense flow.

DIS matches patches that are only shifted, and a patch of the first frame is looked for as it was turned a
frame ago. Both fail where the camera turns by more than a few degrees a frame. What most of the picture does
is told first, so that only the rest has to be found.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Grey = NDArray[np.uint8]

SPACING_PX = 8
"""Distance of the places at which flow is looked at."""
ROUNDS = 8
"""Fits, each with less weight for what the fit before did not explain."""
WITHIN_PX = 2.0
"""Flow no further than this from the common motion goes with it ..."""
MOST = 0.5
"""... which is one when this share of the places does."""
LEAST_TURN = 0.03
"""Change of a unit length, as by 1.7 degrees or 3 %, below which DIS and patches need no help."""


def camera_turn(forward: Floats) -> NDArray[np.float64] | None:
    """The affine motion (2, 3), from (x, y, 1) of the first frame to (x, y) of the second, of most of it.

    Args:
        forward: (h, w, 2) flow, pixels.

    Returns:
        None where nothing turns or grows by much, or what most of the picture does is not affine.
    """
    start = SPACING_PX // 2
    flow = forward[start::SPACING_PX, start::SPACING_PX].astype(np.float64)
    rows, columns, _ = flow.shape
    y, x = start + SPACING_PX * np.mgrid[:rows, :columns].reshape(2, -1)
    places, flow = np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float64), flow.reshape(-1, 2)
    if len(places) < 3 * 3:
        return None
    weight = np.ones(len(places))
    change = np.zeros((3, 2))
    for _ in range(ROUNDS):
        weighted = places * weight[:, None]
        change = np.linalg.lstsq(weighted.T @ places, weighted.T @ flow, rcond=None)[0]
        error = np.square(flow - places @ change).sum(axis=1)
        spread = max(float(np.median(error)), 0.25)
        weight = 1 / (1 + error / spread) ** 2
    turn = np.eye(2, 3) + change.T
    far = np.abs(change[:2]).max() >= LEAST_TURN
    common = (error < WITHIN_PX**2).mean() >= MOST
    return turn if far and common and np.linalg.det(turn[:, :2]) > 0 else None


def turned(image: Grey, turn: NDArray[np.float64]) -> Grey:
    """``image`` at the places to which ``turn`` (2, 3) takes each of its pixels; the border's beyond it."""
    size = image.shape[1], image.shape[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, turn, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def inverse(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """The way back (2, 3) of an affine motion (2, 3)."""
    return np.asarray(cv2.invertAffineTransform(turn))


def followed(turn: NDArray[np.float64], rest: Floats) -> Floats:
    """The flow (h, w, 2) of a pair of frames, the second of which was ``turned`` and then had the flow ``rest``."""
    y, x = np.mgrid[: rest.shape[0], : rest.shape[1]].astype(np.float32)
    end_x, end_y = x + rest[..., 0], y + rest[..., 1]
    (a, b, c), (d, e, f) = turn.astype(np.float32)
    return np.stack([a * end_x + b * end_y + c - x, d * end_x + e * end_y + f - y], axis=-1)
