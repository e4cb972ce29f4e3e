"""Track and velocity files of other writers: AMPLIFY's own, and tools that follow its layout."""

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import DTypeLike, NDArray

from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.geometry import center_label
from tests.support.tracked import random_windows

Write = Callable[..., Path]
FRAMES = 8


def write_amplifys(path: Path, dtype: DTypeLike = np.float32) -> NDArray[np.float64]:
    """A clip of 8 frames as AMPLIFY writes it, with nothing but tracks, vis and the size.

    A window (T = 6, N = 9) starts at every frame, and the clip is padded by repeating its last frame
    T - 1 times. Every point moves by (2, -1) pixels a frame. Returns the tracks (8, 6, 9, 2).
    """
    frame_of = np.minimum(np.arange(FRAMES)[:, None] + np.arange(6), FRAMES - 1)
    since_start = frame_of - np.arange(FRAMES)[:, None]
    queries = np.random.default_rng(0).uniform(16, 32, (9, 2)).round(2)
    tracks = queries + since_start[..., None, None] * np.array([2.0, -1.0])
    with h5py.File(path, "w") as file:
        group = file.create_group("root/default")
        group["tracks"] = tracks.astype(dtype)
        group["vis"] = np.ones(tracks.shape[:3], dtype)
        group.attrs.update({"height": 48, "width": 64})
    return tracks


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_windows_start_at_every_frame_and_stand_still_after_the_end(
    tmp_path: Path, tiny: Config, dtype: DTypeLike
) -> None:
    """All rows are windows, as in AMPLIFY; what is past the clip's end is no motion, which counts."""
    tracks = write_amplifys(tmp_path / "clip.hdf5", dtype)
    data = WindowDataset(load_clips(tmp_path, tiny), tiny)
    assert len(data) == FRAMES
    inputs = data.batch(range(FRAMES)).inputs
    expected = torch.from_numpy(np.diff(tracks, axis=1) / 3).float()
    tolerance = 0.02 if dtype == np.float16 else 1e-5
    torch.testing.assert_close(inputs.velocities, expected, atol=tolerance, rtol=0)
    still = (inputs.labels == center_label(tiny.class_grid)).all(dim=-1)
    after_end = torch.arange(FRAMES)[:, None] + torch.arange(5) >= FRAMES - 1
    assert torch.equal(still, after_end)
    assert inputs.mask[:-1].any(dim=(1, 2)).all()
    assert inputs.visibility.min() == 1


def test_files_without_size_are_taken_as_reference_pixels_and_warned_about_once(
    tmp_path: Path, tiny: Config, write_tracks: Write, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        path = write_tracks(tmp_path / f"{name}.hdf5", 2, size=(96, 128))
        with h5py.File(path, "a") as file:
            del file["root/default"].attrs["height"]
    with caplog.at_level(logging.WARNING):
        data = WindowDataset(load_clips(tmp_path, tiny), tiny)
    assert [r.getMessage()[:7] for r in caplog.records] == ["2 of 2 "]
    tracks = random_windows(tiny, 2, 0, (96, 128))[0].tracks_xy_px
    expected = np.clip((tracks[1] - tracks[0]) / 3, -1, 1)
    np.testing.assert_allclose(data[0].inputs.velocities[0], expected, atol=1e-5)
    caplog.clear()
    own_pixels = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, reference_size=None))
    same = WindowDataset(load_clips(tmp_path, own_pixels), own_pixels)
    assert torch.equal(same[0].inputs.velocities, data[0].inputs.velocities)
    assert not caplog.records, "with null these pixels are what was asked for"


def test_other_writers_files_with_bool_visibility_or_none_are_read(
    tmp_path: Path, tiny: Config, write_tracks: Write
) -> None:
    for name in ("a", "b"):
        path = write_tracks(tmp_path / f"{name}.hdf5", 2)
        with h5py.File(path, "a") as file:
            for key in list(file["root"].attrs):
                del file["root"].attrs[key]
            view = file["root/default"]
            for key in ("vis", "start_frame", "start_time"):
                del view[key]
            if name == "a":
                view["vis"] = np.zeros((2, 6, 9), bool)
    batch = WindowDataset(load_clips(tmp_path, tiny), tiny).batch([0, 2])
    assert batch.inputs.visibility[0].max() == 0
    assert batch.inputs.visibility[1].min() == 1


def test_velocity_files_of_other_writers_are_read(tmp_path: Path, tiny: Config) -> None:
    for start in (10, 2):
        torch.save(torch.full((5, 9, 2), start / 100), tmp_path / f"my_clip_start{start:06d}.pt")
    clips = load_clips(tmp_path, tiny)
    batch = WindowDataset(clips, tiny).batch([0, 1])
    assert batch.inputs.velocities[:, 0, 0, 0].tolist() == pytest.approx([0.02, 0.1])
    torch.save(torch.nn.Parameter(torch.zeros(5, 9, 2)), tmp_path / "my_clip_start000002.pt")
    velocities = WindowDataset(clips, tiny)[0].inputs.velocities
    assert not velocities.requires_grad, "a loader worker could not send it, and would hang"
    longer = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, true_horizon=8))
    with pytest.raises(TrackFileError, match="6 of 8 are asked for; velocity files cannot be resampled"):
        load_clips(tmp_path, longer)
    index = {"settings": track_settings(longer)}
    (tmp_path / "my_clip.windows.json").write_text(json.dumps(index))
    with pytest.raises(TrackFileError, match="holds 6 frames of windows that were tracked over 8"):
        load_clips(tmp_path, tiny)
    (tmp_path / "my_clip.windows.json").unlink()
    torch.save({"not": "a tensor"}, tmp_path / "other_start000000.pt")
    with pytest.raises(TrackFileError, match=r"other_start000000\.pt"):
        load_clips(tmp_path, tiny)
