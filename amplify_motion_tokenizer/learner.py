"""One optimiser step: the model, the loss of a batch, and what a step changes.

The loss of a step is the mean over all points that count in the whole accumulated batch of all
processes, whatever each micro-batch holds.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.dataset import PADDING, Batch
from amplify_motion_tokenizer.inputs import ModelInput
from amplify_motion_tokenizer.losses import class_weights, masked_loss, view_sums
from amplify_motion_tokenizer.models.base import MotionTokenizer
from amplify_motion_tokenizer.schedules import rate_factor
from amplify_motion_tokenizer.totals import Totals


class Learner:
    """Model, optimiser and schedule.

    Args:
        config: the whole config; sections model, loss and training are used.
        accelerator: from ``make_accelerator``.
        model: the tokenizer to train, with its first weights.
        total_steps: steps of the whole run, which a cosine needs.
    """

    def __init__(
        self, config: Config, accelerator: Accelerator, model: MotionTokenizer, total_steps: int
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        training = config.training
        optimizer = AdamW(
            model.parameters(),
            lr=training.learning_rate,
            betas=training.betas,
            weight_decay=training.weight_decay,
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.schedule = LambdaLR(self.optimizer.optimizer, rate_factor(training, total_steps))
        self._class_weights = class_weights(config.loss, config.class_grid).to(accelerator.device)
        self._view_weights = torch.tensor(config.view_weights, device=accelerator.device)

    @property
    def learning_rate(self) -> float:
        """Rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def step(self, micro_batches: list[Batch]) -> Totals:
        """One optimiser step; returns this process's totals of it."""
        accelerator = self.accelerator
        micro_batches = [to_device(batch, accelerator.device) for batch in micro_batches]
        counts = torch.stack([view_sums(batch.inputs.mask) for batch in micro_batches])
        # Processes average their gradients, so each scales its share of the sums by their number.
        counts = accelerator.reduce(counts.sum(dim=0).float(), "sum").clamp(min=1)
        scale = self._view_weights * accelerator.num_processes / counts
        totals = Totals.zero(self.config, accelerator.device)
        for number, batch in enumerate(micro_batches, start=1):
            last = number == len(micro_batches)
            with nullcontext() if last else accelerator.no_sync(self.model):
                _, loss, batch_totals = self.forward(batch)
                accelerator.backward((loss * scale).sum())
            totals = totals.plus(batch_totals)
        clip = self.config.training.clip_grad_norm
        if clip is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        return totals

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Totals]:
        """Logits, sums of the loss, (V,), and the totals of one micro-batch on the device."""
        inputs = batch.inputs
        output = self.model(inputs.velocities)
        logits = output.distinct_logits
        gamma = self.config.loss.gamma
        loss, _ = masked_loss(logits, inputs.labels, inputs.mask, self._class_weights, gamma)
        real = batch.indices != PADDING
        # Ids of NaN latents are no ids; the loss is NaN too then, and ends the run at the next check.
        indices = torch.where(loss.isfinite().all(), output.indices[real], 0)
        totals = Totals.of(loss.detach(), logits.detach(), indices, inputs, real, self.config)
        return logits, loss, totals

    def weights(self) -> dict[str, Tensor]:
        """State dict of the model."""
        state: dict[str, Tensor] = self.accelerator.unwrap_model(self.model).state_dict()
        return state

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds beside the weights, so that the next step is the same."""
        scaler = self.accelerator.scaler
        return {
            "optimizer": self.optimizer.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.optimizer.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on ``device``, without waiting for the copy."""
    inputs = ModelInput(*(tensor.to(device, non_blocking=True) for tensor in batch.inputs))
    return Batch(inputs, batch.indices.to(device, non_blocking=True))
