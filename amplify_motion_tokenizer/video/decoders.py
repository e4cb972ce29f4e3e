"""Readers of video files: PyAV, and by choice OpenCV or decord, which are held to the same frames."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, NamedTuple

import cv2
import numpy as np

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.clips import RGB
from amplify_motion_tokenizer.video.streams import OpenFile
from amplify_motion_tokenizer.video.timing import TIME_TOLERANCE_S

_MAX_LEVEL_DIFFERENCE = 8
"""Largest difference (0..255) between two decoders' first frames for which they count as the same."""
_MAX_FAILURES = 256
"""Undecodable packets in a row after which OpenCV is taken to have reached the end."""

_LOG = logging.getLogger(__name__)

Frames = Iterator["tuple[float | None, RGB]"]
"""Pairs of a time and a frame, as ``OpenFile.frames`` gives them."""


class Decoded(NamedTuple):
    """A file's frames."""

    reader: str
    """What decodes them."""
    first: RGB
    """The first, (H, W, 3) upright, pixels as they are stored."""
    frames: Frames
    """All of them."""


class _UnfitError(Exception):
    """A reader would not give the clip's frames; the message says why."""


def decode(file: OpenFile, reader: str, threads: int) -> Decoded:
    """The frames of ``file`` by ``reader``, or by PyAV where that one would give others, which is said.

    Raises:
        VideoError: no frame decodes, or the reader is not installed.
    """
    frames = file.frames()
    first = next(frames, None)
    if first is None:
        raise VideoError(
            f"{file.path}: holds no frame that can be decoded (codec {file.codec}); copy it again, or leave "
            "it out"
        )
    other = READERS[reader]
    if other is not None:
        try:
            if not file.only_stream:
                raise _UnfitError("the file holds several video streams")
            return Decoded(reader, first[1], _held(other(file, threads, first[1].shape), first[1]))
        except _UnfitError as error:
            _LOG.warning("%s: %s is read by PyAV, because of %s: %s", file.path, file.codec, reader, error)
            frames = file.frames()
            first = next(frames)
    return Decoded("pyav", first[1], chain([first], frames))


def _held(frames: Frames, wanted: RGB) -> Frames:
    """``frames``, once the first is known to be PyAV's."""
    first = next(frames, None)
    if first is None:
        raise _UnfitError("it decodes no frame")
    found = first[1]
    difference = cv2.absdiff(found, wanted).max() if found.shape == wanted.shape else 255
    if difference > _MAX_LEVEL_DIFFERENCE:
        raise _UnfitError(f"its first frame differs by up to {difference} levels of 255")
    return chain([first], frames)


def _opencv(file: OpenFile, threads: int, _: tuple[int, ...]) -> Frames:
    """Frames by OpenCV; a call fails at the end and at a packet that does not decode, and may then go on."""
    with quiet_opencv():
        options = [cv2.CAP_PROP_N_THREADS, threads]
        capture = cv2.VideoCapture(str(file.path.absolute()), cv2.CAP_FFMPEG, options)
    failures = 0
    try:
        while capture.isOpened() and failures < _MAX_FAILURES:
            decoded, bgr = capture.read()
            failures = 0 if decoded else failures + 1
            if decoded:
                rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
                yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, rgb
    finally:
        capture.release()


def _decord(file: OpenFile, threads: int, shape: tuple[int, ...]) -> Frames:
    """Frames by decord, at the times of the packets; PyAV reads on where it gives up."""
    try:
        import decord
    except ImportError:
        raise VideoError(
            "video.reader=decord, but decord is not installed; pip install decord, or use --video.reader auto"
        ) from None
    decord.logging.set_level(decord.logging.QUIET)  # of decord's own copy of FFmpeg
    failures = (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError)
    try:
        # fault_tol=0: an error instead of a repeated frame where one cannot be decoded.
        reader = decord.VideoReader(str(file.path.absolute()), num_threads=threads, fault_tol=0)
    except failures:
        raise _UnfitError("it cannot open the file") from None
    times_s = file.shown_s
    if len(reader) != len(times_s):
        raise _UnfitError(f"it finds {len(reader)} frames in {len(times_s)} packets")
    for index, time_s in enumerate(times_s):
        try:
            rgb = _unpadded(reader.next().asnumpy(), shape)
        except failures:
            _LOG.info("%s: decord stops at frame %d of %s", file.path, index, file.codec)
            yield from _resumed(file, index, times_s[max(0, index - 1)])
            return
        yield time_s, rgb


def _unpadded(raw: Any, shape: tuple[int, ...]) -> RGB:
    """A frame of decord's without the padding that it takes for a fourth channel in some widths."""
    if raw.shape == shape or raw.shape[:2] != shape[:2]:
        return np.asarray(raw)
    height, width, _ = shape
    return np.ascontiguousarray(raw.reshape(height, -1)[:, : 3 * width].reshape(shape))


def _resumed(file: OpenFile, done: int, last_s: float) -> Frames:
    """PyAV's frames after the first ``done``, the last of which was given the time ``last_s``.

    Raises:
        VideoError: PyAV has that frame at another time, so a packet before it gave no frame.
    """
    frames = file.frames()
    for time_s, _ in islice(frames, max(0, done - 1), done):
        if time_s is None or abs(time_s - last_s) > TIME_TOLERANCE_S:
            raise VideoError(
                f"{file.path}: is damaged, and decord cannot time its frames; use --video.reader auto"
            )
    return frames


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV's own log quiet, and FFmpeg's unless the user set its level: errors tell what they do."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once, when OpenCV first opens a video
    log: Any = cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2  # OpenCV 5 moved these two
    level = log.getLogLevel()
    log.setLogLevel(0)  # silent
    try:
        yield
    finally:
        log.setLogLevel(level)


READERS: dict[str, Callable[[OpenFile, int, tuple[int, ...]], Frames] | None] = {
    "auto": None,
    "pyav": None,
    "decord": _decord,
    "opencv": _opencv,
}
"""Value of ``video.reader`` to the function that reads instead of PyAV; None is PyAV itself."""
