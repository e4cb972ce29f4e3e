"""Steps that are not finite, and steps that would wait for the device."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.sampler import PADDING
from amplify_motion_tokenizer.errors import TrainingError
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.training.learner import Learner
from amplify_motion_tokenizer.training.run import train
from amplify_motion_tokenizer.training.state import some_names
from tests.support.configs import with_training
from tests.support.training_runs import make_trainer, scalars

Write = Callable[..., Path]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``poison(n)`` makes the loss of the n-th step NaN, as a kernel gone wrong would."""
    take_step, forward = Learner.step, Learner.forward
    poisoned: set[int] = set()
    taken = 0

    def step(learner: Learner, *arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        return take_step(learner, *arguments)

    def maybe_nan(learner: Learner, batch: Any, *stage: Any) -> Any:
        output, loss, totals = forward(learner, batch, *stage)
        if taken in poisoned and learner.model.training:
            loss = loss._replace(sums=loss.sums * torch.nan)
            totals = totals._replace(loss=loss.sums.detach().double())
        return output, loss, totals

    monkeypatch.setattr(Learner, "step", step)
    monkeypatch.setattr(Learner, "forward", maybe_nan)
    return poisoned.add


def test_a_step_that_is_not_finite_ends_the_run_with_its_clips(
    run_config: Config, poison: Callable[[int], None], tmp_path: Path
) -> None:
    """Found at the next log entry, after other steps, and yet nothing of it is in any file."""
    poison(3)
    config = with_training(run_config, log_every_steps=5, save_every_steps=2)
    with pytest.raises(TrainingError) as error:
        train(config, tmp_path / "tracks", tmp_path / "run")
    assert "not finite at step 3, whose windows are of " in str(error.value)
    assert f"Last good checkpoint: {tmp_path / 'run' / 'last.pth'} (step 2)" in str(error.value)
    assert [path.name for path in (tmp_path / "run").glob("*.pth")] == ["last.pth"]


def test_the_clips_of_a_step_are_those_of_its_batch(run_config: Config, tmp_path: Path) -> None:
    trainer = make_trainer(with_training(run_config, gradient_accumulation_steps=2), tmp_path)
    batches = list(trainer.train_loader)
    for step in range(trainer.train_sampler.steps):
        taken = torch.cat([batch.indices for batch in batches[2 * step : 2 * step + 2]])
        assert sorted(trainer.train_sampler.step_windows(0, step)) == sorted(set(taken.tolist()) - {PADDING})


def test_some_steps_may_be_skipped_and_change_nothing(
    run_config: Config, poison: Callable[[int], None], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    poison(2)
    config = with_training(run_config, max_skipped_steps=1, save_every_steps=1, keep_last=20, epochs=1)
    train(config, tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    before, after, later = (load_checkpoint(run / f"step_{step}.pth") for step in (1, 2, 3))
    assert all(torch.equal(before.model[name], after.model[name]) for name in before.model)
    moments = [checkpoint.training["optimizer"]["state"] for checkpoint in (before, after)]
    assert all(
        torch.equal(moments[0][key][name], moments[1][key][name])
        for key in moments[0]
        for name in moments[0][key]
    )
    assert not all(torch.equal(later.model[name], after.model[name]) for name in before.model)
    assert after.training["state"]["skipped_steps"] == 1
    assert "not finite at step 2" in caplog.text
    assert "(1 of 1 that may be)" in caplog.text
    assert [value for _, value in scalars(run, "train/skipped_steps")] == [0, 1, 1, 1, 1, 1]
    # The epoch's sums are those of the other steps.
    assert torch.tensor(scalars(run, "train_epoch/loss")[0][1]).isfinite()


def test_a_skipped_step_leaves_the_running_mean(
    run_config: Config, poison: Callable[[int], None], tmp_path: Path
) -> None:
    poison(2)
    config = with_training(
        run_config,
        max_skipped_steps=1,
        save_every_steps=1,
        keep_last=20,
        epochs=1,
        ema_decay=0.9,
        learning_rate=0.01,
    )
    train(config, tmp_path / "tracks", tmp_path / "run")
    before, after, later = (load_checkpoint(tmp_path / "run" / f"step_{step}.pth") for step in (1, 2, 3))
    assert all(torch.equal(before.model[name], after.model[name]) for name in before.model)
    assert not all(torch.equal(later.model[name], after.model[name]) for name in before.model)
    assert [each.training["average"]["updates"] for each in (before, after, later)] == [1, 1, 2]


def test_one_step_more_than_allowed_ends_the_run(
    run_config: Config, poison: Callable[[int], None], tmp_path: Path
) -> None:
    poison(2)
    poison(4)
    with pytest.raises(TrainingError, match=r"at step 4, .*max_skipped_steps \(now 1\)"):
        train(with_training(run_config, max_skipped_steps=1), tmp_path / "tracks", tmp_path / "run")


def test_names_are_few() -> None:
    assert some_names(["b", "a", "b"]) == "a, b"
    assert some_names([str(number) for number in range(9)]) == "0, 1, 2, 3, 4 and 4 more"


class Waits(TorchDispatchMode):
    """Notes the operations that on a GPU make the host wait for the device.

    lift_fresh is ``torch.tensor``: numbers of the host, which wait for their copy.
    """

    NAMES = (
        "_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "is_nonzero", "lift_fresh",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masks = name == "index" and any(each is not None and each.dtype == torch.bool for each in args[1])
        if name in self.NAMES or masks:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["keypoint", "amplify"])
def test_a_step_never_waits_for_the_device(run_config: Config, tmp_path: Path, name: str) -> None:
    usage = dataclasses.replace(run_config.loss.usage, weight=0.1)
    config = dataclasses.replace(
        with_training(run_config, clip_grad_norm=1.0, ema_decay=0.9),
        model=dataclasses.replace(run_config.model, name=name),
        loss=dataclasses.replace(run_config.loss, usage=usage),
        data=dataclasses.replace(
            run_config.data,
            reference_size=(48, 64),
            static_filter=dataclasses.replace(run_config.data.static_filter, enable=name == "keypoint"),
        ),
    )
    trainer = make_trainer(config, tmp_path)
    batches = iter(trainer.train_loader)
    micro_batches, requests = [next(batches)], trainer.interruption.requests()
    with Waits() as waits:
        trainer.learner.step(micro_batches, requests)
    assert waits.found == []
    with Waits() as waits:
        trainer._log_step(trainer._step([next(batches)]), Progress(1, "step", shown=False))
    assert "_local_scalar_dense" in waits.found
