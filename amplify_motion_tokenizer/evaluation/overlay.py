"""Draws point tracks over an image.

Letters: T frames of a trail, N points, H and W height and width of the image.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]

_LAST_HUE = 150
"""Of OpenCV's 180: from red through green and blue to magenta, so that both ends differ."""
_BITS = 4
"""Binary digits after the point in the coordinates that OpenCV draws at."""
_FAR_PX = 10_000
"""Points further off are drawn here, because OpenCV's coordinates overflow."""


def colours_by_position(xy_norm: NDArray[np.floating[Any]]) -> RGB:
    """A colour for each point by its row, as CoTracker's pictures have it: a rainbow from the top.

    Args:
        xy_norm: (N, 2) positions, (x, y), 0 to 1 from the left and the top of the frame; clipped.

    Returns:
        (N, 3) uint8, RGB.
    """
    hsv = np.full((len(xy_norm), 1, 3), 255, np.uint8)
    hsv[:, 0, 0] = np.rint(np.clip(xy_norm[:, 1], 0, 1) * _LAST_HUE)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[:, 0], np.uint8) if len(hsv) else hsv[:, 0]


def draw_tracks(
    image: RGB,
    tracks_xy_px: NDArray[np.floating[Any]],
    visible: NDArray[np.bool_],
    colours: RGB,
    radius: int | None = None,
    oldest: float = 1.0,
) -> RGB:
    """A copy of ``image`` with a trail for each point, and the point where its trail ends.

    A point that is not visible is a ring of half the brightness, and so is a trail's step to or from
    such a position. Positions that are not finite are left out.

    Args:
        image: (H, W, 3) uint8, RGB.
        tracks_xy_px: (T, N, 2), (x, y) pixels of the image; the last row is where the points are drawn.
        visible: (T, N) bool.
        colours: (N, 3) uint8, RGB.
        radius: of a point in pixels; None takes a hundred-and-sixtieth of the shorter side, at least 2.
        oldest: how strongly the trail's oldest step covers the image, 0 to 1; the newest covers it wholly.
    """
    canvas: RGB = np.array(image, order="C")
    radius = radius or max(2, min(image.shape[:2]) // 160)
    known = np.isfinite(tracks_xy_px).all(axis=-1)
    places = np.clip(np.where(known[..., None], tracks_xy_px, 0), -_FAR_PX, _FAR_PX)
    fixed = np.rint(places * 2**_BITS).astype(np.int32)
    steps = np.stack([fixed[:-1], fixed[1:]], axis=2)  # (T - 1, N, 2 ends, 2)
    drawn, bright = known[:-1] & known[1:], visible[:-1] & visible[1:]
    for cover, step in zip(np.linspace(oldest, 1, len(steps)), range(len(steps)), strict=True):
        canvas = _with_step(canvas, steps[step], drawn[step], bright[step], colours, float(cover))
    for point in np.flatnonzero(known[-1]).tolist():
        seen, colour = visible[-1, point], colours[point]
        _draw_point(canvas, fixed[-1, point], radius, colour if seen else colour // 2, filled=bool(seen))
    return canvas


def _with_step(
    canvas: RGB,
    lines: NDArray[np.int32],
    drawn: NDArray[np.bool_],
    bright: NDArray[np.bool_],
    colours: RGB,
    cover: float,
) -> RGB:
    """``canvas`` with one step of the trails, ``lines`` (N, 2 ends, 2), over it as strongly as ``cover``."""
    layer = canvas if cover == 1 else canvas.copy()
    for chosen, paints in ((drawn & ~bright, colours // 2), (drawn & bright, colours)):
        for point in np.flatnonzero(chosen):
            cv2.polylines(layer, [lines[point]], False, paints[point].tolist(), 1, cv2.LINE_AA, _BITS)
    return layer if cover == 1 else np.asarray(cv2.addWeighted(layer, cover, canvas, 1 - cover, 0), np.uint8)


def _draw_point(canvas: RGB, at: NDArray[np.int32], radius: int, colour: RGB, filled: bool) -> None:
    """``at``: (x, y) with ``_BITS`` binary digits."""
    centre = (int(at[0]), int(at[1]))
    cv2.circle(
        canvas, centre, radius << _BITS, colour.tolist(), cv2.FILLED if filled else 1, cv2.LINE_AA, _BITS
    )
