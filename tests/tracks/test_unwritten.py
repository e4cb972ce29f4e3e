"""Rows that were allocated and never written are told apart from points at rest."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from amplify_motion_tokenizer.commands.pack import main as pack_main
from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.tracks.hdf5 import FORMAT, TrackFile

ROWS, STEPS, POINTS = 6, 6, 9
WRITTEN = [0, 2, 5]


def write(path: Path, fill: float | None = None, **options: object) -> Path:
    """Room for ROWS windows of which WRITTEN are written; window 2 rests."""
    grid = query_grid("row_major", 3, (48, 64))
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("root/default")
        group.attrs.update({"height": 48, "width": 64})
        tracks = group.create_dataset(
            "tracks", (ROWS, STEPS, POINTS, 2), np.float32, fillvalue=fill, **options
        )
        seen = group.create_dataset("vis", (ROWS, STEPS, POINTS), np.float32)
        seen[...] = 1.0
        for row in WRITTEN:
            moved = np.arange(STEPS)[:, None, None] * (0.0 if row == 2 else 1.5)
            tracks[row] = grid + moved
    return path


LAYOUTS: dict[str, dict[str, object]] = {
    "in one piece": {},
    "a chunk for each": {"chunks": (1, STEPS, POINTS, 2)},
    "chunks of two": {"chunks": (2, STEPS, POINTS, 2)},
    "compressed": {"chunks": (1, STEPS, POINTS, 2), "compression": "gzip"},
    "another fill": {"fill": -1.0},
    "NaN": {"fill": float("nan"), "chunks": (1, STEPS, POINTS, 2)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unwritten_rows_read_as_lost(layout: str, tmp_path: Path, tiny: Config) -> None:
    path = write(tmp_path / "tracks" / "a.hdf5", **LAYOUTS[layout])  # type: ignore[arg-type]
    clip = TrackFile(path)
    with clip.open() as file:
        ((tracks, _),) = clip.read(file, list(range(ROWS)))
    lost = [row for row in range(ROWS) if np.isnan(tracks[row]).all()]
    assert lost == [row for row in range(ROWS) if row not in WRITTEN]
    assert all(np.isfinite(tracks[row]).all() for row in WRITTEN)
    data = WindowDataset(load_clips(tmp_path / "tracks", tiny), tiny)
    inputs = data.batch([5, 4, 3, 2, 1, 0]).inputs
    assert inputs.finite.all(dim=1).tolist() == [True, False, False, True, False, True]
    assert inputs.mask.flatten(1).any(dim=1).tolist()[1:3] == [False, False]


def test_their_count_is_told_where_the_file_says_it(
    tmp_path: Path, tiny: Config, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "tracks" / "a.hdf5", chunks=(1, STEPS, POINTS, 2))
    with caplog.at_level(logging.WARNING):
        load_clips(tmp_path / "tracks", tiny)
    assert (
        "3 windows of 1 track files have room and were never written (the first file is a.hdf5)"
        in caplog.text
    )


def test_a_pack_keeps_them_lost(tmp_path: Path, tiny: Config) -> None:
    write(tmp_path / "tracks" / "a.hdf5", chunks=(1, STEPS, POINTS, 2))
    pack_main(["--input", str(tmp_path / "tracks"), "--output", str(tmp_path / "pack")])
    data = WindowDataset(load_clips(tmp_path / "pack", tiny), tiny)
    finite = data.batch(range(ROWS)).inputs.finite.all(dim=1)
    assert [row for row in range(ROWS) if finite[row]] == WRITTEN


def test_own_files_have_no_room_that_reads_as_rest(tmp_path: Path, write_tracks: Callable[..., Path]) -> None:
    path = write_tracks(tmp_path / "a.hdf5", 2)
    with h5py.File(path, "a") as file:
        for name in ("tracks", "vis"):
            data = file[f"root/default/{name}"]
            data.resize(4, axis=0)
        assert np.isnan(file["root/default/tracks"][2:]).all()


def test_settings_that_are_no_object_are_named(tmp_path: Path, write_tracks: Callable[..., Path]) -> None:
    path = write_tracks(tmp_path / "a.hdf5", 2)
    with h5py.File(path, "a") as file:
        file["root"].attrs["settings"] = json.dumps([1, 2])
    with pytest.raises(TrackFileError, match=r"a\.hdf5: its settings are a list; expected a JSON object"):
        TrackFile(path)


def test_a_file_whose_data_cannot_be_read_is_not_complete(
    tmp_path: Path, tiny: Config, write_tracks: Callable[..., Path]
) -> None:
    path = write_tracks(tmp_path / "a.hdf5", 7)
    settings, source = track_settings(tiny), tmp_path / "clip.mp4"
    source.write_bytes(b"x")
    with h5py.File(path, "a") as file:
        file["root"].attrs.update({"source_bytes": 1, "source_fingerprint": ""})
    assert FORMAT.is_complete(path, settings, source)
    content = bytearray(path.read_bytes())
    # The indices of chunks, which are trees of the second kind.
    trees = [at for at in range(len(content)) if content.startswith(b"TREE\x01", at)]
    assert trees
    for at in trees:
        content[at : at + 4] = b"XXXX"
    path.write_bytes(content)
    assert not FORMAT.is_complete(path, settings, source)
    with pytest.raises(TrackFileError, match=r"a\.hdf5: is damaged"):
        TrackFile(path, None).check_readable()
