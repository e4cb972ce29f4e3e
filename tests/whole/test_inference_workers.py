"""inference_short_clip.py with several workers: the same codes byte for byte, and a death costs one clip."""

import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer.codes import inference
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.trackers.flow import FlowTracker
from amplify_motion_tokenizer.tracks import preprocessing
from tests.support.processes import PROC, is_filled, until, workers_of
from tests.support.run_scripts import (
    ENVIRONMENT,
    INFER,
    Run,
    Work,
    command,
    files_below,
    infer,
    manifest_of,
    read_lines,
    render,
)

NAMES = [f"{number:02d}" for number in range(4)]
SAVE = ("--save", "latents", "labels")


@pytest.fixture
def long_clips(tmp_path: Path) -> Path:
    """More clips than are done when the first is."""
    first = render(tmp_path / f"in/{NAMES[0]}.mp4", frames=120)
    for name in NAMES[1:]:
        shutil.copy(first, tmp_path / f"in/{name}.mp4")
    return tmp_path / "in"


def outputs(folder: Path) -> dict[str, bytes]:
    """All that a run wrote, but for the manifest, which tells times."""
    return {name: data for name, (_, data) in files_below(folder).items() if name != "manifest.jsonl"}


@pytest.mark.skipif(not PROC, reason="finds processes in /proc")
def test_a_killed_worker_costs_its_clip_and_codes_do_not_depend_on_workers(
    run: Run, work: Work, long_clips: Path, tmp_path: Path
) -> None:
    out, manifest = tmp_path / "out", tmp_path / "out/manifest.jsonl"
    options = ["--checkpoint", work.best, "--input", long_clips, "--output", out, *SAVE]
    process = subprocess.Popen(
        command(INFER, *options, "--tracking.num_workers", 2),
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        until(lambda: process.poll() is not None or is_filled(manifest), seconds=180)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        said, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, "Traceback" in err) == (3, False), err
    failed = [record for record in read_lines(manifest) if record["status"] == "failed"]
    assert [record["stage"] for record in failed] == ["worker"], err
    assert "3 done" in said and "1 failed" in said
    lines = read_lines(out / "codes.jsonl")
    assert [line["clip"] for line in lines] == [name for name in NAMES if name != failed[0]["clip"]]

    again = infer(run, work, out, *SAVE, source=long_clips)
    assert again.status == 0 and "1 done" in again.out and "3 skipped" in again.out
    alone = infer(run, work, tmp_path / "alone", *SAVE, source=long_clips)
    assert alone.status == 0
    found, expected = outputs(out), outputs(tmp_path / "alone")
    assert found == expected and f"{NAMES[0]}.pt" in found
    assert list(manifest_of(out)) == NAMES


@pytest.mark.parametrize(
    ("device", "asked", "clips", "expected"),
    [("cpu", 3, 4, 3), ("cpu", None, 960, 6), ("cpu", None, 47, 2), ("cpu", None, 4, 1), ("meta", 3, 960, 1)],
)
def test_workers_are_those_of_tracking_that_pay_unless_the_model_owns_a_device(
    device: str, asked: int | None, clips: int, expected: int, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preprocessing, "available_cores", lambda: 6)
    config = load_checkpoint(work.best).config
    config = replace(config, tracking=replace(config.tracking, num_workers=asked))
    assert inference.tokenizing_workers(config, FlowTracker, torch.device(device), clips) == expected
