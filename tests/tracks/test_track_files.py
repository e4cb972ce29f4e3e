"""Track files and velocity files: their layout, whole writes, damage, and how many are open at once."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import FORMAT, TrackFile, TrackFileWriter
from amplify_motion_tokenizer.tracks.open_files import MAX_OPEN_FILES
from tests.support.tracked import SIZE, clip_record_of, random_windows, write_velocities

Write = Callable[..., Path]


def test_track_file_layout_and_round_trip(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    path = write_tracks(tmp_path / "sub" / "clip.hdf5", 5)
    windows = random_windows(tiny, 5, 0, SIZE)
    with h5py.File(path) as file:
        view = file["root/default"]
        assert view["tracks"].shape == (5, 6, 9, 2)
        assert view["tracks"].dtype == np.float32
        assert view["vis"].dtype == np.float32
        assert (view.attrs["height"], view.attrs["width"]) == SIZE
        assert view["start_frame"][:].tolist() == [0, 2, 4, 6, 8]
        np.testing.assert_allclose(view["start_time"][:], [0, 0.2, 0.4, 0.6, 0.8])
        root = file["root"].attrs
        assert (root["fps"], root["source_fps"], root["num_frames"]) == (10.0, 30.0, 14)
        assert root["format_version"] == 1
    track_file = TrackFile(path)
    with track_file.open() as handle:
        [(tracks, visibility)] = track_file.read(handle, [3, 0, 3])
    np.testing.assert_array_equal(tracks[0], windows[3].tracks_xy_px)
    np.testing.assert_array_equal(tracks[1], windows[0].tracks_xy_px)
    np.testing.assert_array_equal(tracks[2], windows[3].tracks_xy_px)
    assert visibility.shape == (3, 6, 9)


def test_interrupted_write_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, tiny: Config) -> None:
    path = tmp_path / "clip.hdf5"
    for attempt in (1, 2):
        with pytest.raises(KeyboardInterrupt), TrackFileWriter(path, clip_record_of(tiny), SIZE) as writer:
            writer.append(random_windows(tiny, 1, 0, SIZE)[0])
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == ([] if attempt == 1 else [path])
        if attempt == 1:
            path.write_bytes(b"old")
    assert path.read_bytes() == b"old"


def test_complete_means_same_settings_and_same_source(tmp_path: Path, tiny: Config) -> None:
    source = tmp_path / "clip.mp4"
    source.write_bytes(b"0123456789")
    record = dataclasses.replace(clip_record_of(tiny), source_bytes=10)
    path = tmp_path / "clip.hdf5"
    assert not FORMAT.is_complete(path, record.settings, source)
    with TrackFileWriter(path, record, SIZE) as writer:
        writer.finish(3, 0)
    assert FORMAT.is_complete(path, record.settings, source)
    assert not FORMAT.is_complete(path, record.settings | {"video.target_fps": 5.0}, source)
    source.write_bytes(b"another video")
    assert not FORMAT.is_complete(path, record.settings, source)
    path.write_bytes(path.read_bytes()[:100])
    assert not FORMAT.is_complete(path, record.settings, source)


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        "text",
        "no tracks",
        "wrong shape",
        "vis shape",
        "settings",
        "height",
        "inf",
        "root",
        "flipped",
        "complex",
    ],
)
def test_bad_track_files_are_named(tmp_path: Path, tiny: Config, write_tracks: Write, damage: str) -> None:
    path = write_tracks(tmp_path / "bad.hdf5", 20)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "text":
        path.write_text("not HDF5")
    elif damage == "flipped":
        content = bytearray(path.read_bytes())
        content[512:4608] = bytes(byte ^ 0xFF for byte in content[512:4608])
        path.write_bytes(content)
    elif damage in ("settings", "height", "inf", "root"):
        with h5py.File(path, "a") as file:
            if damage == "settings":
                file["root"].attrs["settings"] = "{not json"
            elif damage in ("height", "inf"):
                file["root/default"].attrs["height"] = 0 if damage == "height" else np.inf
            else:
                del file["root"]
                file["root"] = np.zeros(3)
    else:
        with h5py.File(path, "a") as file:
            name = "vis" if damage == "vis shape" else "tracks"
            plain = file[f"root/default/{name}"][...]
            del file[f"root/default/{name}"]
            if damage == "complex":
                file[f"root/default/{name}"] = plain.astype(np.complex64)
            elif damage != "no tracks":
                file[f"root/default/{name}"] = np.zeros((2, 3), np.float32)
    with pytest.raises(TrackFileError, match=r"bad\.hdf5"):
        load_clips(tmp_path, tiny)


def test_two_files_of_one_clip_are_refused(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    write_tracks(tmp_path / "clip.hdf5", 2)
    write_tracks(tmp_path / "clip.h5", 1)
    with pytest.raises(TrackFileError, match=r"clip\.h5 and clip\.hdf5 are two files of one clip"):
        load_clips(tmp_path, tiny)


def test_a_changed_run_leaves_no_windows_of_the_old_one(tmp_path: Path, tiny: Config) -> None:
    write_velocities(tmp_path / "clip.windows.json", tiny, 5)
    write_velocities(tmp_path / "clip.windows.json", tiny, 2)
    assert len(list(tmp_path.glob("*.pt"))) == 2


def test_both_layouts_in_one_folder_are_refused(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    write_tracks(tmp_path / "clip.hdf5", 1)
    write_velocities(tmp_path / "clip.windows.json", tiny, 1)
    with pytest.raises(TrackFileError, match="both"):
        find_tracks(tmp_path)


@pytest.mark.parametrize(("allowed", "most"), [(1024, MAX_OPEN_FILES), (-1, MAX_OPEN_FILES), (256, 32)])
def test_open_files_are_bounded(
    tmp_path: Path,
    tiny: Config,
    write_tracks: Write,
    monkeypatch: pytest.MonkeyPatch,
    allowed: int,
    most: int,
) -> None:
    """Below what the system allows, or a good file seems damaged when no more can be opened."""
    monkeypatch.setattr("os.sysconf", {"SC_OPEN_MAX": allowed}.__getitem__)
    path = write_tracks(tmp_path / "0.hdf5", 1)
    for number in range(1, most + 10):
        (tmp_path / f"{number}.hdf5").write_bytes(path.read_bytes())
    data = WindowDataset(load_clips(tmp_path, tiny), tiny)
    for index in range(len(data)):
        data.batch([index])
    opened = [reader for reader in data._readers._readers.values() if reader._descriptor is not None]
    assert len(opened) == most
    assert data.batch([0]).indices.tolist() == [0]
