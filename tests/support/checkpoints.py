"""Checkpoints that tests make."""

from pathlib import Path
from typing import Any

import torch

from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.config.loading import Given, build, config_from_dict
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, save_checkpoint
from tests.support.run_scripts import TINY


def save_native(path: Path, config: Config) -> torch.nn.Module:
    torch.manual_seed(1)
    model = build_model(config).eval()
    save_checkpoint(
        path, model=model.state_dict(), config=config, track_settings=None, metrics={}, training=None
    )
    return model


KEYPOINT = config_from_dict(TINY, "in the tests")


def changed(config: Config, **keys: Any) -> Config:
    """``config`` with other values; ``__`` stands for the dots of a key."""
    return build(config, {key.replace("__", "."): Given(value, "") for key, value in keys.items()})


def checkpoint_of(config: Config, known: bool = True) -> Checkpoint:
    settings = track_settings(config) if known else None
    return Checkpoint(
        path=Path("best.pth"), model={}, config=config, track_settings=settings, metrics={}, training=None
    )
