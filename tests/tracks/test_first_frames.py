"""Each window's first frame: from the video into the track file, and what is said where it is missing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import Given, build, config_from_dict
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import ConfigError, TrackFileError, UsageError
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile, TrackFileWriter
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.pixels import small_frame
from amplify_motion_tokenizer.video.sources import find_clips
from tests.support.framed import SIDE, config_of, render_views, tracked, unconditioned
from tests.support.run_scripts import TINY
from tests.support.tracked import clip_record_of, random_windows


def without_frames(config: Config) -> Config:
    tracking = dataclasses.replace(config.tracking, first_frames=None)
    return dataclasses.replace(unconditioned(config), tracking=tracking)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_views(tmp_path_factory.mktemp("videos"))


def test_first_frames_are_kept_small_for_every_window_and_view(videos: Path, tmp_path: Path) -> None:
    config = unconditioned(config_of(32, ("front", "wrist")))
    assert preprocess_folder(videos, tmp_path, config).done == 3
    for clip in find_clips(videos, config, ["front", "wrist"]):
        with h5py.File(tmp_path / f"{clip.name}.hdf5") as file, tracked(clip, config) as open_clip:
            frames = list(open_clip._frames())
            for view, name in enumerate(("front", "wrist")):
                data = file[f"root/{name}/first_frames"]
                assert (data.shape, data.dtype, data.chunks) == ((4, 32, 32, 3), np.uint8, (1, 32, 32, 3))
                starts = file[f"root/{name}/start_frame"][:]
                expected = [small_frame(frames[start][view].rgb, 32) for start in starts]
                np.testing.assert_array_equal(data[:], expected)
        track_file = TrackFile(tmp_path / f"{clip.name}.hdf5", ("wrist", "front"))
        with track_file.open() as handle:
            wrist, front = track_file.read_first_frames(handle, [2, 0, 2])
        assert wrist.shape == front.shape == (3, 32, 32, 3)
        np.testing.assert_array_equal(front[0], front[2])
        np.testing.assert_array_equal(wrist[1], small_frame(frames[0][1].rgb, 32))


def test_a_small_frame_is_the_models_own_stretch() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    expected = F.interpolate(
        torch.from_numpy(rgb).movedim(-1, 0)[None].float(), (224, 224), mode="bilinear", align_corners=False
    )
    found = torch.from_numpy(small_frame(rgb, 224)).float()
    assert (found - expected[0].movedim(0, -1)).abs().max() < 1
    square = rgb[:, :90]
    assert small_frame(square, 90) is square


def test_a_clip_without_windows_holds_empty_first_frames(tmp_path: Path) -> None:
    config = config_of()
    with TrackFileWriter(tmp_path / "clip.hdf5", clip_record_of(config), (48, 64)) as writer:
        writer.finish(6, 1)
    assert TrackFile(tmp_path / "clip.hdf5").frame_size == (SIDE, SIDE)
    window = random_windows(config, 1, 0, (48, 64))[0]
    with (
        pytest.raises(ValueError, match=r"first frame: expected \(64, 64, 3\), found None"),
        TrackFileWriter(tmp_path / "other.hdf5", clip_record_of(config), (48, 64)) as writer,
    ):
        writer.append(window)


def write_framed(path: Path, config: Config, side: int) -> Path:
    """Tracks with first frames, from a writer that says nothing of its settings."""
    with TrackFileWriter(path, clip_record_of(without_frames(config)), (48, 64)) as writer:
        for window in random_windows(config, 2, 0, (48, 64)):
            writer.append(window)
        writer.finish(8, 0)
    with h5py.File(path, "a") as file:
        file["root/default/first_frames"] = np.zeros((2, side, side, 3), np.uint8)
        del file["root"].attrs["settings"]
    return path


def test_frames_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    config = config_of()
    path = write_framed(tmp_path / "a.hdf5", config, SIDE)
    write_framed(tmp_path / "b.hdf5", config, SIDE)
    assert load_clips(tmp_path, config).keys() == {"a", "b"}
    write_framed(tmp_path / "b.hdf5", config, 32)
    with pytest.raises(TrackFileError, match=r"b\.hdf5: its first frames are \(32, 32\), expected .*a\.hdf5"):
        load_clips(tmp_path, config)
    for shape, kind in [((2, 8, 8), np.uint8), ((1, 8, 8, 3), np.uint8), ((2, 8, 8, 3), np.float32)]:
        with h5py.File(path, "a") as file:
            del file["root/default/first_frames"]
            file["root/default/first_frames"] = np.zeros(shape, kind)
        with pytest.raises(
            TrackFileError, match=r"a\.hdf5: .*first_frames is .* expected uint8 \(2, 8, 8, 3\)"
        ):
            find_tracks(tmp_path)
    with h5py.File(path, "a") as file:
        del file["root/default/first_frames"]
    with pytest.raises(TrackFileError, match=r"a\.hdf5: holds no first frames .* tracking\.first_frames"):
        load_clips(tmp_path, config)
    assert load_clips(tmp_path, unconditioned(config)).keys() == {"a", "b"}


def test_turning_frames_on_for_tracks_without_them_says_so(videos: Path, tmp_path: Path) -> None:
    views = ("front", "wrist")
    with_frames = unconditioned(config_of(SIDE, views))
    without = without_frames(with_frames)
    preprocess_folder(videos / "..", tmp_path / "one", _only_clip0(without, videos))
    with pytest.raises(UsageError, match=r"tracking\.first_frames None -> 64.*--overwrite"):
        preprocess_folder(videos / "..", tmp_path / "one", _only_clip0(with_frames, videos))
    keypoint = config_from_dict({**TINY, "tracking": {"first_frames": 32}}, "in the tests")
    with pytest.raises(ConfigError, match="velocity files hold no frames"):
        preprocess_folder(videos / "clip0/front.mp4", tmp_path / "pt", keypoint, "pt")
    longer = config_from_dict({**TINY, "data": {"true_horizon": 21, "sequence_length": 16}}, "in the tests")
    with pytest.raises(ConfigError, match=r"hold no positions.* data\.true_horizon: null"):
        preprocess_folder(videos / "clip0/front.mp4", tmp_path / "pt", longer, "pt")
    assert not (tmp_path / "pt").exists()


def _only_clip0(config: Config, videos: Path) -> Config:
    files = {view: f"{videos.name}/{{clip}}0/{view}.mp4" for view in config.data.views}
    return dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, view_files=files))


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"tracking.first_frames": 8}, ["tracking.first_frames = 8", "at least 16"]),
        ({"model.amplify.vision.encoder": "resnet18"}, ["vision.encoder", "model.name: amplify"]),
        ({"model.amplify.vision.encoder": "vit"}, ["model.amplify.vision.encoder = vit", "dinov2-small"]),
        ({"model.amplify.vision.weights": "x"}, ["vision.weights", "vision.encoder"]),
        ({"model.amplify.vision.lr_multiplier": 0.0}, ["lr_multiplier = 0.0", "above 0"]),
        ({"training.pictures": -1}, ["training.pictures = -1", "0 or more"]),
    ],
)
def test_impossible_settings(keys: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Config(), {key: Given(value, "") for key, value in keys.items()})
    for part in parts:
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match=r"tracking\.first_frames = null .* such as 224"):
        config_of(None)
