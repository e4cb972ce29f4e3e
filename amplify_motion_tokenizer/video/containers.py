"""What is known of a video file before it is read: its container, rates and first frame.

A cut file is told from a whole one by its outermost structure, before decoding. Only sizes that the
container itself states are used; one that is unknown (zero, all ones) proves nothing and is accepted.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import VideoError

Container = Literal["mp4", "riff", "matroska", "other"]

RGB = NDArray[np.uint8]
TimedFrames = Generator[tuple[float, RGB], None, None]
TIME_TOLERANCE_S = 1.0014e-3
"""A frame counts as on screen at a tick this little before it.

Matroska rounds timestamps to 1 ms, so that one may be up to 1 ms late of the first. The rest keeps rounding
errors from choosing the frame: times and ticks are multiples of 1 ms, of a 90 kHz clock or of 1001/24000 s
and the like, frame 30 of 29.97 fps is 1 ms after the tick at 1 s, and the next such distance is 361/360 ms.
"""

_MAX_FAILURES = 256
"""Undecodable packets in a row after which OpenCV is taken to have reached the end."""

_MP4_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp"}
_EBML_HEADER = 0x1A45DFA3
_MATROSKA_SEGMENT = 0x18538067


@dataclass(frozen=True)
class ProbedClip:
    """What OpenCV says of a clip, for both backends."""

    path: Path
    container: Container
    fps: float
    """True average frame rate."""
    claimed_frames: float
    """Frame count in the header; in Matroska an estimate, its duration times claimed_fps."""
    claimed_fps: float
    """Nominal frame rate in the header."""
    even: bool
    """Whether frames follow each other at about equal distances."""
    times_s: NDArray[np.float64]
    """When packets are shown, in order, in OpenCV's seconds; empty where the container has no sound times."""
    first: RGB
    """First frame that decodes, (H, W, 3) at the source size."""


class FrameCount:
    """How many frames of a clip can be read, beside those that its container states.

    Attributes:
        stated: frames in the header; in Matroska an estimate.
        read: frames so far.
        short: whether fewer could be read than the container states; false before the end.
    """

    def __init__(self, clip: ProbedClip) -> None:
        self._clip = clip
        self.stated, self.read, self.short = clip.claimed_frames, 0, False

    def watch(self, frames: TimedFrames) -> TimedFrames:
        """Passes ``frames`` on, counts them, and warns at the end when they are too few."""
        clip, first_s, last_s = self._clip, 0.0, 0.0
        for time_s, rgb in frames:
            first_s = time_s if self.read == 0 else first_s
            self.read, last_s = self.read + 1, max(last_s, time_s)
            yield time_s, rgb
        if clip.container == "mp4":
            missing, slack = clip.claimed_frames - self.read, 0.0
        else:  # AVI counts frames that it left out, Matroska tells its duration, which covers the sound too
            seen = max((last_s - first_s) * clip.claimed_fps + 1, self.read)
            missing = clip.claimed_frames - seen
            slack = 1.5 if clip.container == "riff" else 0.25 * clip.claimed_fps
        self.short = missing > slack and clip.container != "other"
        if self.short:
            warnings.warn(
                f"{clip.path}: states {self.stated:g} frames, but only {self.read} can be read",
                stacklevel=2,
            )


def inspect_clip(path: Path, threads: int) -> ProbedClip:
    """Rates and first frame of ``path``, by OpenCV.

    decord is given only files that pass, as it prints to stderr about those that are no video.
    """
    container = check_container(path)
    capture = open_capture(path, cv2.CAP_PROP_N_THREADS, threads)
    try:
        if not capture.isOpened():
            what = "is not a video" if container == "other" else "holds no video stream that can be decoded"
            raise VideoError(f"{path}: {what}")
        first = next(captured_frames(capture), None)
        if first is None:
            raise VideoError(f"{path}: holds no frame that can be decoded")
        claimed_fps = capture.get(cv2.CAP_PROP_FPS)
        claimed_frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        capture.release()
    times_s = _packet_times(path) if container != "other" else np.zeros(0)
    fps, even = _average_fps(times_s, claimed_fps, claimed_frames if container == "mp4" else 0)
    if not 0 < fps < float("inf"):
        raise VideoError(f"{path}: states no frame rate")
    return ProbedClip(path, container, fps, claimed_frames, claimed_fps, even, times_s, first[1])


def _packet_times(path: Path) -> NDArray[np.float64]:
    """When each packet is shown, in seconds and in order, without decoding; the same as of its frame."""
    packets = open_capture(path, cv2.CAP_PROP_FORMAT, -1)
    times_s = []
    while packets.grab():
        time_s = packets.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if time_s >= 0:  # an edit list hides earlier packets
            times_s.append(time_s)
    packets.release()
    return np.sort(np.array(times_s, np.float64))


def _average_fps(times_s: NDArray[np.float64], claimed_fps: float, min_packets: float) -> tuple[float, bool]:
    """Packets per second, and whether they are even.

    The rate is ``claimed_fps`` where both are the same but for rounding.

    Headers of clips with a variable rate often state only a nominal one. With fewer than ``min_packets``
    the clip is trimmed or damaged; the measure is coarse then, and the header may differ by 10 percent.
    """
    count, span_s = len(times_s), times_s[-1].item() if len(times_s) else 0.0
    if count < 2 or span_s <= 0:
        return claimed_fps, True
    intervals_s = np.diff(times_s)
    even = bool(intervals_s.max() <= 1.5 * np.median(intervals_s) + 2 * TIME_TOLERANCE_S)
    slack_s = 2 * TIME_TOLERANCE_S + span_s * (0.1 if count < min_packets else 5e-4)
    if claimed_fps > 0 and abs((count - 1) / claimed_fps - span_s) <= slack_s:
        return claimed_fps, even
    return (count - 1) / span_s, even


def open_capture(path: Path, option: int, value: int) -> cv2.VideoCapture:
    """An FFmpeg capture."""
    with quiet_opencv():
        return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [option, value])


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


def captured_frames(capture: cv2.VideoCapture) -> TimedFrames:
    """Decoded frames with OpenCV's timestamps, rotated by OpenCV (CAP_PROP_ORIENTATION_AUTO).

    ``read`` fails both at the end and at a packet that does not decode, and only in the latter case
    goes on at the next call.
    """
    failures = 0
    while failures < _MAX_FAILURES:
        decoded, bgr = capture.read()
        if decoded:
            failures = 0
            rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
            yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, rgb
        else:
            failures += 1


def check_container(path: Path) -> Container:
    """The kind of container in ``path``, once it is sure that the file is not cut short.

    Raises:
        VideoError: the file is missing, unreadable, empty, or shorter than its container says.
    """
    try:
        str(path).encode("utf-8")
        with path.open("rb") as file:
            found = os.fstat(file.fileno()).st_size
            kind = _kind(file.read(12))
            expected = _EXPECTED_BYTES[kind](file, found) if kind in _EXPECTED_BYTES else found
    except OSError as error:
        raise VideoError(f"{path}: cannot be opened ({error.strerror})") from error
    except UnicodeEncodeError:
        # The decoders crash on such a name.
        raise VideoError(f"{str(path)!a}: its name is not UTF-8; rename the file") from None
    if found == 0:
        raise VideoError(f"{path}: is empty (0 bytes)")
    if expected is None:
        raise VideoError(f"{path}: is cut short: {found} bytes found, and the index (moov box) is missing")
    if expected > found:
        raise VideoError(f"{path}: is cut short: {found} bytes found, {expected} expected")
    return kind


def _kind(head: bytes) -> Container:
    """Container kind from the first 12 bytes."""
    if head[4:8] in _MP4_FIRST_BOXES:
        return "mp4"
    if head[:4] == b"RIFF":
        return "riff"
    if head[:4] == _EBML_HEADER.to_bytes(4, "big"):
        return "matroska"
    return "other"


def _mp4_bytes(file: BinaryIO, found: int) -> int | None:
    """Bytes that the top-level MP4/MOV boxes span; None when there is no moov box to decode with."""
    start, has_moov = 0, False
    while start + 8 <= found:
        file.seek(start)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if not kind.isalnum():  # padding or junk after the last box
            break
        has_moov |= kind == b"moov"
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size == 0:  # the box reaches to the end of the file
            break
        if size < 8:
            break
        start += size
    if start > found:
        return start
    return found if has_moov else None


def _riff_bytes(file: BinaryIO, found: int) -> int:
    """Bytes that the RIFF chunks span; an AVI over 1 GB has several, one after another."""
    start = 0
    while start + 8 <= found:
        file.seek(start)
        head = file.read(8)
        size = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or size in (0, 0xFFFFFFFF):
            return found
        start += 8 + size
    return start


def _matroska_bytes(file: BinaryIO, found: int) -> int:
    """Bytes up to the end of the Segment, where its size is known."""
    start = 0
    while start < found:
        file.seek(start)
        identifier = _vint(file, keep_marker=True)
        size = _vint(file, keep_marker=False)
        if identifier is None or size is None:  # unknown size: a live recording
            return found
        start = file.tell() + size
        if identifier == _MATROSKA_SEGMENT:
            return start
    return start


def _vint(file: BinaryIO, *, keep_marker: bool) -> int | None:
    """EBML variable-length integer at the file's position; None if missing or "unknown"."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    if keep_marker:
        return value
    all_ones = (1 << 7 * length) - 1
    value &= all_ones
    return None if value == all_ones else value


_EXPECTED_BYTES = {"mp4": _mp4_bytes, "riff": _riff_bytes, "matroska": _matroska_bytes}
