"""What a run tells of its speed: of training alone, on a clock that only what is timed moves."""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.sampler import EpochSampler
from amplify_motion_tokenizer.training import log as run_log
from amplify_motion_tokenizer.training import trainer
from amplify_motion_tokenizer.training.checkpoints import RunFiles
from amplify_motion_tokenizer.training.learner import Learner
from amplify_motion_tokenizer.training.log import StepClock
from amplify_motion_tokenizer.training.pictures import Pictures
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import with_training

READ_S, STEP_S = 3.0, 1.0
VALIDATE_S, PICTURES_S, SAVE_S = 100.0, 20.0, 50.0


class Time:
    """Stands in for the module ``time`` of ``run_log``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self._patch = monkeypatch
        monkeypatch.setattr(run_log, "time", types.SimpleNamespace(perf_counter=lambda: self.now))

    def takes(self, owner: Any, name: str, seconds: float) -> None:
        """From now on a call of ``owner.name`` takes so long."""
        real: Callable[..., Any] = getattr(owner, name)

        def slow(*arguments: Any, **named: Any) -> Any:
            self.now += seconds
            return real(*arguments, **named)

        self._patch.setattr(owner, name, slow)


@pytest.fixture
def clock_time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def test_the_clock_tells_waiting_from_working_and_stands_still_in_a_pause(clock_time: Time) -> None:
    clock = StepClock()
    for waited, worked in ((3.0, 1.0), (1.0, 3.0)):
        with clock.waiting():
            clock_time.now += waited
        clock_time.now += worked
        with clock.paused():
            clock_time.now += 100
        clock.stepped(8)
        assert clock.lap() == {"windows_per_second": 2.0, "data_wait_share": waited / 4}
        with clock.paused():
            clock_time.now += 100
    assert clock.total() == {"windows_per_second": 2.0, "data_wait_share": 0.5}


def test_speed_is_of_training_alone_and_of_the_windows_that_there_are(
    run_config: Config, clock_time: Time, tmp_path: Path
) -> None:
    clock_time.takes(Learner, "step", STEP_S)
    clock_time.takes(trainer, "validate", VALIDATE_S)
    clock_time.takes(Pictures, "log", PICTURES_S)
    clock_time.takes(RunFiles, "write", SAVE_S)
    clock_time.takes(WindowDataset, "batch", READ_S)
    train(
        with_training(run_config, validate_every_steps=2, save_every_steps=3, max_steps=10),
        tmp_path / "tracks",
        tmp_path / "run",
    )
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    logged = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    # 21 windows of an epoch, 4 a step: the sixth step of the first epoch has one.
    of_step, full = READ_S + STEP_S, 4 / (READ_S + STEP_S)
    speeds = [1 / of_step if step == 6 else full for step in range(1, 11)]
    assert logged["train/windows_per_second"] == list(enumerate(speeds, start=1))
    assert logged["train_epoch/windows_per_second"] == [(6, 21 / (6 * of_step)), (10, full)]
    assert {share for _, share in logged["train/data_wait_share"]} == {READ_S / of_step}
    assert logged["train_epoch/data_wait_share"] == [(6, READ_S / of_step), (10, READ_S / of_step)]
    assert [step for step, _ in logged["val/loss"]] == [2, 4, 6, 8, 10]


@pytest.mark.parametrize(("windows", "batch", "accumulation", "processes"), [(21, 4, 1, 1), (24, 2, 3, 2)])
def test_a_steps_windows_are_counted_without_their_order(
    windows: int, batch: int, accumulation: int, processes: int
) -> None:
    sampler = EpochSampler(windows, batch, accumulation=accumulation, processes=processes)
    counts = [sampler.windows_in(step) for step in range(sampler.steps)]
    assert counts == [len(sampler.step_windows(3, step)) for step in range(sampler.steps)]
    assert sum(counts) == windows
