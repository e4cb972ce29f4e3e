"""The picture of ``inspect``: how often each velocity class occurs."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

CELL_PX = 24
"""Side of a class in the picture."""
LEFT_PX, TOP_PX, BOTTOM_PX = 60, 52, 52
"""Room for the axes, the title and the colour scale around the classes."""

_TITLE = "How often each velocity class occurs"
_WHITE, _BLACK, _GREY = (255, 255, 255), (0, 0, 0), (110, 110, 110)
_FONT, _SIZE, _TITLE_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.4, 0.5
_MOST_TICKS = 11
_BAR_PX, _BAR_GAP_PX = 14, 22

Picture = NDArray[np.uint8]


def label_map(counts: Tensor, note: str = "") -> Picture:
    """A picture of how often each class occurs, on a logarithmic scale, with axes, a scale and a title.

    A class stands where its displacement leads: right is to the right and down is down, in pixels of the
    reference size per step; the class of no motion has a frame. Black never occurs.

    Args:
        counts: (rows, columns) int64, how often each class occurs.
        note: what was counted, below the title; ASCII, as OpenCV draws nothing else.

    Returns:
        (height, width, 3) BGR, on white; the classes begin at (``TOP_PX``, ``LEFT_PX``), each
        ``CELL_PX`` high and wide.
    """
    rows, columns = counts.shape
    height, width = rows * CELL_PX, columns * CELL_PX
    most = int(counts.max())
    right_px = _BAR_GAP_PX + _BAR_PX + max(60, _text_size(f"{most:,}")[0] + 16)
    title_px = max(_text_size(_TITLE, _TITLE_SIZE)[0], _text_size(note)[0]) + 20
    # The colour scale needs some height to be read, also beside few classes.
    canvas_size = max(height, 5 * CELL_PX) + TOP_PX + BOTTOM_PX, max(width + LEFT_PX + right_px, title_px)
    canvas: Picture = np.full((*canvas_size, 3), 255, np.uint8)
    grey = _brightness(counts.double().numpy(), most)
    cells = cv2.resize(_coloured(grey), (width, height), interpolation=cv2.INTER_NEAREST)
    canvas[TOP_PX : TOP_PX + height, LEFT_PX : LEFT_PX + width] = cells
    y, x = (TOP_PX + rows // 2 * CELL_PX, LEFT_PX + columns // 2 * CELL_PX)
    # In two colours, one of which is seen on any class.
    for inset, colour in enumerate((_WHITE, _BLACK)):
        corner = x + CELL_PX - 1 - inset, y + CELL_PX - 1 - inset
        cv2.rectangle(canvas, (x + inset, y + inset), corner, colour, 1)
    _write(canvas, _TITLE, (10, 20), size=_TITLE_SIZE)
    _write(canvas, note, (10, 38), _GREY)
    _draw_x_axis(canvas, columns, TOP_PX + height)
    _draw_y_axis(canvas, rows)
    _draw_scale(canvas, most, LEFT_PX + width + _BAR_GAP_PX, canvas_size[0] - TOP_PX - BOTTOM_PX)
    return canvas


def _brightness(counts: NDArray[np.float64], most: int) -> Picture:
    """0 to 255 for counts from 0 to ``most``, by the logarithm of one more."""
    return np.asarray(np.rint(255 * np.log1p(counts) / max(math.log1p(most), 1e-9)), np.uint8)


def _coloured(grey: Picture) -> Picture:
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO), np.uint8)


def _ticks(side: int) -> list[int]:
    """Pixels per step to write at an axis of ``side`` classes: evenly spaced, 0 among them."""
    every = math.ceil(side / _MOST_TICKS)
    centre = side // 2
    return [offset for offset in range(-centre, side - centre) if offset % every == 0]


def _draw_x_axis(canvas: Picture, columns: int, bottom: int) -> None:
    for offset in _ticks(columns):
        x = LEFT_PX + (offset + columns // 2) * CELL_PX + CELL_PX // 2
        cv2.line(canvas, (x, bottom), (x, bottom + 4), _BLACK, 1)
        text = f"{offset:d}"
        _write(canvas, text, (x - _text_size(text)[0] // 2, bottom + 18))
    middle = LEFT_PX + columns * CELL_PX // 2
    label = "x, px per step"
    _write(canvas, label, (max(2, middle - _text_size(label)[0] // 2), bottom + 38), _GREY)


def _draw_y_axis(canvas: Picture, rows: int) -> None:
    for offset in _ticks(rows):
        y = TOP_PX + (offset + rows // 2) * CELL_PX + CELL_PX // 2
        cv2.line(canvas, (LEFT_PX - 5, y), (LEFT_PX - 1, y), _BLACK, 1)
        text = f"{offset:d}"
        across, up = _text_size(text)
        _write(canvas, text, (LEFT_PX - 9 - across, y + up // 2))
    label = "y (down), px per step"
    across, up = _text_size(label)
    strip: Picture = np.full((up + 8, across + 2, 3), 255, np.uint8)
    _write(strip, label, (1, up + 2), _GREY)
    turned = cv2.rotate(strip, cv2.ROTATE_90_COUNTERCLOCKWISE)
    top = max(TOP_PX, TOP_PX + rows * CELL_PX // 2 - len(turned) // 2)
    turned = turned[: len(canvas) - top]
    canvas[top : top + len(turned), 6 : 6 + turned.shape[1]] = turned


def _draw_scale(canvas: Picture, most: int, left: int, height: int) -> None:
    """A bar of the colours from ``most`` at its top to 0, with powers of ten beside it."""
    levels = np.linspace(255, 0, height).round().astype(np.uint8)[:, None]
    bar = np.repeat(_coloured(levels), _BAR_PX, axis=1)
    canvas[TOP_PX : TOP_PX + height, left : left + _BAR_PX] = bar
    up = _text_size("0")[1]
    last = TOP_PX + height + CELL_PX
    powers = [10**power for power in range(len(str(most)))] if most else []
    for count in [0, *(power for power in powers if power < most), most]:
        share = int(_brightness(np.array([float(count)]), most)[0]) / 255
        y = TOP_PX + round((1 - share) * (height - 1))
        # From below; what would touch the number before is left out, but the largest replaces it.
        if last - y < up + 4 and count != most:
            continue
        if last - y < up + 4:
            canvas[last - up : last + up, left + _BAR_PX :] = 255
        last = y
        cv2.line(canvas, (left + _BAR_PX, y), (left + _BAR_PX + 3, y), _BLACK, 1)
        _write(canvas, f"{count:,}", (left + _BAR_PX + 7, y + up // 2))
    _write(canvas, "steps", (left, TOP_PX - 8), _GREY)


def _text_size(text: str, size: float = _SIZE) -> tuple[int, int]:
    """(width, height) in pixels."""
    (width, height), _ = cv2.getTextSize(text, _FONT, size, 1)
    return width, height


def _write(
    canvas: Picture,
    text: str,
    at: tuple[int, int],
    colour: tuple[int, int, int] = _BLACK,
    size: float = _SIZE,
) -> None:
    """``at``: (x, y) of the lower left corner."""
    cv2.putText(canvas, text, at, _FONT, size, colour, 1, cv2.LINE_AA)
