"""A picture of moments of clips: a row for each, with frames from its first to its last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.search import Moment
from amplify_motion_tokenizer.config import Config, VideoConfig
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.pixels import resize
from amplify_motion_tokenizer.video.sources import find_clips, model_views, open_views
from amplify_motion_tokenizer.video.writing import write_png

RGB = NDArray[np.uint8]

COLUMNS = 3
"""Frames of a moment."""
CELL = (120, 160)
"""(height, width) in pixels that a frame is fitted into."""
CAPTION_PX = 18
GAP_PX = 4


class Pictures:
    """Frames of the clips below a folder, small, by their number in the source.

    Args:
        folder: the videos that codes were made of, as ``infer --input`` took them.

    Raises:
        UsageError: there are no videos.
    """

    def __init__(self, folder: Path) -> None:
        config = Config()
        self._folder = folder
        self._clips = {clip.name: clip for clip in find_clips(folder, config, model_views(folder, config))}

    def check(self, names: Iterable[str]) -> None:
        """Raises UsageError where one of these clips has no video."""
        missing = [name for name in names if name not in self._clips]
        if missing:
            raise UsageError(
                f"{self._folder}: has no video of the clip {missing[0]}; give the folder that infer read"
            )

    def clip(self, name: str) -> Clip:
        """The video of a clip that ``check`` has found."""
        return self._clips[name]

    def frames(self, clip: str, numbers: Sequence[int]) -> list[tuple[RGB, float]]:
        """Frames ``CELL`` (H, W, 3), RGB, of a clip and their seconds since its first, in the given order.

        Raises:
            UsageError: the clip has fewer frames.
            VideoError: it cannot be read.
        """
        found = _read(self._clips[clip], set(numbers))
        if not found.keys() >= set(numbers):
            raise UsageError(
                f"{self._clips[clip].source}: has fewer than {max(numbers) + 1} frames; give the video that "
                "the codes were made of"
            )
        return [found[number] for number in numbers]

    def of_moments(
        self, moments: Sequence[Moment], numbers: Sequence[Sequence[int]]
    ) -> list[list[tuple[RGB, float]]]:
        """As ``frames``, of several moments; each clip is read once.

        Args:
            moments: whose frames they are.
            numbers: of each moment, frames by their number in the source.

        Raises:
            UsageError: as ``frames``.
            VideoError: a clip cannot be read.
        """
        of_clip: dict[str, set[int]] = {}
        for moment, own in zip(moments, numbers, strict=True):
            of_clip.setdefault(moment.clip, set()).update(own)
        read = {
            clip: dict(zip(sorted(own), self.frames(clip, sorted(own)), strict=True))
            for clip, own in of_clip.items()
        }
        return [
            [read[moment.clip][number] for number in own]
            for moment, own in zip(moments, numbers, strict=True)
        ]


def _read(clip: Clip, numbers: set[int]) -> dict[int, tuple[RGB, float]]:
    found: dict[int, tuple[RGB, float]] = {}
    (video,) = open_views(clip, VideoConfig(target_fps=None, size={"shorter": CELL[0]}))
    with video:
        for frame in video:
            if frame.source_frame in numbers:
                found[frame.source_frame] = _fitted(frame.rgb), frame.time_s
            if len(found) == len(numbers):
                break
    return found


def contact_sheet(moments: Sequence[Moment], pictures: Pictures) -> RGB:
    """The moments below each other, the first one, the query, set apart by a line.

    Raises:
        UsageError: a moment's frames in the source are not known, or its video is another.
        VideoError: a clip cannot be read.
    """
    wanted = [_numbers(moment) for moment in moments]
    read = pictures.of_moments(moments, wanted)
    rows = [
        _row(moment, frames, rank) for rank, (moment, frames) in enumerate(zip(moments, read, strict=True))
    ]
    line = np.zeros((GAP_PX, rows[0].shape[1], 3), np.uint8)
    return np.concatenate([rows[0], line, *rows[1:]])


def write_contact_sheet(path: Path, moments: Sequence[Moment], pictures: Pictures) -> None:
    """Writes ``contact_sheet`` as a PNG.

    Raises:
        UsageError: as there, or ``path`` cannot be written.
        VideoError: a clip cannot be read.
    """
    write_png(path, contact_sheet(moments, pictures))


def source_span(moment: Moment) -> tuple[int, int]:
    """First and last frame of a moment by their number in the source file.

    Raises:
        UsageError: codes do not say them.
    """
    if moment.source_frames[0] < 0:
        raise UsageError(
            f"the codes of {moment.clip} do not say which frames they are of; leave out --picture"
        )
    return moment.source_frames


def _numbers(moment: Moment) -> list[int]:
    return [int(number) for number in np.linspace(*source_span(moment), COLUMNS).round()]


def caption(moment: Moment, rank: int, width: int) -> RGB:
    """A line (``CAPTION_PX``, ``width``, 3) above a moment: rank, 0 being the query, distance and clip."""
    line = np.full((CAPTION_PX, width, 3), 255, np.uint8)
    name = "query" if rank == 0 else f"{rank}. {moment.distance:.2f}"
    text = f"{name}  {moment.clip}".encode("ascii", "replace").decode()
    write_on(line, text[: width // 8], 2)
    return line


def _row(moment: Moment, frames: Sequence[tuple[RGB, float]], rank: int) -> RGB:
    cells = [np.pad(picture, ((0, 0), (0, GAP_PX), (0, 0)), constant_values=255) for picture, _ in frames]
    row = np.concatenate(cells, axis=1)
    for column, (_, time_s) in enumerate(frames):
        write_on(row, f"{time_s:.2f} s", column * (CELL[1] + GAP_PX) + 4, CELL[0] - 6, (255, 255, 255))
    return np.concatenate([caption(moment, rank, row.shape[1]), row])


def write_on(image: RGB, text: str, left: int, bottom: int = 13, colour: tuple[int, ...] = (0, 0, 0)) -> None:
    """Writes ``text`` on an image in place; in another colour than black with an outline."""
    style = (cv2.FONT_HERSHEY_SIMPLEX, 0.42)
    if colour != (0, 0, 0):  # over a picture: an outline keeps it readable
        cv2.putText(image, text, (left, bottom), *style, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(image, text, (left, bottom), *style, colour, 1, cv2.LINE_AA)


def _fitted(rgb: RGB) -> RGB:
    """A frame in the middle of a gray cell."""
    scale = min(CELL[0] / rgb.shape[0], CELL[1] / rgb.shape[1])
    height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
    cell = np.full((*CELL, 3), 60, np.uint8)
    top, left = (CELL[0] - height) // 2, (CELL[1] - width) // 2
    cell[top : top + height, left : left + width] = resize(rgb, (height, width))
    return cell
