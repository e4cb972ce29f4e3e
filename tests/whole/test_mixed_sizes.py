"""Clips that were tracked at different sizes, in one data set: each is rescaled by its own."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.tracks.pack_writing import write_pack

SIZES = {"a": (480, 640), "b": (240, 320), "c": (960, 1280), "d": None}
REFERENCE = (240, 320)
WINDOWS = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Each clip has the same motion in reference pixels; ``pack`` holds what ``tracks`` does."""
    rng = np.random.default_rng(0)
    start, moves = rng.uniform(60, 180, (WINDOWS, 1, 9, 2)), rng.uniform(-3, 3, (WINDOWS, 5, 9, 2))
    (tmp_path / "tracks").mkdir()
    for name, size in SIZES.items():
        with h5py.File(tmp_path / f"tracks/{name}.hdf5", "w") as file:
            group = file.create_group("root/default")
            if size is not None:
                group.attrs.update(height=size[0], width=size[1])
            scale = 1 if size is None else size[0] / REFERENCE[0]
            group["tracks"] = ((start + moves.cumsum(axis=1)) * scale).astype(np.float32)
            group["vis"] = np.ones((WINDOWS, 5, 9), np.float32)
    clips = find_tracks(tmp_path / "tracks")
    write_pack({k: clip for k, clip in clips.items() if isinstance(clip, TrackFile)}, tmp_path / "pack")
    return tmp_path


@pytest.mark.parametrize("stored", ["tracks", "pack"])
@pytest.mark.parametrize("model", ["keypoint", "amplify"])
def test_equal_motion_at_any_size_is_equal_input(folder: Path, stored: str, model: str) -> None:
    data = {
        "sequence_length": 5,
        "grid_size": 3,
        "reference_size": REFERENCE,
        "static_filter": {"min_keep": 0},
    }
    config = config_from_dict({"model": {"name": model}, "data": data}, "in the test")
    clips = WindowDataset(load_clips(folder / stored, config), config)
    order = np.random.default_rng(1).permutation(len(clips)).tolist()
    inputs = clips.batch(order).inputs
    for at, index in enumerate(order):
        alike = order.index(index % WINDOWS)  # the same window of the first clip
        torch.testing.assert_close(inputs.velocities[at], inputs.velocities[alike], atol=2e-3, rtol=0)
        torch.testing.assert_close(inputs.tracks_rc_norm[at], inputs.tracks_rc_norm[alike], atol=2e-3, rtol=0)
        assert inputs.size_px[at].tolist() == inputs.size_px[alike].tolist()
    assert inputs.velocities.abs().max() > 0.01


@pytest.mark.parametrize("reference", [REFERENCE, None])
def test_sizes_that_nothing_brings_to_one_are_told(
    folder: Path, reference: tuple[int, int] | None, caplog: pytest.LogCaptureFixture
) -> None:
    data = {
        "sequence_length": 5,
        "grid_size": 3,
        "reference_size": reference,
        "static_filter": {"min_keep": 0},
    }
    load_clips(folder / "tracks", config_from_dict({"data": data}, "in the test"))
    (message,) = caplog.messages
    if reference is None:
        assert "at 4 sizes, such as (height, width) (480, 640) and (240, 320)" in message
    else:
        assert message.startswith("1 of 4 track files have no height and width (the first is d.hdf5)")
