"""The index of a large folder of tracks: the same clips without opening files, and true whatever happens."""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import pytest

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.tracks import folder_index, hdf5
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile, TrackFileWriter
from tests.support.tracked import SIZE, clip_record_of, random_windows

INDEX = ".tracks.json"


@pytest.fixture
def folder(tmp_path: Path, tiny: Config, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder_index, "LEAST_CLIPS", 3)
    for number in range(4):
        with TrackFileWriter(tmp_path / f"sub/{number}.hdf5", clip_record_of(tiny), SIZE) as writer:
            for window in random_windows(tiny, 2 + number, number, SIZE):
                writer.append(window)
            writer.finish(num_frames=14, windows_dropped=0)
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are opened."""
    names: list[str] = []

    def noting(really: Callable[[Path], Any], path: Path) -> Any:
        names.append(path.name)
        return really(path)

    for opener in ("open_hdf5", "open_for_texts"):
        monkeypatch.setattr(hdf5, opener, partial(noting, getattr(hdf5, opener)))
    return names


def told(clips: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: vars(clip) for name, clip in clips.items()}


def test_a_second_look_opens_no_file_and_finds_the_same(
    folder: Path, opened: list[str], tiny: Config
) -> None:
    first = find_tracks(folder)
    assert len(opened) == 4 and (folder / INDEX).is_file()
    opened.clear()
    second = find_tracks(folder)
    assert opened == [] and told(second) == told(first)
    windows = WindowDataset(load_clips(folder, tiny), tiny)
    assert len(windows) == 2 + 3 + 4 + 5
    windows.batch([0, 13])  # read from the files that the index led to
    assert opened == ["0.hdf5", "3.hdf5"]


def test_files_that_changed_came_or_went_are_looked_at(folder: Path, opened: list[str], tiny: Config) -> None:
    find_tracks(folder)
    opened.clear()
    (folder / "sub/0.hdf5").unlink()
    os.utime(folder / "sub/1.hdf5", ns=(0, time.time_ns()))
    for number, windows in ((2, 7), (9, 1)):
        with TrackFileWriter(folder / f"sub/{number}.hdf5", clip_record_of(tiny), SIZE) as writer:
            for window in random_windows(tiny, windows, number, SIZE):
                writer.append(window)
            writer.finish(num_frames=14, windows_dropped=0)
    clips = find_tracks(folder)
    assert opened == ["1.hdf5", "2.hdf5", "9.hdf5"]
    assert {name: clip.num_windows for name, clip in clips.items()} == {
        "sub/1": 3,
        "sub/2": 7,
        "sub/3": 5,
        "sub/9": 1,
    }
    opened.clear()
    assert told(find_tracks(folder)) == told(clips) and opened == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda index: "no JSON",
        lambda index: json.dumps([]),
        lambda index: json.dumps(index | {"version": 2}),
        lambda index: json.dumps(index | {"texts": []}),
        lambda index: json.dumps(index | {"clips": {"sub/0": 7}}),
        lambda index: json.dumps(index | {"texts": ["null"] * len(index["texts"])}),
        lambda index: json.dumps(index | {"texts": ["}"] * len(index["texts"])}),
        lambda index: json.dumps(index | {"texts": ["-1"] * len(index["texts"])}),
    ],
)
def test_a_damaged_index_is_made_anew(folder: Path, spoil: Any) -> None:
    first, path = find_tracks(folder), folder / INDEX
    good = path.read_bytes()
    path.write_text(spoil(json.loads(good)), encoding="utf-8")
    assert told(find_tracks(folder)) == told(first)
    find_tracks(folder)
    assert json.loads(path.read_bytes())["clips"].keys() == json.loads(good)["clips"].keys()
    assert told(find_tracks(folder)) == told(first)


def test_an_index_that_lies_is_found_out_when_windows_are_read(folder: Path, tiny: Config) -> None:
    find_tracks(folder)
    path = folder / INDEX
    path.write_text(path.read_text(encoding="utf-8").replace('"2"', '"900"'), encoding="utf-8")
    clips = load_clips(folder, tiny)
    assert clips["sub/0"].num_windows == 900
    with pytest.raises(TrackFileError, match=r"0\.hdf5: has changed since it was first opened"):
        WindowDataset(clips, tiny).batch([500])


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert len(find_tracks(folder)) == 4 and not (folder / INDEX).exists()


def test_other_views_do_not_go_by_this_index(folder: Path) -> None:
    for path in folder.rglob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            file.copy("root/default", file["root"], "wrist")
    two = find_tracks(folder, ["wrist", "default"])
    assert [clip.views for clip in two.values()] == [["/root/wrist", "/root/default"]] * 4
    assert [clip.views for clip in find_tracks(folder, ["default"]).values()] == [["/root/default"]] * 4


def test_small_folders_have_none(tmp_path: Path, write_tracks: Any) -> None:
    write_tracks(tmp_path / "clip.hdf5", 3)
    assert isinstance(find_tracks(tmp_path)["clip"], TrackFile)
    assert {path.name for path in tmp_path.iterdir()} == {"clip.hdf5"}
