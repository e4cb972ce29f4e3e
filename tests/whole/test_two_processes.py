"""train.py as a user runs it, by one process and by two, which must train the same."""

import dataclasses
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.training.run import train
from amplify_motion_tokenizer.training.trainer import Trainer
from tests.support.run_scripts import (
    ENVIRONMENT,
    REPO,
    TINY,
    TRAIN,
    Result,
    Run,
    Work,
    run_process,
    write_config,
)
from tests.support.tracked import clip_record_of, random_windows


def test_training_leaves_a_run_that_says_how_it_went(work: Work) -> None:
    result = work.results[TRAIN]
    assert "Traceback" not in result.err
    assert (
        "training on 15 windows of 3 clips, validating on 5 windows of 1 clips, from step 0, 1 process"
        in result.err
    )
    assert "epoch 25 val: loss " in result.err
    names = {path.name for path in work.run.iterdir()}
    checkpoints = {"best.pth", "last.pth", "step_96.pth", "epoch_25.pth"}
    assert names == {*checkpoints, "config.yaml", "tensorboard"}
    saved = config_from_dict(load_yaml(work.run / "config.yaml"), "in the test")
    assert load_checkpoint(work.best).config == saved


ACCELERATE = [
    *(sys.executable, "-m", "accelerate.commands.launch"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
]
# With --cpu accelerate starts one process whatever is asked for. This file starts them all, and
# ACCELERATE_USE_CPU keeps them on the CPU.
FILES = REPO / "configs" / "accelerate"
TWO_PROCESSES = [*ACCELERATE, "--config_file", str(FILES / "gpus.yaml"), "--num_processes", "2"]


@dataclasses.dataclass(frozen=True)
class Pair:
    """One training by two processes, stopped after two epochs and resumed, and by one process."""

    two: Path
    one: Path
    results: list[Result]


@pytest.fixture(scope="module")
def pair(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """9 windows train, 8 a step: the second step of an epoch has one, and one process has none."""
    folder = tmp_path_factory.mktemp("pair")
    tiny = config_from_dict(TINY, "in the tests")
    for number in range(4):
        with TrackFileWriter(folder / f"tracks/{number}.hdf5", clip_record_of(tiny), (48, 64)) as writer:
            for window in random_windows(tiny, 3, number, (48, 64)):
                writer.append(window)
            writer.finish(num_frames=10, windows_dropped=0)
    config = write_config(
        folder / "tiny.yaml", training={"learning_rate": 1e-3}, loss={"usage": {"weight": 0.5}}
    )
    line = ["--config", config, "--input", folder / "tracks"]
    two = [*TWO_PROCESSES, REPO / TRAIN, *line, "--output", folder / "two", "--training.batch_size", 4]
    one = [*line, "--output", folder / "one", "--training.batch_size", 8, "--training.epochs", 3]
    results = [
        run_process(*two, "--training.epochs", 2),
        run_process(*two, "--training.epochs", 3, "--resume", "auto"),
        run(TRAIN, *one),
    ]
    assert [result.status for result in results] == [0, 0, 0], results
    return Pair(folder / "two", folder / "one", results)


def events_of(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"histograms": 0, "scalars": 0})
    events.Reload()
    return events


def test_two_processes_really_run(pair: Pair) -> None:
    training = load_checkpoint(pair.two / "epoch_2.pth").training
    assert training is not None
    assert len(training["random_states"]) == 2
    assert training["state"]["step"] == 4
    # Of the two, one process tells.
    for result, start in zip(pair.results[:2], (0, 4), strict=True):
        assert result.err.count(f"from step {start}, 2 process") == 1, result.err
        assert "random states start afresh" not in result.err


def test_two_processes_log_what_one_does(pair: Pair) -> None:
    two, one = events_of(pair.two), events_of(pair.one)
    tags = ("loss", "accuracy", "accuracy_no_motion", "mask_share", "unique_codes", "perplexity")
    names = [f"{split}/{tag}" for split in ("train", "train_epoch", "val") for tag in tags]
    for name in [*names, "train/usage_batch_entropy", "train/usage_sample_entropy"]:
        expected = [(event.step, pytest.approx(event.value, abs=1e-5)) for event in one.Scalars(name)]
        assert [(event.step, event.value) for event in two.Scalars(name)] == expected, name
    assert [event.step for event in two.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    (picture,) = one.Tags()["images"]
    for events in (two, one):
        assert [event.step for event in events.Images(picture)] == [2, 4, 6]


def test_codes_are_counted_over_the_whole_batch_without_padding(pair: Pair) -> None:
    for folder in (pair.two, pair.one):
        events = events_of(folder)
        counts = [int(event.histogram_value.num) for event in events.Histograms("train/code_usage")]
        assert counts == [8 * 3, 1 * 3] * 3
        epochs = [int(event.histogram_value.num) for event in events.Histograms("train_epoch/code_usage")]
        assert epochs == [9 * 3] * 3
        held_out = [int(event.histogram_value.num) for event in events.Histograms("val/code_usage")]
        assert held_out == [3 * 3] * 3


@pytest.mark.parametrize("name", ["epoch_2.pth", "last.pth"], ids=["before the stop", "after resuming"])
def test_two_processes_train_the_weights_that_one_does(pair: Pair, name: str) -> None:
    two, one = load_checkpoint(pair.two / name).model, load_checkpoint(pair.one / name).model
    start = load_checkpoint(pair.one / "epoch_1.pth").model
    moved = max(float((one[key] - start[key]).abs().max()) for key in one)
    assert moved > 1e-3
    for key, value in one.items():
        if key.endswith("attn.in_proj_bias"):
            # Attention does not depend on the keys' bias: its gradient is rounding, which AdamW scales up.
            value, two[key] = (torch.cat(tensor.chunk(3)[::2]) for tensor in (value, two[key]))
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=0, msg=lambda m, key=key: f"{key}: {m}")


def test_two_processes_find_the_gradients_that_one_does(pair: Pair) -> None:
    """AdamW hides a wrong scale from the weights, but its running mean of the gradients does not."""
    means = []
    for folder in (pair.two, pair.one):
        training = load_checkpoint(folder / "last.pth").training
        assert training is not None
        means.append({key: state["exp_avg"] for key, state in training["optimizer"]["state"].items()})
    assert max(float(value.abs().max()) for value in means[1].values()) > 1e-3
    for key, value in means[1].items():
        torch.testing.assert_close(means[0][key], value, atol=1e-6, rtol=1e-3)


def test_the_model_is_freed_before_the_processes_part(
    tiny: Config, write_tracks: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that outlives its process group hangs now and then when it is freed.

    The group's destructor then waits, with the GIL held, for a thread that needs the GIL.
    """
    write_tracks(tmp_path / "tracks" / "clip.hdf5", 4)
    models: list[weakref.ref[torch.nn.Module]] = []
    at_the_end: list[bool] = []
    make, end = Trainer.__init__, Accelerator.end_training

    def made(trainer: Trainer, *arguments: Any) -> None:
        make(trainer, *arguments)
        models.append(weakref.ref(trainer.learner.model))

    def ended(accelerator: Accelerator) -> None:
        at_the_end.append(models[0]() is None)
        end(accelerator)

    monkeypatch.setattr(Trainer, "__init__", made)
    monkeypatch.setattr(Accelerator, "end_training", ended)
    training = dataclasses.replace(tiny.training, epochs=1)
    train(dataclasses.replace(tiny, training=training), tmp_path / "tracks", tmp_path / "run")
    assert at_the_end == [True]


PROBE = """
import sys
from pathlib import Path
from amplify_motion_tokenizer.config import Config, TrainingConfig
from amplify_motion_tokenizer.training import make_accelerator
config = Config(training=TrainingConfig(mixed_precision="no"))
sys.stdout.write(f"one of {make_accelerator(config, Path(sys.argv[1])).num_processes}\\n")
"""


def test_processes_of_one_launch_know_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU and without ACCELERATE_USE_CPU: two trainings into one folder would spoil it."""
    monkeypatch.setitem(ENVIRONMENT, "ACCELERATE_USE_CPU", "false")
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    (tmp_path / "probe.py").write_text(PROBE, encoding="utf-8")
    result = run_process(*TWO_PROCESSES, tmp_path / "probe.py", tmp_path)
    if result.status == 0:
        assert result.out.splitlines() == ["one of 2"] * 2
    else:
        assert "error" in result.err.lower()
