"""A clip that takes too long is ended and recorded, and the others are done."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from amplify_motion_tokenizer.jobs.loop import Workers, run_clips
from amplify_motion_tokenizer.jobs.manifest import Manifest
from amplify_motion_tokenizer.jobs.workers import run_in_workers
from amplify_motion_tokenizer.video.clips import Clip, ViewSource
from tests.support.run_scripts import INFER, PREPROCESS, command, manifest_of, render, run_process, statuses
from tests.support.worker_jobs import prepare, prepare_clips

DOUBLE = Path(__file__).parents[1] / "support" / "hanging_decoder"


def clip(name: str) -> Clip:
    return Clip(name, {"default": ViewSource(Path(name))})


@pytest.mark.parametrize("count", [1, 2])
def test_the_others_are_done(tmp_path: Path, count: int) -> None:
    clips = [clip(name) for name in ("a", "hangs", "b", "c")]
    manifest, began = Manifest(tmp_path / "manifest.jsonl"), time.monotonic()
    workers = Workers(count, prepare_clips, limit_s=1.5)
    summary = run_clips(clips, manifest, lambda _: False, lambda _: pytest.fail("ran here"), workers)
    assert (summary.done, summary.failed) == (3, 1)
    assert time.monotonic() - began < 60
    record = manifest.records["hangs"]
    assert (record["status"], record["stage"]) == ("failed", "worker")
    assert record["error"].endswith(
        "hangs: took longer than 1.5 s, and its worker process was ended; leave the clip out, or raise "
        "tracking.clip_limit_s"
    )
    assert not multiprocessing.active_children()
    pids = {record["process"] for record in manifest.records.values() if record["status"] == "done"}
    assert os.getpid() not in pids
    assert len(pids) <= count + 1


def test_a_worker_that_is_killed_with_its_result_on_the_way_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, killed = [], []

    def ready(busy: dict[Any, Any], limit_s: float | None) -> list[Any]:
        found = wait(list(busy))
        for worker in (busy[connection] for connection in found):
            told.append(worker.item)
            if told == ["a", "a"]:  # it has begun, and its result is there
                killed.append(worker.process.pid)
                monkeypatch.setattr(worker, "_late", True)
                worker.process.kill()
                worker.process.join()
        return found

    monkeypatch.setattr("amplify_motion_tokenizer.jobs.workers._ready", ready)
    found = dict(run_in_workers(["a", "b"], 1, prepare, limit_s=100))
    assert str(found["a"]).startswith("a on ")
    assert str(found["a"]).endswith(f" of {killed[0]}")
    assert str(found["b"]).startswith("b on ")


@pytest.mark.parametrize("script", [PREPROCESS, INFER])
def test_a_decoder_that_hangs_costs_its_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    for name in ("a", "hangs"):
        render(tmp_path / f"in/{name}.mp4", frames=30)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(DOUBLE), os.environ.get("PYTHONPATH", "")]))
    line = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--video.reader", "decord"]
    line += ["--tracking.num_workers", 1, "--tracking.clip_limit_s", 6]
    result = run_process(*command(script, *line))
    assert result.status == 3, result.err
    assert "Traceback" not in result.err
    assert statuses(tmp_path / "out") == {"a": "done", "hangs": "failed"}
    assert "took longer than 6 s" in manifest_of(tmp_path / "out")["hangs"]["error"]
    assert not list((tmp_path / "out").rglob(".*.tmp*"))
