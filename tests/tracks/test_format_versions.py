"""Files of a version that is not known here are refused in one line; files that state none are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from tests.support.run_scripts import render
from tests.support.tracked import write_velocities

ODD = (3, 0, "1", 1.0, np.ones(2))


def read_with(path: Path, version: object, config: Config) -> None:
    """Reads the track file, or the velocity files with the index, ``path`` once it states ``version``."""
    if path.suffix == ".hdf5":
        with h5py.File(path, "a") as file:
            file["root"].attrs["format_version"] = version
    else:
        stated = version.tolist() if isinstance(version, np.ndarray) else version
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": stated}))
    load_clips(path.parent, config)


@pytest.mark.parametrize("version", ODD)
def test_track_files_of_another_version(
    tmp_path: Path, tiny: Config, write_tracks: Callable[..., Path], version: object
) -> None:
    path = write_tracks(tmp_path / "a.hdf5", 2)
    read_with(path, np.int64(1), tiny)
    with pytest.raises(TrackFileError, match=r"a\.hdf5: format version .*, expected 1 or 2; preprocess"):
        read_with(path, version, tiny)


def test_a_layout_of_later_is_told_by_its_version_first(tmp_path: Path, tiny: Config) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_group("root").attrs["format_version"] = 3
    with pytest.raises(TrackFileError, match=r"a\.hdf5: format version 3, expected 1 or 2; preprocess its"):
        load_clips(tmp_path, tiny)


@pytest.mark.parametrize("version", ODD)
def test_velocity_files_of_another_version(tmp_path: Path, tiny: Config, version: object) -> None:
    path = tmp_path / "a.windows.json"
    write_velocities(path, tiny, 2)
    read_with(path, 1, tiny)
    with pytest.raises(TrackFileError, match=r"a\.windows\.json: format version .*, expected 1; preprocess"):
        read_with(path, version, tiny)


def test_preprocessing_makes_files_of_another_version_again(tmp_path: Path, tiny: Config) -> None:
    render(tmp_path / "in" / "a.mp4")
    preprocess_folder(tmp_path / "in", tmp_path / "out", tiny)
    with pytest.raises(TrackFileError, match="format version 3"):
        read_with(tmp_path / "out" / "a.hdf5", 3, tiny)
    assert preprocess_folder(tmp_path / "in", tmp_path / "out", tiny).done == 1
    assert len(load_clips(tmp_path / "out", tiny)) == 1
