"""Videos, whatever they are stored in, to RGB frames at a wanted rate and size, one frame at a time.

PyAV opens every file, and tells its times and what is wrong with it (``streams``); ``decoders`` gives the
frames, ``timing`` cuts them into parts and picks them by time, ``shots`` cuts them where a shot ends, and
here they get their size.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.letterbox import Letterbox, letterbox, unpadded
from amplify_motion_tokenizer.video.clips import RGB, ClipInfo, Frame, Part, Span, ViewSource
from amplify_motion_tokenizer.video.decoders import Frames, decode
from amplify_motion_tokenizer.video.orientation import square_size
from amplify_motion_tokenizer.video.pixels import MOST_ROWS, resize, resized_size
from amplify_motion_tokenizer.video.shots import in_shots
from amplify_motion_tokenizer.video.streams import OpenFile
from amplify_motion_tokenizer.video.timing import Picture, Rate, at_ticks, in_parts

MOST_TRACKED = 2**25
"""Pixels of a tracked frame: 8K UHD, of which tracking holds some dozen images."""
_RATE_TOLERANCE = 1e-4
"""Relative: rates this close are the same. 29.97 and 30 fps differ by ten times as much."""


class FrameCount:
    """How many frames of a clip can be read, beside the number that its file states.

    Attributes:
        stated: frames by header and packets; where frames have no number of their own an estimate.
        read: frames so far.
        short: whether fewer could be read than are stated; false before the end.
    """

    def __init__(self, path: Path, stated: int, exact: bool, fps: float, lost: Callable[[], int]) -> None:
        self._path, self._exact, self._fps, self._lost = path, exact, fps, lost
        self.stated, self.read, self.short = stated, 0, False

    def watch(self, pictures: Iterator[Picture], parts: list[Part]) -> Iterator[Picture]:
        """Passes ``pictures`` on, counts them, and warns at the end when they are too few."""
        last_s = 0.0
        for picture in pictures:
            self.read, last_s = self.read + 1, picture.time_s
            yield picture
        seen: float = self.read
        if not self._exact:  # pictures that are shown for two intervals, or were left out in writing
            seen = self.stated if len(parts) > 1 else max(seen, last_s * self._fps + 1)
        self.short = self._lost() > 0 or self.stated - seen > (0 if self._exact else 1.5)
        if self.short:
            warnings.warn(
                f"{self._path}: states {self.stated} frames, but only {self.read} can be read", stacklevel=2
            )


class SourceFrames(NamedTuple):
    """What ``make_video`` needs of a clip, whatever it is stored in."""

    path: Path
    """File or folder, for messages."""
    reader: str
    """What decodes it."""
    rate: Rate
    """How often its pictures come."""
    stored_size: tuple[int, int]
    """(height, width) of the first frame, upright, in pixels as they are stored."""
    frames: Frames
    """(seconds on the source's clock or None; (H, W, 3) RGB, upright, pixels as they are stored)."""
    aspect: float = 1.0
    """Width over height of a stored pixel, upright."""
    frame_count: FrameCount | None = None
    """How many of the frames that the file states can be read; None where it states none."""
    files: tuple[Path, ...] = ()
    """The files that hold it; empty for ``path`` alone."""
    dataset: str = ""
    """The frames' place in an HDF5 file; empty for everything else."""
    span: Span | None = None
    """The part of the file that it is; None for all of it."""
    close: Callable[[], None] = lambda: None
    """Lets go of the file."""
    live: bool = False
    """Whether frames come at their own pace, and may never end."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(ViewSource(self.path, self.dataset, span=self.span))

    @property
    def square_size(self) -> tuple[int, int]:
        """(height, width) of the first frame, upright and in square pixels."""
        return square_size(self.stored_size, self.aspect)


class Video:
    """An open clip; iterate it once, in order. Also a context manager.

    Frames are decoded as they are asked for; a handful are held, whatever the clip's length (with
    ``video.shots``, ``shots.HELD`` more).

    Attributes:
        info: rates and sizes of the clip; where its pictures change their size, of the first ones.
        info_of: the same of pictures whose ``Frame.source_size`` is given.
        parts: the parts of the clip that were reached so far.
        frame_count: how many of the frames that the file states could be read; None where it states none.
        live: whether frames come at their own pace, and may never end.
    """

    def __init__(
        self,
        info_of: Callable[[tuple[int, int]], ClipInfo],
        source: SourceFrames,
        frames: Generator[Frame, None, None],
        parts: list[Part],
    ) -> None:
        self.info, self.parts, self.frame_count = info_of(source.square_size), parts, source.frame_count
        self.info_of, self._frames, self._close, self.live = info_of, frames, source.close, source.live

    def __iter__(self) -> Iterator[Frame]:
        """The frames that were not read yet.

        Each has rgb (H, W, 3) uint8, C-contiguous, of the size that ``info_of`` tells of its pictures; and
        time_s in seconds since the first frame: of the tick k / target_fps, counted from its part's first
        frame, when resampled; else the frame's own timestamp.
        """
        return self._frames

    def close(self) -> None:
        """Frees the decoder; iterating then ends. May be called twice."""
        self._frames.close()
        self._close()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_source(path: Path, config: VideoConfig) -> SourceFrames:
    """Opens the video file ``path``; frames are decoded while they are asked for.

    Raises:
        VideoError: no readable video, cut short, without a decodable frame, or ``config.reader`` is
            not installed.
    """
    file = OpenFile(path, config.threads)
    try:
        decoded = decode(file, config.reader, config.threads)
    except BaseException:
        file.close()
        raise
    return SourceFrames(
        path,
        decoded.reader,
        file.rate,
        (decoded.first.shape[0], decoded.first.shape[1]),
        decoded.frames,
        file.aspect,
        FrameCount(path, file.stated, file.counts, file.rate.mean, lambda: file.lost),
        close=file.close,
    )


def open_video(path: Path, config: VideoConfig) -> Video:
    """Opens the video file ``path``; its frames are decoded while the result is iterated.

    Args:
        path: video file.
        config: decoder, threads, rate and size.

    Returns:
        The clip. ``info.reader`` is the backend that is really used.

    Raises:
        VideoError: as ``open_source`` and ``output_fps``.
    """
    source = open_source(path, config)
    try:
        return make_video(source, config)
    except VideoError:
        source.close()
        raise


def make_video(source: SourceFrames, config: VideoConfig, common_fps: float | None = None) -> Video:
    """A clip at the rate and size of ``config``.

    Args:
        source: all frames at their own rate and size.
        config: rate and size.
        common_fps: frames come at the ticks k / common_fps, k = 0, 1 ..., so that frames of several views
            belong together; None: at the rate of ``output_fps``, and all of them where that is the source's
            own and they are even.

    Raises:
        VideoError: as ``output_fps``.
    """
    fps = output_fps(source, config) if common_fps is None else common_fps
    infos = _Infos(source, config, fps)
    parts: list[Part] = []
    pictures = in_parts(source.frames, source.rate, source.aspect, parts)
    if source.frame_count is not None:
        pictures = source.frame_count.watch(pictures, parts)
    fit: Callable[[RGB], RGB] = infos.fit
    if config.shots == "auto":  # pictures wait for what comes after them, at the size of the frames
        shots: list[Part] = []
        pictures, parts, fit = in_shots(pictures, fit, parts, shots), shots, _as_it_is
    every = common_fps is None and (
        fps == source.rate.mean and (source.rate.even or config.target_fps is None)
    )
    lone_s = 1 / source.rate.mean
    timed = (
        ((picture.time_s, picture.number, picture) for picture in pictures)
        if every
        else at_ticks(pictures, fps, common_fps is not None, lone_s)
    )
    return Video(infos.of, source, _frames(timed, fit, parts), parts)


class _Infos:
    """What is known of a clip, for each size that its pictures have."""

    def __init__(self, source: SourceFrames, config: VideoConfig, fps: float) -> None:
        self._config, self._aspect, self._name = config, source.aspect, source.name
        size, box = self._placed(source.square_size)
        self._first = ClipInfo(
            path=source.path,
            dataset=source.dataset,
            span=source.span,
            files=source.files,
            reader=source.reader,
            source_fps=source.rate.mean,
            fps=fps,
            source_size=source.square_size,
            pixel_aspect=source.aspect,
            size=size,
            letterbox=box,
        )
        self._found = {source.square_size: self._first}

    def of(self, source_size: tuple[int, int]) -> ClipInfo:
        """Of pictures of ``source_size`` (height, width), upright and in square pixels."""
        if source_size not in self._found:
            size, box = self._placed(source_size)
            self._found[source_size] = dataclasses.replace(
                self._first, source_size=source_size, size=size, letterbox=box
            )
        return self._found[source_size]

    def _placed(self, source_size: tuple[int, int]) -> tuple[tuple[int, int], Letterbox]:
        """``placed``, of a size that memory and OpenCV take: a thin picture's longer side grows without end.

        Raises:
            VideoError: it is larger, or nothing.
        """
        if min(source_size) < 1:
            raise VideoError(
                f"{self._name}: says that its pictures are {source_size[1]}x{source_size[0]} in square "
                "pixels; convert it with ffmpeg"
            )
        size, box = placed(source_size, self._config)
        if max(size) > MOST_ROWS or size[0] * size[1] > MOST_TRACKED:
            raise VideoError(
                f"{self._name}: its pictures of {source_size[1]}x{source_size[0]} would be tracked at "
                f"{size[1]}x{size[0]}, and at most {MOST_ROWS} a side and {MOST_TRACKED} pixels are; give "
                "another video.size, such as [480, 640] (padded), or leave it out"
            )
        return size, box

    def fit(self, rgb: RGB) -> RGB:
        """A source frame as it is tracked: resized, and padded with black where the content ends."""
        info = self.of(square_size((rgb.shape[0], rgb.shape[1]), self._aspect))
        content = resize(rgb, info.letterbox.content_size)
        if info.letterbox.content_size == info.size:
            return content
        padded = np.zeros((*info.size, 3), np.uint8)
        padded[info.letterbox.content] = content
        return padded


def make_videos(sources: Sequence[SourceFrames], config: VideoConfig) -> list[Video]:
    """The views of a clip; several come at the same ticks, at the rate of the slowest.

    Raises:
        VideoError: as ``make_video``.
    """
    common = min(output_fps(source, config) for source in sources) if len(sources) > 1 else None
    return [make_video(source, config, common) for source in sources]


def _frames(
    timed: Iterator[tuple[float, int, Picture]], fit: Callable[[RGB], RGB], parts: list[Part]
) -> Generator[Frame, None, None]:
    """Frames at the clip's size, or where its pictures change theirs at several sizes."""
    for time_s, tick, picture in timed:
        size = parts[picture.part].size
        yield Frame(fit(picture.rgb), time_s, picture.number, picture.part, tick, size)


def output_fps(source: SourceFrames, config: VideoConfig) -> float:
    """Rate of the yielded frames by ``config.target_fps`` and ``config.below_target_fps``.

    Raises:
        VideoError: it is below the target, and that is to be refused.
    """
    rate, target = source.rate, config.target_fps
    if target is None:
        return rate.mean
    if _same_rate(target, rate.nominal):
        return rate.nominal
    if target < rate.nominal:
        return target
    has = f"{source.name}: has {rate.nominal:g} fps, below video.target_fps={target:g}"
    if config.below_target_fps == "refuse":
        raise VideoError(f"{has}; lower it, or set video.below_target_fps to keep or repeat")
    if config.below_target_fps == "repeat":
        return target
    warnings.warn(
        f"{has}; " + ("every frame is kept" if rate.even else "it is made even at its own rate"), stacklevel=3
    )
    return rate.nominal


def _same_rate(target_fps: float, fps: float) -> bool:
    return abs(target_fps - fps) <= _RATE_TOLERANCE * fps


def placed(size: tuple[int, int], config: VideoConfig) -> tuple[tuple[int, int], Letterbox]:
    """(height, width) of the tracked frames of a source of ``size``, and where it lies in them."""
    if isinstance(config.size, tuple):
        return config.size, letterbox(size, config.size)
    resized = resized_size(size, None if config.size is None else config.size["shorter"])
    return resized, unpadded(size, resized)


def _as_it_is(rgb: RGB) -> RGB:
    return rgb
