"""preprocess_videos.py with several workers: the same tracks, a whole manifest, and clean ends."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch

from amplify_motion_tokenizer.config import Config, TrackingConfig
from amplify_motion_tokenizer.trackers import PointTracker
from amplify_motion_tokenizer.trackers.cotracker import CoTracker
from amplify_motion_tokenizer.trackers.flow import FlowTracker
from amplify_motion_tokenizer.tracks import preprocessing
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.formats import track_format
from tests.support.processes import PROC, is_filled, is_running, until, workers_of
from tests.support.run_scripts import (
    ENVIRONMENT,
    PREPROCESS,
    Run,
    Work,
    check_failures,
    command,
    files_below,
    manifest_of,
    preprocess,
    read_lines,
    render,
)

TWO = ("--tracking.num_workers", 2)
LONG = [f"{number:02d}" for number in range(6)]


def timeless(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifest without times."""
    timed = ("seconds", "stage_seconds")
    return {
        clip: {key: value for key, value in record.items() if key not in timed}
        for clip, record in manifest_of(folder).items()
    }


def test_tracks_do_not_depend_on_the_workers(run: Run, work: Work, broken: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    one = preprocess(run, work, alone, source=broken)
    two = preprocess(run, work, together, *TWO, source=broken)
    check_failures(two, broken, together)
    assert one.out.replace("alone", "together") == two.out
    assert timeless(alone) == timeless(together)
    tracks = [
        {name: content for name, (_, content) in files_below(folder, "*.hdf5").items()}
        for folder in (alone, together)
    ]
    assert tracks[0] == tracks[1] and len(tracks[0]) == 2


def test_the_summary_tells_the_time_of_each_stage(run: Run, work: Work, tmp_path: Path) -> None:
    result = preprocess(run, work, tmp_path, "--tracking.gate.enable", "true")
    assert "INFO: 60 frames in " in result.err
    record = manifest_of(tmp_path)["pan"]
    assert record["stage_seconds"].keys() == {"open", "read", "gate", "track", "write"}
    assert 0 < sum(record["stage_seconds"].values()) <= record["seconds"] + 0.01
    for stage in record["stage_seconds"]:
        assert f"{stage} " in result.err


@pytest.fixture(scope="module")
def long_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More clips than are done when the first is."""
    folder = tmp_path_factory.mktemp("long")
    first = render(folder / f"{LONG[0]}.mp4", frames=300)
    for name in LONG[1:]:
        shutil.copy(first, folder / f"{name}.mp4")
    return folder


@pytest.mark.skipif(not PROC, reason="finds processes in /proc")
def test_a_killed_worker_costs_its_clip_and_a_terminated_run_goes_on(
    run: Run, work: Work, long_clips: Path, tmp_path: Path
) -> None:
    out, manifest = tmp_path / "out", tmp_path / "out" / "manifest.jsonl"
    line = command(PREPROCESS, "--config", work.config, "--input", long_clips, "--output", out, *TWO)
    process = subprocess.Popen(
        line, env={**os.environ, **ENVIRONMENT}, stderr=subprocess.PIPE, encoding="utf-8"
    )
    until(lambda: process.poll() is not None or is_filled(manifest))
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    until(lambda: process.poll() is not None or "failed" in manifest.read_text(encoding="utf-8"))
    left = workers_of(process.pid)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (143, False), err
    until(lambda: not any(map(is_running, left)))

    failed = [record for record in read_lines(manifest) if record["status"] == "failed"]
    assert len(failed) == 1 and failed[0]["stage"] == "worker"
    assert failed[0]["error"].startswith(f"{failed[0]['source']}: the worker process ended with SIGKILL")
    assert failed[0]["error"] in err
    done = files_below(out, "*.hdf5")
    assert 1 <= len(done) < len(LONG) - 1
    assert files_below(out).keys() == {*done, "config.yaml", "manifest.jsonl"}
    again = preprocess(run, work, out, source=long_clips)
    assert again.status == 0 and f"{len(LONG) - len(done)} done" in again.out
    after = files_below(out, "*.hdf5")
    assert {name: after[name] for name in done} == done
    assert list(find_tracks(out)) == list(manifest_of(out)) == LONG


@pytest.fixture
def threads() -> Iterator[None]:
    before = cv2.getNumThreads(), torch.get_num_threads()
    yield
    cv2.setNumThreads(before[0])
    torch.set_num_threads(before[1])


@pytest.mark.parametrize(("share", "decoder"), [(1, 1), (3, 2)])
def test_a_worker_keeps_to_its_share_of_the_cores(
    share: int, decoder: int, threads: None, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Config] = []
    monkeypatch.setattr(preprocessing, "make_tracker", made.append)
    job = preprocessing.TrackingJob(tmp_path, tiny, track_format("hdf5")).prepare(share).job
    assert job.config in made and job.settings == track_format("hdf5").settings(tiny)
    assert (cv2.getNumThreads(), torch.get_num_threads()) == (share, share)
    assert [config.video.threads for config in made] == [decoder]  # no more than video.threads


def test_workers_are_one_per_core_unless_a_tracker_owns_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing, "available_cores", lambda: 6)

    def workers(tracker: type[PointTracker], asked: int | None) -> int:
        config = Config(tracking=TrackingConfig(num_workers=asked))
        return preprocessing.clip_workers(config, SimpleNamespace(owns_device=tracker.owns_device))

    numbers = [workers(FlowTracker, None), workers(CoTracker, None), workers(CoTracker, 2)]
    assert numbers == [6, 1, 2]


def test_workers_start_without_what_only_models_need() -> None:
    """Every worker imports anew: the quantiser's library alone took as long as half of the rest."""
    lines = "import sys, amplify_motion_tokenizer.tracks.preprocessing; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert "amplify_motion_tokenizer.trackers" in found.stdout.split()
    assert "vector_quantize_pytorch" not in found.stdout.split()
