"""Moments of clips playing side by side: a video with a cell for each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from amplify_motion_tokenizer.codes.contact_sheet import (
    CAPTION_PX,
    CELL,
    GAP_PX,
    RGB,
    Pictures,
    caption,
    source_span,
    write_on,
)
from amplify_motion_tokenizer.codes.search import Moment
from amplify_motion_tokenizer.video.writing import h264_writer

FPS = 20
"""Frames a second of the video; moments play at their own speed."""
LEAST_S = 4.0
"""Seconds of the video at least: shorter moments are played again and again."""
HELD_S = 0.5
"""Seconds for which the last frames stay before moments begin again."""


def write_contact_video(path: Path, moments: Sequence[Moment], pictures: Pictures) -> None:
    """Writes an mp4 (H.264) of moments side by side, the first one, the query, in the upper left corner.

    All begin together and play as fast as they are; a shorter one waits at its last frame.

    Args:
        path: the file.
        moments: the query, then what was found.
        pictures: the videos.

    Raises:
        UsageError: a moment's frames in the source are not known, its video is another, or ``path`` cannot
            be written.
        VideoError: a clip cannot be read.
    """
    spans = [source_span(moment) for moment in moments]
    frames = pictures.of_moments(moments, [range(first, last + 1) for first, last in spans])
    with h264_writer(path, FPS) as write:
        for picture in _played(moments, frames):
            write(picture)


def _played(moments: Sequence[Moment], frames: Sequence[Sequence[tuple[RGB, float]]]) -> Iterator[RGB]:
    times = [np.array([time_s for _, time_s in own]) - own[0][1] for own in frames]
    round_s = max(float(own[-1]) for own in times) + HELD_S
    captions = [caption(moment, rank, CELL[1]) for rank, moment in enumerate(moments)]
    for _ in range(math.ceil(LEAST_S / round_s)):
        for tick in range(math.ceil(round_s * FPS)):
            cells = []
            for above, own, since in zip(captions, frames, times, strict=True):
                at = int(np.searchsorted(since, tick / FPS + 1e-6, side="right")) - 1
                rgb, time_s = own[at]
                picture = rgb.copy()
                write_on(picture, f"{time_s:.2f} s", 4, CELL[0] - 6, (255, 255, 255))
                cells.append(np.concatenate([above, picture]))
            yield _grid(cells)


def _grid(cells: Sequence[RGB]) -> RGB:
    """Cells (``CAPTION_PX`` + height, width, 3) row by row, about as wide as high, on white."""
    columns = math.ceil(math.sqrt(len(cells)))
    rows = math.ceil(len(cells) / columns)
    height, width = CAPTION_PX + CELL[0] + GAP_PX, CELL[1] + GAP_PX
    whole = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // columns * height, number % columns * width
        whole[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return whole[: rows * height // 2 * 2, : columns * width // 2 * 2]
