"""One clip from video to tracks, for preprocessing and inference alike."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.jobs.read_ahead import read_ahead
from amplify_motion_tokenizer.jobs.stage_times import StageTimes
from amplify_motion_tokenizer.letterbox import Letterbox, content_grid
from amplify_motion_tokenizer.trackers import PointTracker
from amplify_motion_tokenizer.trackers.gate import MotionGate
from amplify_motion_tokenizer.trackers.rounding import rounded
from amplify_motion_tokenizer.trackers.windows import FrameWindow, WindowTracks, iter_windows
from amplify_motion_tokenizer.video.clips import Clip, ClipInfo, Frame
from amplify_motion_tokenizer.video.pixels import small_frame
from amplify_motion_tokenizer.video.reading import Video
from amplify_motion_tokenizer.video.sources import open_views

_LEAST_AHEAD = 4
"""Frames decoded ahead; more only hold memory where frames are tracked one by one."""


class TrackedClip:
    """One clip's way from video to the tracks of its windows, streamed, all views together.

    Frames are decoded ahead while those before them are tracked; of a live video they are taken as they come,
    and a tracker that can is done with a window when its last frame has come. Iterate once: each window is a
    tuple with its ``WindowTracks`` in each view, all with the same start. The counts are final afterwards.

    Args:
        clip: the clip, with the files of its views; or its views, open, by name, which it closes.
        config: sections video, tracking and data decide frames, windows and queries.
        tracker: made by ``make_tracker``, shared between clips.

    Attributes:
        infos: rates and sizes of the open views, by name; where pictures change their size, of the first.
        num_frames: frames read so far, of each view; the clip ends with its shortest view.
        windows_dropped: still windows that the motion gate dropped so far.
        times: time spent so far on open, read (waiting for frames), gate and track; users add their own.

    Raises:
        VideoError: a view cannot be read, or has fewer than T frames (with ``tracking.pad_end: repeat_last``
            none).
    """

    def __init__(self, clip: Clip | Mapping[str, Video], config: Config, tracker: PointTracker) -> None:
        self._config = config
        self._tracker = tracker
        self.times = StageTimes()
        with self.times.stage("open"):
            views, self._videos = (
                (list(clip.views), open_views(clip, config.video))
                if isinstance(clip, Clip)
                else (list(clip), list(clip.values()))
            )
        live = any(video.live for video in self._videos)
        self._announces = live and tracker.takes_announced
        self._rows = self._decoded() if live else read_ahead(self._decoded(), self._frames_ahead())
        self.infos: dict[str, ClipInfo] = {
            view: video.info for view, video in zip(views, self._videos, strict=True)
        }
        self.num_frames = 0
        self.windows_dropped = 0

    @property
    def info(self) -> ClipInfo:
        """Rates and sizes of the first view."""
        return self._videos[0].info

    @property
    def findings(self) -> dict[str, Any]:
        """Oddities of the clip for the manifest, by view; empty where there are none.

        ``frames_missing`` has the numbers of frames stated and read of a view that ended early. ``parts``
        lists where a view that is cut goes on: frame of the source, seconds, reason; and the size (height,
        width) of pictures that have another one than the first.
        """
        views = dict(zip(self.infos, self._videos, strict=True))
        short = {
            view: {"stated": round(video.frame_count.stated), "read": video.frame_count.read}
            for view, video in views.items()
            if video.frame_count is not None and video.frame_count.short
        }
        parts = {
            view: [
                {
                    "source_frame": part.source_frame,
                    "seconds": round(part.time_s, 6),
                    "cut": part.cut,
                    **({} if part.size == video.info.source_size else {"size": list(part.size)}),
                }
                for part in video.parts
            ]
            for view, video in views.items()
            if len(video.parts) > 1
        }
        return ({"frames_missing": short} if short else {}) | ({"parts": parts} if parts else {})

    @property
    def parts(self) -> list[int]:
        """The frame of the first view's source at which each part that was reached begins, ascending."""
        return [part.source_frame for part in self._videos[0].parts]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each view's tracked frames."""
        return [info.size for info in self.infos.values()]

    def __enter__(self) -> TrackedClip:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        for video in self._videos:
            video.close()

    def __iter__(self) -> Iterator[tuple[WindowTracks, ...]]:
        """The windows of all stretches."""
        for _, windows in self.stretches():
            yield from windows

    def stretches(self) -> Iterator[tuple[dict[str, ClipInfo], Iterator[tuple[WindowTracks, ...]]]]:
        """The clip in stretches of pictures of one size, mostly a single one, in order.

        Yields:
            What is known of each view there, by name, and the windows, to be read up before the next stretch.
        """

        def sizes(row: tuple[Frame, ...]) -> tuple[tuple[int, int], ...]:
            return tuple(frame.source_size for frame in row)

        for found, rows in groupby(self._frames(), sizes):
            infos = {
                view: video.info_of(size)
                for view, video, size in zip(self.infos, self._videos, found, strict=True)
            }
            yield infos, self._windows(rows, infos, self.num_frames - 1)

    def _windows(
        self, rows: Iterator[tuple[Frame, ...]], infos: dict[str, ClipInfo], begin: int
    ) -> Iterator[tuple[WindowTracks, ...]]:
        """The windows of a stretch whose first row of frames is the clip's row ``begin``."""
        config, views = self._config, len(infos)
        length, stride = config.tracked_length, config.tracking.window_stride
        per_view = (
            iter_windows(frames, length, stride, config.tracking.pads_end, begin, self._announces)
            for frames in _columns(rows, views)
        )
        windows: Iterator[tuple[FrameWindow, ...]] = zip(*per_view, strict=True)
        if config.tracking.gate.enable:
            windows = self._moving(windows, [info.letterbox for info in infos.values()])
        tracks = (
            self._tracked(column, info)
            for column, info in zip(_columns(windows, views), infos.values(), strict=True)
        )
        yield from self.times.each("track", zip(*tracks, strict=True))

    def _tracked(self, windows: Iterable[FrameWindow], info: ClipInfo) -> Iterator[WindowTracks]:
        """One view's tracks, with what the windows say of their frames; rounded as ``tracking.store`` asks.

        First frames come along when ``tracking.first_frames`` asks for them.
        """
        side = self._config.tracking.first_frames
        is_rounded = self._config.tracking.store != "float32"
        # A tracker reads ahead by some windows, and yields in their order.
        waiting: deque[dict[str, Any]] = deque()

        def watched() -> Iterator[FrameWindow]:
            for window in windows:
                if not window.whole:
                    yield window
                    continue
                facts = {
                    "step_seconds": window.step_seconds,
                    "source_frames": window.source_frames,
                    "padding": window.padding,
                }
                first = None if side is None else small_frame(window.frames[0], side)
                waiting.append(facts | {"first_frame": first})
                yield window

        for tracks in self._track_content(watched(), info):
            told = dataclasses.replace(tracks, **waiting.popleft())
            yield rounded(told) if is_rounded else told

    def _track_content(self, windows: Iterable[FrameWindow], info: ClipInfo) -> Iterator[WindowTracks]:
        """Tracks in pixels of the padded frame, found in the picture without its padding.

        The padding stands still, and a point that reaches it has left the picture.
        """
        queries, box = self._queries(info), info.letterbox
        pad_xy = np.array([box.pad_left, box.pad_top], np.float32)
        if not pad_xy.any():
            yield from self._tracker.track(windows, queries)
            return
        contents = (_content(window, box) for window in windows)
        for tracks in self._tracker.track(contents, queries - pad_xy):
            yield dataclasses.replace(tracks, tracks_xy_px=tracks.tracks_xy_px + pad_xy)

    def _frames_ahead(self) -> int:
        """Frames of each view to decode ahead: what the tracker's next batch of windows adds."""
        return max(_LEAST_AHEAD, self._config.tracking.window_stride * self._tracker.windows_ahead)

    def _queries(self, info: ClipInfo) -> NDArray[np.float32]:
        return content_grid(self._config.tracking.query_order, self._config.data.grid_size, info.letterbox)

    def _frames(self) -> Iterator[tuple[Frame, ...]]:
        for row in self.times.each("read", self._rows):
            self.num_frames += 1
            yield row

    def _decoded(self) -> Generator[tuple[Frame, ...], None, None]:
        """One frame of each view at a time, all of one tick, up to the end of the shortest.

        Raises:
            VideoError: the clip ends before its first window does.
        """
        streams = [iter(video) for video in self._videos]
        cut = _Cuts()
        while None not in (row := _row(streams)):
            yield cut.numbered(row)
        self._check_length(cut, self._videos[row.index(None)].info)

    def _check_length(self, cut: _Cuts, shortest: ClipInfo) -> None:
        length = 1 if self._config.tracking.pads_end else self._config.tracked_length
        if cut.longest >= length:
            return
        key = "data.true_horizon" if self._config.data.true_horizon else "data.sequence_length"
        where = f" in the longest of its {cut.parts} parts" if cut.parts > 1 else ""
        raise VideoError(
            f"{shortest.source}: has {cut.longest} frames at {shortest.fps:g} fps{where}, "
            f"expected at least {length} ({key}), or tracking.pad_end: repeat_last"
        )

    def _moving(
        self, windows: Iterable[tuple[FrameWindow, ...]], boxes: Sequence[Letterbox]
    ) -> Iterator[tuple[FrameWindow, ...]]:
        """The windows in which at least one view moves."""
        gates = [MotionGate() for _ in boxes]
        for views in windows:
            if not views[0].whole:
                yield views
                continue
            # The gate judges shares of the frame, to which padding must not count.
            contents = map(_content, views, boxes)
            with self.times.stage("gate"):
                moves = any(gate.moves(content) for gate, content in zip(gates, contents, strict=True))
            if moves:
                yield views
            else:
                self.windows_dropped += 1


class _Cuts:
    """Numbers the parts of a clip, which end where a part of any of its views ends.

    Attributes:
        parts: number of parts so far.
        longest: number of frames of the longest part.
    """

    def __init__(self) -> None:
        self.parts, self.longest = 0, 0
        self._before: list[int] = []
        self._frames = 0

    def numbered(self, row: Sequence[Frame | None]) -> tuple[Frame, ...]:
        """``row``, a frame of each view, with the number of their common part."""
        frames = [frame for frame in row if frame is not None]
        parts = [frame.part for frame in frames]
        if parts != self._before:
            self._before, self._frames, self.parts = parts, 0, self.parts + 1
        self._frames += 1
        self.longest = max(self.longest, self._frames)
        return tuple(dataclasses.replace(frame, part=self.parts - 1) for frame in frames)


def _row(streams: Sequence[Iterator[Frame]]) -> list[Frame | None]:
    """The next frame of each view, all of one tick; None of a view that has ended."""
    row = [next(stream, None) for stream in streams]
    while len(row) > 1 and None not in row:
        ticks = [frame.tick for frame in row if frame is not None]
        if min(ticks) == max(ticks):
            break
        for view, tick in enumerate(ticks):
            if tick < max(ticks):
                row[view] = next(streams[view], None)
    return row


def _content(window: FrameWindow, box: Letterbox) -> FrameWindow:
    """``window`` without its padding; the pixels are shared."""
    return dataclasses.replace(window, frames=[frame[box.content] for frame in window.frames])


T = TypeVar("T")


def _columns(rows: Iterator[tuple[T, ...]], count: int) -> list[Iterator[T]]:
    """The ``count`` columns of a stream of rows.

    Rows that one column has passed and another has not are held, and no others; ``itertools.tee`` would
    hold up to 57 rows more.
    """
    waiting: list[deque[T]] = [deque() for _ in range(count)]

    def fill() -> bool:
        row = next(rows, ())
        for queue, item in zip(waiting, row, strict=False):
            queue.append(item)
        return bool(row)

    def column(own: deque[T]) -> Iterator[T]:
        while own or fill():
            yield own.popleft()

    return [column(own) for own in waiting]
