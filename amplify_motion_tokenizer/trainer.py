"""The training loop on Accelerate: any number of processes, accumulation, mixed precision.

A step is one optimiser step; ``learner`` takes it, ``validation`` judges, ``run_log`` tells. Here is
when each happens, and what is written.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from amplify_motion_tokenizer.checkpoint import Checkpoint, load_weights, save_checkpoint
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.dataset import Batch, EpochSampler, WindowDataset, make_loader
from amplify_motion_tokenizer.errors import TrainingError
from amplify_motion_tokenizer.learner import Learner
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.run_log import RunLog
from amplify_motion_tokenizer.totals import Totals
from amplify_motion_tokenizer.train_state import (
    TrainState,
    get_random_states,
    seed_process,
    set_random_state,
)
from amplify_motion_tokenizer.validation import validate

logger = logging.getLogger(__name__)

LAST, BEST = "last.pth", "best.pth"


def epoch_name(epoch: int) -> str:
    """File name of the checkpoint kept at the end of ``epoch``, counted from 1."""
    return f"epoch_{epoch}.pth"


class Trainer:
    """Trains one model on one data set.

    Args:
        config: the whole config; sections model, loss and training are used.
        accelerator: from ``make_accelerator``.
        train_data: training windows.
        val_data: held-out windows; None or empty for no validation.
        output: folder of checkpoints and logs.
        track_settings: what decided the tracks, kept in the checkpoints for inference.
        resume: checkpoint to go on from.
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
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.output = output
        self.track_settings = track_settings
        self.state = TrainState()
        training = config.training
        torch.manual_seed(training.seed)
        model = build_model(config)
        if resume is not None:
            load_weights(model, resume.model, str(resume.path))
        self.train_sampler, self.train_loader = self._loader(train_data, shuffle=True)
        self.val_data = val_data if val_data is not None and len(val_data) else None
        if self.val_data is not None:
            self.val_sampler, self.val_loader = self._loader(self.val_data, shuffle=False)
        self.learner = Learner(config, accelerator, model, self._total_steps())
        self.log = RunLog(config, accelerator)
        self._epoch_totals = self._no_totals()
        seed_process(training.seed, accelerator.process_index)
        if resume is not None:
            self._restore(resume)
        self.state.windows = len(train_data)
        self.state.windows_per_step = self.train_sampler.windows_per_step

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

    def _total_steps(self) -> int:
        steps = self.config.training.epochs * self.train_sampler.steps
        return min(steps, self.config.training.max_steps or steps)

    def _no_totals(self) -> Totals:
        return Totals.zero(self.config, self.accelerator.device)

    @property
    def finished(self) -> bool:
        """Whether all epochs, or ``max_steps``, are done."""
        training, state = self.config.training, self.state
        reached = training.max_steps is not None and state.step >= training.max_steps
        return reached or state.epoch >= training.epochs

    def _steps_left(self) -> int:
        training, state = self.config.training, self.state
        left = (training.epochs - state.epoch) * self.train_sampler.steps - state.step_in_epoch
        return left if training.max_steps is None else min(left, training.max_steps - state.step)

    def train(self) -> TrainState:
        """Trains to the end, from wherever the state is; returns the final state.

        Raises:
            TrainingError: the loss is not a finite number.
        """
        with tqdm(
            total=self.state.step + max(0, self._steps_left()),
            initial=self.state.step,
            unit="step",
            disable=not self.accelerator.is_main_process,
        ) as progress:
            while not self.finished:
                self._train_epoch(progress)
        self.log.warn_collapse()
        return self.state

    def _train_epoch(self, progress: tqdm[Any]) -> None:
        state, training = self.state, self.config.training
        self.learner.model.train()
        self.train_sampler.set_position(state.epoch, state.step_in_epoch)
        batches = iter(self.train_loader)
        logged_at, windows_since_log = time.perf_counter(), 0
        while state.step_in_epoch < self.train_sampler.steps and not self.finished:
            micro_batches = [next(batches) for _ in range(training.gradient_accumulation_steps)]
            totals = self._step(micro_batches)
            windows_since_log += self.train_sampler.windows_per_step
            progress.update()
            if state.step % training.log_every_steps == 0 or state.step == 1:
                elapsed = time.perf_counter() - logged_at
                self._log_step(totals, windows_since_log / elapsed, progress)
                logged_at, windows_since_log = time.perf_counter(), 0
            if training.save_every_steps and state.step % training.save_every_steps == 0:
                self._save(LAST, {})
        if state.step_in_epoch >= self.train_sampler.steps:
            self._end_epoch()
        else:
            self._save(LAST, {})

    def _step(self, micro_batches: list[Batch]) -> Totals:
        totals = self.learner.step(micro_batches)
        self._epoch_totals = self._epoch_totals.plus(totals)
        self.state.step += 1
        self.state.step_in_epoch += 1
        return totals

    def _log_step(self, totals: Totals, windows_per_second: float, progress: tqdm[Any]) -> None:
        totals = totals.reduced(self.accelerator)
        self._check_finite(totals)
        self.log.step(totals, self.state.step, self.learner.learning_rate, windows_per_second, progress)

    def _check_finite(self, totals: Totals) -> None:
        """Stops before anything is written with weights that are no use."""
        loss = float(totals.loss.sum())
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {self.state.step}; the checkpoints in {self.output} are from "
                "before that; try a lower training.learning_rate, or training.clip_grad_norm"
            )

    def _end_epoch(self) -> None:
        state = self.state
        state.epoch, state.step_in_epoch = state.epoch + 1, 0
        totals = self._epoch_totals.reduced(self.accelerator)
        self._epoch_totals = self._no_totals()
        self._check_finite(totals)
        metrics = self.log.totals("train_epoch", totals, state.step)
        loss = metrics["train_epoch/loss"]
        if not metrics["train_epoch/mask_share"]:
            raise TrainingError(
                "no point counted in the whole epoch: the tracks hold NaN, or nothing in them is visible or "
                "moves; look at them, and at data.static_filter and loss.min_visibility"
            )
        if self.val_data is not None:
            totals, tracks = validate(self.learner, self.val_loader)
            metrics |= {f"val/{name}": value for name, value in tracks.items()}
            metrics |= self.log.totals("val", totals, state.step)
            loss = metrics["val/loss"]
        self.log.epoch(metrics, state.epoch, state.step)
        improved = loss < state.best_loss
        state.best_loss = min(loss, state.best_loss)
        names = [epoch_name(state.epoch)] * (state.epoch % self.config.training.save_every_epochs == 0)
        # Last, because its best_loss speaks of a best.pth that must be there.
        names += [BEST] * improved + [LAST]
        for name in names:
            self._save(name, metrics)

    def _save(self, name: str, metrics: dict[str, float]) -> None:
        """Writes a checkpoint from the main process; every process must call it."""
        random_states = get_random_states(self.accelerator)
        epoch_totals = self._epoch_totals.reduced(self.accelerator)
        self._check_finite(epoch_totals)
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.output / name,
                model=self.learner.weights(),
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
        self.accelerator.wait_for_everyone()

    def _restore(self, checkpoint: Checkpoint) -> None:
        saved = checkpoint.training
        if saved is None:
            raise TrainingError(f"{checkpoint.path}: holds weights only, no training state to resume")
        self.state = TrainState(**saved["state"])
        before = self.state.windows, self.state.windows_per_step
        now = self.train_sampler.num_windows, self.train_sampler.windows_per_step
        if self.state.step_in_epoch and before != now:
            raise TrainingError(
                f"{checkpoint.path}: was stopped within an epoch of {before[0]} windows, {before[1]} a step; "
                f"now there are {now[0]}, {now[1]} a step; resume with the same tracks, batch and processes, "
                "or from the end of an epoch (epoch_N.pth)"
            )
        self.learner.load_state_dict(saved)
        if self.accelerator.is_main_process:
            # Totals are summed over processes when they are used, so one process holds them all.
            self._epoch_totals = Totals.from_state(saved["epoch_totals"], self.accelerator.device)
        if len(saved["random_states"]) == self.accelerator.num_processes:
            set_random_state(saved["random_states"][self.accelerator.process_index])
        else:
            logger.warning(
                "%s was written by %d processes and goes on with %d: the random states start afresh",
                checkpoint.path,
                len(saved["random_states"]),
                self.accelerator.num_processes,
            )
