"""Runs that are killed, stopped or damaged, and go on as if nothing had been."""

import logging
import os
import re
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.errors import CheckpointError, UsageError
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.training.checkpoints import newest_state
from amplify_motion_tokenizer.training.run import train
from amplify_motion_tokenizer.training.trainer import Trainer
from benchmarks.resume_proof import largest_difference, logged, windows_of_epochs
from tests.support.configs import with_training
from tests.support.run_ranks import GRADIENT, KILLED, run_ranks
from tests.support.run_scripts import Result, Run, files_below, write_config
from tests.support.tracked import clip_record_of
from tests.support.training_runs import StopError, next_second, scalars, stop_after, weights

Write = Callable[..., Path]

HARD: dict[str, Any] = {
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "epochs": 2,
    "schedule": "cosine",
    "warmup_steps": 2,
    "clip_grad_norm": 1.0,
    "ema_decay": 0.9,
    "validate_every_steps": 4,
    "save_every_steps": 2,
}
"""Everything that a checkpoint must hold for the next step to be the same."""


@pytest.fixture
def folder(tmp_path: Path, write_tracks: Write, run: Run) -> Path:
    """21 windows that train and 7 that are held out, and the config of ``HARD`` with dropout."""
    for number in range(4):
        write_tracks(tmp_path / "tracks" / f"{number}.hdf5", 7, seed=number)
    write_config(tmp_path / "hard.yaml", model={"dropout": 0.2}, training=HARD)
    return tmp_path


def train_until(folder: Path, name: str, *signal: Any, processes: int = 1) -> list[Result]:
    """Trains into ``name``, resuming what is there; ``signal`` is of ``killed_training.py``."""
    line = [KILLED, "--record", folder / f"{name}.jsonl", *signal, "--", "--config", folder / "hard.yaml"]
    line += ["--input", folder / "tracks", "--output", folder / name, "--resume", "auto"]
    # As many windows a step for two processes as for one; loader workers for one.
    line += ["--training.batch_size", 2 // processes, "--training.num_workers", 2 * (processes == 1)]
    return run_ranks(folder, line, processes)


def check_same(folder: Path, windows: int, epochs: int) -> None:
    names = {path.name for path in (folder / "whole").glob("*.pth")}
    assert names == {path.name for path in (folder / "parts").glob("*.pth")}
    assert [largest_difference(folder / "whole" / name, folder / "parts" / name) for name in names] == [
        0.0
    ] * len(names)
    whole, parts = logged(folder / "whole"), logged(folder / "parts")
    assert whole == parts
    assert [step for step, _ in whole["train/loss"]] == list(range(1, 6 * epochs + 1))
    once = dict.fromkeys(range(windows), 1)
    assert windows_of_epochs(folder / "parts.jsonl") == dict.fromkeys(range(epochs), once)


def test_a_killed_run_ends_as_one_that_was_never_stopped(folder: Path) -> None:
    """Killed in the first epoch and in the second, with loader workers, dropout and accumulation."""
    assert [result.status for result in train_until(folder, "whole")] == [0]
    for step in (3, 9):  # of six an epoch
        assert [result.status for result in train_until(folder, "parts", "--at-step", step)] == [-9]
    (ended,) = train_until(folder, "parts")
    assert ended.status == 0
    assert "from step 8, 1 process" in ended.err
    check_same(folder, windows=21, epochs=2)


def test_two_processes_stop_together_and_go_on(folder: Path) -> None:
    """One of them gets SIGTERM; resumed, they end as two that were never stopped."""
    assert [result.status for result in train_until(folder, "whole", processes=2)] == [0, 0]
    stopped = train_until(folder, "parts", "--signal", "TERM", "--at-step", 8, "--rank", 1, processes=2)
    assert [result.status for result in stopped] == [143, 143], stopped
    # The signal comes before step 9 is taken, and that step is finished.
    assert "stopped by SIGTERM after step 9; --resume auto goes on from there" in stopped[0].err
    assert "Traceback" not in stopped[0].err
    assert [result.status for result in train_until(folder, "parts", processes=2)] == [0, 0]
    check_same(folder, windows=21, epochs=2)


@pytest.fixture
def run_config(run_config: Config) -> Config:
    """Twelve steps in two epochs, with every state kept."""
    return with_training(run_config, save_every_steps=2)


def stop_at(tmp_path: Path, config: Config, step: int, resume: str | None = None) -> None:
    with pytest.raises(StopError), stop_after(step):
        train(config, tmp_path / "tracks", tmp_path / "run", resume)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    """One byte within a tensor, which torch reads without a word."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        tensors = [entry for entry in archive.infolist() if not entry.filename.endswith("data.pkl")]
        tensor = archive.read(max(tensors, key=lambda entry: entry.file_size))
    content[content.index(tensor) + len(tensor) // 2] ^= 255
    path.write_bytes(bytes(content))


def flip_pickled(path: Path) -> None:
    """One byte that makes a tensor's type a word: torch then raises AttributeError, as for little else."""
    content = path.read_bytes()
    path.write_bytes(re.sub(rb"\(h(.)h.X", rb"(h\1h\1X", content, count=1, flags=re.DOTALL))
    with pytest.raises(AttributeError):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    "damage",
    [cut, flip, flip_pickled, lambda path: path.write_bytes(b"")],
    ids=["cut", "flip", "flip_pickled", "empty"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    run_config: Config, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    stop_at(tmp_path, run_config, 5)
    run = tmp_path / "run"
    damage(run / "last.pth")
    found = newest_state(run)
    assert found is not None
    assert found.path == run / "step_2.pth"
    (warning,) = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert str(run / "last.pth") in warning
    assert warning.endswith(f"going on from {run / 'step_2.pth'}, step 2, instead")


def test_without_a_whole_checkpoint_all_are_named(run_config: Config, tmp_path: Path) -> None:
    stop_at(tmp_path, run_config, 5)
    for name in ("last.pth", "step_2.pth"):
        cut(tmp_path / "run" / name)
    with pytest.raises(CheckpointError, match=r"none of its checkpoints is whole .*last\.pth.*step_2\.pth"):
        train(run_config, tmp_path / "tracks", tmp_path / "run", resume="auto")


def test_a_kill_between_two_writes_leaves_a_state(run_config: Config, tmp_path: Path) -> None:
    """last.pth is set aside before the new one is written; a run without it is a run all the same."""
    stop_at(tmp_path, run_config, 5)
    run = tmp_path / "run"
    os.replace(run / "last.pth", run / "step_4.pth")
    with pytest.raises(UsageError, match="holds a run already"):
        train(run_config, tmp_path / "tracks", tmp_path / "run")
    found = newest_state(run)
    assert found is not None
    assert found.path == run / "step_4.pth"


def names_in(run: Path) -> set[str]:
    return {path.name for path in run.glob("*.pth")}


def test_old_states_are_removed_as_the_config_says(run_config: Config, tmp_path: Path) -> None:
    train(with_training(run_config, keep_last=3), tmp_path / "tracks", tmp_path / "run")
    assert names_in(tmp_path / "run") == {
        "best.pth",
        "epoch_1.pth",
        "epoch_2.pth",
        "last.pth",
        "step_10.pth",
        "step_8.pth",
    }


def test_one_state_alone_is_kept_on_request(run_config: Config, tmp_path: Path) -> None:
    train(with_training(run_config, keep_last=1, epochs=1), tmp_path / "tracks", tmp_path / "run")
    assert names_in(tmp_path / "run") == {"best.pth", "epoch_1.pth", "last.pth"}


def test_resuming_from_an_earlier_state_drops_the_later_ones(run_config: Config, tmp_path: Path) -> None:
    """They are of another run then, and must not be taken for its newest state."""
    config = with_training(run_config, keep_last=9)
    train(config, tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    next_second()
    stop_at(tmp_path, config, 5, resume=str(run / "step_2.pth"))
    assert names_in(run) >= {"last.pth", "step_2.pth"}
    assert not names_in(run) & {"step_6.pth", "step_8.pth", "step_10.pth"}


def test_an_optimisers_state_in_a_file_of_its_own_is_still_read(run_config: Config, tmp_path: Path) -> None:
    """As runs could be told to keep it, before."""
    train(run_config, tmp_path / "tracks", tmp_path / "whole")
    stop_at(tmp_path, run_config, 5)
    run = tmp_path / "run"
    content = torch.load(run / "last.pth", weights_only=True)
    optimizer, content["training"]["optimizer"] = content["training"]["optimizer"], None
    content["config"]["training"]["separate_optimizer"] = True
    torch.save(content, run / "last.pth")
    (run / "step_2.pth").unlink()
    with pytest.raises(
        CheckpointError, match=r"last\.pth: cannot be resumed .*step_4\.optimizer\.pth does not"
    ):
        train(run_config, tmp_path / "tracks", run, resume=str(run / "last.pth"))
    torch.save({"step": 4, "optimizer": optimizer}, run / "step_4.optimizer.pth")
    next_second()
    train(run_config, tmp_path / "tracks", run, resume="auto")
    own, other = weights(run / "last.pth"), weights(tmp_path / "whole" / "last.pth")
    assert all(torch.equal(own[name], other[name]) for name in other)
    assert not list(run.glob("*.optimizer.pth"))


def test_a_changed_config_says_what_may_change(
    run_config: Config, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    train(with_training(run_config, epochs=1), tmp_path / "tracks", tmp_path / "run")
    caplog.set_level(logging.INFO)
    changed = with_training(run_config, epochs=3, learning_rate=1e-2)
    refused = "training.learning_rate 0.0001 -> 0.01) (these may change: training.epochs 1 -> 3)"
    with pytest.raises(CheckpointError, match=re.escape(refused)):
        train(changed, tmp_path / "tracks", tmp_path / "run", resume="auto")
    train(
        with_training(run_config, epochs=1, keep_last=1), tmp_path / "tracks", tmp_path / "run", resume="auto"
    )
    assert "going on with another config, which is allowed: training.keep_last 2 -> 1" in caplog.text


def test_a_checkpoint_is_due_by_the_clock(run_config: Config, tmp_path: Path) -> None:
    config = with_training(run_config, save_every_steps=None, save_every_minutes=1e-9)
    stop_at(tmp_path, config, 5)
    assert names_in(tmp_path / "run") == {"last.pth", "step_4.pth"}


def test_checkpoints_of_the_format_before_can_be_resumed(run_config: Config, tmp_path: Path) -> None:
    """Without the state, sums and settings that have been added since, written by an unfused AdamW."""
    train(with_training(run_config), tmp_path / "tracks", tmp_path / "whole")
    stop_at(tmp_path, run_config, 3)
    path = tmp_path / "run" / "last.pth"
    content = torch.load(path, weights_only=True)
    training = content["training"]
    del training["average"], training["optimizer"]["param_groups"][0]["fused"]
    for name in ("stale_validations", "skipped_steps", "run_id"):
        del training["state"][name]
    for name in ("known", "clamped", "center"):
        del training["epoch_totals"][name]
    for states in training["random_states"]:
        del states["python"], states["numpy"]
    for name in ("ema_decay", "keep_last", "compile", "max_skipped_steps"):
        del content["config"]["training"][name]
    torch.save(content, path)
    next_second()
    train(run_config, tmp_path / "tracks", tmp_path / "run", resume="auto")
    own, other = weights(path), weights(tmp_path / "whole" / "last.pth")
    assert all(torch.equal(own[name], other[name]) for name in other)


def test_a_stop_by_max_steps_validates_and_logs(run_config: Config, tmp_path: Path) -> None:
    config = with_training(run_config, max_steps=4, save_every_steps=None)
    train(config, tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    assert names_in(run) == {"last.pth", "best.pth"}
    metrics = load_checkpoint(run / "last.pth").metrics
    assert [step for step, _ in scalars(run, "val/loss")] == [4]
    assert scalars(run, "val/loss")[0][1] == pytest.approx(metrics["val/loss"])
    assert {"train_epoch/loss", "val/accuracy", "val/delta_avg"} <= metrics.keys()


def test_sigterm_finishes_the_step_and_saves(
    run_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the middle of the second epoch; who handled the signal before does so again afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    take_step = Trainer._step

    def step(trainer: Trainer, micro_batches: list[Any]) -> Any:
        if trainer.state.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(trainer, micro_batches)

    monkeypatch.setattr(Trainer, "_step", step)
    assert train(run_config, tmp_path / "tracks", tmp_path / "run") is signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    state = load_checkpoint(tmp_path / "run" / "last.pth").training["state"]
    assert (state["step"], state["epoch"], state["step_in_epoch"]) == (7, 1, 1)
    monkeypatch.setattr(Trainer, "_step", take_step)
    assert train(run_config, tmp_path / "tracks", tmp_path / "run", resume="auto") is None


def test_ctrl_c_finishes_the_step_and_saves(folder: Path) -> None:
    (stopped,) = train_until(folder, "parts", "--signal", "INT", "--at-step", 8)
    assert stopped.status == 130, stopped
    assert "stopping after this step, to save it; Ctrl-C again stops at once" in stopped.err
    assert "stopped by SIGINT after step 9; --resume auto goes on from there" in stopped.err
    assert "Traceback" not in stopped.err
    (ended,) = train_until(folder, "parts")
    assert ended.status == 0
    assert "from step 9, 1 process" in ended.err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "at step 12 after 2 epoch(s), by training.epochs = 2; raise it to go on"),
        ({"max_steps": 3}, "at step 3 after 0 epoch(s), by training.max_steps = 3; raise it to go on"),
        (
            {"schedule": "cosine"},
            "training.epochs = 2, which a cosine schedule fixes; train longer in another",
        ),
        (
            {"early_stopping": 1, "learning_rate": 1e-30},
            "after 2 epoch(s), by training.early_stopping = 1; raise it to go on",
        ),
    ],
)
def test_a_finished_run_says_so(
    run_config: Config, caplog: pytest.LogCaptureFixture, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    config = with_training(run_config, **options)
    train(config, tmp_path / "tracks", tmp_path / "run")
    before = files_below(tmp_path / "run")
    caplog.set_level(logging.INFO)
    assert train(config, tmp_path / "tracks", tmp_path / "run", resume="auto") is None
    (said,) = [record.getMessage() for record in caplog.records if "finished already" in record.getMessage()]
    assert said.startswith(f"{tmp_path / 'run'}: the run is finished already, at step ")
    assert reason in said
    assert files_below(tmp_path / "run") == before


def write_uneven(path: Path, config: Config) -> None:
    """Eight windows in which 1 to 400 of 400 points move; the static filter leaves the others out."""
    queries = query_grid("row_major", config.data.grid_size, (48, 64))
    steps = np.arange(config.data.sequence_length)[:, None, None]
    with TrackFileWriter(path, clip_record_of(config), (48, 64)) as writer:
        for start, moving in enumerate((1, 400, 3, 90, 400, 7, 1, 30)):
            velocity = np.random.default_rng(start).uniform(1, 3, (len(queries), 2))
            velocity[moving:] = 0
            tracks = (queries + steps * velocity).astype(np.float32)
            writer.append(WindowTracks(start, 0.0, tracks, np.ones(tracks.shape[:2], np.float32)))
        writer.finish(num_frames=13, windows_dropped=0)


def test_the_gradient_is_the_same_however_a_batch_is_dealt(tmp_path: Path, run: Run) -> None:
    """Eight windows as 1x8, 2x4 and 8x1, and by two processes."""
    data = {"grid_size": 20, "val_split": 0.0, "static_filter": {"min_keep": 1}}
    config = write_config(tmp_path / "uneven.yaml", data=data, training={"max_steps": 1})
    write_uneven(tmp_path / "tracks" / "clip.hdf5", config_from_dict(load_yaml(config), "in the test"))
    found = {}
    for processes, batch, accumulation in [(1, 8, 1), (1, 4, 2), (1, 1, 8), (2, 2, 2)]:
        name = f"{processes} process(es), {batch} x {accumulation}"
        line = [GRADIENT, tmp_path / f"{name}.pt", "--", "--config", config, "--input", tmp_path / "tracks"]
        line += ["--output", tmp_path / name, "--training.batch_size", batch]
        line += ["--training.gradient_accumulation_steps", accumulation]
        results = run_ranks(tmp_path, line, processes)
        assert [result.status for result in results] == [0] * processes, results
        found[name] = torch.load(tmp_path / f"{name}.pt", weights_only=True)
    reference = found.pop("1 process(es), 8 x 1")
    assert max(float(gradient.abs().max()) for gradient in reference.values()) > 1e-2
    for name, gradients in found.items():
        for key, gradient in reference.items():
            difference = float((gradients[key] - gradient).abs().max())
            assert difference < 1e-6, f"{name}: {key} differs by {difference}"
