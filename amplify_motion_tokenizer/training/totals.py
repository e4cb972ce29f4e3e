"""Sums over windows, from which loss, accuracy and code usage follow for any set of steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.inputs import ModelInput, beyond_window
from amplify_motion_tokenizer.evaluation.metrics import (
    accuracy_counts,
    amplify_code_usage,
    code_usage,
    no_motion_counts,
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
    """Those whose motion is as large as the window of classes or larger."""
    center: Tensor
    """Those whose class is the centre."""
    dropped: Tensor
    """Windows of which nothing counts: hardly a point is visible, or none has a finite track."""
    codes: Tensor
    """(K,) how often each code was used; K is the true codebook size."""

    @staticmethod
    def zero(config: Config, device: torch.device) -> Totals:
        """Nothing summed yet."""
        views = torch.zeros(len(config.data.views), dtype=_float(device), device=device)
        scalar = views.sum()
        codes = torch.zeros(config.codebook_size, dtype=torch.int64, device=device)
        return Totals(views, views, *(scalar,) * 8, codes)

    @staticmethod
    def of(
        loss: Tensor,
        answers: Tensor,
        indices: Tensor,
        inputs: ModelInput,
        real: Tensor,
        config: Config,
    ) -> Totals:
        """The sums of one batch.

        Args:
            loss: (V,) sums over the elements that count.
            answers: (B, [V, ]t or 1, N) int64, the most likely classes.
            indices: ids (B, d); those outside of the codebook, which NaN latents give, do not count.
            inputs: what the model was given.
            real: (B,) bool, False for windows that only pad the batch.
            config: decides the number of codes and classes.
        """
        dtype, labels, mask = _float(loss.device), inputs.labels, inputs.mask
        correct, _ = accuracy_counts(answers, labels, mask)
        no_motion, _ = no_motion_counts(labels, mask, config.class_grid)
        finite = inputs.finite
        real_points = real.view(-1, *[1] * (finite.ndim - 1))
        known = (finite & real_points).unsqueeze(-2).expand_as(labels)
        return Totals(
            loss=loss.to(dtype),
            counted=view_sums(mask).to(dtype),
            correct=correct.to(dtype),
            no_motion=no_motion.to(dtype),
            elements=(real.sum() * labels[0].numel()).to(dtype),
            non_finite=(~finite & real_points).sum().to(dtype),
            known=known.sum().to(dtype),
            clamped=(beyond_window(inputs, config) & known).sum().to(dtype),
            center=((labels == config.num_classes // 2) & known).sum().to(dtype),
            dropped=(real & ~mask.flatten(start_dim=1).any(dim=1)).sum().to(dtype),
            codes=_count_codes(indices, real, config.codebook_size),
        )

    def where(self, keep: Tensor) -> Totals:
        """The sums, or nothing where the bool scalar ``keep`` on the device is False."""
        return Totals(*(torch.where(keep, value, torch.zeros_like(value)) for value in self))

    def plus(self, other: Totals) -> Totals:
        """The sums of both."""
        return Totals(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def reduced(self, accelerator: Accelerator) -> Totals:
        """The sums over all processes; every process must call it."""
        return Totals(*(accelerator.reduce(value, "sum") for value in self))

    def metrics(self, config: Config) -> dict[str, float]:
        """Loss, accuracies, shares and code usage against the true codebook size.

        The loss is the sum over views of weight * mean over the view's counted elements. For an amplify
        model with FSQ levels of AMPLIFY's table its own figures of the same codes stand beside ours.
        """
        per_view = self.loss / self.counted.clamp(min=1)
        counted = max(1.0, float(self.counted.sum()))
        usage = code_usage(self.codes)
        nominal = nominal_size(config)
        return {
            "loss": float((per_view * per_view.new_tensor(config.view_weights)).sum()),
            "accuracy": float(self.correct) / counted,
            "accuracy_no_motion": float(self.no_motion) / counted,
            "mask_share": float(self.counted.sum()) / max(1.0, float(self.elements)),
            "non_finite_points": float(self.non_finite),
            "dropped_windows": float(self.dropped),
            "clamped_share": float(self.clamped) / max(1.0, float(self.known)),
            "center_share": float(self.center) / max(1.0, float(self.known)),
            "unique_codes": float(usage.unique),
            "entropy": usage.entropy,
            "normalized_entropy": usage.normalized_entropy,
            "perplexity": usage.perplexity,
            "normalized_perplexity": usage.normalized_perplexity,
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

    def add_histogram(self, writer: Any, name: str, step: int) -> None:
        """Writes the code usage as a histogram over code ids to a TensorBoard ``SummaryWriter``."""
        counts = self.codes.double().cpu()
        width = -(-counts.numel() // MAX_BINS)
        bins = torch.nn.functional.pad(counts, (0, -counts.numel() % width)).view(-1, width).sum(dim=1)
        ids = torch.arange(counts.numel(), dtype=torch.float64)
        if not counts.any():
            return
        used = ids[counts > 0]
        writer.add_histogram_raw(
            name,
            min=float(used[0]),
            max=float(used[-1]),
            num=int(counts.sum()),
            sum=float((counts * ids).sum()),
            sum_squares=float((counts * ids**2).sum()),
            bucket_limits=[(i + 1) * width - 0.5 for i in range(len(bins))],
            bucket_counts=bins.tolist(),
            global_step=step,
        )


def _count_codes(indices: Tensor, real: Tensor, codebook_size: int) -> Tensor:
    """``metrics.code_histogram`` of the real windows' ids, but the host need not wait for the device."""
    counted = real[:, None] & (indices >= 0) & (indices < codebook_size)
    ids = torch.where(counted, indices, 0).flatten()
    histogram = torch.zeros(codebook_size, dtype=torch.int64, device=indices.device)
    return histogram.scatter_add_(0, ids, counted.flatten().long())


class WindowMeans:
    """Means over windows of numbers that come per batch, over all processes."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._windows = 0

    def add(self, values: dict[str, float], windows: int) -> None:
        """Adds a batch's means over ``windows`` windows; the names are the same in every batch."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * windows
        self._windows += windows

    def means(self) -> dict[str, float]:
        """The means over all processes; empty where no process saw a window. Every process must call it."""
        parts: list[tuple[int, dict[str, float]]] = gather_object([(self._windows, self._sums)])
        windows = sum(count for count, _ in parts)
        names = next((sums for count, sums in parts if count), {})
        return {name: sum(sums.get(name, 0.0) for _, sums in parts) / windows for name in names}
