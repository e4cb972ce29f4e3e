"""Videos without an end, read as they come: cameras, pipes and streams of the network.

A thread of its own opens and decodes, so that whoever waits for a picture can be interrupted. Decoded
pictures wait in a queue of few places. When it is full, a pipe waits, and of a camera the oldest is dropped.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

import av
import numpy as np
from av.stream import Disposition

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.clips import RGB
from amplify_motion_tokenizer.video.colours import ToRGB, is_deep_gray
from amplify_motion_tokenizer.video.faults import check_pixels, is_encrypted
from amplify_motion_tokenizer.video.live_places import LivePlace, live_place
from amplify_motion_tokenizer.video.orientation import pixel_aspect
from amplify_motion_tokenizer.video.reading import SourceFrames, make_video
from amplify_motion_tokenizer.video.streams import Packets, Turns, check_holds_video
from amplify_motion_tokenizer.video.timing import Rate, rate_of

QUEUED = 8
"""Decoded pictures that wait at most until they are taken."""
_PROBED_S = 0.5
"""Seconds of pictures, three at least, that tell how often they come: less than most windows span ..."""
_PROBED = 64
"""... or so many packets, whichever is reached first."""

T = TypeVar("T")
Timed = tuple["float | None", RGB]
"""Seconds on the stream's clock, None where it states none; (H, W, 3) RGB, upright, pixels as stored."""


class LiveVideo:
    """An open live video; a context manager.

    Attributes:
        place: where it comes from.
        video: its frames, at the rate and size of the config.
    """

    def __init__(self, place: LivePlace, config: VideoConfig) -> None:
        """Opens ``place``, and waits for its first picture.

        Raises:
            VideoError: it cannot be opened, is no video, or states no frame rate.
        """
        self.place = place
        self._queue: _Queue[Timed] = _Queue(QUEUED, drops=not place.waits)
        self._reader = _Reader(place, config.threads, self._queue)
        self._reader.start()
        try:
            first = self._reader.first.result()
            self.video = make_video(
                SourceFrames(
                    Path(place.label),
                    "pyav",
                    first.rate,
                    first.stored_size,
                    iter(self._queue),
                    first.aspect,
                    close=self._queue.close,
                    live=True,
                ),
                config,
            )
        except BaseException:
            self._queue.close()
            raise

    @property
    def dropped(self) -> int:
        """Pictures so far that nobody took in time."""
        return self._queue.dropped

    @property
    def lost(self) -> int:
        """Pictures so far that came damaged, whether they were left out or decoded as well as it went."""
        return self._reader.lost

    def __enter__(self) -> LiveVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.video.close()


def open_live(source: str, config: VideoConfig) -> LiveVideo:
    """Opens the live video that ``source`` names; see ``live_place``.

    Raises:
        UsageError: nothing is there.
        VideoError: as ``LiveVideo``.
    """
    return LiveVideo(live_place(source), config)


class _Queue(Generic[T]):
    """Items on their way from one thread to another.

    Args:
        most: items that wait at most.
        drops: whether the oldest is dropped where one too many comes; else whoever puts it waits.
    """

    def __init__(self, most: int, drops: bool) -> None:
        self.dropped = 0
        self._most, self._drops = most, drops
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Adds an item; False where nobody will take it."""
        with self._changed:
            while len(self._items) >= self._most and not (self._drops or self._closed):
                self._changed.wait()
            if len(self._items) >= self._most:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return not self._closed

    def end(self, error: BaseException | None) -> None:
        """Says that no item comes any more; ``error`` is raised once all are taken."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Says that nobody takes items any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                while not (self._items or self._ended or self._closed):
                    self._changed.wait()
                if self._closed:
                    return
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


class _First(NamedTuple):
    """What is known once the first picture has come."""

    rate: Rate
    stored_size: tuple[int, int]
    aspect: float


class _Reader(threading.Thread):
    """Decodes a live video into a queue, until it ends or the queue is closed.

    It does not keep the process alive: reading may block for as long as nothing is sent.
    """

    def __init__(self, place: LivePlace, threads: int, queue: _Queue[Timed]) -> None:
        super().__init__(name="live_video", daemon=True)
        self.first: Future[_First] = Future()
        self._damaged_packets = self._damaged_frames = 0
        self._place, self._threads, self._queue = place, threads, queue
        self._silent = False  # packets without times, which a camera's arrival gives

    @property
    def lost(self) -> int:
        """Pictures so far that came damaged; the network tells of packets, the decoder of frames."""
        return max(self._damaged_packets, self._damaged_frames)

    def run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001, raised where pictures are taken
            self._fail(error)
        else:
            self._fail(None)

    def _fail(self, error: BaseException | None) -> None:
        if not self.first.done():
            lost = f" ({self.lost} packets could not be)" if self.lost else ""
            none = VideoError(f"{self._place.label}: ended before a picture could be decoded{lost}")
            self.first.set_exception(error or none)
        self._queue.end(error)

    def _read(self) -> None:
        with self._opened() as container:
            if self._place.patience_s is None:  # of an address that was given its lists are meant
                check_holds_video(container, self._place.label)
            stream = self._main(container)
            check_pixels(Path(self._place.label), (stream.height, stream.width))
            packets = self._packets(container.demux(stream))
            held, rate = self._probed(packets, float(stream.average_rate or stream.guessed_rate or 0))
            context = stream.codec_context
            context.thread_type, context.thread_count = (
                "SLICE",
                self._threads,
            )  # threads by frames hold some back
            convert, turns = ToRGB(Path(self._place.label), context.name), Turns(Path(self._place.label))
            aspect = pixel_aspect(stream.sample_aspect_ratio)
            for frame in self._frames(chain(held, packets)):
                turn = turns.of(frame)
                rgb = turn.apply(convert(frame))
                if not self.first.done():
                    size = (rgb.shape[0], rgb.shape[1])
                    self.first.set_result(_First(rate, size, 1 / aspect if turn.transposed else aspect))
                if not self._queue.put((self._time_s(frame), rgb)):
                    return

    def _opened(self) -> Any:
        place = self._place
        try:
            return av.open(
                place.url,
                format=place.format,
                options=place.options,
                timeout=place.patience_s,
                metadata_errors="replace",
            )
        except (av.InvalidDataError, av.EOFError, ValueError, IndexError) as error:
            raise VideoError(
                f"{place.label}: cannot be read as a video while it comes ({_reason(error)}); MPEG-TS, "
                "Matroska, Y4M and fragmented mp4 can, an mp4 whose index is at its end cannot"
            ) from None
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{place.label}: cannot be opened ({_reason(error)})") from None

    def _main(self, container: Any) -> Any:
        """The stream that is no cover, the default, and the largest, in this order."""
        streams = [
            each
            for each in container.streams.video
            if each.codec_context is not None and not each.disposition & Disposition.attached_pic
        ]
        if not streams:
            raise VideoError(f"{self._place.label}: holds no video stream that can be decoded")

        def rank(stream: Any) -> tuple[int, ...]:
            context = stream.codec_context
            default = bool(stream.disposition & Disposition.default)
            return default, context.width * context.height, -stream.index

        best = max(streams, key=rank)
        if is_deep_gray(best.codec_context.format):
            raise VideoError(
                f"{self._place.label}: holds {best.codec_context.format.name}, whose range of levels is "
                "known only at its end; give a file of it as --input"
            )
        return best

    def _packets(self, packets: Iterator[Any]) -> Iterator[Any]:
        """The stream's packets.

        Raises:
            VideoError: the connection dropped, or what comes is damaged or encrypted.
        """
        last = None
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                if last is not None and last.is_corrupt:
                    raise VideoError(f"{self._place.label}: broke off within a picture") from None
                return
            except (av.FFmpegError, OSError) as error:
                raise VideoError(f"{self._place.label}: broke off ({_reason(error)})") from None
            if packet.size and is_encrypted(packet):
                raise VideoError(f"{self._place.label}: is encrypted (DRM), and no picture can be decoded")
            last = packet if packet.size else last
            yield packet

    def _probed(self, packets: Iterator[Any], stated_fps: float) -> tuple[list[Any], Rate]:
        """The first packets, and how often pictures come by them."""
        held: list[Any] = []
        times, shown = Packets(), np.empty(0)
        for packet in packets:
            held.append(packet)
            if packet.size:
                times.add(packet)
                shown, decoded_s = times.times_s, times.dts_s[-1]
                # Pictures that are shown later than this packet is decoded may come in between yet.
                shown = shown if math.isnan(decoded_s) else shown[shown <= decoded_s]
            if len(held) >= _PROBED or (len(shown) > 2 and shown[-1] - shown[0] >= _PROBED_S):
                break
        else:
            shown = times.times_s
        self._silent = not len(shown)
        rate = rate_of(shown, stated_fps)
        if rate is None:
            raise VideoError(f"{self._place.label}: states no frame rate; send it in a container that does")
        # A sender that does not wait may lose pictures: what is on screen is then told by their times.
        return held, rate if self._place.waits else rate._replace(even=False)

    def _frames(self, packets: Iterator[Any]) -> Iterator[av.VideoFrame]:
        for packet in packets:
            self._damaged_packets += packet.is_corrupt
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._damaged_frames += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._damaged_frames += 1
                else:
                    yield frame

    def _time_s(self, frame: av.VideoFrame) -> float | None:
        time_stated = frame.pts if frame.pts is not None else frame.dts
        if self._silent and not self._place.waits:
            return time.monotonic()
        return None if time_stated is None else float(time_stated * (frame.time_base or 1))


def _reason(error: Exception) -> str:
    """What FFmpeg says, without the address."""
    if isinstance(error, av.ExitError):
        return "nothing came in time"
    return getattr(error, "strerror", None) or type(error).__name__
