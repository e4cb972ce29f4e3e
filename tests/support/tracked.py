"""Tracks whose motion is known, and the files that hold them."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import Config, track_settings, velocity_settings
from amplify_motion_tokenizer.data.inputs import from_tracks
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.trackers.windows import FrameWindow, WindowTracks
from amplify_motion_tokenizer.tracks.record import ClipRecord
from amplify_motion_tokenizer.tracks.velocity_files import VelocityFilesWriter


def clip_record_of(config: Config, name: str = "clip.mp4") -> ClipRecord:
    return ClipRecord(
        settings=track_settings(config),
        tracker="test",
        reader="test",
        fps=10.0,
        source_fps=30.0,
        source_height=96,
        source_width=128,
        source_name=name,
        source_bytes=1,
    )


def random_windows(config: Config, count: int, seed: int, size: tuple[int, int]) -> list[WindowTracks]:
    """Windows whose points move steadily, each point with its own velocity of up to 3 px a step."""
    rng = np.random.default_rng(seed)
    queries = query_grid(config.tracking.query_order, config.data.grid_size, size)
    steps = np.arange(config.data.sequence_length)[:, None, None]
    windows = []
    for number in range(count):
        velocity = rng.uniform(-3, 3, (len(queries), 2))
        tracks = (queries + steps * velocity).astype(np.float32)
        visibility = np.ones(tracks.shape[:2], np.float32)
        windows.append(WindowTracks(number * config.tracking.window_stride, number * 0.2, tracks, visibility))
    return windows


def windows_of(video: Iterable[NDArray[np.uint8]], stride: int = 1, steps: int = 16) -> Iterator[FrameWindow]:
    """The windows of a clip at 20 fps."""
    frames = list(video)
    starts = range(0, len(frames) - steps + 1, stride)
    return (FrameWindow(start, start / 20, frames[start : start + steps]) for start in starts)


SIZE = (48, 64)


def write_velocities(path: Path, config: Config, count: int) -> None:
    record = dataclasses.replace(
        clip_record_of(config),
        settings=track_settings(config) | velocity_settings(config),
    )

    def velocities(window):  # type: ignore[no-untyped-def]
        tracks, visible = (torch.from_numpy(a)[None] for a in (window.tracks_xy_px, window.visibility))
        return from_tracks([ViewTracks(tracks, visible, SIZE)], config).velocities[0]

    with VelocityFilesWriter(path, record, velocities) as writer:
        for window in random_windows(config, count, 0, SIZE):
            writer.append(window)
        writer.finish(10, 0)
