"""A pack holds what the track files hold, to the stated fraction of a pixel."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from run_scripts import run_process

from amplify_motion_tokenizer.config.files import config_from_dict
from amplify_motion_tokenizer.dataset import WindowDataset, load_clips
from amplify_motion_tokenizer.draw import Style, draw_tracked
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.pack import main as pack_main
from amplify_motion_tokenizer.packed import LOST, read_pack, write_pack
from amplify_motion_tokenizer.stores import find_tracks
from amplify_motion_tokenizer.track_files import TrackFile
from amplify_motion_tokenizer.tracking_evaluation import evaluate_tracks

LENGTH, GRID = 5, 3


def write_tracks(
    path: Path, windows: int, seed: int, views: tuple[str, ...] = ("default",), span: float = 40.0
) -> None:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for view in views:
            group = file.create_group(f"root/{view}")
            group.attrs.update(height=48, width=64)
            start = rng.uniform(0, 48, (windows, 1, GRID**2, 2))
            tracks = start + rng.uniform(-span, span, (windows, LENGTH, GRID**2, 2))
            group["tracks"] = tracks.astype(np.float32)
            group["vis"] = rng.random((windows, LENGTH, GRID**2), np.float32)
            group["first_frames"] = rng.integers(0, 256, (windows, 4, 6, 3), np.uint8)


def read_all(clip: TrackFile) -> list[tuple[np.ndarray, np.ndarray]]:
    with clip.open() as file:
        return clip.read(file, range(clip.num_windows))


def pack(folder: Path, output: Path) -> dict[str, object]:
    clips = {
        name: clip for name, clip in find_tracks(folder, views=None).items() if isinstance(clip, TrackFile)
    }
    return write_pack(clips, output)


def test_tracks_visibility_and_frames_come_back(tmp_path: Path) -> None:
    views = ("left", "right")
    write_tracks(tmp_path / "in/a.hdf5", 3, 0, views)
    write_tracks(tmp_path / "in/sub/b.hdf5", 2, 1, views, span=100.0)
    index = pack(tmp_path / "in", tmp_path / "out")
    assert index["units_per_px"] == 128 and index["max_error_px"] == 0.5 / 128  # 200 px in 16 bits
    packed = read_pack(tmp_path / "out", ("right", "left"))
    assert list(packed) == ["a", "sub/b"] and [clip.num_windows for clip in packed.values()] == [3, 2]
    for name, clip in packed.items():
        source = TrackFile(tmp_path / f"in/{name}.hdf5", ("right", "left"))
        assert clip.sizes == source.sizes == [(48, 64)] * 2
        rows = list(range(clip.num_windows))[::-1]
        with source.open() as file:
            expected, frames = source.read(file, rows), source.read_first_frames(file, rows)
        found = clip.read(clip.open(), rows)
        for (tracks, seen), (true_tracks, true_seen) in zip(found, expected, strict=True):
            assert np.abs(tracks - true_tracks).max() <= 0.5 / 128 + 1e-4
            assert np.abs(seen - true_seen).max() <= 0.5 / 255 + 1e-6
            assert np.array_equal(seen >= 0.5, true_seen >= 0.5)
            assert np.array_equal(tracks[:, 0], true_tracks[:, 0])
        for mine, theirs in zip(clip.read_first_frames(clip.open(), rows), frames, strict=True):
            assert np.array_equal(mine, theirs)


@settings(max_examples=25, deadline=None)
@given(span=st.floats(0.0, 4000.0), seed=st.integers(0, 1000))
def test_no_displacement_is_further_off_than_stated(
    tmp_path_factory: pytest.TempPathFactory, span: float, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("pack")
    write_tracks(folder / "in/a.hdf5", 2, seed, span=span)
    index = pack(folder / "in", folder / "out")
    (clip,) = read_pack(folder / "out", ("default",)).values()
    source = TrackFile(folder / "in/a.hdf5")
    moved = [tracks - tracks[:, :1] for tracks, _ in (clip.read(clip.open(), [0, 1])[0], read_all(source)[0])]
    assert np.abs(moved[0] - moved[1]).max() <= index["max_error_px"] + 1e-3


def test_lost_positions_are_lost(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 2, 0)
    with h5py.File(tmp_path / "in/a.hdf5", "r+") as file:
        tracks = file["root/default/tracks"]
        tracks[0, 2, 4] = np.nan
        tracks[1, 3, 5, 0] = np.inf
    pack(tmp_path / "in", tmp_path / "out")
    (clip,) = read_pack(tmp_path / "out", ("default",)).values()
    tracks, _ = clip.read(clip.open(), [0, 1])[0]
    lost = np.zeros(tracks.shape, bool)
    lost[0, 2, 4] = True
    lost[1, 3, 5, 0] = True
    assert np.array_equal(np.isnan(tracks), lost)
    assert (np.load(tmp_path / "out/displacements.npy") == LOST).sum() == 3


def test_training_reads_a_pack_as_it_reads_the_files(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 5, 0, span=3.0)
    write_tracks(tmp_path / "in/b.hdf5", 4, 1, span=3.0)
    pack(tmp_path / "in", tmp_path / "out")
    config = config_from_dict(
        {
            "data": {
                "sequence_length": LENGTH, "grid_size": GRID, "reference_size": [48, 64],
                "static_filter": {"min_keep": 2},
            },
            "model": {"decoder_window_size": 7},
        },
        "test",
    )  # fmt: skip
    plain, packed = (WindowDataset(load_clips(tmp_path / part, config), config) for part in ("in", "out"))
    assert len(plain) == len(packed) == 9
    order = [8, 0, 5, 3, -1]
    expected, found = plain.__getitems__(order), packed.__getitems__(order)
    assert torch.equal(expected.indices, found.indices)
    assert torch.equal(expected.inputs.mask, found.inputs.mask)
    torch.testing.assert_close(expected.inputs.velocities, found.inputs.velocities, rtol=0, atol=0.01)
    assert (expected.inputs.labels != found.inputs.labels).float().mean() < 0.02


def test_a_pack_of_other_things_is_refused(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 1, 0, ("left",))
    write_tracks(tmp_path / "in/b.hdf5", 1, 0, ("right",))
    with pytest.raises(TrackFileError, match=r"b.hdf5: views is \['/root/right'\], and \['/root/left'\]"):
        pack(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "in/b.hdf5").unlink()
    pack(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UsageError, match="exists"):
        pack(tmp_path / "in", tmp_path / "out")
    with pytest.raises(TrackFileError, match="lacks the view top; it holds left"):
        read_pack(tmp_path / "out", ("top", "left"))


def test_what_takes_track_files_says_what_a_pack_is(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 1, 0)
    pack(tmp_path / "in", tmp_path / "out")
    told = r"out is a pack, which only train\.py and inspect read; give the folder of track files"
    with pytest.raises(TrackFileError, match=told):
        find_tracks(tmp_path / "out")
    with pytest.raises(TrackFileError, match=told):
        evaluate_tracks(tmp_path / "out", tmp_path / "in")
    with pytest.raises(TrackFileError, match=told):
        draw_tracked(tmp_path / "out", tmp_path, tmp_path / "drawn", Style())
    with pytest.raises(TrackFileError, match=told):
        pack_main(["--input", str(tmp_path / "out"), "--output", str(tmp_path / "again")])


def test_damage_is_named(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 1, 0)
    pack(tmp_path / "in", tmp_path / "out")
    (clip,) = read_pack(tmp_path / "out", ("default",)).values()
    (tmp_path / "out/visibility.npy").write_bytes(b"short")
    with pytest.raises(TrackFileError, match="out: is damaged"):
        clip.open()
    index = json.loads((tmp_path / "out/pack.json").read_text())
    (tmp_path / "out/pack.json").write_text(json.dumps(index | {"format_version": 9}))
    with pytest.raises(TrackFileError, match="format version 9, expected 1"):
        read_pack(tmp_path / "out", ("default",))


def test_the_command(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 2, 0)
    line = [sys.executable, "-m", "amplify_motion_tokenizer.pack"]
    done = run_process(*line, "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert done.status == 0, done.err
    assert "packed 2 windows of 1 clips" in done.out and "at most 0.00195312 px" in done.out
