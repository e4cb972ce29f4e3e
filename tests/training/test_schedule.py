"""A cosine ends at its end, whatever processes, batches and clips a run goes on with."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.training.run import train
from amplify_motion_tokenizer.training.schedule import rate_factor, whole_course
from tests.support.configs import with_training
from tests.support.training_runs import StopError, next_second, scalars, stop_after


def test_a_run_that_is_not_changed_has_a_plain_cosine(tiny: Config) -> None:
    training = with_training(tiny, schedule="cosine", warmup_steps=2).training
    rates = [rate_factor(training, whole_course(10, 2), step) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    expected = [0.5 * (1 + math.cos(math.pi * done / 8)) for done in range(9)]
    assert rates[2:] == pytest.approx(expected, abs=1e-15)
    assert rates[10] == 0


@pytest.mark.parametrize(("before", "after"), [(4, 8), (8, 4), (4, 1)])
def test_other_batches_do_not_bend_the_course(
    before: int, after: int, run_config: Config, tmp_path: Path, caplog: Any
) -> None:
    """The batch stands for processes as well: what counts are the windows of a step."""
    config = with_training(
        run_config, schedule="cosine", epochs=4, learning_rate=1.0e-3, batch_size=before, warmup_steps=1
    )
    steps = {batch: -(-21 // batch) for batch in (before, after)}
    with pytest.raises(StopError), stop_after(2 * steps[before]):
        train(with_training(config, save_every_steps=None), tmp_path / "tracks", tmp_path / "run")
    next_second()
    train(with_training(config, batch_size=after), tmp_path / "tracks", tmp_path / "run", resume="auto")
    run = tmp_path / "run"
    rates = dict(scalars(run, "train/learning_rate"))  # of the step after each
    middle, end = 2 * steps[before], 2 * steps[before] + 2 * steps[after]
    assert max(rates) == end
    assert rates[end] == 0
    course = [rates[step] for step in range(1, end + 1)]
    assert all(later < earlier for earlier, later in zip(course, course[1:], strict=False))
    share = (middle - 1) / (4 * steps[before] - 1)
    for step in range(middle, end + 1):
        done = share + (1 - share) * (step - middle) / (end - middle)
        assert rates[step] == pytest.approx(0.5e-3 * (1 + math.cos(math.pi * done)), rel=1e-6, abs=1e-12)
    assert f"a step took {before} windows and takes {after} now" in caplog.text
    assert f"ends at step {end} instead of {4 * steps[before]}" in caplog.text
    state = load_checkpoint(run / "last.pth").training
    assert state is not None
    assert state["state"]["course_step"] == middle
    assert state["state"]["course_share"] == pytest.approx(share)


def test_checkpoints_of_before_tell_their_course_by_their_steps(run_config: Config, tmp_path: Path) -> None:
    config = with_training(run_config, schedule="cosine", epochs=2, learning_rate=1e-3)
    with pytest.raises(StopError), stop_after(6):
        train(config, tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    content = torch.load(run / "last.pth", weights_only=True)
    for name in ("course_step", "course_share", "course_end"):
        del content["training"]["state"][name]
    torch.save(content, run / "last.pth")
    next_second()
    train(config, tmp_path / "tracks", tmp_path / "run", resume="auto")
    rates = dict(scalars(run, "train/learning_rate"))
    expected = {step: 0.5e-3 * (1 + math.cos(math.pi * step / 12)) for step in range(1, 13)}
    assert rates == {step: pytest.approx(rate, rel=1e-6, abs=1e-12) for step, rate in expected.items()}


def test_fewer_clips_do_not_bend_the_course(run_config: Config, tmp_path: Path) -> None:
    data = dataclasses.replace(run_config.data, val_split=0.0)
    config = with_training(
        dataclasses.replace(run_config, data=data), schedule="cosine", epochs=4, learning_rate=1e-3
    )
    with pytest.raises(StopError), stop_after(14):  # 28 windows, 7 steps an epoch
        train(config, tmp_path / "tracks", tmp_path / "run")
    for name in ("2.hdf5", "3.hdf5"):
        (tmp_path / "tracks" / name).unlink()
    next_second()
    train(config, tmp_path / "tracks", tmp_path / "run", resume="auto")
    rates = dict(scalars((tmp_path / "run"), "train/learning_rate"))
    assert max(rates) == 14 + 2 * 4
    assert rates[14] == pytest.approx(0.5e-3)
    assert rates[18] == pytest.approx(0.5e-3 * (1 + math.cos(math.pi * 0.75)), rel=1e-6)
    assert rates[22] == 0
