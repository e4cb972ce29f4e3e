"""What a run tells: numbers to the trackers, lines to the log, the state of the progress bar."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from accelerate import Accelerator

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.training.state import TrainState
from amplify_motion_tokenizer.training.totals import Totals

logger = logging.getLogger(__name__)

AFTER_STEPS = 1000
"""Optimiser steps before the collapse alarm may sound; runs pass through such a phase first."""
MIN_UNIQUE_CODES = 2
"""Codes in use at a logged step, below which a codebook has collapsed."""
MIN_ENTROPY = 0.1
"""Normalised entropy of a logged step's codes, 0 to 1, below which a codebook has collapsed."""


class StepClock:
    """Windows a second, and the share of the time in which this process waited for its loader.

    Both are of training alone: time within ``paused`` does not count.

    On a GPU, steps that are queued may run in the meantime: the share is the most that a faster loader
    could win.
    """

    def __init__(self) -> None:
        self._waited = self._windows = self._paused = 0.0
        self._start = self._lap = self._now()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What runs within it is waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs within it is not training; wait for the device first, which may still train."""
        began = time.perf_counter()
        yield
        self._paused += time.perf_counter() - began

    def stepped(self, windows: int) -> None:
        """A step has taken so many windows, over all processes."""
        self._windows += windows

    def lap(self) -> dict[str, float]:
        """``windows_per_second`` and ``data_wait_share`` since the last lap."""
        rates, self._lap = self._since(self._lap), self._now()
        return rates

    def total(self) -> dict[str, float]:
        """The same since the clock was made."""
        return self._since(self._start)

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter() - self._paused, self._waited, self._windows

    def _since(self, mark: tuple[float, float, float]) -> dict[str, float]:
        elapsed, waited, windows = (now - then for now, then in zip(self._now(), mark, strict=True))
        return {"windows_per_second": windows / elapsed, "data_wait_share": waited / elapsed}


class RunLog:
    """Logs one run; totals must be those of all processes, and every process must call.

    Args:
        config: the whole config.
        accelerator: holds the trackers.
    """

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self.config = config
        self.accelerator = accelerator
        self.alarm = CollapseAlarm(config)
        self._warned_non_finite = False
        self._epoch: dict[str, float] | None = None  # metrics of the last epoch

    def totals(self, split: str, totals: Totals, step: int) -> dict[str, float]:
        """The metrics of ``totals`` as ``split/name``; their code usage goes to TensorBoard's histograms."""
        if self.accelerator.is_main_process:
            for tracker in self.accelerator.trackers:
                if tracker.name == "tensorboard":
                    totals.add_histogram(tracker.tracker, f"{split}/code_usage", step)
        metrics = totals.metrics(self.config)
        return {f"{split}/{name}": value for name, value in metrics.items()}

    def step(self, totals: Totals, step: int, values: Mapping[str, float], progress: Progress) -> None:
        """A step's totals, and other ``values`` of it, those of ``StepClock.lap`` among them."""
        metrics = self.totals("train", totals, step)
        self._warn_non_finite(metrics)
        usage = _of_split(metrics, "train")
        metrics |= {f"train/{name}": value for name, value in values.items()}
        metrics["train/collapsed"] = float(self.alarm.collapsed(usage))
        if self.alarm.sounds(usage, step):
            advice = self.alarm.advice(usage, f"at step {step}")
            logger.warning("%s", advice)
            self.accelerator.log({"train/collapse_alarm": advice}, step=step)
        self.accelerator.log(metrics, step=step)
        progress.note(
            f"loss={usage['loss']:.4f}, acc={usage['accuracy']:.3f}, "
            f"no_motion={usage['accuracy_no_motion']:.3f}, codes={int(usage['unique_codes'])}, "
            f"data_wait={values['data_wait_share']:.0%}"
        )

    def _warn_non_finite(self, metrics: Mapping[str, float]) -> None:
        if metrics["train/non_finite_points"] and not self._warned_non_finite:
            self._warned_non_finite = True
            logger.warning(
                "some tracks hold NaN or infinity: those points are left out of the loss "
                "(train/non_finite_points counts them)"
            )

    def judged(self, metrics: dict[str, float], state: TrainState, rates: Mapping[str, float]) -> None:
        """The metrics of an epoch, of a validation, or of both; with an epoch its ``StepClock.total``."""
        timed = {f"train_epoch/{name}": value for name, value in rates.items()}
        self.accelerator.log(metrics | timed, step=state.step)
        if "train_epoch/loss" in metrics:
            self._epoch = _of_split(metrics, "train_epoch")
        when = f"step {state.step}" if state.step_in_epoch else f"epoch {state.epoch}"
        if rates and self.accelerator.is_main_process:
            logger.info(
                "%s train: %.0f windows/s, %.0f%% of the time waiting for data",
                when,
                rates["windows_per_second"],
                100 * rates["data_wait_share"],
            )
        for split in ("train_epoch", "val"):
            if f"{split}/loss" in metrics and self.accelerator.is_main_process:
                shown = ("loss", "accuracy", "accuracy_no_motion")
                logger.info(
                    "%s %s: loss %.4f, accuracy %.3f (no motion %.3f), codes %d of %d, perplexity %.1f",
                    when,
                    split.removesuffix("_epoch"),
                    *(metrics[f"{split}/{name}"] for name in shown),
                    metrics[f"{split}/unique_codes"],
                    self.config.codebook_size,
                    metrics[f"{split}/perplexity"],
                )
                dropped = metrics[f"{split}/dropped_windows"]
                if dropped:
                    logger.info(
                        "%s %s: %d windows dropped, of which nothing counts: a smaller share of their steps "
                        "than data.min_visible_share = %g is visible, or their tracks hold NaN",
                        when,
                        split.removesuffix("_epoch"),
                        dropped,
                        self.config.data.min_visible_share,
                    )

    def warn_collapse(self) -> None:
        """At the end of training, also a short one: says so where the last epoch's codes are too few."""
        usage = self._epoch
        if usage is not None and self.alarm.collapsed(usage) and self.accelerator.is_main_process:
            logger.warning("%s", self.alarm.advice(usage, "in the last epoch"))


def _of_split(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    prefix = f"{split}/"
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


class CollapseAlarm:
    """Tells when a codebook has collapsed: so few codes are in use that codes say little.

    Args:
        config: the codebook's size, and the weight of the code-usage term, for its advice.
    """

    def __init__(self, config: Config) -> None:
        self.codebook_size = config.codebook_size
        self._usage_weight = config.loss.usage.weight
        self._sounding = False

    def collapsed(self, usage: Mapping[str, float]) -> bool:
        """Whether ``unique_codes`` or ``normalized_entropy`` of ``usage`` is below its limit."""
        few = usage["unique_codes"] < MIN_UNIQUE_CODES
        return few or usage["normalized_entropy"] < MIN_ENTROPY

    def sounds(self, usage: Mapping[str, float], step: int) -> bool:
        """Whether to warn now: the codebook has collapsed since the last call, after the warm-up."""
        before, self._sounding = self._sounding, step > AFTER_STEPS and self.collapsed(usage)
        return self._sounding and not before

    def advice(self, usage: Mapping[str, float], when: str) -> str:
        """What was found, and what to try."""
        return (
            f"the codebook has collapsed {when}: {usage['unique_codes']:.0f} of {self.codebook_size} codes, "
            f"normalised entropy {usage['normalized_entropy']:.3f}, so codes say little; raise "
            f"loss.usage.weight (now {self._usage_weight:g}; see docs/codebook.md), train longer or on "
            "more varied clips, lower training.learning_rate or warm it up (training.warmup_steps), lower "
            "loss.alpha_center or raise data.static_filter.threshold where center_share is high, or take "
            "fewer codes (model.fsq_levels)"
        )
