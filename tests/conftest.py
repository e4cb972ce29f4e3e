"""Small data that tests share: a tiny config, and track files with known motion."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.config_files import config_from_dict
from amplify_motion_tokenizer.datatypes import WindowTracks
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.stores import ClipRecord, TrackFileWriter

# The models here are too small to share between threads.
torch.set_num_threads(1)

TINY = {
    "video": {"target_fps": 10, "resize_shorter": 48},
    "tracking": {"window_stride": 2},
    "data": {
        "sequence_length": 6,
        "grid_size": 3,
        "reference_size": {"shorter": 48},
        "val_split": 0.25,
        "static_filter": {"min_keep": 2},
    },
    "model": {
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 16,
        "dropout": 0.0,
        "encoder_sequence_len": 3,
        "fsq_levels": [5, 4],
        "decoder_window_size": 7,
    },
    "training": {
        "batch_size": 4,
        "epochs": 2,
        "mixed_precision": "no",
        "num_workers": 0,
        "log_every_steps": 1,
        "save_every_epochs": 1,
    },
}


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its precision for the whole process; each test chooses its own."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def tiny() -> Config:
    """A config whose model trains in milliseconds."""
    return config_from_dict(TINY, "in the tests")


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


@pytest.fixture
def write_tracks(tiny: Config) -> Callable[..., Path]:
    """Writes a track file of random windows: ``write_tracks(path, count, seed=0, size=(48, 64))``."""

    def write(
        path: Path, count: int, seed: int = 0, size: tuple[int, int] = (48, 64), config: Config = tiny
    ) -> Path:
        with TrackFileWriter(path, clip_record_of(config), size) as writer:
            for window in random_windows(config, count, seed, size):
                writer.append(window)
            writer.finish(num_frames=count * 2 + 4, windows_dropped=0)
        return path

    return write
