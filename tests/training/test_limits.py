"""Few open files, a full disk, a loader process that is killed: one line each, and nothing is lost."""

import dataclasses
import errno
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.compat.tensorflow_stub.io.gfile import GFile

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import TrackFileError, TrainingError, UsageError, WorkerError
from amplify_motion_tokenizer.files import write_text, write_torch
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.training.checkpoints import newest_state
from amplify_motion_tokenizer.training.loader_faults import check_open_files, worker_faults_told
from amplify_motion_tokenizer.training.log import log_failures_named
from amplify_motion_tokenizer.training.run import train
from amplify_motion_tokenizer.training.trainer import Trainer
from tests.support.configs import with_training
from tests.support.training_runs import next_second


def _train_within(limit: int, config: Config, tmp_path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    train(config, tmp_path / "tracks", tmp_path / "run")


def test_accumulated_micro_batches_hold_no_open_files(run_config: Config, tmp_path: Path) -> None:
    """A hundred of them with nine tensors each, where a process may open 200 files."""
    config = with_training(run_config, batch_size=1, gradient_accumulation_steps=100, num_workers=1, epochs=1)
    process = multiprocessing.get_context("fork").Process(target=_train_within, args=(200, config, tmp_path))
    process.start()
    process.join(timeout=100)
    assert process.exitcode == 0
    assert ((tmp_path / "run") / "last.pth").is_file()


def test_a_limit_at_which_workers_would_hang_is_refused(
    run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 40 if name == "SC_OPEN_MAX" else 4096)
    words = r"may open 40 files \(ulimit -n\), and 2 loader workers need 84: give ulimit -n 84, or"
    with pytest.raises(TrainingError, match=words):
        train(with_training(run_config, num_workers=2), tmp_path / "tracks", tmp_path / "run")
    check_open_files(0)


def test_a_killed_loader_process_is_told_in_one_line_and_the_run_goes_on(
    run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataclasses.replace(run_config.data, val_split=0.0)
    config = with_training(dataclasses.replace(run_config, data=data), num_workers=1, save_every_steps=1)
    step = Trainer._step

    def kill(trainer: Trainer, micro_batches: Any) -> Any:
        result = step(trainer, micro_batches)
        if trainer.state.step == 3:
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", kill)
        with pytest.raises(WorkerError, match=r"^a loader process has died \(.*--resume auto to go on$"):
            train(config, tmp_path / "tracks", tmp_path / "run")
    last = (tmp_path / "run") / "last.pth"
    newest = newest_state(tmp_path / "run")  # the signal may have come while last.pth was written
    assert newest is not None
    assert newest.training is not None
    assert newest.training["state"]["step"] in (1, 2, 3)
    next_second()
    train(config, tmp_path / "tracks", tmp_path / "run", resume="auto")
    train(config, tmp_path / "tracks", tmp_path / "whole")
    expected = load_checkpoint(tmp_path / "whole" / "last.pth").model
    assert all(torch.equal(value, expected[name]) for name, value in load_checkpoint(last).model.items())


def test_what_a_worker_raises_is_one_line() -> None:
    where = (
        "Caught TrackFileError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):"
    )
    text = f'{where}\n  File "x.py", line 3\na.errors.TrackFileError: y.hdf5: is bad\n'
    with pytest.raises(TrackFileError, match=r"^y\.hdf5: is bad$"), worker_faults_told():
        raise TrackFileError(text)
    with pytest.raises(RuntimeError, match="another"), worker_faults_told():
        raise RuntimeError("another")


def _full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("write", "wanted"),
    [
        (lambda path: write_torch(path, {"a": torch.zeros(500_000), "b": [torch.zeros(250_000)]}), "3.0 MB"),
        (lambda path: write_text(path, "é" * 600_000), "1.2 MB"),
    ],
)
def test_a_full_disk_says_how_much_was_wanted(
    write: Callable[[Path], None], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.pth"
    path.write_text("before", encoding="utf-8")
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", _full)
    words = rf"file\.pth: cannot be written \(disk full: {wanted} are wanted, and [\d.]+ MB are free\)"
    with pytest.raises(UsageError, match=words):
        write(path)
    monkeypatch.setattr(os, "fsync", fsync)
    assert path.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_limit_of_a_files_size_is_named(tmp_path: Path) -> None:
    def write() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_torch(tmp_path / "a.pth", {"a": torch.zeros(100_000)})
        except UsageError as error:
            assert "File too large" in str(error)
        else:
            raise AssertionError

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join(timeout=60)
    assert process.exitcode == 0


def test_a_full_disk_that_tensorboard_meets_first_is_one_line(
    run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = with_training(run_config, save_every_steps=1)
    flush, count = GFile.flush, 0

    def fill(file: Any) -> None:
        nonlocal count
        count += 1
        if count > 3:
            _full()
        flush(file)

    monkeypatch.setattr(GFile, "flush", fill)
    monkeypatch.setattr(GFile, "write", lambda file, content: fill(file))
    with pytest.raises(UsageError, match=r"run/tensorboard: cannot be written \(disk full: .* are free\)"):
        train(config, tmp_path / "tracks", tmp_path / "run")
    assert "Traceback" not in capfd.readouterr().err


def test_a_fault_of_another_thread_is_still_printed() -> None:
    told: list[Any] = []
    before, threading.excepthook = threading.excepthook, lambda args: told.append(args.exc_value)
    try:
        with log_failures_named(Path("x")):
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
    finally:
        threading.excepthook = before
    assert isinstance(told[0], ZeroDivisionError)
