"""preprocess_videos.py as a user runs it: track files, a manifest, and runs that go on."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import h5py
import pytest
import torch

from amplify_motion_tokenizer.config import Config, settings_hash, track_settings
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from tests.support.render_clips import cut_file
from tests.support.run_scripts import (
    CLIPS,
    ENVIRONMENT,
    PREPROCESS,
    STARTS,
    TRAIN,
    Run,
    Work,
    check_failures,
    command,
    files_below,
    manifest_of,
    preprocess,
    redone,
    render,
    statuses,
)


@pytest.fixture
def tracks(work: Work, tmp_path: Path) -> Path:
    """A copy of the tracks, to change."""
    return shutil.copytree(work.tracks, tmp_path / "tracks")


def test_preprocess_writes_one_track_file_per_clip(work: Work, tiny: Config) -> None:
    assert work.results[PREPROCESS].out == "tracks in tracks: 4 done (20 windows), 0 skipped, 0 failed\n"
    expected = {f"{name}.hdf5" for name in CLIPS} | {"config.yaml", "manifest.jsonl"}
    assert files_below(work.tracks).keys() == expected
    for name in CLIPS:
        with h5py.File(work.tracks / f"{name}.hdf5") as file:
            view = file["root/default"]
            assert view["tracks"].shape == (5, 6, 9, 2)
            assert view["vis"].shape == (5, 6, 9)
            assert view["start_frame"][:].tolist() == STARTS
            assert view["start_time"][:].tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
            assert (view.attrs["height"], view.attrs["width"]) == (48, 64)
            assert file["root"].attrs["config_hash"] == settings_hash(track_settings(tiny))


def test_preprocess_saves_the_config_that_it_used(work: Work) -> None:
    saved = config_from_dict(load_yaml(work.tracks / "config.yaml"), "in the test")
    assert saved == config_from_dict(load_yaml(work.config), "in the test")


def test_manifest_has_one_line_per_clip(work: Work) -> None:
    records = manifest_of(work.tracks)
    assert list(records) == sorted(CLIPS)
    for name, record in records.items():
        found = {key: record[key] for key in ("status", "windows", "windows_dropped", "frames", "fps")}
        assert found == {"status": "done", "windows": 5, "windows_dropped": 0, "frames": 15, "fps": 10.0}
        assert record["output"] == f"{name}.hdf5"
        assert Path(record["source"]) == Path("videos") / f"{name}.mp4"


def test_second_run_skips_everything(run: Run, work: Work, tracks: Path) -> None:
    before = files_below(tracks, "*.hdf5")
    result = preprocess(run, work, tracks)
    assert (result.status, result.out) == (
        0,
        f"tracks in {tracks}: 0 done (0 windows), 4 skipped, 0 failed\n",
    )
    assert files_below(tracks, "*.hdf5") == before
    records = manifest_of(tracks)
    assert {clip: (record["status"], record["windows"]) for clip, record in records.items()} == dict.fromkeys(
        CLIPS, ("skipped", 5)
    )


def test_tracks_of_clips_that_are_gone_are_warned_of(run: Run, work: Work, tracks: Path) -> None:
    result = preprocess(run, work, tracks, source=work.videos / "pan.mp4")
    assert result.status == 0
    assert "also holds tracks of 3 clips that are not in the input, such as sub/deep/roll" in result.err
    assert "also holds" not in preprocess(run, work, tracks).err


def test_missing_and_cut_outputs_alone_are_redone(run: Run, work: Work, tracks: Path) -> None:
    before = files_below(tracks, "*.hdf5")
    (tracks / "pan.hdf5").unlink()
    cut_file(tracks / "sub/zoom.hdf5", tracks / "sub/zoom.hdf5", 0.6)
    assert preprocess(run, work, tracks).status == 0
    after = files_below(tracks, "*.hdf5")
    assert redone(before, after) == {"pan.hdf5", "sub/zoom.hdf5"}
    assert statuses(tracks) == {
        "pan": "done",
        "sub/zoom": "done",
        "été 1": "skipped",
        "sub/deep/roll": "skipped",
    }
    assert TrackFile(tracks / "sub/zoom.hdf5").num_windows == 5


def test_other_settings_need_overwrite(run: Run, work: Work, tracks: Path) -> None:
    before = files_below(tracks)
    refused = preprocess(run, work, tracks, "--tracking.window_stride", 3)
    assert "tracking.window_stride 2 -> 3" in refused.error
    assert "--overwrite" in refused.error
    assert files_below(tracks) == before
    result = preprocess(run, work, tracks, "--tracking.window_stride", 3, "--overwrite")
    assert result.status == 0
    assert "4 done (16 windows), 0 skipped, 0 failed" in result.out
    assert redone(before, files_below(tracks)) == set(before)
    with h5py.File(tracks / "sub/deep/roll.hdf5") as file:
        assert file["root/default/start_frame"][:].tolist() == [0, 3, 6, 9]


def test_overwrite_redoes_what_is_complete(run: Run, work: Work, tracks: Path) -> None:
    before = files_below(tracks, "*.hdf5")
    assert "4 done" in preprocess(run, work, tracks, "--overwrite").out
    after = files_below(tracks, "*.hdf5")
    assert redone(before, after) == set(before)
    assert len(after) == 4


def test_velocity_files_train(run: Run, work: Work, tmp_path: Path) -> None:
    out = tmp_path / "velocities"
    assert preprocess(run, work, out, "--format", "pt").status == 0
    expected = {f"{name}_start{start:06d}.pt" for name in CLIPS for start in STARTS}
    assert files_below(out, "*.pt").keys() == expected
    window = torch.load(out / "été 1_start000004.pt", weights_only=True)
    assert (window.shape, window.dtype) == ((5, 9, 2), torch.float32)
    assert 0.01 < float(window.abs().max()) <= 1
    index = json.loads((out / "sub/zoom.windows.json").read_text(encoding="utf-8"))
    assert (index["start_frame"], index["num_frames"], index["windows_dropped"]) == (STARTS, 15, 0)

    assert "0 done (0 windows), 4 skipped" in preprocess(run, work, out, "--format", "pt").out
    assert "--format" in preprocess(run, work, out).error
    line = ["--config", work.config, "--input", out, "--output", tmp_path / "run"]
    assert run(TRAIN, *line, "--training.max_steps", 3).status == 0
    settings = load_checkpoint(tmp_path / "run/last.pth").track_settings
    assert settings is not None
    assert (settings["tracking.window_stride"], settings["data.reference_size"]) == (2, {"shorter": 48})


def test_a_killed_run_leaves_complete_files_and_goes_on(run: Run, work: Work, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    first = render(videos / "00.mp4", frames=200)
    names = [f"{number:02d}" for number in range(12)]
    for name in names[1:]:
        shutil.copy(first, videos / f"{name}.mp4")
    line = command(PREPROCESS, "--config", work.config, "--input", videos, "--output", out)
    kill_once(out / "manifest.jsonl", line)

    complete = files_below(out, "[0-9]*.hdf5")
    assert 1 <= len(complete) < len(names), "the run was not killed in its middle"
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        *complete,
        "config.yaml",
        "manifest.jsonl",
    }
    assert {f"{name}.hdf5" for name in find_tracks(out)} == set(complete)
    assert all(TrackFile(out / name).num_windows == 48 for name in complete)
    result = preprocess(run, work, out, source=videos)
    left = len(names) - len(complete)
    assert result.status == 0
    assert f"{left} done ({48 * left} windows), {len(complete)} skipped, 0 failed" in result.out
    assert not list(out.rglob(".*"))
    after = files_below(out, "[0-9]*.hdf5")
    assert {name: after[name] for name in complete} == complete
    assert list(find_tracks(out)) == list(manifest_of(out)) == names


def kill_once(appears: Path, line: list[str]) -> None:
    """Starts a command and kills it the hard way as soon as the file holds a line."""
    process = subprocess.Popen(
        line, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (appears.exists() and appears.stat().st_size):
        assert process.poll() is None, "the command ended before it wrote the file"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL


def test_bad_clips_fail_alone(run: Run, work: Work, broken: Path, tmp_path: Path) -> None:
    result = preprocess(run, work, tmp_path, source=broken)
    check_failures(result, broken, tmp_path)
    assert result.out == f"tracks in {tmp_path}: 2 done (10 windows), 0 skipped, 5 failed\n"
    assert list(find_tracks(tmp_path)) == ["good", "sub/good"]
    again = preprocess(run, work, tmp_path, source=broken)
    assert again.status == 3
    assert "0 done (0 windows), 2 skipped, 5 failed" in again.out


def test_overwrite_does_not_mix_the_two_layouts(run: Run, work: Work, tracks: Path) -> None:
    before = files_below(tracks)
    result = preprocess(run, work, tracks, "--format", "pt", "--overwrite")
    assert result.status == 2
    assert "holds tracks of --format hdf5; choose another --output" in result.err
    assert files_below(tracks) == before
