"""Logs a run: numbers to TensorBoard and Weights & Biases, lines to the log, the progress bar's state."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.evaluation.metrics import Mean
from amplify_motion_tokenizer.files import failure_named
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.trackers.windows import SEEN
from amplify_motion_tokenizer.training.loader_faults import raised_within
from amplify_motion_tokenizer.training.state import TrainState
from amplify_motion_tokenizer.training.totals import Totals, present

logger = logging.getLogger(__name__)

_TENSORBOARD = "tensorboard."
"""How the names of TensorBoard's modules begin."""

NOTHING_COUNTS = (
    "no point counts: the tracks hold NaN or were never written, or nothing in them is visible or moves "
    "(data.static_filter, data.min_visibility, data.min_visible_share)"
)
"""Why there may be nothing to take a mean of."""
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
        """``windows_per_second`` and ``data_wait_share`` since the clock was made."""
        return self._since(self._start)

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter() - self._paused, self._waited, self._windows

    def _since(self, mark: tuple[float, float, float]) -> dict[str, float]:
        elapsed, waited, windows = (now - then for now, then in zip(self._now(), mark, strict=True))
        return {"windows_per_second": windows / elapsed, "data_wait_share": waited / elapsed}


@contextmanager
def log_failures_named(folder: Path) -> Iterator[None]:
    """Within it a failure to write TensorBoard's file, such as a full disk, is a UsageError in one line.

    What TensorBoard's thread meets is raised again by the next entry, so the thread need not print it too.

    Args:
        folder: of the log.
    """
    before = threading.excepthook

    def told(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith(_TENSORBOARD):
            before(args)

    threading.excepthook = told
    try:
        yield
    except OSError as error:
        if not raised_within(error, _TENSORBOARD):
            raise
        with failure_named(folder):
            raise
    finally:
        threading.excepthook = before


class RunLog:
    """Logs one run; totals must be sums over all processes, and every process must call.

    Args:
        config: the whole config.
        accelerator: holds the trackers.
    """

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self.config = config
        self.accelerator = accelerator
        self.alarm = CollapseAlarm(config)
        self._warned_non_finite = False
        self._warned_empty: set[str] = set()  # what has been said to be a mean of nothing
        self._epoch: dict[str, float] | None = None  # metrics of the last epoch

    def totals(self, split: str, totals: Totals, step: int) -> dict[str, float]:
        """The metrics of ``totals`` as ``split/name``; their code usage goes to TensorBoard's histograms."""
        if self.accelerator.is_main_process:
            for tracker in self.accelerator.trackers:
                if tracker.name == "tensorboard":
                    name, size = f"{split}/code_usage", self.config.codebook_size
                    totals.add_histogram(tracker.tracker, name, size, step)
        metrics = totals.metrics(self.config)
        self._warn_of_nothing(split, totals, step)
        return {f"{split}/{name}": value for name, value in metrics.items()}

    def _warn_of_nothing(self, split: str, totals: Totals, step: int) -> None:
        """Names, once, what has no loss: a split, or some of its views."""
        counted = dict(zip(self.config.data.views, totals.counted.tolist(), strict=True))
        empty = [view for view, count in counted.items() if not count]
        if not empty or split in self._warned_empty or not self.accelerator.is_main_process:
            return
        self._warned_empty.add(split)
        if len(empty) == len(counted):
            logger.warning("step %d: %s has no loss and no accuracy, for %s", step, split, NOTHING_COUNTS)
        else:
            names = ", ".join(empty)
            logger.warning(
                "step %d: %s/loss is without the view %s, in which %s", step, split, names, NOTHING_COUNTS
            )

    def tracks(self, means: Mapping[str, Mean], step: int) -> dict[str, float]:
        """Metrics of held-out tracks as ``val/name``; a mean of nothing is named in a warning instead."""
        empty = [f"val/{name}" for name, mean in means.items() if not mean.weight]
        if empty and "tracks" not in self._warned_empty and self.accelerator.is_main_process:
            self._warned_empty.add("tracks")
            logger.warning(
                "step %d: %s have no value: nothing in the held-out windows is seen (a confidence of "
                "at least %g after the first frame), or moves",
                step,
                ", ".join(empty),
                SEEN,
            )
        return {f"val/{name}": value for name, value in present(means).items()}

    def step(self, totals: Totals, step: int, values: Mapping[str, float], progress: Progress) -> None:
        """A step's totals, and its other ``values``, such as the ones of ``StepClock.lap``."""
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
            f"loss={_shown(usage, 'loss', 4)}, acc={_shown(usage, 'accuracy', 3)}, "
            f"no_motion={_shown(usage, 'accuracy_no_motion', 3)}, codes={int(usage['unique_codes'])}, "
            f"data_wait={values['data_wait_share']:.0%}"
        )

    def _warn_non_finite(self, metrics: Mapping[str, float]) -> None:
        if metrics["train/non_finite_points"] and not self._warned_non_finite:
            self._warned_non_finite = True
            logger.warning(
                "some tracks hold NaN or infinity: those points are left out of the loss "
                "(train/non_finite_points counts them)"
            )

    def results(self, metrics: dict[str, float], state: TrainState, rates: Mapping[str, float]) -> None:
        """The metrics of an epoch, of a validation, or of both, with an epoch's ``StepClock.total``."""
        timed = {f"train_epoch/{name}": value for name, value in rates.items()}
        self.accelerator.log(metrics | timed, step=state.step)
        if "train_epoch/unique_codes" in metrics:
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
            if f"{split}/unique_codes" in metrics and self.accelerator.is_main_process:
                found = _of_split(metrics, split)
                logger.info(
                    "%s %s: loss %s, accuracy %s (no motion %s), codes %d of %d, perplexity %s",
                    when,
                    split.removesuffix("_epoch"),
                    _shown(found, "loss", 4),
                    _shown(found, "accuracy", 3),
                    _shown(found, "accuracy_no_motion", 3),
                    found["unique_codes"],
                    self.config.codebook_size,
                    _shown(found, "perplexity", 1),
                )
                dropped = metrics[f"{split}/dropped_windows"]
                if dropped:
                    logger.info(
                        "%s %s: %d windows dropped, of which nothing counts: a smaller share of their steps "
                        "than data.min_visible_share = %g is visible, or their tracks hold NaN or were never "
                        "written",
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


def _shown(metrics: Mapping[str, float], name: str, digits: int) -> str:
    """A metric as text; a dash where it is the mean of nothing, which has no value."""
    return f"{metrics[name]:.{digits}f}" if name in metrics else "-"


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
        return few or usage.get("normalized_entropy", 0.0) < MIN_ENTROPY

    def sounds(self, usage: Mapping[str, float], step: int) -> bool:
        """Whether to warn now: the codebook has collapsed since the last call, after the warm-up."""
        before, self._sounding = self._sounding, step > AFTER_STEPS and self.collapsed(usage)
        return self._sounding and not before

    def advice(self, usage: Mapping[str, float], when: str) -> str:
        """What was found, and what to try."""
        return (
            f"the codebook has collapsed {when}: {usage['unique_codes']:.0f} of {self.codebook_size} codes, "
            f"normalised entropy {_shown(usage, 'normalized_entropy', 3)}, so codes say little; raise "
            f"loss.usage.weight (now {self._usage_weight:g}; see docs/measured/codebook.md), train longer "
            "or on more varied clips, lower training.learning_rate or warm it up (training.warmup_steps), "
            "lower loss.alpha_center or raise data.static_filter.threshold where center_share is high, or "
            "take fewer codes (model.fsq_levels)"
        )
