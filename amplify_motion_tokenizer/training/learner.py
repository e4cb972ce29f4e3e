"""One optimiser step: the model, the loss of a batch, and what a step changes.

The loss of a step is the mean over all points that count in the whole accumulated batch of all
processes, whatever each micro-batch holds. Nothing here waits for the device: what the host must know
stays on it until it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import Batch
from amplify_motion_tokenizer.data.sampler import PADDING
from amplify_motion_tokenizer.models.base import MotionTokenizer, TokenizerOutput, Truth
from amplify_motion_tokenizer.models.factorised_loss import ChunkLoss, HeadLoss, chunk_loss
from amplify_motion_tokenizer.models.losses import class_weights, view_sums
from amplify_motion_tokenizer.models.quantizer import Stage, stage_at
from amplify_motion_tokenizer.models.torch_files import unwrapped
from amplify_motion_tokenizer.training.interruption import HostCopy
from amplify_motion_tokenizer.training.schedule import Course, rate_factor
from amplify_motion_tokenizer.training.totals import Totals
from amplify_motion_tokenizer.training.usage_term import UsageTerm


class StepResult(NamedTuple):
    """The results of one optimiser step."""

    totals: Totals
    """Sums over this process's windows."""
    grad_norm: Tensor
    """Norm of the gradients before they are clipped, a scalar on the device."""
    skipped: Tensor
    """Bool scalar on the device, the same in all processes: the weights stayed as they were."""
    requests: HostCopy
    """(W,) sum over the processes of the requests that each handed in."""


class Learner:
    """Model, optimiser, schedule and the running mean of the weights.

    Args:
        config: the whole config; sections model, loss and training are used.
        accelerator: from ``make_accelerator``.
        model: the tokenizer to train, with its first weights.
        course: of the learning rate over the whole run; ``course`` may be set anew when the run goes on.
    """

    def __init__(
        self, config: Config, accelerator: Accelerator, model: MotionTokenizer, course: Course
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        training = config.training
        optimizer = AdamW(
            model.parameter_groups(training.learning_rate),
            lr=training.learning_rate,
            betas=training.betas,
            weight_decay=training.weight_decay,
            fused=True,  # the one kind that can leave out a step without the host
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self._chunk_loss: ChunkLoss = chunk_loss
        if training.compile:
            # In place, so that the names of the weights stay. A kernel for each shape, never one for
            # several: a resumed run would otherwise meet the shapes in another order and round differently.
            self.model.compile(dynamic=False)
            self._chunk_loss = torch.compile(chunk_loss, dynamic=False)
        self.average: WeightAverage | None = None
        if training.ema_decay is not None:
            self.average = WeightAverage(accelerator.unwrap_model(self.model), training.ema_decay)
        self.course = course
        self.schedule = LambdaLR(
            self.optimizer.optimizer, lambda step: rate_factor(training, self.course, step)
        )
        self.usage = UsageTerm(config, accelerator)
        self._class_weights = class_weights(config.loss, config.class_grid).to(accelerator.device)
        self._view_weights = torch.tensor(config.view_weights, device=accelerator.device)

    @property
    def learning_rate(self) -> float:
        """Rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    @property
    def tokenizer(self) -> MotionTokenizer:
        """The model without what spreads it over processes."""
        model: MotionTokenizer = self.accelerator.unwrap_model(self.model)
        return model

    @property
    def stage(self) -> Stage:
        """How the next step quantises."""
        done = self.course.done(self.schedule.last_epoch)
        return stage_at(self.config.model.quantizer.start, done)

    def step(self, micro_batches: list[Batch], requests: Tensor) -> StepResult:
        """One optimiser step; every process must call it.

        A step whose loss or gradients are not finite changes neither weights nor their mean nor the
        optimiser. The schedule counts it all the same, so that a step's number decides its rate in every
        precision.

        Args:
            micro_batches: this process's micro-batches of the step.
            requests: (W,) float32 on the CPU, to be summed over the processes.
        """
        accelerator = self.accelerator
        micro_batches = [to_device(batch, accelerator.device) for batch in micro_batches]
        counts, requests_of_all = self._exchange(micro_batches, requests)
        # Processes average their gradients, so each scales its share of the sums by their number.
        scale = self._view_weights * accelerator.num_processes / counts.clamp(min=1)
        totals, stage = Totals.zero(self.config, accelerator.device), self.stage
        for number, batch in enumerate(micro_batches, start=1):
            last = number == len(micro_batches)
            with nullcontext() if last else accelerator.no_sync(self.model):
                output, loss, batch_totals = self.forward(batch, stage)
                usage = self.usage(output.digits, self._real_codes(batch))
                accelerator.backward((loss.sums * scale).sum() + usage)
            totals = totals.plus(batch_totals)
        clip = self.config.training.clip_grad_norm
        # Also without clipping: it gives the norm, and takes the scaler's factor off.
        norm = accelerator.clip_grad_norm_(self.model.parameters(), math.inf if clip is None else clip)
        skipped = self._update(totals, norm)
        return StepResult(totals, norm.detach(), skipped, requests_of_all)

    def _exchange(self, micro_batches: list[Batch], requests: Tensor) -> tuple[Tensor, HostCopy]:
        """(V,) counted elements of the whole batch, and all processes' requests."""
        counts = torch.stack([view_sums(batch.inputs.mask) for batch in micro_batches]).sum(dim=0).float()
        if self.accelerator.num_processes == 1:
            return counts, HostCopy(requests)
        both = torch.cat([counts, requests.to(counts.device, non_blocking=True)])
        both = self.accelerator.reduce(both, "sum")
        return both[: len(counts)], HostCopy(both[len(counts) :])

    def _update(self, totals: Totals, norm: Tensor) -> Tensor:
        """Applies the gradients, unless the step is not finite; returns whether it is not."""
        scaler = self.accelerator.scaler
        # Gradients are the same in all processes, losses are not.
        finite: Tensor = self.accelerator.reduce(totals.loss.sum(), "sum").isfinite()
        changed = norm.isfinite()
        if scaler is None:
            finite = changed = finite & changed
            # As GradScaler does: a fused optimiser leaves its step out on the device.
            self.optimizer.optimizer.found_inf = (~finite).float()
        # With fp16 gradients may overflow: the scaler skips such a step, and scales the next by less.
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update(changed)
        return ~finite

    def forward(self, batch: Batch, stage: Stage = "round") -> tuple[TokenizerOutput, HeadLoss, Totals]:
        """The model's output, its loss, and the totals of one micro-batch on the device.

        Args:
            batch: on the device.
            stage: how it is quantised.
        """
        inputs, gamma = batch.inputs, self.config.loss.gamma
        output: TokenizerOutput = self.model(inputs.velocities, inputs.images, stage)
        with self.accelerator.autocast():
            truth = Truth(inputs.velocities, inputs.labels, inputs.mask)
            loss = self.tokenizer.loss(output, truth, self._class_weights, gamma, self._chunk_loss)
        indices = output.indices.where(self._real_codes(batch), -1)
        real = batch.indices != PADDING
        totals = Totals.of(loss.sums.detach(), loss.classes, indices, inputs, real, self.config)
        return output, loss, totals

    def _real_codes(self, batch: Batch) -> Tensor:
        """(B, d) bool, False for codes of windows that only pad the batch, and of steps that are padding."""
        return self.tokenizer.real_codes(batch.inputs.window_steps) & (batch.indices != PADDING)[:, None]

    def averaged(self) -> AbstractContextManager[None]:
        """Within it the model holds the weights that inference gets: their mean where one is kept."""
        return nullcontext() if self.average is None else self.average.in_use()

    def inference_weights(self) -> dict[str, Tensor]:
        """State dict of the model for inference: with the means of the weights where they are kept."""
        means = {} if self.average is None else self.average.means
        return self._weights() | means

    def _weights(self) -> dict[str, Tensor]:
        return unwrapped(self.accelerator.unwrap_model(self.model).state_dict())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds beside ``inference_weights``, so that the next step is the same."""
        scaler, average = self.accelerator.scaler, None
        if self.average is not None:
            average = {"updates": int(self.average.updates), "own": self._weights()}
        return {
            "optimizer": self.optimizer.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "average": average,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of ``state_dict``, once the model holds the checkpoint's weights."""
        groups = [{**group, "fused": True} for group in state["optimizer"]["param_groups"]]
        self.optimizer.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            # It was made from the checkpoint's weights, which are the means.
            self.average.updates.fill_(state["average"]["updates"])
            self.accelerator.unwrap_model(self.model).load_state_dict(unwrapped(state["average"]["own"]))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on ``device``, without waiting for the copy."""
    return Batch(batch.inputs.to(device), batch.indices.to(device, non_blocking=True))


class WeightAverage:
    """Exponential moving average of a model's parameters.

    After step n the mean moves by 1 - d towards the weights, d = min(decay, (1 + n) / (10 + n)): early
    means would otherwise be means of the first, random weights. Steps that changed no weights do not count.

    Args:
        model: its present parameters are the first mean.
        decay: d of a long run.

    Attributes:
        means: by the names of the parameters.
        updates: n, steps so far, an int64 scalar on the weights' device, so that no step waits for it.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = dict(model.named_parameters())
        device = next(iter(self._parameters.values())).device
        self.updates = torch.zeros((), dtype=torch.int64, device=device)
        self.means = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, changed: Tensor) -> None:
        """Moves the means towards the model's weights after a step.

        Args:
            changed: bool scalar on the weights' device, whether the step changed them; else means and
                count stay as they are.
        """
        self.updates += changed
        # 1 - d, in a form that is as exact in float32.
        share = (9 / (10 + self.updates)).clamp(min=1 - self.decay) * changed
        means = list(self.means.values())
        moves = torch._foreach_sub(list(self._parameters.values()), means)
        torch._foreach_mul_(moves, share)
        torch._foreach_add_(means, moves)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within it the model holds the means; its own weights come back afterwards, bit for bit."""
        own = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._fill(self.means)
        try:
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
