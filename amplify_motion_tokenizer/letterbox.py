"""Frames of one size: each is fitted into it with its aspect kept, and padded black."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.geometry import query_grid


class Letterbox(NamedTuple):
    """Where a source frame lies in the frame that is tracked, after resizing and padding.

    Pixel centres are at whole numbers, and so the corner of a frame is at -0.5 and
    x_box = (x_source + 0.5) * scale_x - 0.5 + pad_left, and the same for y with scale_y and pad_top.
    """

    scale_x: float
    """Content pixels per source pixel, across; differs from scale_y by the rounding to whole pixels."""
    scale_y: float
    """Content pixels per source pixel, downwards."""
    pad_left: int
    """Black columns left of the content."""
    pad_top: int
    """Black rows above the content."""
    content_size: tuple[int, int]
    """(height, width) of the resized source frame, in pixels."""

    @property
    def content(self) -> tuple[slice, slice]:
        """(rows, columns) of the content in the tracked frame."""
        height, width = self.content_size
        return slice(self.pad_top, self.pad_top + height), slice(self.pad_left, self.pad_left + width)


def unpadded(size: Sequence[int], content_size: Sequence[int]) -> Letterbox:
    """The letterbox without padding: a frame of ``size`` resized to ``content_size``; (height, width)."""
    height, width = content_size
    return Letterbox(width / size[1], height / size[0], 0, 0, (height, width))


def letterbox(size: Sequence[int], target_size: Sequence[int]) -> Letterbox:
    """The largest resize of a frame that keeps its aspect and fits ``target_size``, centred.

    Args:
        size: (height, width) of the source frame in pixels.
        target_size: (height, width) of the padded frame in pixels.

    Raises:
        ValueError: when a side is below 1 pixel.
    """
    if min(*size, *target_size) < 1:
        raise ValueError(f"size {tuple(size)} or target_size {tuple(target_size)} has a side below 1 pixel")
    scale = min(target / side for side, target in zip(size, target_size, strict=True))
    # A side of a very flat frame still has one pixel, and rounding never passes the target.
    content = [
        min(target, max(1, int(side * scale + 0.5))) for side, target in zip(size, target_size, strict=True)
    ]
    pad_top, pad_left = ((target - side) // 2 for side, target in zip(content, target_size, strict=True))
    return unpadded(size, content)._replace(pad_top=pad_top, pad_left=pad_left)


def letterbox_from_source_px(source_xy_px: NDArray[Any], box: Letterbox) -> NDArray[np.float64]:
    """(..., 2) positions, (x, y) source pixels, as (x, y) pixels of the padded frame."""
    scale, pad = _scale_and_pad(box)
    return (np.asarray(source_xy_px, np.float64) + 0.5) * scale - 0.5 + pad


def source_from_letterbox_px(box_xy_px: NDArray[Any], box: Letterbox) -> NDArray[np.float64]:
    """(..., 2) positions, (x, y) pixels of the padded frame, as (x, y) source pixels: the inverse."""
    scale, pad = _scale_and_pad(box)
    return (np.asarray(box_xy_px, np.float64) - pad + 0.5) / scale - 0.5


def content_grid(order: str, grid_size: int, box: Letterbox) -> NDArray[np.float32]:
    """``query_grid`` of the content alone, in (x, y) pixels of the padded frame: none lies in the padding.

    Raises:
        ValueError: as ``query_grid``.
    """
    offset = np.array([box.pad_left, box.pad_top], np.float32)
    return query_grid(order, grid_size, box.content_size) + offset


def content_norm_from_px(box_xy_px: NDArray[Any], box: Letterbox) -> NDArray[np.float64]:
    """(..., 2) positions, (x, y) pixels of the padded frame, as shares of the content: 0 to 1 inside.

    A plain scale, as ``remap`` is: the points of ``content_grid`` come out alike at every size.
    """
    height, width = box.content_size
    pad = np.array([box.pad_left, box.pad_top])
    return np.asarray((np.asarray(box_xy_px, np.float64) - pad) / np.array([width, height]))


def _scale_and_pad(box: Letterbox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([box.scale_x, box.scale_y]), np.array([box.pad_left, box.pad_top], np.float64)
