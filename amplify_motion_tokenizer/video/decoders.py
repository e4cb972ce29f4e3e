"""Decoders: OpenCV and decord, with the same frames."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.containers import (
    RGB,
    TIME_TOLERANCE_S,
    ProbedClip,
    TimedFrames,
    captured_frames,
    open_capture,
)

_MAX_LEVEL_DIFFERENCE = 8
"""Largest difference (0..255) between the decoders' first frames for which decord is used."""


_LOG = logging.getLogger(__name__)


class _Decoder(NamedTuple):
    reader: str  # the backend that is really used
    frames: TimedFrames  # (timestamp in seconds, (H, W, 3) RGB) at the source size


def _read_opencv(clip: ProbedClip, threads: int) -> TimedFrames:
    """All frames of ``clip`` by OpenCV."""
    capture = open_capture(clip.path, cv2.CAP_PROP_N_THREADS, threads)
    try:
        yield from captured_frames(capture)
    finally:
        capture.release()


def _open_opencv(clip: ProbedClip, threads: int) -> _Decoder:
    return _Decoder("opencv", _read_opencv(clip, threads))


def _open_decord(clip: ProbedClip, threads: int) -> _Decoder:
    """decord, or OpenCV where decord's frames would not be the same."""
    try:
        return _Decoder("decord", _checked_decord(clip, threads))
    except _DecordUnfitError as error:
        _LOG.warning("%s: read by OpenCV, because %s", clip.path, error)
        return _open_opencv(clip, threads)


class _DecordUnfitError(Exception):
    """decord would not give the clip's frames; the message says why."""


def _checked_decord(clip: ProbedClip, threads: int) -> TimedFrames:
    """Opens ``clip`` with decord.

    Raises:
        _DecordUnfitError: decord is known, or was just seen, to read this clip wrongly.
    """
    import decord

    if clip.container == "other":
        raise _DecordUnfitError("decord starts some MPEG streams at a later key frame")
    if any(side % 2 for side in clip.first.shape[:2]):
        raise _DecordUnfitError("decord interpolates the colours of odd frame sizes in another way")
    decord.logging.set_level(decord.logging.QUIET)  # of decord's own copy of FFmpeg
    try:
        # fault_tol=0: an error instead of a repeated frame where one cannot be decoded.
        reader = decord.VideoReader(str(clip.path.absolute()), num_threads=threads, fault_tol=0)
        stated_s = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0].astype(np.float64)
        rgb = _next_decord(reader, clip)
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError) as error:
        raise _DecordUnfitError(f"decord fails ({_gist(error)})") from error
    if not _same_times(stated_s, clip.times_s):
        raise _DecordUnfitError("its timestamps are missing or an edit list hides frames")
    difference = cv2.absdiff(rgb, clip.first).max() if rgb.shape == clip.first.shape else 255
    if difference > _MAX_LEVEL_DIFFERENCE:
        raise _DecordUnfitError(f"decord's first frame differs by up to {difference} levels")
    return _read_decord(reader, rgb, clip, threads)


def _same_times(decord_s: NDArray[np.float64], times_s: NDArray[np.float64]) -> bool:
    """Whether decord times the packets that OpenCV does, all visible, but for where zero is.

    decord's times are float32, that is 0.5 ms off after 2 hours; OpenCV's are taken.
    """
    if len(decord_s) != len(times_s) or decord_s[0] < -TIME_TOLERANCE_S or not (np.diff(times_s) > 0).all():
        return False
    return np.allclose(decord_s - decord_s[0], times_s - times_s[0], rtol=1e-6, atol=1e-6 * abs(decord_s[0]))


def _read_decord(reader: Any, first: RGB, clip: ProbedClip, threads: int) -> TimedFrames:
    """The frames of an open decord ``reader``; OpenCV reads on where it gives up."""
    from decord import DECORDError, DECORDLimitReachedError

    times_s = clip.times_s.tolist()
    yield times_s[0], first
    for index in range(1, len(times_s)):
        try:
            rgb = _next_decord(reader, clip)
        except (DECORDError, DECORDLimitReachedError) as error:
            _LOG.info("%s: decord stops at frame %d (%s)", clip.path, index, _gist(error))
            yield from _resume(clip, threads, index, times_s[index - 1])
            return
        yield times_s[index], rgb


def _next_decord(reader: Any, clip: ProbedClip) -> RGB:
    """Decord's next frame, without the padding that it takes for a fourth channel in some widths."""
    height, width = clip.first.shape[:2]
    raw = reader.next().asnumpy()
    if raw.shape[:2] != (height, width):
        return np.asarray(raw)
    return np.ascontiguousarray(raw.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3))


def _resume(clip: ProbedClip, threads: int, done: int, last_s: float) -> TimedFrames:
    """What follows the first ``done`` frames, the last of which was given the time ``last_s``.

    Raises:
        VideoError: OpenCV has that frame at another time, so a packet before it gave no frame.
    """
    frames = _read_opencv(clip, threads)
    for time_s, _ in itertools.islice(frames, done - 1, done):
        if abs(time_s - last_s) > TIME_TOLERANCE_S:
            raise VideoError(
                f"{clip.path}: is damaged, and decord cannot time its frames; use --video.reader opencv"
            )
    yield from frames


def _gist(error: BaseException) -> str:
    """The gist of a decord error: its first line without time stamps and places in the C++ code."""
    return re.sub(r"^.*\.cc:\d+: ", "", str(error).strip().splitlines()[0])


def reader_name(wanted: str) -> str:
    """The backend to use for ``config.reader``."""
    if wanted == "auto":
        return "opencv"
    if wanted == "decord":
        try:
            import decord  # noqa: F401
        except ImportError as error:
            raise VideoError(
                "video.reader=decord, but decord is not installed; pip install decord, "
                "or use --video.reader opencv"
            ) from error
    return wanted


READERS: dict[str, Callable[[ProbedClip, int], _Decoder]] = {"decord": _open_decord, "opencv": _open_opencv}
"""Backends by the name that ``video.reader`` gives them."""
