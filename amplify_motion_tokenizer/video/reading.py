"""Video files to RGB frames at a wanted rate and size, one frame at a time.

Two decoders, OpenCV and decord, give the same frames. OpenCV opens every clip first: it rejects what is
no video, and its first frame is the yardstick that decord's is held against. OpenCV is the default: it is
as fast, and holds no frame but the one asked for, where decord decodes ahead without limit as long as its
frames are taken slowly. Where decord, when asked for, would give other frames, or gives up, OpenCV reads on
and the log says so.

Pixels are taken as they are stored: the pixel aspect ratio and mirroring are not applied, rotation is.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

import numpy as np

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.letterbox import Letterbox, letterbox, unpadded
from amplify_motion_tokenizer.video.clips import ClipInfo, Frame, ViewSource
from amplify_motion_tokenizer.video.containers import (
    RGB,
    TIME_TOLERANCE_S,
    FrameCount,
    TimedFrames,
    inspect_clip,
)
from amplify_motion_tokenizer.video.decoders import READERS, reader_name
from amplify_motion_tokenizer.video.pixels import resize, resized_size

VIDEO_EXTENSIONS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv",
    ".3gp", ".ogv",
)  # fmt: skip
"""Lower-case endings of the files that are taken for videos in a folder."""

_RATE_TOLERANCE = 1e-4
"""Relative: rates this close are the same. 29.97 and 30 fps differ by ten times as much."""

T = TypeVar("T")


class SourceFrames(NamedTuple):
    """What ``make_video`` needs of a clip, whatever it is stored in."""

    path: Path
    """File."""
    reader: str
    """What decodes it."""
    fps: float
    """Average frame rate."""
    size: tuple[int, int]
    """(height, width) of the frames."""
    frames: TimedFrames
    """(seconds since the first frame, rising; (H, W, 3) RGB at the source size)."""
    frame_count: FrameCount | None = None
    """How many of the frames that the file states can be read; None where it states none."""
    dataset: str = ""
    """The frames' place in an HDF5 file; empty for a video file."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(ViewSource(self.path, self.dataset))


class Video:
    """An open clip; iterate it once, in order. Also a context manager.

    Frames are decoded as they are asked for; a handful are held, whatever the clip's length.

    Attributes:
        info: rates and sizes of the clip.
        frame_count: how many of the frames that the file states could be read; None where it states none.
    """

    def __init__(
        self, info: ClipInfo, frames: Generator[Frame, None, None], frame_count: FrameCount | None = None
    ) -> None:
        self.info = info
        self.frame_count = frame_count
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        """The frames that were not read yet.

        Each has rgb (H, W, 3) uint8, C-contiguous, and time_s in seconds since the first frame: the
        tick k / target_fps when resampled, else the frame's own timestamp.
        """
        return self._frames

    def close(self) -> None:
        """Frees the decoder; iterating then ends. May be called twice."""
        self._frames.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_video(path: Path, config: VideoConfig, even: bool = False) -> Video:
    """Opens ``path``; its frames are decoded while the result is iterated.

    Args:
        path: video file.
        config: decoder, threads, rate and size.
        even: as for ``make_video``.

    Returns:
        The clip. ``info.reader`` is the backend that is really used.

    Raises:
        VideoError: no readable video, cut short, without a decodable frame, or ``config.reader`` is
            not installed.
    """
    open_decoder = READERS[reader_name(config.reader)]
    clip = inspect_clip(path, config.threads)
    decoder = open_decoder(clip, config.threads)
    height, width = clip.first.shape[:2]
    count = FrameCount(clip)
    frames = _from_zero(count.watch(decoder.frames), 1 / clip.fps)
    source = SourceFrames(path, decoder.reader, clip.fps, (height, width), frames, count)
    # At the wanted rate on average is not at its ticks, where frames come unevenly.
    uneven = not clip.even and _same_rate(config.target_fps, clip.fps)
    return make_video(source, config, even or uneven)


def make_video(source: SourceFrames, config: VideoConfig, even: bool = False) -> Video:
    """A clip at the rate and size of ``config``.

    Args:
        source: all frames at their own rate and size.
        config: rate and size.
        even: frames always come at the ticks k / fps, k = 0, 1 ..., also where the rate is the source's
            own, so that the frames of two clips of one rate belong together.
    """
    fps = _output_fps(source, config.target_fps, even)
    size, box = _placed(source.size, config)
    info = ClipInfo(
        path=source.path,
        dataset=source.dataset,
        reader=source.reader,
        source_fps=source.fps,
        fps=fps,
        source_size=source.size,
        size=size,
        letterbox=box,
    )
    frames: Iterable[tuple[float, RGB]] = source.frames
    if even or fps != source.fps:
        frames = pick_by_time(frames, fps, 1 / source.fps)
    return Video(info, (Frame(_fit(rgb, info), time_s) for time_s, rgb in frames), source.frame_count)


def pick_by_time(items: Iterable[tuple[float, T]], fps: float, lone_s: float) -> Iterator[tuple[float, T]]:
    """The item on screen at each tick k / ``fps``, k = 0, 1 ..., of a stream of timed items.

    An item is on screen from its time to the next one's, the last for one average interval; a tick at
    the very end is left out. Times may be up to TIME_TOLERANCE_S late. Items on screen at several ticks
    are repeated, and those on screen at none are dropped.

    Args:
        items: (time in seconds, item), the first time 0, rising.
        fps: ticks per second.
        lone_s: seconds that a single item is on screen.

    Yields:
        (tick time in seconds, item).
    """
    ticks = itertools.count()
    tick = next(ticks) / fps
    count, last_s, held = 0, 0.0, None
    for time_s, item in items:
        while held is not None and tick < time_s - TIME_TOLERANCE_S:
            yield tick, held[0]
            tick = next(ticks) / fps
        held = (item,)
        count, last_s = count + 1, time_s
    if held is None:
        return
    end_s = last_s + (last_s / (count - 1) if count > 1 else lone_s)
    while tick < end_s - TIME_TOLERANCE_S or tick == 0:
        yield tick, held[0]
        tick = next(ticks) / fps


def _placed(size: tuple[int, int], config: VideoConfig) -> tuple[tuple[int, int], Letterbox]:
    """(height, width) of the tracked frames of a source of ``size``, and where it lies in them."""
    if isinstance(config.size, tuple):
        return config.size, letterbox(size, config.size)
    resized = resized_size(size, None if config.size is None else config.size["shorter"])
    return resized, unpadded(size, resized)


def _fit(rgb: RGB, info: ClipInfo) -> RGB:
    """A source frame as it is tracked: resized, and padded with black where the content ends."""
    content = resize(rgb, info.letterbox.content_size)
    if info.letterbox.content_size == info.size:
        return content
    padded = np.zeros((*info.size, 3), np.uint8)
    padded[info.letterbox.content] = content
    return padded


def _same_rate(target_fps: float | None, fps: float) -> bool:
    return target_fps is not None and abs(target_fps - fps) <= _RATE_TOLERANCE * fps


def _output_fps(source: SourceFrames, target_fps: float | None, even: bool) -> float:
    """Rate of the yielded frames; unless ``even``, the clip's own means that every frame is kept once."""
    if target_fps is None:
        return source.fps
    if _same_rate(target_fps, source.fps):
        return target_fps if even else source.fps
    if target_fps > source.fps:
        warnings.warn(
            f"{source.name}: has {source.fps:g} fps, below video.target_fps={target_fps:g}; "
            "every frame is kept",
            stacklevel=3,
        )
        return source.fps
    return target_fps


def _from_zero(frames: Iterable[tuple[float, RGB]], interval_s: float) -> TimedFrames:
    """Counts time from the first frame, and continues evenly where timestamps are missing.

    AVI and MPEG files may leave some or all timestamps out; such a frame's time does not rise.
    """
    first_s: float | None = None
    last_s = -interval_s
    for time_s, rgb in frames:
        first_s = time_s if first_s is None else first_s
        last_s = time_s - first_s if time_s - first_s > last_s else last_s + interval_s
        yield last_s, rgb
