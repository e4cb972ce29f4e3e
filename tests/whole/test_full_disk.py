"""A disk that is full: told in one line, nothing is taken for done, and with more room the run goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.run_scripts import PREPROCESS, TRAIN, Run, Work, manifest_of

KB = 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(line, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Takes all but ``left`` bytes."""
    state = os.statvfs(disk)
    path = disk / "filler"
    path.write_bytes(bytes(state.f_bavail * state.f_frsize - left))
    return path


def check_told(err: str) -> None:
    assert "Traceback" not in err, err
    told = [
        line for line in err.splitlines() if "ERROR" in line or line.startswith("error") or "error:" in line
    ]
    assert any("No space left" in line or "disk full" in line for line in told), err


@pytest.mark.parametrize("left", [20 * KB, 150 * KB])
def test_preprocess(run: Run, work: Work, disk: Path, left: int) -> None:
    filler = fill(disk, left)
    line = ["--config", work.config, "--input", work.videos, "--output", disk / "tracks"]
    result = run(PREPROCESS, *line)
    assert result.status == 2
    check_told(result.err)
    records = manifest_of(disk / "tracks") if (disk / "tracks/manifest.jsonl").exists() else {}
    for name, record in records.items():
        assert (disk / f"tracks/{name}.hdf5").is_file() == (record["status"] != "failed")
    assert not list(disk.rglob(".*.tmp*"))
    filler.unlink()
    assert run(PREPROCESS, *line).status == 0
    for path in work.tracks.rglob("*.hdf5"):
        assert (disk / "tracks" / path.relative_to(work.tracks)).read_bytes() == path.read_bytes()


def test_pack(run: Run, work: Work, disk: Path) -> None:
    filler = fill(disk, 12 * KB)
    line = ["pack", "--input", work.tracks, "--output", disk / "pack"]
    result = run("amplify_motion_tokenizer/__main__.py", *line)
    assert result.status == 2
    check_told(result.err)
    assert list(disk.iterdir()) == [filler]
    filler.unlink()
    assert run("amplify_motion_tokenizer/__main__.py", *line).status == 0


def test_draw(run: Run, work: Work, disk: Path) -> None:
    filler = fill(disk, 8 * KB)
    line = ["draw", "--tracks", work.tracks, "--input", work.videos, "--output", disk / "drawn"]
    result = run("amplify_motion_tokenizer/__main__.py", *line)
    assert result.status in (2, 3)
    check_told(result.err)
    records = manifest_of(disk / "drawn") if (disk / "drawn/manifest.jsonl").exists() else {}
    assert all(record["status"] == "failed" for record in records.values())
    filler.unlink()
    assert run("amplify_motion_tokenizer/__main__.py", *line).status == 0


@pytest.mark.parametrize("left", [0, 12 * KB, 40 * KB, 100 * KB])
def test_train(run: Run, work: Work, disk: Path, left: int) -> None:
    """TensorBoard's thread is among the first to find the disk full, or the checkpoint is."""
    fill(disk, left)
    line = ["--config", work.config, "--input", work.tracks, "--output", disk / "run"]
    result = run(TRAIN, *line)
    assert result.status == 2
    check_told(result.err)
    assert not list((disk / "run").rglob("*.pth"))
    assert not list(disk.rglob(".*.tmp*"))
