"""A video of what codes kept: true tracks beside decoded ones over the clip, and its codes below."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amplify_motion_tokenizer.codes.code_strip import GAP_PX, CodeStrip, titled
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.evaluation.drawn_view import (
    DrawnView,
    DrawnWindow,
    Style,
    chained,
    config_of,
)
from amplify_motion_tokenizer.evaluation.overlay import RGB
from amplify_motion_tokenizer.tracks.stored import RecordedClip
from amplify_motion_tokenizer.video.clips import Clip, Frame
from amplify_motion_tokenizer.video.reading import Video
from amplify_motion_tokenizer.video.sources import open_views
from amplify_motion_tokenizer.video.writing import h264_writer

PANEL_PX = (480, 640)
"""(height, width) that the picture of each panel fits into."""


class Shown(NamedTuple):
    """Tracks that a panel shows."""

    title: str
    file: RecordedClip


class _Panel:
    """One picture of the video: tracks over the clip's frames."""

    def __init__(self, shown: Shown, opened: Any, place: int, video: Video, style: Style) -> None:
        self._title, self._style = shown.title, style
        self._view = DrawnView(shown.file, opened, place, video, config_of(shown.file), _zoom)
        self._rows = {int(start): row for row, start in enumerate(shown.file.starts(opened))}
        self._window: DrawnWindow | None = None

    @property
    def starts(self) -> set[int]:
        """Start frames of the windows that it can show."""
        return set(self._rows)

    def begin(self, start: int) -> None:
        """Shows the window that starts at frame ``start`` from now on."""
        self._window = self._view.window(start, self._rows[start], self._style)

    def picture(self, frame: Frame, index: int) -> RGB:
        """Frame ``index`` of the clip with the points over it, the title above."""
        rgb = self._view.picture(frame.rgb)
        over = self._window.over(rgb, index, self._style.trail) if self._window else rgb
        return titled(over, self._title)


def draw_decoded(
    clip: Clip,
    codes: MotionCodes,
    shown: Sequence[Shown],
    targets: Sequence[Path],
    config: Config,
    style: Style,
) -> None:
    """Writes a video for each view of ``clip``: one panel beside the other, and the strip of codes below.

    Windows that all files hold are shown end to end. Pictures of another size than the first are left out.

    Args:
        clip: its frames.
        codes: of the clip, for the strip.
        shown: the tracks of each panel, from the left; with the views of the codes.
        targets: the mp4 file of each view.
        config: that the clip was tracked with.
        style: how points are drawn.

    Raises:
        TrackFileError: the files have no window in common, or do not fit the video.
        VideoError: the video cannot be read, or drawings of its size cannot be written.
    """
    with ExitStack() as stack:
        videos = open_views(clip, dataclasses.replace(config.video, size=None))
        for video in videos:
            stack.callback(video.close)
        opened = [stack.enter_context(each.file.open()) for each in shown]
        for place, (video, target) in enumerate(zip(videos, targets, strict=True)):
            panels = [_Panel(*pair, place, video, style) for pair in zip(shown, opened, strict=True)]
            starts = set.intersection(*(panel.starts for panel in panels))
            if not starts and len(codes):
                names = " and ".join(str(each.file.path) for each in shown)
                raise TrackFileError(f"{names}: have no window in common; give the tracks of these codes")
            chain = chained(starts, shown[-1].file.length)
            _write(video, panels, chain, codes, int(shown[-1].file.attributes["num_frames"]), target)


def _strip(codes: MotionCodes, frames: int, width: int) -> CodeStrip:
    stride, length = codes.meta["window_stride"], codes.meta["tracked_length"]
    return CodeStrip(codes.ids.numpy(), codes.starts.numpy(), stride, length, frames, width)


def _write(
    video: Video,
    panels: Sequence[_Panel],
    chain: Sequence[int],
    codes: MotionCodes,
    frames: int,
    target: Path,
) -> None:
    """Writes one view of a clip of ``frames`` frames; ``chain``: start frames of the windows to show."""
    rows = {start: row for row, start in enumerate(codes.starts.tolist())}
    strip: CodeStrip | None = None
    window, begins = None, set(chain)
    with h264_writer(target, video.info.fps) as write:
        for index, frame in enumerate(itertools.islice(video, frames)):
            if frame.source_size != video.info.source_size:
                continue
            if index in begins:
                window = rows[index]
                for panel in panels:
                    panel.begin(index)
            picture = _side_by_side([panel.picture(frame, index) for panel in panels])
            strip = strip or _strip(codes, frames, picture.shape[1])
            write(_even(np.concatenate([picture, strip.picture(window, index)])))


def _side_by_side(pictures: Sequence[RGB]) -> RGB:
    """The pictures, of one size, with gaps between them."""
    gap = np.zeros((pictures[0].shape[0], GAP_PX, 3), np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)


def _even(picture: RGB) -> RGB:
    """``picture`` with a black row or column more where a side is odd, as H.264 wants it."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)))


def _zoom(source_size: tuple[int, int]) -> float:
    return min(most / side for most, side in zip(PANEL_PX, source_size, strict=True))
