"""Windows read where they lie in a file are those that HDF5 gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.tracks.hdf5_rows import TrackReader
from amplify_motion_tokenizer.tracks.stored import ViewArrays

SHAPE = (7, 5, 4, 2)
CHUNKS = (1, *SHAPE[1:])
ROWS, PLACES = [6, 0, 3], [1, 2, 0]


def write(path: Path, seed: int = 0, views: tuple[str, ...] = ("default",), **options: Any) -> TrackFile:
    """A file whose ``tracks`` are stored as ``options`` say."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        for view in views:
            tracks = rng.normal(size=SHAPE).astype(options.pop("dtype", np.float32))
            file.create_dataset(f"root/{view}/tracks", data=tracks, **options)
            file[f"root/{view}/vis"] = rng.random(SHAPE[:3], np.float32)
    return TrackFile(path, views)


def read(reader: TrackReader, views: int = 1) -> list[ViewArrays]:
    into = [ViewArrays.empty(len(ROWS), SHAPE[1], SHAPE[2]) for _ in range(views)]
    reader.read_into(ROWS, into, PLACES)
    return into


def check(found: list[ViewArrays], clip: TrackFile) -> None:
    with clip.open() as file:
        expected = clip.read(file, ROWS)
    for mine, theirs in zip(found, expected, strict=True):
        for array, true in zip(mine, theirs, strict=True):
            assert np.array_equal(array[PLACES], true)


@pytest.mark.parametrize("views", [("default",), ("left", "right")])
@pytest.mark.parametrize("options", [{}, {"chunks": CHUNKS}, {"chunks": (3, *SHAPE[1:])}])
def test_plain_rows_do_not_need_hdf5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], views: tuple[str, ...]
) -> None:
    clip = write(tmp_path / "a.hdf5", views=views, **options)
    reader = TrackReader(clip)
    check(read(reader, len(views)), clip)
    reader.close()
    with monkeypatch.context() as patch:
        patch.setattr(TrackFile, "open", lambda self: pytest.fail("asked HDF5 again"))
        found = read(reader, len(views))
    check(found, clip)


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": CHUNKS, "compression": "gzip"},
        {"chunks": CHUNKS, "fletcher32": True},
        {"chunks": (1, 5, 2, 2)},
        {"dtype": np.float64},
        {"dtype": ">f4"},
    ],
)
def test_other_rows_are_read_through_hdf5(tmp_path: Path, options: dict[str, Any]) -> None:
    clip = write(tmp_path / "a.hdf5", **options)
    check(read(TrackReader(clip)), clip)


def test_a_file_without_visibility_is_visible(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        del file["root/default/vis"]
    (found,) = read(TrackReader(TrackFile(tmp_path / "a.hdf5")))
    assert (found.visibility == 1).all()


def test_a_file_made_anew_is_looked_at_anew(tmp_path: Path) -> None:
    reader = TrackReader(write(tmp_path / "a.hdf5"))
    read(reader)
    reader.close()
    clip = write(tmp_path / "new.hdf5", seed=1, chunks=CHUNKS)
    os.replace(clip.path, tmp_path / "a.hdf5")
    check(read(reader), TrackFile(tmp_path / "a.hdf5"))
    reader.close()
    with h5py.File(clip.path, "w") as file:
        file["root/default/tracks"] = np.zeros((7, 5, 3, 2), np.float32)
    os.replace(clip.path, tmp_path / "a.hdf5")
    for _ in range(2):
        with pytest.raises(TrackFileError, match="has changed since it was first opened"):
            read(reader)


def test_a_file_of_another_size_is_not_taken_for_the_one_that_was_indexed(tmp_path: Path) -> None:
    reader = TrackReader(write(tmp_path / "a.hdf5"))
    read(reader)
    reader.close()
    clip = write(tmp_path / "new.hdf5", seed=1)
    with h5py.File(clip.path, "r+") as file:
        file["root/default"].attrs.update(height=96, width=128)
    os.replace(clip.path, tmp_path / "a.hdf5")
    with pytest.raises(TrackFileError, match="has changed since it was first opened"):
        read(reader)


def test_damage_is_named(tmp_path: Path) -> None:
    clip = write(tmp_path / "a.hdf5")
    reader = TrackReader(clip)
    read(reader)
    os.truncate(clip.path, 100)
    with pytest.raises(TrackFileError, match=r"a\.hdf5: ends within a window"):
        read(reader)
    reader.close()
    clip.path.unlink()
    with pytest.raises(TrackFileError, match=r"a\.hdf5: cannot be opened"):
        read(reader)
