"""Trains variants of a tokenizer for the same steps or CPU time, and says what they reach on held-out data.

    python -m benchmarks.codebook [--tracks TRACKS] --config CONFIG [--steps 400 | --cpu_seconds 240]
        --seeds 0 1 --variant plain --variant "usage --loss.usage.weight 0.1"

A variant is a name and settings, as train.py takes them; tracks are for data.source: tracks or both.
With noise_dropout=P among them it quantises by vector_quantize_pytorch's symmetric rounding and that option,
which the package does not offer. A soft start (model.quantizer.start) takes shares of --steps.
l2_px is of model.reconstruction: expected, l2_likeliest of the other. The seed decides initial weights, data
order and which clips are held out. One row a run, then the means over seeds; CPU time is the process's, the
validation at the end left out.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Literal
from unittest import mock

import torch
from accelerate.state import AcceleratorState
from torch import nn
from vector_quantize_pytorch import FSQ

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips, split_clips
from amplify_motion_tokenizer.data.made_up import made_up_training, made_up_validation
from amplify_motion_tokenizer.training.launch import make_accelerator
from amplify_motion_tokenizer.training.trainer import Trainer
from amplify_motion_tokenizer.training.validation import validate

SHOWN = {
    "delta_auc": ".3f",
    "delta_auc_no_motion": ".3f",
    "delta_avg": ".3f",
    "delta_avg_no_motion": ".3f",
    "l2_px": ".2f",
    "l2_likeliest": ".2f",
    "l2_px_no_motion": ".2f",
    "accuracy": ".3f",
    "accuracy_no_motion": ".3f",
    "loss": ".3f",
    "unique_codes": ".0f",
    "perplexity": ".1f",
    "windows_per_second": ".1f",
    "steps": ".0f",
    "parameters": ".0f",
}
"""Columns and their formats."""


class TimedTrainer(Trainer):
    """Stops after some seconds of CPU time, and leaves nothing behind."""

    cpu_seconds = float("inf")
    started: float | None = None

    @property
    def finished(self) -> bool:
        if self.started is None:
            self.started = time.process_time()
        return super().finished or time.process_time() - self.started >= self.cpu_seconds

    def _end_epoch(self) -> None:
        self.state.epoch, self.state.step_in_epoch = self.state.epoch + 1, 0

    def _save(self, *_: object) -> None:
        return


class LibraryFSQ(FSQ):  # type: ignore[misc]
    """The library's quantiser with its symmetric rounding and noise; ids are exact up to 2**24."""

    def __init__(self, levels: Sequence[int], dim: int, noise_dropout: float) -> None:
        super().__init__(list(levels), dim, preserve_symmetry=True, noise_dropout=noise_dropout)


def quantisers(noise_dropout: float | None) -> contextlib.ExitStack:
    """Within it models have ``LibraryFSQ``, where a rate of noise is given."""
    patches = contextlib.ExitStack()
    if noise_dropout is not None:
        made: Callable[..., nn.Module] = partial(LibraryFSQ, noise_dropout=noise_dropout)
        for model in ("amplify", "keypoint"):
            name = f"amplify_motion_tokenizer.models.{model}.network.build_fsq"
            patches.enter_context(mock.patch(name, made))
    return patches


def measure(config: Config, tracks: Path | None, cpu_seconds: float) -> dict[str, float]:
    """Trains once and validates."""
    clips = {} if tracks is None else load_clips(tracks, config, config.data.dataset)
    training, held_out = (
        split_clips(clips, config.data.val_split, config.training.seed) if clips else ({}, {})
    )
    read = sum(clip.num_windows for clip in training.values())
    train_data = WindowDataset(training, config, made_up=made_up_training(config, read))
    val_data = WindowDataset(held_out, config, made_up=made_up_validation(config))
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(config, Path(folder))
        trainer = TimedTrainer(config, accelerator, train_data, val_data, Path(folder), None)
        trainer.cpu_seconds = cpu_seconds
        start = time.process_time()
        trainer.train()
        seconds = time.process_time() - start
        totals, track_metrics = validate(trainer.learner, trainer.val_loader)
        trainer.learner.model.config = with_reconstruction(config, "likeliest")
        _, likeliest = validate(trainer.learner, trainer.val_loader)
    AcceleratorState._reset_state(reset_partial_state=True)
    state, sampler = trainer.state, trainer.train_sampler
    windows = state.epoch * sampler.num_windows + state.step_in_epoch * sampler.windows_per_step
    return {
        **{name: mean.value for name, mean in track_metrics.items()},
        "l2_likeliest": likeliest["l2_px"].value,
        **totals.metrics(config),
        "windows_per_second": windows / seconds,
        "steps": state.step,
        "parameters": sum(parameter.numel() for parameter in trainer.learner.model.parameters()),
    }


def with_reconstruction(config: Config, reconstruction: Literal["expected", "likeliest"]) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, reconstruction=reconstruction))


def row(name: str, metrics: dict[str, float]) -> str:
    return " | ".join([f"| {name}", *(format(metrics[key], form) for key, form in SHOWN.items())]) + " |"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracks", type=Path)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--cpu_seconds", type=float, default=float("inf"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variant", action="append", required=True)
    arguments = parser.parse_args(argv)
    files = [part for path in arguments.config for part in ("--config", path)]
    print("| variant | " + " | ".join(SHOWN) + " |")
    print("|---" * (len(SHOWN) + 1) + "|")
    for variant in arguments.variant:
        name, *settings = shlex.split(variant)
        library = next((part for part in settings if part.startswith("noise_dropout=")), None)
        noise_dropout = float(library.partition("=")[2]) if library else None
        config, _ = cli.parse([*files, *(part for part in settings if part != library)], "train", "", {})
        config = with_reconstruction(config, "expected")
        runs = []
        for seed in arguments.seeds:
            training = dataclasses.replace(
                config.training, seed=seed, max_steps=arguments.steps, epochs=100_000, num_workers=0
            )
            own = dataclasses.replace(config, training=training)
            with quantisers(noise_dropout):
                runs.append(measure(own, arguments.tracks, arguments.cpu_seconds))
            print(row(f"{name}, seed {seed}", runs[-1]), flush=True)
        if len(runs) > 1:
            print(row(f"**{name}**", {key: fmean(run[key] for run in runs) for key in SHOWN}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    main()
