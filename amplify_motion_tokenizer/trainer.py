"""The training loop on Accelerate: any number of processes, accumulation, mixed precision.

A step is one optimiser step. Its loss is the mean over all points that count in the whole
accumulated batch of all processes, whatever each micro-batch holds.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from amplify_motion_tokenizer.checkpoint import Checkpoint, load_weights, save_checkpoint
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.dataset import PADDING, Batch, EpochSampler, WindowDataset, make_loader
from amplify_motion_tokenizer.errors import TrainingError
from amplify_motion_tokenizer.inputs import ModelInput
from amplify_motion_tokenizer.losses import class_weights, masked_loss, view_sums
from amplify_motion_tokenizer.models import TokenizerOutput, build_model
from amplify_motion_tokenizer.reconstruction import known_windows, predicted_tracks, track_metrics
from amplify_motion_tokenizer.schedules import rate_factor
from amplify_motion_tokenizer.totals import Totals, WindowMeans
from amplify_motion_tokenizer.train_state import TrainState, get_random_states, seed_process, set_random_state
from amplify_motion_tokenizer.usage import UsageTerm

logger = logging.getLogger(__name__)

LAST, BEST = "last.pth", "best.pth"

COLLAPSED = 2.0
"""Perplexity below which a window's codes are all but the same for all windows."""


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
        optimizer = AdamW(
            model.parameters(),
            lr=training.learning_rate,
            betas=training.betas,
            weight_decay=training.weight_decay,
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.train_sampler, self.train_loader = self._loader(train_data, shuffle=True)
        self.val_data = val_data if val_data is not None and len(val_data) else None
        if self.val_data is not None:
            self.val_sampler, self.val_loader = self._loader(self.val_data, shuffle=False)
        self.schedule = LambdaLR(self.optimizer.optimizer, rate_factor(training, self._total_steps()))
        self._class_weights = class_weights(config.loss, config.class_grid).to(accelerator.device)
        self._view_weights = torch.tensor(config.view_weights, device=accelerator.device)
        self._usage = UsageTerm(config, accelerator)
        self._epoch_totals = self._no_totals()
        self._warned_non_finite = False
        self._perplexity: float | None = None  # of the last whole epoch
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
        self._warn_collapse()
        return self.state

    def _warn_collapse(self) -> None:
        if self._perplexity is not None and self._perplexity < COLLAPSED and self.accelerator.is_main_process:
            logger.warning(
                "the codebook has collapsed: perplexity %.1f of %d codes in the last epoch, so codes say "
                "little; train longer or on more varied clips, or lower training.learning_rate",
                self._perplexity,
                self.config.codebook_size,
            )

    def _train_epoch(self, progress: tqdm[Any]) -> None:
        state, training = self.state, self.config.training
        self.model.train()
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
        """One optimiser step; returns this process's totals of it."""
        accelerator = self.accelerator
        micro_batches = [_to_device(batch, accelerator.device) for batch in micro_batches]
        counts = torch.stack([view_sums(batch.inputs.mask) for batch in micro_batches])
        # Processes average their gradients, so each scales its share of the sums by their number.
        counts = accelerator.reduce(counts.sum(dim=0).float(), "sum").clamp(min=1)
        scale = self._view_weights * accelerator.num_processes / counts
        totals = self._no_totals()
        for number, batch in enumerate(micro_batches, start=1):
            last = number == len(micro_batches)
            with nullcontext() if last else accelerator.no_sync(self.model):
                output, loss, batch_totals = self._forward(batch)
                usage = self._usage(output.digits, batch.indices != PADDING)
                accelerator.backward((loss * scale).sum() + usage)
            totals = totals.plus(batch_totals)
        clip = self.config.training.clip_grad_norm
        if clip is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self._epoch_totals = self._epoch_totals.plus(totals)
        self.state.step += 1
        self.state.step_in_epoch += 1
        return totals

    def _forward(self, batch: Batch) -> tuple[TokenizerOutput, Tensor, Totals]:
        """The model's output, sums of the loss, (V,), and the totals of one micro-batch."""
        inputs, gamma = batch.inputs, self.config.loss.gamma
        output: TokenizerOutput = self.model(inputs.velocities)
        logits = output.distinct_logits
        loss, _ = masked_loss(logits, inputs.labels, inputs.mask, self._class_weights, gamma)
        real = batch.indices != PADDING
        # Ids of NaN latents are no ids; the loss is NaN too then, and ends the run at the next check.
        indices = torch.where(loss.isfinite().all(), output.indices[real], 0)
        totals = Totals.of(loss.detach(), logits.detach(), indices, inputs, real, self.config)
        return output, loss, totals

    def _log_step(self, totals: Totals, windows_per_second: float, progress: tqdm[Any]) -> None:
        totals = totals.reduced(self.accelerator)
        metrics = totals.metrics(self.config.view_weights)
        self._check_finite(metrics["loss"])
        self._warn_non_finite(metrics)
        values = {f"train/{name}": value for name, value in (metrics | self._usage.logged()).items()}
        values["train/learning_rate"] = float(self.schedule.get_last_lr()[0])
        values["train/windows_per_second"] = windows_per_second
        self.accelerator.log(values, step=self.state.step)
        self._log_histogram("train/code_usage", totals)
        progress.set_postfix(
            loss=f"{metrics['loss']:.4f}",
            acc=f"{metrics['accuracy']:.3f}",
            no_motion=f"{metrics['accuracy_no_motion']:.3f}",
            codes=int(metrics["unique_codes"]),
        )

    def _check_finite(self, loss: float) -> None:
        """Stops before anything is written with weights that are no use."""
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {self.state.step}; the checkpoints in {self.output} are from "
                "before that; try a lower training.learning_rate, or training.clip_grad_norm"
            )

    def _warn_non_finite(self, metrics: dict[str, float]) -> None:
        if metrics["non_finite_points"] and not self._warned_non_finite:
            self._warned_non_finite = True
            logger.warning(
                "some tracks hold NaN or infinity: those points are left out of the loss "
                "(train/non_finite_points counts them)"
            )

    def _end_epoch(self) -> None:
        state = self.state
        state.epoch, state.step_in_epoch = state.epoch + 1, 0
        totals = self._epoch_totals.reduced(self.accelerator)
        self._epoch_totals = self._no_totals()
        metrics = {
            f"train_epoch/{name}": value for name, value in totals.metrics(self.config.view_weights).items()
        }
        self._log_histogram("train_epoch/code_usage", totals)
        loss = metrics["train_epoch/loss"]
        self._check_finite(loss)
        self._perplexity = metrics["train_epoch/perplexity"]
        if not metrics["train_epoch/mask_share"]:
            raise TrainingError(
                "no point counted in the whole epoch: the tracks hold NaN, or nothing in them is visible or "
                "moves; look at them, and at data.static_filter and loss.min_visibility"
            )
        if self.val_data is not None:
            totals, tracks = self.validate()
            metrics |= {f"val/{name}": value for name, value in tracks.items()}
            metrics |= {
                f"val/{name}": value for name, value in totals.metrics(self.config.view_weights).items()
            }
            self._log_histogram("val/code_usage", totals)
            loss = metrics["val/loss"]
        self.accelerator.log(metrics, step=state.step)
        self._report_epoch(metrics)
        improved = loss < state.best_loss
        state.best_loss = min(loss, state.best_loss)
        names = [epoch_name(state.epoch)] * (state.epoch % self.config.training.save_every_epochs == 0)
        # Last, because its best_loss speaks of a best.pth that must be there.
        names += [BEST] * improved + [LAST]
        for name in names:
            self._save(name, metrics)

    @torch.no_grad()
    def validate(self) -> tuple[Totals, dict[str, float]]:
        """Over all validation windows and all processes, without dropout: totals and track metrics.

        Track metrics are means over the windows whose true positions are known; empty where none are.
        """
        self.model.eval()
        totals, tracks = self._no_totals(), WindowMeans()
        for batch in self.val_loader:
            batch = _to_device(batch, self.accelerator.device)
            output, _, batch_totals = self._forward(batch)
            totals = totals.plus(batch_totals)
            known = known_windows(batch.inputs, batch.indices != PADDING)
            inputs = ModelInput(*(column[known] for column in batch.inputs))
            if len(inputs.labels):
                predicted = predicted_tracks(output.distinct_logits[known], inputs, self.config.class_grid)
                tracks.add(track_metrics(predicted, inputs), len(inputs.labels))
        self.model.train()
        return totals.reduced(self.accelerator), tracks.means()

    def _report_epoch(self, metrics: dict[str, float]) -> None:
        if not self.accelerator.is_main_process:
            return
        for split in ("train_epoch", "val"):
            if f"{split}/loss" in metrics:
                shown = ("loss", "accuracy", "accuracy_no_motion")
                value = [metrics[f"{split}/{name}"] for name in shown]
                logger.info(
                    "epoch %d %s: loss %.4f, accuracy %.3f (no motion %.3f), codes %d of %d, perplexity %.1f",
                    self.state.epoch,
                    split.removesuffix("_epoch"),
                    *value,
                    metrics[f"{split}/unique_codes"],
                    self.config.codebook_size,
                    metrics[f"{split}/perplexity"],
                )

    def _log_histogram(self, name: str, totals: Totals) -> None:
        if not self.accelerator.is_main_process:
            return
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                totals.add_histogram(tracker.tracker, name, self.state.step)

    def _save(self, name: str, metrics: dict[str, float]) -> None:
        """Writes a checkpoint from the main process; every process must call it."""
        random_states = get_random_states(self.accelerator)
        epoch_totals = self._epoch_totals.reduced(self.accelerator)
        self._check_finite(float(epoch_totals.loss.sum()))
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            save_checkpoint(
                self.output / name,
                model=self.accelerator.unwrap_model(self.model).state_dict(),
                config=self.config,
                track_settings=self.track_settings,
                metrics=metrics,
                training={
                    "state": asdict(self.state),
                    "optimizer": self.optimizer.optimizer.state_dict(),
                    "schedule": self.schedule.state_dict(),
                    "scaler": None if scaler is None else scaler.state_dict(),
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
        self.optimizer.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        if self.accelerator.scaler is not None and saved["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
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


def _to_device(batch: Batch, device: torch.device) -> Batch:
    inputs = ModelInput(*(tensor.to(device, non_blocking=True) for tensor in batch.inputs))
    return Batch(inputs, batch.indices.to(device, non_blocking=True))
