"""What stops a run or warns of it, and the extras of training: running means, early stopping, compile."""

import dataclasses
import importlib.util
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from accelerate.tracking import GeneralTracker
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.sampler import PADDING
from amplify_motion_tokenizer.errors import ConfigError, TrainingError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
from amplify_motion_tokenizer.training import log
from amplify_motion_tokenizer.training import run as training_module
from amplify_motion_tokenizer.training.learner import Learner, WeightAverage
from amplify_motion_tokenizer.training.log import CollapseAlarm
from amplify_motion_tokenizer.training.run import train
from amplify_motion_tokenizer.training.state import some_names
from tests.conftest import with_training
from tests.training.test_trainer import make_trainer, scalars, weights

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

    def maybe_nan(learner: Learner, batch: Any) -> Any:
        output, loss, totals = forward(learner, batch)
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
    micro_batches, wishes = [next(batches)], trainer.interruption.wishes()
    with Waits() as waits:
        trainer.learner.step(micro_batches, wishes)
    assert waits.found == []
    with Waits() as waits:
        trainer._log_step(trainer._step([next(batches)]), tqdm(disable=True))
    assert "_local_scalar_dense" in waits.found


USAGE = {"unique_codes": 12.0, "normalized_entropy": 0.6}


@pytest.mark.parametrize("usage", [{"unique_codes": 1.0}, {"normalized_entropy": 0.01}])
def test_the_alarm_sounds_once_when_codes_collapse(tiny: Config, usage: dict[str, float]) -> None:
    alarm = CollapseAlarm(tiny)
    bad = {**USAGE, **usage}
    seen = [(USAGE, 5), (bad, 1000), (bad, 1001), (bad, 1002), (USAGE, 1003), (bad, 1004)]
    assert [alarm.sounds(usage, step) for usage, step in seen] == [False, False, True, False, False, True]


def test_a_collapse_is_told_in_the_log_and_in_tensorboard(
    run_config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(log, "AFTER_STEPS", 8)
    monkeypatch.setattr(log, "MIN_UNIQUE_CODES", 21)
    train(run_config, tmp_path / "tracks", tmp_path / "run")
    (warning, at_the_end) = [r.getMessage() for r in caplog.records if "collapsed" in r.getMessage()]
    assert warning.startswith("the codebook has collapsed at step 9: ")
    assert "raise loss.usage.weight (now 0; see docs/codebook.md)" in warning
    assert "training.learning_rate" in warning
    assert at_the_end.startswith("the codebook has collapsed in the last epoch: ")
    run = tmp_path / "run"
    assert [value for _, value in scalars(run, "train/collapsed")] == [1.0] * 12
    events = training_events(run)
    (text,) = events.Tensors("train/collapse_alarm/text_summary")
    assert text.step == 9


def training_events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return events


def test_clamped_and_centre_shares_are_logged(run_config: Config, tmp_path: Path) -> None:
    """Of three points one is lost, one rests and one leaves the window of 7 x 7."""
    for path in (tmp_path / "tracks").glob("*.hdf5"):
        with h5py.File(path, "a") as file:
            tracks = file["root/default/tracks"][...]
            steps = tracks[:, :1] * 0 + torch.arange(6.0).numpy()[:, None, None]
            tracks[:, :, :3] = float("nan")
            tracks[:, :, 3:6] = tracks[:, :1, 3:6]
            tracks[:, :, 6:] = tracks[:, :1, 6:] + 5 * steps[:, :, 6:]
            file["root/default/tracks"][...] = tracks
    train(with_training(run_config, max_steps=1), tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    assert scalars(run, "train/clamped_share") == [(1, pytest.approx(0.5))]
    assert scalars(run, "train/center_share") == [(1, pytest.approx(0.5))]
    assert scalars(run, "val/clamped_share") == [(1, pytest.approx(0.5))]


def test_running_mean_of_weights_follows_its_recurrence() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    average = WeightAverage(model, decay=0.5)
    expected = 1.0
    for update, value in enumerate([3.0, 5.0, -2.0, 7.0, 7.0, 7.0, 7.0, 7.0, 0.0], start=1):
        torch.nn.init.constant_(model.weight, value)
        average.update(torch.tensor(False))
        assert average.means["weight"].item() == pytest.approx(expected, abs=1e-6), "a step that was skipped"
        average.update(torch.tensor(True))
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
        assert average.means["weight"].item() == pytest.approx(expected, abs=1e-6)
    with average.in_use():
        assert model.weight.item() == pytest.approx(expected, abs=1e-6)
    assert model.weight.item() == 0.0


def test_inference_and_validation_use_the_running_mean(run_config: Config, tmp_path: Path) -> None:
    plain = with_training(run_config, learning_rate=0.01)
    config = with_training(run_config, learning_rate=0.01, ema_decay=0.99)
    train(plain, tmp_path / "tracks", tmp_path / "plain")
    train(config, tmp_path / "tracks", tmp_path / "run")
    run, other = tmp_path / "run", tmp_path / "plain"
    # The steps are the same, and so are the weights that they give; what is validated is not.
    assert scalars(run, "train/loss") == scalars(other, "train/loss")
    assert scalars(run, "val/loss") != scalars(other, "val/loss")
    last = load_checkpoint(run / "last.pth")
    own = last.training["average"]["own"]
    assert all(torch.equal(own[name], value) for name, value in weights(other / "last.pth").items())
    assert not all(torch.equal(own[name], last.model[name]) for name in own)
    loaded = load_tokenizer(run / "last.pth").state_dict()
    assert all(torch.equal(loaded[name], last.model[name]) for name in last.model)


def test_training_stops_early_without_a_new_best(
    run_config: Config, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    config = with_training(run_config, early_stopping=2, learning_rate=1e-12, epochs=50)
    assert train(config, tmp_path / "tracks", tmp_path / "run") is None
    losses = [value for _, value in scalars(tmp_path / "run", "val/loss")]
    best = losses.index(min(losses))
    assert len(losses) == best + 3
    assert "stopped early at step" in caplog.text
    assert train(config, tmp_path / "tracks", tmp_path / "run", resume="auto") is None
    assert [value for _, value in scalars(tmp_path / "run", "val/loss")] == losses


def test_validation_every_few_steps_finds_the_best(run_config: Config, tmp_path: Path) -> None:
    config = with_training(run_config, validate_every_steps=4, learning_rate=0.05)
    train(config, tmp_path / "tracks", tmp_path / "run")
    found = scalars(tmp_path / "run", "val/loss")
    assert [step for step, _ in found] == [4, 6, 8, 12]
    best = load_checkpoint(tmp_path / "run" / "best.pth")
    step = min(found, key=lambda each: each[1])[0]
    assert best.training["state"]["step"] == step


def test_compiled_training_keeps_the_names_of_the_weights(
    run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dynamo traces the model; what its compiler makes of that takes too long for a test."""
    compiled = []

    def fast(module: torch.nn.Module, **options: Any) -> None:
        compiled.append(options)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", fast)
    plain = with_training(run_config, epochs=1)
    config = with_training(run_config, epochs=1, compile=True)
    train(plain, tmp_path / "tracks", tmp_path / "plain")
    train(config, tmp_path / "tracks", tmp_path / "run")
    assert compiled == [{"dynamic": False}]
    own, other = (weights(tmp_path / name / "last.pth") for name in ("run", "plain"))
    assert own.keys() == other.keys()
    for name, value in other.items():
        torch.testing.assert_close(own[name], value)


@pytest.fixture
def _free_kernels() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_free_kernels")
def test_deterministic_kernels_can_be_asked_for(run_config: Config, tmp_path: Path) -> None:
    train(with_training(run_config, epochs=1, deterministic=True), tmp_path / "tracks", tmp_path / "run")
    assert torch.are_deterministic_algorithms_enabled()


def test_wandb_that_is_not_there_is_named(
    run_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name))
    with pytest.raises(ConfigError, match=r"pip install 'amplify-motion-tokenizer\[wandb\]'"):
        train(with_training(run_config, wandb_project="motion"), tmp_path / "tracks", tmp_path / "run")


class FakeTracker(GeneralTracker):
    """Stands for accelerate's tracker, which needs the library."""

    name = "wandb"
    requires_logging_directory = False
    made: list[Any] = []

    def __init__(self, project: str, **options: Any) -> None:
        super().__init__()
        self.project, self.options, self.rows = project, options, []
        self.made.append(self)

    def start(self) -> None: ...

    @property
    def tracker(self) -> Any:
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None: ...

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.rows.append((step, values))

    def finish(self) -> None: ...


def test_wandb_gets_what_tensorboard_gets(
    run_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training_module, "WandBTracker", FakeTracker)
    monkeypatch.setattr(training_module, "_check_wandb", lambda config: None)
    config = with_training(run_config, wandb_project="motion")
    train(with_training(config, epochs=1), tmp_path / "tracks", tmp_path / "run")
    train(config, tmp_path / "tracks", tmp_path / "run", resume="auto")
    first, second = FakeTracker.made
    assert (first.project, first.options["resume"]) == ("motion", "allow")
    assert first.options["id"] == second.options["id"]
    logged = [(step, row["train/loss"]) for step, row in first.rows if "train/loss" in row]
    assert [step for step, _ in logged] == [1, 2, 3, 4, 5, 6]
    assert logged[-1] == (6, pytest.approx(scalars(tmp_path / "run", "train/loss")[5][1]))
