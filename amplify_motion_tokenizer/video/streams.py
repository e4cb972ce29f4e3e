"""Video files opened by PyAV, which carries FFmpeg: which stream, its times, and its frames.

A file is opened once. Its packets are read first, without decoding, for what only they tell: how often
pictures come, which stream is more than a cover, and whether the file ends where it should.
"""

from __future__ import annotations

import math
import warnings
from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.stream import Disposition
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.clips import RGB
from amplify_motion_tokenizer.video.colours import ToRGB, deep_range, is_deep_gray
from amplify_motion_tokenizer.video.faults import (
    check_file,
    check_length,
    check_pixels,
    is_encrypted,
    no_codec,
    no_video,
)
from amplify_motion_tokenizer.video.orientation import Orientation, orientation, pixel_aspect
from amplify_motion_tokenizer.video.timing import rate_of

_SHORT_S = 0.25
"""A duration in a header, which need not be exact, may pass the end of the last packet by so much."""
_STATE_DURATION = ("matroska", "flv", "mxf")
"""Formats whose header states how long the file is; of others FFmpeg guesses it from what is there."""
_LISTS = {"concat", "concatf", "hls", "dash", "imf", "sdp"}
"""Formats that name other files, which a file from elsewhere could choose on this machine."""
_LEAST_OFF = 0.5
"""Degrees beside a right angle that are worth a word."""


class Packets:
    """What the packets of one video stream tell; 16 bytes are kept of each, as a film has a million."""

    def __init__(self) -> None:
        self.dts_s, self.pts_s = array("d"), array("d")
        """Seconds; NaN stands for a time of decoding that is not stated, a time of showing is left out."""
        self.hidden = 0  # by an edit list
        self.first: tuple[int | None, int] = (None, 0)

    def add(self, packet: Any) -> None:
        """Takes note of the next packet of the stream."""
        if not self.dts_s:
            self.first = _identity(packet)
        self.hidden += packet.is_discard
        base = packet.time_base
        self.dts_s.append(math.nan if packet.dts is None else float(packet.dts * base))
        if packet.pts is not None and not packet.is_discard:
            self.pts_s.append(float(packet.pts * base))

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Times that rise: of showing, or of decoding, which is their order, where the clock goes back."""
        times = np.array(self.dts_s)
        times = times[~np.isnan(times)]
        back = bool((np.diff(times) < 0).any())
        return times if back or len(self.pts_s) < len(times) - self.hidden else np.sort(np.array(self.pts_s))


def check_holds_video(container: Any, name: Path | str) -> None:
    """Raises VideoError where an open file called ``name`` only lists other files."""
    if _LISTS.intersection(container.format.name.split(",")):
        raise VideoError(
            f"{name}: is a list of other files ({container.format.name}), which is not followed; give the "
            "videos themselves"
        )


def _identity(packet: Any) -> tuple[int | None, int]:
    return packet.pts, packet.size


class OpenFile:
    """A video file that is open; its frames are read once, in order.

    Attributes:
        path: the file.
        codec: name of the main stream's codec.
        rate: how often its pictures come.
        stated: pictures that the file says it holds, without the ones that an edit list hides.
        counts: whether ``stated`` is exact; else it is compared by the time that pictures cover.
        aspect: width over height of a stored pixel, upright; known once the first frame is.
        lost: pictures so far that did not decode, or of which the decoder made up what is damaged.

    Raises:
        VideoError: no readable video, cut short, encrypted, or of a codec that PyAV cannot decode.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.path, self.aspect, self._threads = path, 1.0, threads
        self.lost = 0
        self._head = check_file(path)
        self._container = self._open()
        try:
            self._scan()
            if self._stream.codec_context is None:
                raise no_codec(path)
            check_pixels(path, (self._stream.height, self._stream.width))
            self.codec = str(self._stream.codec_context.name)
            stated_fps = self._stream.average_rate or self._stream.guessed_rate
            rate = rate_of(self._packets.times_s, float(stated_fps or 0))
            if rate is None:
                raise VideoError(f"{path}: states no frame rate; convert it, for example with ffmpeg -r 30")
            self.rate = rate
            self.stated, self.counts = self._stated()
            kind, self._levels = self._stream.codec_context.format, None
            if is_deep_gray(kind):
                self._levels = deep_range((each.to_ndarray() for each in self._decoded()), path, kind.name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file; its frames end."""
        self._container.close()

    @property
    def only_stream(self) -> bool:
        """Whether there is no other video stream that another decoder could take."""
        return len(self._container.streams.video) == 1

    @property
    def shown_s(self) -> list[float]:
        """Seconds on the file's clock at which packets are shown, sorted."""
        return sorted(self._packets.pts_s)

    def _open(self) -> Any:
        try:
            container = av.open(f"file:{self.path.absolute()}", metadata_errors="replace")
        except (av.FFmpegError, ValueError, IndexError):
            raise no_video(self.path, self._head, opened=False) from None
        try:
            check_holds_video(container, self.path)
        except VideoError:
            container.close()
            raise
        if not container.streams.video:
            opened = len(container.streams) > 0
            container.close()
            raise no_video(self.path, self._head, opened)
        return container

    def _scan(self) -> None:
        """Reads all packets, and chooses the main stream."""
        found = {stream.index: Packets() for stream in self._container.streams.video}
        self._end_s, last = 0.0, None
        for packet in self._demuxed():
            time = packet.pts if packet.pts is not None else packet.dts
            if packet.size == 0:
                continue
            last = packet
            if time is not None:
                end = float((time + (packet.duration or 0)) * packet.time_base)
                self._end_s = max(self._end_s, end)
            if packet.stream.index in found:
                if is_encrypted(packet):
                    raise VideoError(
                        f"{self.path}: is encrypted (DRM), and no picture can be decoded without its key; "
                        "leave it out"
                    )
                found[packet.stream.index].add(packet)
        if last is not None and last.is_corrupt:
            check_length(self.path, None)
        self._stream = self._main(found)
        self._packets = found[self._stream.index]

    def _demuxed(self, *streams: Any) -> Iterator[Any]:
        """Packets, as far as they can be read."""
        packets = self._container.demux(*streams)
        while True:
            try:
                yield next(packets)
            except (StopIteration, av.FFmpegError):
                return

    def _main(self, found: dict[int, Packets]) -> Any:
        """The stream that is more than a cover, marked as the default, and the largest, in this order."""

        def rank(stream: Any) -> tuple[int, ...]:
            context, count = stream.codec_context, len(found[stream.index].dts_s)
            cover = bool(stream.disposition & Disposition.attached_pic)
            area = context.width * context.height if context is not None else 0
            default = bool(stream.disposition & Disposition.default)
            return count > 0 and not cover, count > 1, context is not None, default, area, -stream.index

        best = max(self._container.streams.video, key=rank)
        if not rank(best)[0]:
            raise VideoError(f"{self.path}: holds no picture beside a cover; leave it out")
        return best

    def _stated(self) -> tuple[int, bool]:
        """Pictures that the file says it holds, and whether that number is exact.

        Raises:
            VideoError: the index tells of packets past the file's end.
        """
        name, stream, packets = self._container.format.name, self._stream, self._packets
        if name.startswith("mov,mp4"):
            check_length(
                self.path, max((entry.pos + entry.size for entry in stream.index_entries), default=0)
            )
            return len(packets.dts_s) - packets.hidden, True
        if name == "avi":
            return max(stream.frames, len(packets.dts_s)), False
        missing_s = 0.0
        if name.startswith(_STATE_DURATION) and self._container.duration:
            missing_s = self._container.duration / av.time_base - self._end_s
        lost = round(missing_s * self.rate.mean) if missing_s > _SHORT_S else 0
        return len(packets.dts_s) + lost, False

    def _tells_its_end(self) -> bool:
        """Whether a file of this format that was cut short differs from a whole one."""
        return str(self._container.format.name).startswith(("mov,mp4", "avi", *_STATE_DURATION))

    def _rewound(self, threads: str) -> Iterator[Any]:
        """The main stream's packets from the first, before a decoder with these threads."""
        index = self._stream.index  # of a closed file it is not to be asked for
        for reopened in (False, True):
            if reopened:  # a format that cannot be sought in, or a decoder that is set already
                self._container.close()
                self._container = self._open()
            self._stream = self._container.streams[index]
            context = self._stream.codec_context
            if context.is_open and str(context.thread_type.name) != threads:
                continue
            if not context.is_open:
                context.thread_type, context.thread_count = threads, self._threads
            try:
                self._container.seek(0) if not reopened else None
            except av.FFmpegError:
                continue
            packets = self._demuxed(self._stream)
            first = next(packets, None)
            if first is not None and _identity(first) == self._packets.first:
                return chain([first], packets)
        raise VideoError(f"{self.path}: cannot be read twice alike; copy it to a local disk")

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """The main stream's frames; packets that do not decode are left out.

        A decoder whose threads each take a frame tells of a damaged packet too late, and PyAV then loses the
        frames that came with it: from there on, the frames are decoded by one thread each. So are all frames
        of formats that may end anywhere: whether such a decoder marks the last one, which it has filled up
        where it lacked data, is a matter of chance.
        """
        given = 0
        for threads in ("AUTO", "SLICE") if self._tells_its_end() else ("SLICE",):
            skip, damaged = given, False
            for packet in self._rewound(threads):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    damaged = True
                    if threads == "AUTO":
                        break
                    self.lost += 1
                    continue
                for frame in frames[skip:]:
                    given += 1
                    yield frame
                skip = max(0, skip - len(frames))
            if not damaged:
                return

    def frames(self) -> Iterator[tuple[float | None, RGB]]:
        """(seconds on the file's clock, None where it states none; (H, W, 3) RGB upright, pixels as stored).

        Raises:
            VideoError: a frame cannot be converted to RGB.
        """
        convert, turns = ToRGB(self.path, self.codec, self._levels), Turns(self.path)
        aspect = pixel_aspect(self._stream.sample_aspect_ratio)
        self.lost = 0
        for frame in self._decoded():
            if frame.is_corrupt:
                self.lost += 1
                continue
            time = frame.pts if frame.pts is not None else frame.dts
            time_s = None if time is None else float(time * (frame.time_base or 1))
            turn = turns.of(frame)
            self.aspect = 1 / aspect if turn.transposed else aspect
            yield time_s, turn.apply(convert(frame))


class Turns:
    """How the frames of one clip lie; what cannot be done exactly is said once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._last = Orientation()
        self._said = False

    def of(self, frame: av.VideoFrame) -> Orientation:
        """The orientation that a frame's display matrix asks for."""
        seen = (frame.rotation, frame.width, frame.height)
        # A frame whose side data were asked for waits, with its picture, for Python's collector of cycles.
        if seen != self._seen:
            data: Any = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
            self._seen, self._last = seen, Orientation() if data is None else orientation(bytes(data))
        if self._last.off_degrees > _LEAST_OFF and not self._said:
            self._said = True
            warnings.warn(
                f"{self._path}: is to be turned by {self._last.off_degrees:.1f} degrees beside right angles; "
                "the nearest right angle is taken",
                stacklevel=2,
            )
        return self._last
