"""A strip that shows a clip's codes over time; the same colour is the same id, wherever it stands."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.evaluation.overlay import RGB

NO_CODE, NOW, DARK = (40, 40, 40), (255, 255, 255), (0, 0, 0)
"""Colours of frames that no window begins at, of the present frame, and of gaps and dark digits."""
GAP_PX = 6
_GOLDEN = (5**0.5 - 1) / 2
"""Share of the circle of hues from one id to the next, which keeps ids that are near each other apart."""
_SHADES = ((255, 255), (255, 165), (120, 255))
"""Saturation and brightness, which change from id to id, too."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEAST_TEXT, _MOST_TEXT = 0.35, 0.9
"""Scales of OpenCV's font: smaller digits cannot be read."""


def code_colours(ids: NDArray[np.int64]) -> RGB:
    """A colour for each id (...) from 0 on: (..., 3) uint8, RGB, which depends on the id alone."""
    flat = np.asarray(ids, np.int64).reshape(-1, 1)
    if not flat.size:
        return np.zeros((*ids.shape, 3), np.uint8)
    hues = np.floor(flat * _GOLDEN % 1 * 180)  # OpenCV's circle has 180
    hsv = np.concatenate([hues, np.array(_SHADES)[flat[:, 0] % len(_SHADES)]], axis=1).astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv[:, None], cv2.COLOR_HSV2RGB), np.uint8).reshape(*ids.shape, 3)


class CodeStrip:
    """A row of cells with the ids of the window that is shown, and below it the clip's codes over time.

    Over time there is a row for each of the d ids, the first on top, and from left to right the clip's
    frames; a column has the ids of the window that begins there, or last began. A white bar above is the
    window that is shown, from its first frame to its last.

    Args:
        ids: (S, d) int64.
        starts: (S,) ascending, index of each window's first frame.
        stride: frames for which a window's ids are shown over time, at most up to the next window.
        length: frames of a window.
        num_frames: of the clip, at least 1.
        width: of the strip in pixels, at least d.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        starts: NDArray[np.int64],
        stride: int,
        length: int,
        num_frames: int,
        width: int,
    ) -> None:
        self._ids, self._starts, self._length = ids, starts, length
        self._width, self._num_frames = width, num_frames
        count = ids.shape[1]
        frames = np.full((num_frames, count, 3), NO_CODE, np.uint8)
        for start, colours in zip(starts.tolist(), code_colours(ids), strict=True):
            frames[start : start + stride] = colours
        self._row_px = max(3, min(width // 106, 320 // count))
        columns = np.arange(width) * num_frames // width
        self._timeline = frames[columns].swapaxes(0, 1).repeat(self._row_px, axis=0)
        self._cell_px = max(20, width // 28)

    @property
    def height(self) -> int:
        """Rows of the strip in pixels."""
        return self._cell_px + 3 * GAP_PX + len(self._timeline)

    def picture(self, window: int | None, frame: int) -> RGB:
        """The strip (height, width, 3), RGB, while frame ``frame`` of the clip is shown.

        Args:
            window: the row of ``ids`` whose codes the cells have; None leaves them empty.
            frame: index of the present frame, which a white line marks.
        """
        strip = np.zeros((self.height, self._width, 3), np.uint8)
        if window is not None:
            self._draw_cells(strip[GAP_PX : GAP_PX + self._cell_px], self._ids[window])
            begin = int(self._starts[window])
            span = slice(self._column(begin), self._column(begin + self._length))
            strip[2 * GAP_PX + self._cell_px : 3 * GAP_PX + self._cell_px - 1, span] = NOW
        timeline = strip[3 * GAP_PX + self._cell_px :]
        timeline[...] = self._timeline
        now = self._column(frame)
        timeline[:, max(0, now - 1) : now + 2] = NOW
        return strip

    def _column(self, frame: int) -> int:
        return frame * self._width // self._num_frames

    def _draw_cells(self, row: RGB, ids: NDArray[np.int64]) -> None:
        """Draws one coloured cell for each id, with its number where that can be read."""
        edges = np.linspace(0, self._width, len(ids) + 1).astype(int)
        cells = list(zip(ids.tolist(), code_colours(ids), edges[:-1], edges[1:] - 2, strict=True))
        scale = min(_text_scale(str(number), right - left - 4) for number, _, left, right in cells)
        for number, colour, left, right in cells:
            row[:, left:right] = colour
            if scale >= _LEAST_TEXT:
                _write_centred(row[:, left:right], str(number), scale, colour)


def _text_scale(text: str, width: int) -> float:
    """The largest scale, up to ``_MOST_TEXT``, at which ``text`` is no wider than ``width`` pixels."""
    (found, _), _ = cv2.getTextSize(text, _FONT, _MOST_TEXT, _thickness(_MOST_TEXT))
    return min(_MOST_TEXT, _MOST_TEXT * width / found)


def _thickness(scale: float) -> int:
    return 2 if scale > 0.6 else 1


def _write_centred(cell: RGB, text: str, scale: float, colour: RGB) -> None:
    """Writes ``text`` into ``cell`` (H, W, 3), in black on bright colours and in white on dark ones."""
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, _thickness(scale))
    at = ((cell.shape[1] - width) // 2, (cell.shape[0] + height) // 2)
    bright = colour @ np.array([0.299, 0.587, 0.114]) > 110
    drawn = cell.copy()  # a slice of a larger picture is not what OpenCV draws on
    cv2.putText(drawn, text, at, _FONT, scale, DARK if bright else NOW, _thickness(scale), cv2.LINE_AA)
    cell[...] = drawn


def titled(picture: RGB, title: str) -> RGB:
    """``picture`` (H, W, 3) with a line of text above it, as wide as it is."""
    scale = _text_scale(title, picture.shape[1] - 8)
    (_, height), below = cv2.getTextSize(title, _FONT, scale, _thickness(scale))
    line = np.zeros((height + 2 * below, picture.shape[1], 3), np.uint8)
    _write_centred(line, title, scale, np.zeros(3, np.uint8))
    return np.concatenate([line, picture])
