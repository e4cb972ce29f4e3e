"""What a run tells: numbers to the trackers, lines to the log, the state of the progress bar."""

from __future__ import annotations

import logging
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.totals import Totals

logger = logging.getLogger(__name__)

COLLAPSED = 2.0
"""Perplexity below which a window's codes are all but the same for all windows."""


class RunLog:
    """Logs one run; totals must be those of all processes.

    Args:
        config: the whole config.
        accelerator: holds the trackers.
    """

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self.config = config
        self.accelerator = accelerator
        self._warned_non_finite = False
        self._perplexity: float | None = None  # of the last whole epoch

    def totals(self, split: str, totals: Totals, step: int) -> dict[str, float]:
        """The metrics of ``totals`` as ``split/name``; their code usage goes to TensorBoard's histograms."""
        if self.accelerator.is_main_process:
            for tracker in self.accelerator.trackers:
                if tracker.name == "tensorboard":
                    totals.add_histogram(tracker.tracker, f"{split}/code_usage", step)
        metrics = totals.metrics(self.config.view_weights)
        return {f"{split}/{name}": value for name, value in metrics.items()}

    def step(self, totals: Totals, step: int, learning_rate: float, rate: float, progress: tqdm[Any]) -> None:
        """A step's totals, with the learning rate and the windows per second."""
        values = self.totals("train", totals, step)
        self._warn_non_finite(values)
        values["train/learning_rate"] = learning_rate
        values["train/windows_per_second"] = rate
        self.accelerator.log(values, step=step)
        progress.set_postfix(
            loss=f"{values['train/loss']:.4f}",
            acc=f"{values['train/accuracy']:.3f}",
            no_motion=f"{values['train/accuracy_no_motion']:.3f}",
            codes=int(values["train/unique_codes"]),
        )

    def _warn_non_finite(self, values: dict[str, float]) -> None:
        if values["train/non_finite_points"] and not self._warned_non_finite:
            self._warned_non_finite = True
            logger.warning(
                "some tracks hold NaN or infinity: those points are left out of the loss "
                "(train/non_finite_points counts them)"
            )

    def epoch(self, metrics: dict[str, float], epoch: int, step: int) -> None:
        """The metrics of a whole epoch and of its validation."""
        self._perplexity = metrics["train_epoch/perplexity"]
        self.accelerator.log(metrics, step=step)
        if not self.accelerator.is_main_process:
            return
        for split in ("train_epoch", "val"):
            if f"{split}/loss" in metrics:
                shown = ("loss", "accuracy", "accuracy_no_motion")
                value = [metrics[f"{split}/{name}"] for name in shown]
                logger.info(
                    "epoch %d %s: loss %.4f, accuracy %.3f (no motion %.3f), codes %d of %d, perplexity %.1f",
                    epoch,
                    split.removesuffix("_epoch"),
                    *value,
                    metrics[f"{split}/unique_codes"],
                    self.config.codebook_size,
                    metrics[f"{split}/perplexity"],
                )

    def warn_collapse(self) -> None:
        """At the end of training: says so where the last epoch's codes are all but the same."""
        if self._perplexity is not None and self._perplexity < COLLAPSED and self.accelerator.is_main_process:
            logger.warning(
                "the codebook has collapsed: perplexity %.1f of %d codes in the last epoch, so codes say "
                "little; train longer or on more varied clips, or lower training.learning_rate",
                self._perplexity,
                self.config.codebook_size,
            )
