"""A folder of videos to a folder of tracks; ``TrackedClip`` is also inference's way to tracks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from amplify_motion_tokenizer.clips import MANIFEST, Clip, Summary, find_clips, run_clips
from amplify_motion_tokenizer.config import VELOCITY_KEYS, Config, changes, flatten, to_dict, track_settings
from amplify_motion_tokenizer.config_files import config_from_dict, load_yaml
from amplify_motion_tokenizer.datatypes import ClipInfo, Frame, FrameWindow, WindowTracks
from amplify_motion_tokenizer.errors import UsageError, VideoError
from amplify_motion_tokenizer.files import KeyedLines, make_output_folder, write_yaml
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.inputs import ViewTracks, from_tracks
from amplify_motion_tokenizer.stores import (
    INDEX_ENDING,
    ClipWriter,
    TrackFileWriter,
    VelocityFilesWriter,
    clip_record,
    is_complete,
)
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker
from amplify_motion_tokenizer.video import VIDEO_EXTENSIONS, open_video
from amplify_motion_tokenizer.windows import MotionGate, iter_windows

OUTPUT_CONFIG = "config.yaml"

Format = Literal["hdf5", "pt"]
FORMATS: tuple[Format, ...] = ("hdf5", "pt")


class TrackedClip:
    """One clip's way from video to the tracks of its windows, streamed.

    Iterate once over the ``WindowTracks``; the counts are final afterwards.

    Args:
        path: video file.
        config: sections video, tracking and data decide frames, windows and queries.
        tracker: made by ``make_tracker``, shared between clips.

    Attributes:
        info: rates and sizes of the open clip.
        num_frames: frames read so far.
        windows_dropped: still windows that the motion gate dropped so far.

    Raises:
        VideoError: the clip cannot be read, or has fewer than T frames.
    """

    def __init__(self, path: Path, config: Config, tracker: PointTracker) -> None:
        self._config = config
        self._tracker = tracker
        self._video = open_video(path, config.video)
        self.info: ClipInfo = self._video.info
        self.num_frames = 0
        self.windows_dropped = 0

    def __enter__(self) -> TrackedClip:
        return self

    def __exit__(self, *_: object) -> None:
        self._video.close()

    def __iter__(self) -> Iterator[WindowTracks]:
        config, length = self._config, self._config.tracked_length
        queries = query_grid(config.tracking.query_order, config.data.grid_size, self.info.size)
        windows = iter_windows(self._counted(self._video), length, config.tracking.window_stride)
        if config.tracking.gate.enable:
            windows = self._moving(windows)
        yield from self._tracker.track(windows, queries)
        if self.num_frames < length:
            key = "data.true_horizon" if config.data.true_horizon else "data.sequence_length"
            raise VideoError(
                f"{self.info.path}: has {self.num_frames} frames at {self.info.fps:g} fps, "
                f"expected at least {length} ({key})"
            )

    def _counted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.num_frames += 1
            yield frame

    def _moving(self, windows: Iterable[FrameWindow]) -> Iterator[FrameWindow]:
        gate = MotionGate(self._config.tracking.gate)
        for window in windows:
            if gate.moves(window):
                yield window
            else:
                self.windows_dropped += 1


def preprocess_folder(
    source: Path, output: Path, config: Config, output_format: Format = "hdf5", overwrite: bool = False
) -> Summary:
    """Tracks every clip below ``source`` and writes one track file for each below ``output``.

    Subfolders are kept. Clips whose file is complete are skipped, unless ``overwrite``; a failed
    clip is recorded in ``manifest.jsonl`` and does not stop the run. The resolved config is saved
    as ``config.yaml``.

    Raises:
        UsageError: nothing to do, output not writable, or ``output`` holds tracks of other settings.
        TrackerError: the tracker cannot start.
    """
    clips = find_clips(source, VIDEO_EXTENSIONS)
    make_output_folder(output)
    settings = _recorded_settings(config, output_format)
    tracker = make_tracker(config)
    _check_layout(output, output_format)
    if not overwrite:
        _check_same_settings(output, config, output_format)
    write_yaml(output / OUTPUT_CONFIG, to_dict(config))

    def complete(clip: Clip) -> bool:
        return not overwrite and is_complete(_target(output, clip, output_format), settings, clip.path)

    process = partial(_track_clip, output, config, tracker, settings, output_format)
    return run_clips(clips, KeyedLines(output / MANIFEST), complete, process)


def _recorded_settings(config: Config, output_format: Format) -> dict[str, Any]:
    settings = track_settings(config)
    if output_format == "pt":
        # Velocities on disk are already remapped and W-normalised, so these decide them too.
        flat = flatten(to_dict(config))
        settings |= {key: flat[key] for key in VELOCITY_KEYS}
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
    with TrackedClip(clip.path, config, tracker) as tracked:
        record = clip_record(tracked.info, settings, tracker.name)

        def velocities(window: WindowTracks) -> Tensor:
            tracks, visibility = (
                torch.from_numpy(array)[None] for array in (window.tracks_xy_px, window.visibility)
            )
            return from_tracks([ViewTracks(tracks, visibility, tracked.info.size)], config).velocities[0]

        writer: ClipWriter = (
            TrackFileWriter(target, record, tracked.info.size)
            if output_format == "hdf5"
            else VelocityFilesWriter(target, record, velocities)
        )
        with writer:
            for window in tracked:
                writer.append(window)
                windows += 1
            writer.finish(tracked.num_frames, tracked.windows_dropped)
    return {
        "output": target.relative_to(output).as_posix(),
        "windows": windows,
        "windows_dropped": tracked.windows_dropped,
        "frames": tracked.num_frames,
        "fps": tracked.info.fps,
        "seconds": round(time.perf_counter() - began, 3),
    }
