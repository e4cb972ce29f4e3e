"""A folder of videos to a folder of tracks; ``TrackedClip`` is also inference's way to tracks."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.clips import MANIFEST, Clip, Process, Summary, Workers, run_clips
from amplify_motion_tokenizer.config import VELOCITY_KEYS, Config, changes, flatten, to_dict, track_settings
from amplify_motion_tokenizer.config.files import OUTPUT_CONFIG, config_from_dict, load_yaml
from amplify_motion_tokenizer.datatypes import ClipInfo, Frame, FrameWindow, WindowTracks
from amplify_motion_tokenizer.errors import ConfigError, UsageError, VideoError
from amplify_motion_tokenizer.files import KeyedLines, remove_leftovers, write_yaml
from amplify_motion_tokenizer.geometry import Letterbox, content_grid
from amplify_motion_tokenizer.inputs import ViewTracks, from_tracks
from amplify_motion_tokenizer.output_folders import open_output_folder
from amplify_motion_tokenizer.read_ahead import read_ahead
from amplify_motion_tokenizer.records import ClipWriter, clip_record
from amplify_motion_tokenizer.sources import find_clips, model_views, open_views, tracked_views
from amplify_motion_tokenizer.stage_times import StageTimes
from amplify_motion_tokenizer.stores import is_complete
from amplify_motion_tokenizer.track_files import TrackFileWriter
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker, record_weights
from amplify_motion_tokenizer.velocity_files import INDEX_ENDING, VelocityFilesWriter
from amplify_motion_tokenizer.windows import MotionGate, iter_windows, small_frame
from amplify_motion_tokenizer.workers import available_cores, cleaned_up

Format = Literal["hdf5", "pt"]
FORMATS: tuple[Format, ...] = ("hdf5", "pt")

_LEAST_AHEAD = 4
"""Frames decoded ahead; more only hold memory where frames are tracked one by one."""


class TrackedClip:
    """One clip's way from video to the tracks of its windows, streamed, all views together.

    Frames are decoded ahead while those before them are tracked. Iterate once: each window is a tuple with
    its ``WindowTracks`` in each view, all with the same start. The counts are final afterwards.

    Args:
        clip: its views' files.
        config: sections video, tracking and data decide frames, windows and queries.
        tracker: made by ``make_tracker``, shared between clips.

    Attributes:
        infos: rates and sizes of the open views, by name.
        num_frames: frames read so far, of each view; the clip ends with its shortest view.
        windows_dropped: still windows that the motion gate dropped so far.
        times: time spent so far on open, read (waiting for frames), gate and track; users add their own.

    Raises:
        VideoError: a view cannot be read, or has fewer than T frames.
    """

    def __init__(self, clip: Clip, config: Config, tracker: PointTracker) -> None:
        self._config = config
        self._tracker = tracker
        self.times = StageTimes()
        with self.times.stage("open"):
            self._videos = open_views(clip, config.video)
        self._rows = read_ahead(self._decoded(), _frames_ahead(config))
        self.infos: dict[str, ClipInfo] = {
            view: video.info for view, video in zip(clip.views, self._videos, strict=True)
        }
        self.num_frames = 0
        self.windows_dropped = 0

    @property
    def info(self) -> ClipInfo:
        """That of the first view."""
        return self._videos[0].info

    @property
    def shortfall(self) -> dict[str, Any]:
        """What the manifest tells of damage: of each view that ended early, its frames stated and read."""
        short = {
            view: {"stated": round(video.frame_count.stated), "read": video.frame_count.read}
            for view, video in zip(self.infos, self._videos, strict=True)
            if video.frame_count is not None and video.frame_count.short
        }
        return {"frames_missing": short} if short else {}

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
        config, views = self._config, len(self._videos)
        length, stride = config.tracked_length, config.tracking.window_stride
        per_view = (iter_windows(frames, length, stride) for frames in _columns(self._frames(), views))
        windows: Iterator[tuple[FrameWindow, ...]] = zip(*per_view, strict=True)
        if config.tracking.gate.enable:
            windows = self._moving(windows)
        tracks = (
            self._tracked(column, info)
            for column, info in zip(_columns(windows, views), self.infos.values(), strict=True)
        )
        yield from self.times.each("track", zip(*tracks, strict=True))

    def _tracked(self, windows: Iterable[FrameWindow], info: ClipInfo) -> Iterator[WindowTracks]:
        """One view's tracks, with first frames when ``tracking.first_frames`` asks for them."""
        side = self._config.tracking.first_frames
        if side is None:
            return self._track_content(windows, info)
        # A tracker reads ahead by some windows, and yields in their order.
        waiting: deque[NDArray[np.uint8]] = deque()

        def watched() -> Iterator[FrameWindow]:
            for window in windows:
                waiting.append(small_frame(window.frames[0], side))
                yield window

        return (
            dataclasses.replace(tracks, first_frame=waiting.popleft())
            for tracks in self._track_content(watched(), info)
        )

    def _track_content(self, windows: Iterable[FrameWindow], info: ClipInfo) -> Iterator[WindowTracks]:
        """Tracks in pixels of the padded frame, found without the padding.

        Padding stands still, and what reaches it has left the picture.
        """
        queries, box = self._queries(info), info.letterbox
        pad_xy = np.array([box.pad_left, box.pad_top], np.float32)
        if not pad_xy.any():
            yield from self._tracker.track(windows, queries)
            return
        contents = (_content(window, box) for window in windows)
        for tracks in self._tracker.track(contents, queries - pad_xy):
            yield dataclasses.replace(tracks, tracks_xy_px=tracks.tracks_xy_px + pad_xy)

    def _queries(self, info: ClipInfo) -> NDArray[np.float32]:
        return content_grid(self._config.tracking.query_order, self._config.data.grid_size, info.letterbox)

    def _frames(self) -> Iterator[tuple[Frame, ...]]:
        for row in self.times.each("read", self._rows):
            self.num_frames += 1
            yield row

    def _decoded(self) -> Iterator[tuple[Frame, ...]]:
        """One frame of each view at a time, up to the end of the shortest.

        Raises:
            VideoError: it ends before the first window.
        """
        streams = [iter(video) for video in self._videos]
        for count in itertools.count():
            row: list[Frame] = []
            for stream in streams:
                frame = next(stream, None)
                if frame is None:
                    return self._check_length(count, self._videos[len(row)].info)
                row.append(frame)
            yield tuple(row)

    def _check_length(self, count: int, shortest: ClipInfo) -> None:
        length = self._config.tracked_length
        if count < length:
            key = "data.true_horizon" if self._config.data.true_horizon else "data.sequence_length"
            raise VideoError(
                f"{shortest.path}: has {count} frames at {shortest.fps:g} fps, "
                f"expected at least {length} ({key})"
            )

    def _moving(self, windows: Iterable[tuple[FrameWindow, ...]]) -> Iterator[tuple[FrameWindow, ...]]:
        """The windows in which at least one view moves."""
        gates = [MotionGate(self._config.tracking.gate) for _ in self._videos]
        boxes = [video.info.letterbox for video in self._videos]
        for views in windows:
            # The gate judges shares of the frame, to which padding must not count.
            contents = map(_content, views, boxes)
            with self.times.stage("gate"):
                moves = any(gate.moves(content) for gate, content in zip(gates, contents, strict=True))
            if moves:
                yield views
            else:
                self.windows_dropped += 1


def _frames_ahead(config: Config) -> int:
    """Frames of each view to decode ahead: what a neural tracker's next batch of windows adds."""
    return max(_LEAST_AHEAD, config.tracking.window_stride * config.tracking.cotracker.window_batch_size)


def _content(window: FrameWindow, box: Letterbox) -> FrameWindow:
    """``window`` without its padding; the pixels are shared."""
    return dataclasses.replace(window, frames=[frame[box.content] for frame in window.frames])


T = TypeVar("T")


def _columns(rows: Iterator[tuple[T, ...]], count: int) -> list[Iterator[T]]:
    """The ``count`` columns of a stream of rows.

    What one column is ahead of another is held, and nothing that all have passed; ``itertools.tee``
    would hold up to 57 rows more.
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


def stack_views(
    windows: Sequence[tuple[WindowTracks, ...]], sizes: Sequence[tuple[int, int]]
) -> list[ViewTracks]:
    """Windows of a ``TrackedClip`` as the batch, an entry for each view, that ``from_tracks`` takes."""
    return [
        ViewTracks(
            torch.from_numpy(np.stack([window.tracks_xy_px for window in column])),
            torch.from_numpy(np.stack([window.visibility for window in column])),
            size,
            _stack_frames(column),
        )
        for column, size in zip(zip(*windows, strict=True), sizes, strict=True)
    ]


def _stack_frames(windows: Sequence[WindowTracks]) -> Tensor | None:
    """(B, h, w, 3) uint8; None where no first frames are kept."""
    frames = [window.first_frame for window in windows if window.first_frame is not None]
    return torch.from_numpy(np.stack(frames)) if frames else None


def preprocess_folder(
    source: Path, output: Path, config: Config, output_format: Format = "hdf5", overwrite: bool = False
) -> Summary:
    """Tracks every clip below ``source`` and writes one track file for each below ``output``.

    A track file holds every view of its clip; velocity files hold the one that the model takes.
    Subfolders are kept. Clips whose file is complete are skipped, unless ``overwrite``; a failed
    clip is recorded in ``manifest.jsonl`` and does not stop the run. The resolved config is saved
    as ``config.yaml``. Clips run side by side in ``tracking.num_workers`` processes, with equal tracks; a
    script that calls this needs ``if __name__ == "__main__":`` then, as they import it.

    Raises:
        UsageError: nothing to do, output not writable, or ``output`` holds tracks of other settings, or what
            another command wrote.
        ConfigError: velocity files are asked for, and not for one view of a keypoint model; or with first
            frames or ``data.true_horizon``, which take frames or positions that they do not hold.
        TrackerError: the tracker cannot start.
    """
    views = tracked_views(config) if output_format == "hdf5" else _velocity_view(config)
    clips = find_clips(source, config, views)
    open_output_folder(output, "tracks")
    tracker = make_tracker(config)
    config = record_weights(config, tracker)
    settings = _recorded_settings(config, output_format)
    _check_layout(output, output_format)
    if not overwrite:
        _check_same_settings(output, config, output_format)
    write_yaml(output / OUTPUT_CONFIG, to_dict(config))

    def complete(clip: Clip) -> bool:
        return not overwrite and is_complete(_target(output, clip, output_format), settings, *clip.paths)

    process = partial(_track_clip, output, config, tracker, settings, output_format)
    workers = Workers(_num_workers(config), partial(_in_worker, output, config, settings, output_format))
    with cleaned_up(partial(remove_leftovers, output, own=True)):
        return run_clips(clips, KeyedLines(output / MANIFEST), complete, process, workers)


def _num_workers(config: Config) -> int:
    """One per core, or a lone one for a neural tracker, which has its device to itself."""
    if config.tracking.num_workers is not None:
        return config.tracking.num_workers
    return available_cores() if config.tracking.tracker == "flow" else 1


def _in_worker(
    output: Path, config: Config, settings: dict[str, Any], output_format: Format, threads: int
) -> Process:
    """What a worker process does with each clip, on ``threads`` threads and no more."""
    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)
    video = dataclasses.replace(config.video, threads=min(config.video.threads, threads))
    config = dataclasses.replace(config, video=video)
    return partial(_track_clip, output, config, make_tracker(config), settings, output_format)


def _velocity_view(config: Config) -> list[str]:
    if config.model.name != "keypoint":
        raise ConfigError(f"velocity files suit model.name keypoint alone, not {config.model.name}; use hdf5")
    if config.tracking.first_frames is not None:
        raise ConfigError("velocity files hold no frames; use hdf5, or tracking.first_frames: null")
    if config.tracked_length != config.data.sequence_length:
        raise ConfigError(
            "velocity files hold no positions, which alone can be resampled in time; use hdf5, or "
            "data.true_horizon: null"
        )
    return model_views(config)


def _recorded_settings(config: Config, output_format: Format) -> dict[str, Any]:
    settings = track_settings(config)
    if output_format == "pt":
        # Velocities on disk are already remapped and W-normalised, of one view, so these decide them too.
        flat = flatten(to_dict(config))
        settings |= {key: flat[key] for key in (*VELOCITY_KEYS, "data.views")}
    return settings


def _check_layout(output: Path, output_format: Format) -> None:
    """Refuses to mix the two layouts in one folder."""
    other = f"*{INDEX_ENDING}" if output_format == "hdf5" else "*.hdf5"
    if next(output.rglob(other), None) is not None:
        raise UsageError(f"{output} holds tracks of the other --format; choose another --output")


def _check_same_settings(output: Path, config: Config, output_format: Format) -> None:
    """Refuses to mix tracks of different settings in one folder."""
    path = output / OUTPUT_CONFIG
    if not path.exists():
        return
    before = _recorded_settings(config_from_dict(load_yaml(path), f"in {path}"), output_format)
    now = _recorded_settings(config, output_format)
    changed = changes(before, now)
    if changed:
        raise UsageError(
            f"{output} was made with other settings ({'; '.join(changed)}); "
            "give --overwrite to redo every clip, or another --output"
        )


def _target(output: Path, clip: Clip, output_format: Format) -> Path:
    return output / f"{clip.name}{'.hdf5' if output_format == 'hdf5' else INDEX_ENDING}"


def _track_clip(
    output: Path,
    config: Config,
    tracker: PointTracker,
    settings: dict[str, Any],
    output_format: Format,
    clip: Clip,
) -> dict[str, Any]:
    began, windows = time.perf_counter(), 0
    target = _target(output, clip, output_format)
    with TrackedClip(clip, config, tracker) as tracked:
        record = clip_record(list(tracked.infos.values()), settings, tracker.name)

        def velocities(*views: WindowTracks) -> Tensor:
            return from_tracks(stack_views([views], tracked.sizes), config).velocities[0]

        writer: ClipWriter = (
            TrackFileWriter(target, record, tracked.infos)
            if output_format == "hdf5"
            else VelocityFilesWriter(target, record, velocities)
        )
        with tracked.times.stage("write"), writer:
            for window in tracked:
                writer.append(*window)
                windows += 1
            writer.finish(tracked.num_frames, tracked.windows_dropped)
    return {
        "output": target.relative_to(output).as_posix(),
        "windows": windows,
        "windows_dropped": tracked.windows_dropped,
        "frames": tracked.num_frames,
        "fps": tracked.info.fps,
        "seconds": round(time.perf_counter() - began, 3),
        "stage_seconds": tracked.times.rounded(),
        **tracked.shortfall,
    }
