"""Trainers, what ends them, and what a run leaves behind."""

import time
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.training.run import make_accelerator
from amplify_motion_tokenizer.training.trainer import Trainer


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model


def next_second() -> None:
    """TensorBoard tells the files of two runs of one process apart by the second in their names."""
    time.sleep(1.0 - time.time() % 1.0 + 0.01)


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


class StopError(Exception):
    """Stands for a kill."""


class stop_after:  # noqa: N801
    """Makes training stop right after the checkpoint of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __enter__(self) -> None:
        self.original = Trainer._step

        def step_or_stop(trainer: Trainer, micro_batches: list[Any]) -> Any:
            if trainer.state.step == self.step:
                raise StopError
            return self.original(trainer, micro_batches)

        Trainer._step = step_or_stop  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        Trainer._step = self.original  # type: ignore[method-assign]


def make_trainer(config: Config, tmp_path: Path) -> Trainer:
    data = WindowDataset(load_clips(tmp_path / "tracks", config), config)
    return Trainer(config, make_accelerator(config, tmp_path), data, None, tmp_path, None)


def first_step_gradient(trainer: Trainer) -> dict[str, torch.Tensor]:
    kept: dict[str, torch.Tensor] = {}

    def keep(*_: object, **__: object) -> None:
        for name, parameter in trainer.learner.model.named_parameters():
            assert parameter.grad is not None
            kept[name] = parameter.grad.clone()

    trainer.learner.optimizer.step = keep
    batches = iter(trainer.train_loader)
    trainer._step([next(batches) for _ in range(trainer.config.training.gradient_accumulation_steps)])
    return kept
