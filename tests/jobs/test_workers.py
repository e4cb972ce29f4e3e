"""Worker processes, reading ahead and stage times, by themselves."""

import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from amplify_motion_tokenizer.devices import available_cores
from amplify_motion_tokenizer.errors import UnexpectedError, VideoError, WorkerError
from amplify_motion_tokenizer.jobs import stage_times, workers
from amplify_motion_tokenizer.jobs.read_ahead import read_ahead
from amplify_motion_tokenizer.jobs.stage_times import StageTimes
from amplify_motion_tokenizer.jobs.workers import run_in_workers
from tests.support import worker_jobs
from tests.support.processes import PROC, is_running, until, workers_of
from tests.support.worker_jobs import cannot_prepare, prepare


def test_every_item_has_its_outcome_whatever_becomes_of_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "available_cores", lambda: 7)
    items = ["a", "killed", "b", "bad", "talks", "c"]
    with caplog.at_level(logging.WARNING):
        outcomes = dict(run_in_workers(items, 2, prepare))
    assert sorted(outcomes) == sorted(items)
    died, bad = outcomes.pop("killed"), outcomes.pop("bad")
    assert isinstance(died, WorkerError) and "SIGKILL" in str(died)
    assert isinstance(bad, VideoError) and str(bad) == "bad: is no video"
    assert {item: str(said).rpartition(" of ")[0] for item, said in outcomes.items()} == {
        item: f"{item} on 3" for item in outcomes
    }
    assert str(os.getpid()) not in {str(said).split()[-1] for said in outcomes.values()}
    logged = {(record.name, record.getMessage()) for record in caplog.records}
    assert logged == {("jobs", "said 1"), ("py.warnings", "warned")}
    assert not multiprocessing.active_children()


def test_an_exception_that_nobody_expects_is_its_items_own(capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = dict(run_in_workers(["bug", "a"], 1, prepare))
    assert str(outcomes["a"]).startswith("a on ")
    assert isinstance(outcomes["bug"], UnexpectedError) and str(outcomes["bug"]) == (
        f"ZeroDivisionError: a bug (workers.py:{_line_of('return work(item)')})"
    )
    assert "Traceback" not in capfd.readouterr().err
    assert not multiprocessing.active_children()


def _line_of(text: str) -> int:
    lines = Path(workers.__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_a_worker_that_cannot_begin_ends_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="worker failed at a"):
        list(run_in_workers(["a"], 1, cannot_prepare))
    assert "ZeroDivisionError: no work" in capfd.readouterr().err


def test_closing_ends_workers_that_are_busy() -> None:
    outcomes = run_in_workers(["a", "hangs"], 2, prepare)
    assert next(outcomes)[0] == "a"
    outcomes.close()
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not PROC, reason="finds processes in /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_workers_end_with_their_parent(number: signal.Signals, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, worker_jobs.__file__],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline().startswith("a on ")
    left = workers_of(process.pid)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to all of them
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (status, "") and len(left) == 2
    until(lambda: not any(map(is_running, left)))


def test_available_cores_are_those_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert 1 <= available_cores() <= 3


def test_read_ahead_keeps_order_and_depth() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    for number in read_ahead(numbers(), 3):
        assert number < len(made) <= number + 4
    assert (number, made) == (49, list(range(50)))


def test_read_ahead_raises_what_its_items_raise_in_their_turn() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise VideoError("the third")

    items = read_ahead(failing(), 8)
    assert list(itertools.islice(items, 2)) == [1, 2]
    with pytest.raises(VideoError, match="the third"):
        next(items)
    assert list(items) == []


def test_closing_read_ahead_frees_what_it_read() -> None:
    source = iter(n for n in itertools.count())
    before = threading.active_count()
    items = read_ahead(source, 4)
    assert next(items) == 0 and threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before
    source.close()  # type: ignore[attr-defined]  # raises while another thread is in it


def test_nested_stages_share_out_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()  # each look at the clock is a second after the last
    monkeypatch.setattr(stage_times.time, "perf_counter", lambda: next(clock))
    times = StageTimes()
    with times.stage("write"):
        for _ in times.each("track", times.each("read", "ab")):
            pass
    assert times.seconds == {"write": 4, "track": 6, "read": 3}
    assert sum(times.seconds.values()) == next(clock) - 1
