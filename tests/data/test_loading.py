"""Which folders of tracks fit a config, what is said of others, and how clips are split."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.loading import load_clips, split_clips
from amplify_motion_tokenizer.errors import TrackFileError
from tests.support.tracked import write_velocities

Write = Callable[..., Path]


def test_track_folder_errors_say_what_was_looked_for(tmp_path: Path, tiny: Config) -> None:
    with pytest.raises(TrackFileError, match=r"does not exist.*preprocess_videos\.py"):
        load_clips(tmp_path / "nowhere", tiny)
    with pytest.raises(TrackFileError, match=r"no track files; looked for \.hdf5 \.h5"):
        load_clips(tmp_path, tiny)


def test_windows_of_another_shape_name_the_keys(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    other = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, sequence_length=5, grid_size=4))
    write_tracks(tmp_path / "clip.hdf5", 2, config=other)
    with pytest.raises(TrackFileError, match=r"T = 5 .*N = 16 .*data\.sequence_length\).*data\.grid_size"):
        load_clips(tmp_path, tiny)


def test_files_of_different_settings_are_refused(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    other = dataclasses.replace(tiny, video=dataclasses.replace(tiny.video, target_fps=5.0))
    write_tracks(tmp_path / "a.hdf5", 2)
    write_tracks(tmp_path / "b.hdf5", 2, config=other)
    with pytest.raises(TrackFileError, match=r"different settings \(video\.target_fps"):
        load_clips(tmp_path, tiny)


def test_velocity_files_of_another_reference_or_window_are_refused(tmp_path: Path, tiny: Config) -> None:
    write_velocities(tmp_path / "clip.windows.json", tiny, 2)
    other = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, decoder_window_size=9))
    with pytest.raises(TrackFileError, match=r"model\.decoder_window_size 7 -> 9"):
        load_clips(tmp_path, other)


def test_split_is_by_clip_fixed_by_the_seed_and_never_empty(
    tmp_path: Path, tiny: Config, write_tracks: Write, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(8):
        write_tracks(tmp_path / f"{number}.hdf5", 2, seed=number)
    clips = load_clips(tmp_path, tiny)
    training, validation = split_clips(clips, 0.25, seed=3)
    assert len(validation) == 2
    assert training.keys() | validation.keys() == clips.keys()
    assert not training.keys() & validation.keys()
    assert split_clips(clips, 0.25, seed=3)[1].keys() == validation.keys()
    assert len({frozenset(split_clips(clips, 0.25, seed=seed)[1]) for seed in range(8)}) > 1
    assert len(split_clips(clips, 0.01, seed=0)[1]) == 1
    assert len(split_clips(clips, 0.99, seed=0)[0]) == 1
    assert not split_clips(clips, 0.0, seed=0)[1]
    one = {"only": clips["0"]}
    assert split_clips(one, 0.5, seed=0) == (one, {})
    assert "one clip" in caplog.text
