"""Sums over windows, from which loss, accuracy and code usage follow for any set of steps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.inputs import ModelInput, beyond_window
from amplify_motion_tokenizer.evaluation.metrics import (
    Mean,
    accuracy_counts,
    add_counts,
    amplify_code_usage,
    code_usage,
    count_codes,
    no_codes,
    no_motion_counts,
    used_codes,
)
from amplify_motion_tokenizer.models.amplify.checkpoint import nominal_size
from amplify_motion_tokenizer.models.losses import view_sums


def _float(device: torch.device) -> torch.dtype:
    """Whole numbers up to 2**53 are exact in float64, which MPS does not have."""
    return torch.float32 if device.type == "mps" else torch.float64


MAX_BINS = 256
"""Bins of the usage histogram in TensorBoard; neighbouring codes share one in larger codebooks."""


class Totals(NamedTuple):
    """Sums on the device; add them over steps, reduce them over processes, then ask for metrics."""

    loss: Tensor
    """(V,) sum of the loss over each view's counted elements (one point at one step)."""
    counted: Tensor
    """(V,) elements that count: the mask is True."""
    correct: Tensor
    """Counted elements whose most likely class is right."""
    no_motion: Tensor
    """Counted elements whose class is the centre: what always answering "no motion" gets right."""
    elements: Tensor
    """All elements of real windows."""
    non_finite: Tensor
    """Points whose track holds NaN or infinity."""
    known: Tensor
    """Elements of points whose track is finite, static ones included."""
    clamped: Tensor
    """Elements among ``known`` whose motion is as large as the window of classes or larger."""
    center: Tensor
    """Elements among ``known`` whose class is the centre."""
    dropped: Tensor
    """Windows of which nothing counts: hardly a point is visible, or none has a finite track."""
    codes: Tensor
    """How often each code was used, as ``metrics.count_codes`` tells it."""

    @staticmethod
    def zero(config: Config, device: torch.device) -> Totals:
        """Totals of no window, to which others are added."""
        views = torch.zeros(len(config.data.views), dtype=_float(device), device=device)
        scalar = views.sum()
        return Totals(views, views, *(scalar,) * 8, no_codes(config.codebook_size, device))

    @staticmethod
    def of(
        loss: Tensor,
        predicted: Tensor,
        indices: Tensor,
        inputs: ModelInput,
        real: Tensor,
        config: Config,
    ) -> Totals:
        """The sums of one batch.

        Args:
            loss: (V,) sums over the elements that count.
            predicted: (B, [V, ]t or 1, N) int64, the most likely classes.
            indices: ids (B, d); those outside of the codebook, which NaN latents give and ``real_codes``
                leaves out, do not count.
            inputs: what the model was given.
            real: (B,) bool, False for windows that only pad the batch.
            config: decides the number of codes and classes.

        A window without a real step counts as one that only pads, a step that is padding for nothing.
        """
        dtype, labels, mask = _float(loss.device), inputs.labels, inputs.mask
        correct, _ = accuracy_counts(predicted, labels, mask)
        no_motion, _ = no_motion_counts(labels, mask, config.class_grid)
        finite, real = inputs.finite, real & (inputs.window_steps > 0)
        real_points = real.view(-1, *[1] * (finite.ndim - 1))
        steps = inputs.real_steps & real_points
        known = finite.unsqueeze(-2) & steps.unsqueeze(-1)
        return Totals(
            loss=loss.to(dtype),
            counted=view_sums(mask).to(dtype),
            correct=correct.to(dtype),
            no_motion=no_motion.to(dtype),
            elements=(steps.sum() * labels.shape[-1]).to(dtype),
            non_finite=(~finite & real_points).sum().to(dtype),
            known=known.sum().to(dtype),
            clamped=(beyond_window(inputs, config) & known).sum().to(dtype),
            center=((labels == config.num_classes // 2) & known).sum().to(dtype),
            dropped=(real & ~mask.flatten(start_dim=1).any(dim=1)).sum().to(dtype),
            codes=count_codes(indices, real[:, None].expand_as(indices), config.codebook_size),
        )

    def where(self, keep: Tensor) -> Totals:
        """The sums, or nothing where the bool scalar ``keep`` on the device is False."""
        return Totals(*(torch.where(keep, value, torch.zeros_like(value)) for value in self))

    def plus(self, other: Totals) -> Totals:
        """The sums of both."""
        sums = [mine + theirs for mine, theirs in zip(self[:-1], other[:-1], strict=True)]
        return Totals._make([*sums, add_counts(self.codes, other.codes)])

    def reduced(self, accelerator: Accelerator) -> Totals:
        """The sums over all processes; every process must call it."""
        sums = [accelerator.reduce(value, "sum") for value in self[:-1]]
        if self.codes.ndim == 1:
            return Totals._make([*sums, accelerator.reduce(self.codes, "sum")])
        parts: list[Tensor] = gather_object([self.codes.cpu()])  # of as many codes as each process has seen
        return Totals._make([*sums, reduce(add_counts, parts).to(self.codes.device)])

    def metrics(self, config: Config) -> dict[str, float]:
        """Loss, accuracies, shares and code usage against the true codebook size.

        A mean of nothing is left out: there is no loss where no element counts, and no perplexity without
        codes. The loss is the sum over views of weight * mean over the view's counted elements, where it has
        some. For an amplify model with FSQ levels of AMPLIFY's table its own figures of the same codes stand
        beside ours.
        """
        counted, known = float(self.counted.sum()), float(self.known)
        per_view = self.loss / self.counted.clamp(min=1)
        loss = float((per_view * per_view.new_tensor(config.view_weights)).sum())
        means = {
            "accuracy": Mean(float(self.correct), counted),
            "accuracy_no_motion": Mean(float(self.no_motion), counted),
            "mask_share": Mean(counted, float(self.elements)),
            "clamped_share": Mean(float(self.clamped), known),
            "center_share": Mean(float(self.center), known),
        }
        return {
            **({"loss": loss} if counted else {}),
            **present(means),
            "non_finite_points": float(self.non_finite),
            "dropped_windows": float(self.dropped),
            **self._usage(config),
        }

    def _usage(self, config: Config) -> dict[str, float]:
        usage = code_usage(self.codes, config.codebook_size)._asdict()
        unique, nominal = float(usage.pop("unique")), nominal_size(config)
        if not unique:
            return {"unique_codes": unique}
        return {
            "unique_codes": unique,
            **usage,
            **(amplify_code_usage(self.codes, nominal) if nominal else {}),
        }

    def state_dict(self) -> dict[str, Tensor]:
        """The sums as tensors on the CPU."""
        return {name: value.cpu() for name, value in self._asdict().items()}

    @staticmethod
    def from_state(state: dict[str, Tensor], config: Config, device: torch.device) -> Totals:
        """The inverse of ``state_dict``; sums that an older file lacks begin at 0."""
        known = {name: value.to(device) for name, value in state.items()}
        return Totals.zero(config, device)._replace(**known)

    def add_histogram(self, writer: Any, name: str, codebook_size: int, step: int) -> None:
        """Writes the code usage as a histogram over code ids to a TensorBoard ``SummaryWriter``."""
        used, often = used_codes(self.codes)
        if not len(used):
            return
        width = -(-codebook_size // MAX_BINS)
        bins = torch.bincount(used // width, often.double(), minlength=-(-codebook_size // width))
        ids, counts = used.double(), often.double()
        writer.add_histogram_raw(
            name,
            min=float(ids[0]),
            max=float(ids[-1]),
            num=int(often.sum()),
            sum=float((counts * ids).sum()),
            sum_squares=float((counts * ids**2).sum()),
            bucket_limits=[(i + 1) * width - 0.5 for i in range(len(bins))],
            bucket_counts=bins.tolist(),
            global_step=step,
        )


def present(means: Mapping[str, Mean]) -> dict[str, float]:
    """The values of the ``means`` that are means of something, by their names."""
    return {name: mean.value for name, mean in means.items() if mean.weight}


class Means:
    """Means by name, added up over batches and then over all processes."""

    def __init__(self) -> None:
        self._means: dict[str, Mean] = {}

    def add(self, means: Mapping[str, Mean]) -> None:
        """Adds the means of a batch."""
        for name, mean in means.items():
            self._means[name] = mean.plus(self._means.get(name, Mean(0.0, 0.0)))

    def of_all_processes(self) -> dict[str, Mean]:
        """The means over all processes. Every process must call it."""
        parts: list[dict[str, Mean]] = gather_object([self._means])
        whole = Means()
        for part in parts:
            whole.add({name: Mean(*mean) for name, mean in part.items()})
        return whole._means
