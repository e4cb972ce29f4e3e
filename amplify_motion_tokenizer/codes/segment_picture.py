"""A picture of how a clip was cut: the curve of change, its thresholds, boundaries, and key frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.contact_sheet import CAPTION_PX, CELL, GAP_PX, RGB, Pictures, write_on
from amplify_motion_tokenizer.codes.segmentation import Change, Rules, Segment
from amplify_motion_tokenizer.video.writing import write_png

COLUMNS = 6
"""Key frames in a row."""
CURVE_PX = 160
"""Height of the panel with the curve."""
MOST_CHANGE = 2.0
"""Change at the panel's top."""
_LEFT_PX = 40
_GRAY, _RED, _BLUE = (150, 150, 150), (200, 40, 40), (30, 80, 190)
_FILLS = ((226, 236, 250), (250, 236, 220))
"""Behind the curve: every other segment."""


def write_segment_picture(
    path: Path,
    change: Change,
    segments: Sequence[Segment],
    thresholds: Sequence[float],
    frames: Sequence[RGB] = (),
    clusters: Sequence[int] = (),
) -> None:
    """Writes a PNG of a clip's curve of change over seconds, where it was cut, and frames of its segments.

    Args:
        path: the file.
        change: the curve, whose axis ends at ``MOST_CHANGE``.
        segments: of the clip, one at least.
        thresholds: values that are drawn across.
        frames: (``CELL``, 3) one of each segment, or none.
        clusters: a number for each segment, or none.

    Raises:
        UsageError: ``path`` cannot be written.
    """
    width = COLUMNS * (CELL[1] + GAP_PX)
    parts = [_curve(change, segments, thresholds, width)]
    if frames:
        parts.append(_key_frames(segments, frames, clusters, width))
    write_png(path, np.concatenate(parts))


def key_frames(pictures: Pictures, clip: str, middles: Sequence[int]) -> list[RGB]:
    """Frames of a clip by their numbers in the source, in the given order.

    Raises:
        UsageError: its video is not there, or has fewer frames.
        VideoError: it cannot be read.
    """
    pictures.check([clip])
    order = sorted(set(middles))
    read = dict(zip(order, pictures.frames(clip, order), strict=True))
    return [read[number][0] for number in middles]


def thresholds_of(rules: Rules) -> list[float]:
    """The change at which a stretch with a boundary begins, and the one below which it ends."""
    return [rules.least_change, rules.least_change * rules.ends_below]


def _curve(
    change: Change, segments: Sequence[Segment], thresholds: Sequence[float], width: int
) -> NDArray[np.uint8]:
    panel = np.full((CURVE_PX + CAPTION_PX, width, 3), 255, np.uint8)
    first_s, end_s = segments[0].start_s, segments[-1].end_s

    def across(seconds: float) -> int:
        share = (seconds - first_s) / max(end_s - first_s, 1e-9)
        return round(_LEFT_PX + share * (width - _LEFT_PX - 10))

    def down(value: float) -> int:
        return round(8 + (1 - min(value, MOST_CHANGE) / MOST_CHANGE) * (CURVE_PX - 8))

    for number, segment in enumerate(segments):
        left, right = across(segment.start_s), across(segment.end_s)
        panel[8:CURVE_PX, left:right] = _FILLS[number % len(_FILLS)]
        if number:
            cv2.line(panel, (left, 8), (left, CURVE_PX), _RED, 2)
        write_on(panel, f"{segment.start_s:.2f}", left + 2, CURVE_PX + 14)
    for value in thresholds:
        for left in range(_LEFT_PX, width - 10, 12):
            cv2.line(panel, (left, down(value)), (min(left + 6, width - 10), down(value)), _GRAY, 1)
        write_on(panel, f"{value:.2g}", 4, down(value) + 5)
    for value in (0.0, MOST_CHANGE):
        write_on(panel, f"{value:g}", 4, down(value) + (5 if value == 0 else 8))
    points = [(across(second), down(value)) for second, value in zip(*change, strict=True)]
    cv2.polylines(panel, [np.array(points, np.int32).reshape(-1, 1, 2)], False, _BLUE, 2, cv2.LINE_AA)
    return panel


def _key_frames(
    segments: Sequence[Segment], frames: Sequence[RGB], clusters: Sequence[int], width: int
) -> NDArray[np.uint8]:
    """A grid of frames, each with its segment's number, seconds and cluster above it."""
    rows = math.ceil(len(frames) / COLUMNS)
    height, step = CAPTION_PX + CELL[0] + GAP_PX, CELL[1] + GAP_PX
    grid = np.full((rows * height, width, 3), 255, np.uint8)
    for number, (segment, frame) in enumerate(zip(segments, frames, strict=True)):
        top, left = number // COLUMNS * height, number % COLUMNS * step
        write_on(grid, f"{number}: {segment.start_s:.2f}-{segment.end_s:.2f} s", left + 2, top + 13)
        grid[top + CAPTION_PX : top + CAPTION_PX + CELL[0], left : left + CELL[1]] = frame
        if clusters:
            write_on(
                grid, f"kind {clusters[number]}", left + 4, top + CAPTION_PX + CELL[0] - 6, (255, 255, 255)
            )
    return grid
