"""A track format that is only a module and a line in the table: all stages take it."""

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation.against_truth import evaluate_tracks
from amplify_motion_tokenizer.evaluation.draw import draw_tracked
from amplify_motion_tokenizer.evaluation.drawn_view import Style
from amplify_motion_tokenizer.jobs.output_folders import kind_of, open_output_folder
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.formats import DEFAULT_FORMAT, FORMATS, track_format, track_formats
from amplify_motion_tokenizer.tracks.pack_writing import write_pack
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.tracks.stored import positions
from tests.support.run_scripts import render


@pytest.fixture
def npz(monkeypatch: pytest.MonkeyPatch) -> str:
    """A further line in the table."""
    monkeypatch.setitem(FORMATS, "npz", ("tests.support.npz_tracks", "one npz file per clip"))
    return "npz"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    render(tmp_path / "videos/sub/pan.mp4", "pan")
    render(tmp_path / "videos/roll.mp4", "roll", seed=1)
    return tmp_path / "videos"


def with_one_worker(config: Config) -> Config:
    return dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, num_workers=1))


def test_a_new_format_goes_through_all_stages(npz: str, videos: Path, tiny: Config, tmp_path: Path) -> None:
    config = with_one_worker(tiny)
    folder, usual = tmp_path / "npz", tmp_path / "hdf5"
    summary = preprocess_folder(videos, folder, config, npz)
    preprocess_folder(videos, usual, config)
    assert (summary.done, summary.failed) == (2, 0)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["config.yaml", "manifest.jsonl", "roll.npz", "sub/pan.npz"]
    again = preprocess_folder(videos, folder, config, npz)
    assert (again.done, again.skipped) == (0, 2)

    new, old = (WindowDataset(load_clips(place, config), config) for place in (folder, usual))
    assert list(new.clips) == list(old.clips) == ["roll", "sub/pan"] and len(new) == len(old) > 4
    every = list(range(len(new)))
    for found, expected in zip(new.batch(every).inputs, old.batch(every).inputs, strict=True):
        assert torch.equal(found, expected)

    # What asks for positions, starts and records takes it too.
    scores = evaluate_tracks(folder, usual)
    assert [score.windows for score in scores] == [clip.num_windows for clip in new.clips.values()]
    assert draw_tracked(folder, videos, tmp_path / "drawn", Style()).done == 2
    assert write_pack(positions(find_tracks(folder, None)), tmp_path / "pack")["clips"][0]["name"] == "roll"
    assert list(load_clips(tmp_path / "pack", config)) == ["roll", "sub/pan"]

    # Its folder is one of tracks, and of one format.
    assert kind_of(folder) == "tracks"
    with pytest.raises(UsageError, match="holds tracks, among which codes would get mixed up"):
        open_output_folder(folder, "codes")
    with pytest.raises(UsageError, match=r"holds tracks of --format npz; choose another --output"):
        preprocess_folder(videos, folder, config)
    (usual / "roll.npz").write_bytes((folder / "roll.npz").read_bytes())
    with pytest.raises(TrackFileError, match="both --format hdf5 and --format npz"):
        find_tracks(usual)


def test_a_folder_without_tracks_names_what_each_format_looks_for(npz: str, tmp_path: Path) -> None:
    with pytest.raises(
        TrackFileError, match=r"looked for \.hdf5 \.h5, <clip>_start<n>\.pt, \.npz; make some with"
    ):
        find_tracks(tmp_path)


def test_the_table_and_the_formats_agree() -> None:
    assert [each.name for each in track_formats()] == list(FORMATS)
    assert DEFAULT_FORMAT == "hdf5"
    for name in FORMATS:  # workers get the format itself
        copy = pickle.loads(pickle.dumps(track_format(name)))
        assert copy.target(Path("out"), "a/b.c") == track_format(name).target(Path("out"), "a/b.c")


def test_the_table_waits_for_no_format() -> None:
    lines = "import sys, amplify_motion_tokenizer.tracks.formats; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert {"torch", "h5py", "numpy", "cv2"}.isdisjoint(found.stdout.split())
