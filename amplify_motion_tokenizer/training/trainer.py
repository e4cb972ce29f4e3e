"""The training loop on Accelerate: any number of processes, accumulation, mixed precision.

A step is one optimiser step. ``learner`` takes it, ``validation`` measures held-out windows, ``log`` tells
the numbers and ``checkpoints`` writes the files; this module decides when. What is logged with a step's
number is logged before the checkpoint of that step is written, so that a run which goes on from it has a
whole log.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from amplify_motion_tokenizer.config import Config, settings_hash
from amplify_motion_tokenizer.data.dataset import Batch, WindowDataset, make_loader
from amplify_motion_tokenizer.data.sampler import EpochSampler
from amplify_motion_tokenizer.errors import TrainingError
from amplify_motion_tokenizer.file_names import BEST, LAST, epoch_name
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_weights
from amplify_motion_tokenizer.models.displacement.codec import CodecTokenizer
from amplify_motion_tokenizer.training.checkpoints import RunFiles
from amplify_motion_tokenizer.training.going_on import course_of, state_of, steps_left, with_course
from amplify_motion_tokenizer.training.initial import told
from amplify_motion_tokenizer.training.interruption import Interruption, read_requests
from amplify_motion_tokenizer.training.learner import Learner, StepResult
from amplify_motion_tokenizer.training.loader_faults import check_open_files, own_copy, worker_faults_told
from amplify_motion_tokenizer.training.log import RunLog, StepClock
from amplify_motion_tokenizer.training.mode_fitting import FITTED_AT_ONCE, fit_to_made_up
from amplify_motion_tokenizer.training.pictures import Pictures
from amplify_motion_tokenizer.training.schedule import Course, total_steps, whole_course
from amplify_motion_tokenizer.training.state import (
    Position,
    SkippedSteps,
    TrainState,
    get_random_states,
    new_run_id,
    seed_process,
    set_random_state,
    some_names,
    state_fits,
)
from amplify_motion_tokenizer.training.totals import Totals
from amplify_motion_tokenizer.training.validation import check_something_counts, nothing_counted, validate

logger = logging.getLogger(__name__)


class Trainer:
    """Trains one model on one data set.

    Args:
        config: the whole config; sections model, loss and training are used.
        accelerator: from ``make_accelerator``.
        train_data: training windows.
        val_data: held-out windows; None or empty for no validation.
        output: folder of checkpoints and logs.
        track_settings: what decided the tracks, kept in the checkpoints for inference.
        resume: checkpoint to go on from, with the optimiser's state.
        initial: tokenizer whose weights a run begins with that does not go on from another.
    """

    def __init__(
        self,
        config: Config,
        accelerator: Accelerator,
        train_data: WindowDataset,
        val_data: WindowDataset | None,
        output: Path,
        track_settings: dict[str, Any] | None,
        resume: Checkpoint | None = None,
        initial: Checkpoint | None = None,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.track_settings = track_settings
        training = config.training
        torch.manual_seed(training.seed)
        weights = resume or initial
        model = build_model(config, pretrained=weights is None)
        if weights is not None:
            load_weights(model, weights.model, str(weights.path))
        elif isinstance(model, CodecTokenizer):
            fit_to_made_up(model, training.seed, FITTED_AT_ONCE)
        self.train_data = train_data
        self.train_sampler, self.train_loader = self._loader(train_data, shuffle=True)
        self.state, course = self._begin(resume, "" if initial is None else told(initial))
        self.val_data = val_data if val_data is not None and len(val_data) else None
        if self.val_data is not None:
            self.val_sampler, self.val_loader = self._loader(self.val_data, shuffle=False)
        self.pictures = Pictures(self.val_data, accelerator)
        self.learner = Learner(config, accelerator, model, course)
        self.log = RunLog(config, accelerator)
        self.files = RunFiles(output, training)
        self.interruption = Interruption(training.save_every_minutes if accelerator.is_main_process else None)
        self.stopped_by: signal.Signals | None = None
        self._save_due = False
        self._last_good = "none, for nothing was saved yet"
        self._skipped = SkippedSteps()
        self._epoch_totals = self._no_totals()
        self._clock = StepClock()
        seed_process(training.seed, accelerator.process_index)
        if resume is not None and resume.training is not None:
            with state_fits(resume.path):
                self._restore(resume, resume.training)

    def _loader(self, data: WindowDataset, shuffle: bool) -> tuple[EpochSampler, Any]:
        training = self.config.training
        sampler = EpochSampler(
            len(data),
            training.batch_size,
            accumulation=training.gradient_accumulation_steps if shuffle else 1,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            seed=training.seed,
            shuffle=shuffle,
        )
        pin_memory = self.accelerator.device.type == "cuda"
        return sampler, make_loader(data, sampler, training.num_workers, pin_memory)

    def _begin(self, resume: Checkpoint | None, began_with: str) -> tuple[TrainState, Course]:
        """Where the run stands, and the learning rate's course from there on."""
        training, sampler, clips = self.config.training, self.train_sampler, self.train_data.clips
        state = TrainState(
            run_id=new_run_id(),
            windows=len(self.train_data),
            windows_per_step=sampler.windows_per_step,
            clips=settings_hash({name: clip.num_windows for name, clip in clips.items()}),
            began_with=began_with,
        )
        course = whole_course(total_steps(training, sampler.steps), training.warmup_steps)
        if resume is not None:
            state = state_of(resume, state)
            course = course_of(resume, state, training, sampler.steps)
        return with_course(state, course), course

    def _no_totals(self) -> Totals:
        return Totals.zero(self.config, self.accelerator.device)

    @property
    def finished(self) -> bool:
        """Whether all epochs, or ``max_steps``, are done, or early stopping has ended the run."""
        training, state = self.config.training, self.state
        reached = training.max_steps is not None and state.step >= training.max_steps
        return reached or state.epoch >= training.epochs or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether there was no new best for as many validations as ``early_stopping`` allows."""
        patience = self.config.training.early_stopping
        return patience is not None and self.state.stale_validations >= patience

    def train(self) -> signal.Signals | None:
        """Trains to the end, from wherever the state is.

        Returns:
            The signal that ended it before, if any; ``last.pth`` is written then, as it is at the end.

        Raises:
            TrainingError: more steps than ``max_skipped_steps`` were not finite, or nothing counts in
                training or in validation.
            WorkerError: a loader process has died.
        """
        check_open_files(self.config.training.num_workers)
        if self.val_data is not None:
            check_something_counts(self.train_data, self.val_data)
        left = steps_left(self.config.training, self.state, self.train_sampler.steps)
        progress = Progress(
            self.state.step + max(0, left),
            "step",
            initial=self.state.step,
            shown=self.accelerator.is_main_process,
        )
        with progress, self.interruption.listening(), worker_faults_told():
            while not (self.finished or self.stopped_by):
                self._train_epoch(progress)
        if self.stopped_by is not None and not self.finished:
            logger.warning(
                "stopped by %s after step %d; --resume auto goes on from there",
                self.stopped_by.name,
                self.state.step,
            )
            return self.stopped_by
        if self.stopped_early:
            logger.info(
                "stopped early at step %d: %d validations without a loss below %.4f",
                self.state.step,
                self.state.stale_validations,
                self.state.best_loss,
            )
        self.log.warn_collapse()
        return None

    def _train_epoch(self, progress: Progress) -> None:
        """The steps of an epoch that are left, and its end; less where the run ends within it."""
        state, training = self.state, self.config.training
        self.learner.model.train()
        self.train_sampler.set_position(state.epoch, state.step_in_epoch)
        batches = iter(self.train_loader)
        self._clock = StepClock()
        while state.step_in_epoch < self.train_sampler.steps:
            with self._clock.waiting():
                micro_batches = [self._next_of(batches) for _ in range(training.gradient_accumulation_steps)]
            windows = self.train_sampler.windows_in(state.step_in_epoch)
            result = self._step(micro_batches)
            self._clock.stepped(windows)
            progress.update()
            if state.step % training.log_every_steps == 0 or state.step == 1:
                self._log_step(result, progress)
            if self.stopped_by is not None and not self.finished:
                self._save(LAST, {})
                return
            if state.step_in_epoch < self.train_sampler.steps:
                self._within_epoch()
                if self.finished:
                    return
        self._end_epoch()

    def _next_of(self, batches: Iterator[Batch]) -> Batch:
        """The next micro-batch, of which a step holds several; pinned ones are no longer a worker's."""
        batch, training = next(batches), self.config.training
        several = training.gradient_accumulation_steps > 1 and training.num_workers > 0
        return own_copy(batch) if several and self.accelerator.device.type != "cuda" else batch

    def _step(self, micro_batches: list[Batch]) -> StepResult:
        state = self.state
        result = self.learner.step(micro_batches, self.interruption.requests())
        self._skipped.add(Position(state.step + 1, state.epoch, state.step_in_epoch), result.skipped)
        self._epoch_totals = self._epoch_totals.plus(result.totals.where(~result.skipped))
        state.step += 1
        state.step_in_epoch += 1
        self.stopped_by, self._save_due = read_requests(result.requests.numbers())
        return result

    def _log_step(self, result: StepResult, progress: Progress) -> None:
        self._check_skipped()
        values = {
            "learning_rate": self.learner.learning_rate,
            "grad_norm": float(result.grad_norm),
            "skipped_steps": float(self.state.skipped_steps),
            **self._clock.lap(),
        } | self.learner.usage.logged()
        self.log.step(result.totals.reduced(self.accelerator), self.state.step, values, progress)

    def _check_skipped(self) -> None:
        """Counts the steps that were not applied since the last call, and ends the run at one too many."""
        allowed = self.config.training.max_skipped_steps
        for position in self._skipped.take():
            self.state.skipped_steps += 1
            windows = self.train_sampler.step_windows(position.epoch, position.step_in_epoch)
            names = some_names([self.train_data.locate(int(window))[0] for window in windows])
            found = (
                f"the loss or its gradients are not finite at step {position.step}, "
                f"whose windows are of {names}; its update was left out"
            )
            if self.state.skipped_steps > allowed:
                raise TrainingError(
                    f"{found}. Last good checkpoint: {self._last_good}. Look at the tracks of these "
                    "clips, try a lower training.learning_rate or training.clip_grad_norm, or let some "
                    f"such steps pass with training.max_skipped_steps (now {allowed})"
                )
            logger.warning("%s (%d of %d that may be)", found, self.state.skipped_steps, allowed)

    def _within_epoch(self) -> None:
        """After a step that is not the epoch's last: validation and checkpoints that are due."""
        step, training = self.state.step, self.config.training
        if training.max_steps is not None and step >= training.max_steps:
            self._record_results(self._epoch_metrics(), self.validate(), [])
        elif training.validate_every_steps and step % training.validate_every_steps == 0:
            self._record_results({}, self.validate(), [])
        elif self._save_due or (training.save_every_steps and step % training.save_every_steps == 0):
            self._save(LAST, {})

    def _end_epoch(self) -> None:
        state = self.state
        metrics = self._epoch_metrics()
        if "train_epoch/loss" not in metrics:
            raise nothing_counted()
        state.epoch, state.step_in_epoch = state.epoch + 1, 0
        self._epoch_totals = self._no_totals()
        kept = state.epoch % self.config.training.save_every_epochs == 0
        self._record_results(metrics, self.validate(), [epoch_name(state.epoch)] * kept)

    def _epoch_metrics(self) -> dict[str, float]:
        """Metrics of the epoch under way, over all processes."""
        self._check_skipped()
        return self.log.totals("train_epoch", self._epoch_totals.reduced(self.accelerator), self.state.step)

    def validate(self) -> dict[str, float]:
        """Metrics of the held-out windows; empty where there are none."""
        self._check_skipped()
        if self.val_data is None:
            return {}
        shown = self.accelerator.is_main_process
        progress = Progress(self.val_sampler.steps, "step", label="validation", shown=shown, leave=False)
        with self._clock.paused(), progress:
            totals, tracks = validate(self.learner, progress.each(self.val_loader))
            with self.learner.averaged():
                self.pictures.log(self.learner.model, self.state.step)
        step = self.state.step
        return self.log.tracks(tracks, step) | self.log.totals("val", totals, step)

    def _record_results(
        self, epoch: dict[str, float], validation: dict[str, float], names: list[str]
    ) -> None:
        """Logs what was found, tells whether it is the best, and writes the checkpoints."""
        state, metrics = self.state, epoch | validation
        self.log.results(metrics, state, self._clock.total() if epoch else {})
        loss = metrics.get("train_epoch/loss" if self.val_data is None else "val/loss")
        if loss is not None:
            improved = loss < state.best_loss
            state.best_loss = min(loss, state.best_loss)
            state.stale_validations = 0 if improved else state.stale_validations + 1
            names = [BEST] * improved + names
        # Last, because its best_loss speaks of a best.pth that must be there.
        for name in [*names, LAST]:
            self._save(name, metrics)

    def _save(self, name: str, metrics: dict[str, float]) -> None:
        """Writes a checkpoint from the main process; every process must call it."""
        self._check_skipped()
        with self._clock.paused():
            self._write(name, metrics)

    def _write(self, name: str, metrics: dict[str, float]) -> None:
        random_states = get_random_states(self.accelerator)
        epoch_totals = self._epoch_totals.reduced(self.accelerator)
        weights = self.learner.inference_weights()
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            raise TrainingError(
                f"the weights are not finite after step {self.state.step}. Last good checkpoint: "
                f"{self._last_good}. Try a lower training.learning_rate, or training.clip_grad_norm"
            )
        if self.accelerator.is_main_process:
            self.files.write(
                name,
                model=weights,
                config=self.config,
                track_settings=self.track_settings,
                metrics=metrics,
                training={
                    "state": asdict(self.state),
                    **self.learner.state_dict(),
                    "epoch_totals": epoch_totals.state_dict(),
                    "random_states": random_states,
                },
            )
        self._last_good = f"{self.files.folder / name} (step {self.state.step})"
        self.interruption.saved()
        self.accelerator.wait_for_everyone()

    def _restore(self, checkpoint: Checkpoint, saved: dict[str, Any]) -> None:
        """Restores everything from ``saved`` but the state itself, from which this process begins."""
        self._last_good = f"{checkpoint.path} (step {self.state.step})"
        self.learner.load_state_dict(saved)
        if self.accelerator.is_main_process:
            # Totals are summed over processes when they are used, so one process holds them all.
            self._epoch_totals = Totals.from_state(
                saved["epoch_totals"], self.config, self.accelerator.device
            )
        if len(saved["random_states"]) == self.accelerator.num_processes:
            set_random_state(saved["random_states"][self.accelerator.process_index])
        else:
            logger.warning(
                "%s was written by %d processes and goes on with %d: the random states start afresh",
                checkpoint.path,
                len(saved["random_states"]),
                self.accelerator.num_processes,
            )
