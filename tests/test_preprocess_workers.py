"""preprocess_videos.py with several workers: the same tracks, a whole manifest, and clean ends."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from run_scripts import (
    ENVIRONMENT,
    PREPROCESS,
    Run,
    Work,
    check_failures,
    command,
    files_below,
    manifest_of,
    preprocess,
    render,
)

from amplify_motion_tokenizer import preprocessing
from amplify_motion_tokenizer.config import Config, TrackingConfig
from amplify_motion_tokenizer.stores import find_tracks

TWO = ("--tracking.num_workers", 2)
LONG = [f"{number:02d}" for number in range(8)]


def timeless(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifest without times."""
    timed = ("seconds", "stage_seconds")
    return {
        clip: {key: value for key, value in record.items() if key not in timed}
        for clip, record in manifest_of(folder).items()
    }


@pytest.mark.parametrize("output_format", ["hdf5", "pt"])
def test_tracks_do_not_depend_on_the_workers(
    output_format: str, run: Run, work: Work, broken: Path, tmp_path: Path
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    one = preprocess(run, work, alone, "--format", output_format, source=broken)
    two = preprocess(run, work, together, "--format", output_format, *TWO, source=broken)
    check_failures(two, broken, together)
    assert one.out.replace("alone", "together") == two.out
    assert timeless(alone) == timeless(together)
    tracks = [
        {name: content for name, (_, content) in files_below(folder, "*good*").items()}
        for folder in (alone, together)
    ]
    assert tracks[0] == tracks[1] and len(tracks[0]) == (2 if output_format == "hdf5" else 12)


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
    first = render(folder / f"{LONG[0]}.mp4", frames=400)
    for name in LONG[1:]:
        shutil.copy(first, folder / f"{name}.mp4")
    return folder


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Zombies, which nobody may reap where there is no init, do not count."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Any, what: str) -> Any:
    deadline = time.monotonic() + 60
    while not (result := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.002)
    return result


@pytest.fixture
def two_at_work(work: Work, long_clips: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run with two workers that has written its first track file, and its output."""
    line = ["--config", work.config, "--input", long_clips, "--output", tmp_path / "out", *TWO]
    process = subprocess.Popen(
        command(PREPROCESS, *line),
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,  # so that Ctrl-C can be sent as a terminal does: to all of them
    )
    manifest = tmp_path / "out" / "manifest.jsonl"
    until(lambda: process.poll() is not None or (manifest.exists() and manifest.stat().st_size), "no clip")
    assert process.poll() is None, process.communicate()
    yield process, tmp_path / "out"
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["ctrl-c", "terminated", "killed"],
)
def test_an_ended_run_leaves_no_worker_and_no_part_of_a_file(
    number: signal.Signals,
    status: int,
    two_at_work: tuple[subprocess.Popen[str], Path],
    run: Run,
    work: Work,
    long_clips: Path,
) -> None:
    process, out = two_at_work
    workers = children_of(process.pid)
    assert len(workers) >= 2
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    until(lambda: not any(map(is_running, workers)), "a worker is left")

    done = files_below(out, "*.hdf5")
    assert 1 <= len(done) < len(LONG)
    assert files_below(out).keys() == {*done, "config.yaml", "manifest.jsonl"}
    if number == signal.SIGTERM:  # one of them goes on
        again = preprocess(run, work, out, *TWO, source=long_clips)
        assert again.status == 0 and f"{len(LONG) - len(done)} done" in again.out
        after = files_below(out, "*.hdf5")
        assert {name: after[name] for name in done} == done
        assert list(find_tracks(out)) == list(manifest_of(out)) == LONG


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
def test_a_killed_worker_costs_its_clip_alone(two_at_work: tuple[subprocess.Popen[str], Path]) -> None:
    process, out = two_at_work
    spawned = [
        child
        for child in children_of(process.pid)
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    os.kill(spawned[0], signal.SIGKILL)
    said, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (3, False)
    failed = {clip: record for clip, record in manifest_of(out).items() if record["status"] == "failed"}
    ((clip, record),) = failed.items()
    assert record["stage"] == "worker" and "SIGKILL" in record["error"] and f"{clip}.mp4: " in record["error"]
    assert record["error"] in err
    assert f"{len(LONG) - 1} done" in said and len(files_below(out, "[0-9]*.hdf5")) == len(LONG) - 1


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
    preprocessing._in_worker(tmp_path, tiny, {}, "hdf5", share)
    assert (cv2.getNumThreads(), torch.get_num_threads()) == (share, share)
    assert [config.video.threads for config in made] == [decoder]  # no more than video.threads


def test_workers_are_one_per_core_unless_a_tracker_owns_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing, "available_cores", lambda: 6)
    numbers = {
        name: preprocessing._num_workers(Config(tracking=TrackingConfig(tracker=name, num_workers=asked)))
        for name, asked in (("flow", None), ("cotracker3_offline", None), ("cotracker2", 2))
    }
    assert numbers == {"flow": 6, "cotracker3_offline": 1, "cotracker2": 2}
