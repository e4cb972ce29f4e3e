"""Frames to mp4 and PNG files that appear under their name only when they are complete.

Rendered scenes are MPEG-4, from OpenCV, so that their pixels stay what they were; what people watch is H.264,
from PyAV, which browsers and QuickTime play.
"""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.files import atomic_path
from amplify_motion_tokenizer.video.clips import RGB
from amplify_motion_tokenizer.video.decoders import quiet_opencv

_BT709, _LIMITED = 1, 1
"""Matrix and range of what is watched, as screens take what is larger than DVDs."""
MOST_SIDE_PX = 8190
"""Longest even side of an MPEG-4 frame, which has 13 bits for it."""
WATCHED = {"crf": "18", "preset": "veryfast"}
"""What the encoder is told of videos that are watched from a disk."""
LEAST_FPS, MOST_FPS = 0.01, 65535
"""OpenCV keeps three decimals of a rate, and an MPEG-4 clock has 16 bits for its ticks in a second."""


@contextmanager
def mp4_writer(path: Path, fps: float) -> Iterator[Callable[[RGB], None]]:
    """Yields what writes one frame (H, W, 3), RGB, after the other; frames are not held.

    Both sides must be even, and one for all frames.

    Raises:
        VideoError: mp4 files cannot hold frames of that size or rate, or OpenCV cannot write them here.
        UsageError: ``path`` cannot be written, or no frame was.
    """
    opened: list[cv2.VideoWriter] = []
    count = 0
    with atomic_path(path) as temporary:

        def write(rgb: RGB) -> None:
            nonlocal count
            count += 1
            if not opened:
                opened.append(_open(path, temporary, fps, rgb.shape[1::-1]))
            opened[0].write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))

        try:
            yield write
        finally:
            for writer in opened:
                writer.release()
        if opened:
            _check_written(path, temporary, count)


def _open(path: Path, temporary: Path, fps: float, size: tuple[int, ...]) -> cv2.VideoWriter:
    width, height = size
    # Of an infinite rate OpenCV never returns.
    if max(size) > MOST_SIDE_PX or not LEAST_FPS <= fps <= MOST_FPS:
        raise VideoError(
            f"{path}: frames of {width}x{height} at {fps:g} per second cannot be written; MPEG-4 takes sides "
            f"of up to {MOST_SIDE_PX} pixels and {LEAST_FPS} to {MOST_FPS} frames per second"
        )
    # OpenCV keeps three decimals, and MPEG-4 counts them in 16 bits.
    decimals = next(number for number in (3, 2, 1, 0) if round(fps, number) * 10**number <= MOST_FPS)
    rate = round(fps, decimals)
    with quiet_opencv():
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    if not writer.isOpened():
        raise VideoError(
            f"{path}: OpenCV cannot write an mp4 file of {width}x{height} at {fps:g} frames per second here"
        )
    return writer


@contextmanager
def h264_writer(
    path: Path, fps: float, settings: Mapping[str, str] = WATCHED
) -> Iterator[Callable[[RGB], None]]:
    """Yields what writes one frame (H, W, 3), RGB, after the other as H.264, yuv420p; frames are not held.

    Both sides must be even, and one for all frames.

    Args:
        path: of the mp4 file.
        fps: frames a second.
        settings: x264's, which decide quality and size.

    Raises:
        VideoError: frames of that size or rate cannot be encoded.
        UsageError: ``path`` cannot be written.
    """
    if not LEAST_FPS <= fps <= MOST_FPS:
        raise VideoError(
            f"{path}: {fps:g} frames per second cannot be written; expected {LEAST_FPS} to {MOST_FPS}"
        )
    with atomic_path(path) as temporary:
        options = {"movflags": "faststart"}  # plays before all of it is there
        with av.open(str(temporary), "w", format="mp4", options=options) as container:
            stream = container.add_stream(_encoder(path), rate=Fraction(fps).limit_denominator(1001))
            stream.pix_fmt, stream.options = "yuv420p", dict(settings)
            stream.codec_context.colorspace, stream.codec_context.color_range = _BT709, _LIMITED
            converter = VideoReformatter()

            count = 0

            def write(rgb: RGB) -> None:
                nonlocal count
                count += 1
                if not stream.codec_context.is_open:
                    stream.height, stream.width = rgb.shape[:2]
                frame = converter.reformat(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"),
                    format="yuv420p",
                    dst_colorspace=_BT709,
                    dst_color_range=_LIMITED,
                )
                container.mux(_encoded(frame))

            def _encoded(frame: av.VideoFrame | None) -> list[Any]:
                try:
                    return list(stream.encode(frame))
                except (av.FFmpegError, ValueError) as error:
                    size = f"{stream.width}x{stream.height}"
                    raise VideoError(f"{path}: frames of {size} cannot be encoded ({error})") from None

            yield write
            container.mux(_encoded(None))
        _check_written(path, temporary, count)


def _check_written(path: Path, temporary: Path, frames: int) -> None:
    """Raises OSError or VideoError unless all frames are there: encoders are silent of full disks."""
    try:
        with av.open(str(temporary)) as container:
            found = sum(1 for packet in container.demux(video=0) if packet.size)
    except (av.FFmpegError, IndexError):
        found = 0
    if found == frames:
        return
    if shutil.disk_usage(temporary.parent).free < _LITTLE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise VideoError(f"{path}: only {found} of {frames} frames could be written")


_LITTLE = 2**22
"""Bytes free from which a disk is not full: encoders write in pieces smaller than this."""


def _encoder(path: Path) -> str:
    """The H.264 encoder that this PyAV has, or else MPEG-4, which is said."""
    for name in ("libx264", "libopenh264"):
        if name in av.codecs_available:
            return name
    warnings.warn(f"{path}: this PyAV has no H.264 encoder; MPEG-4 is written", stacklevel=2)
    return "mpeg4"


def write_png(path: Path, rgb: RGB) -> None:
    """Writes one image (H, W, 3), RGB.

    Raises:
        UsageError: ``path`` cannot be written.
    """
    _, content = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    with atomic_path(path, len(content)) as temporary:
        temporary.write_bytes(content.tobytes())
