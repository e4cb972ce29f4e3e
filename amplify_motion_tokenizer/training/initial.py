"""Begins a training with the weights and the model's settings of another tokenizer."""

from __future__ import annotations

from pathlib import Path

from amplify_motion_tokenizer.config import Config, flatten, to_dict, unflatten
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import ConfigError, UsageError
from amplify_motion_tokenizer.models import MODELS
from amplify_motion_tokenizer.models.acting import in_effect
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_checkpoint
from amplify_motion_tokenizer.models.torch_files import file_hash

_RECIPE = ("source", "synthetic_windows", "synthetic_share", "dataset", "val_split", "augmentation")
"""What ``data`` says of a training's windows, not of what the model takes."""


def load_initial(name: str | Path) -> Checkpoint:
    """The tokenizer that ``--init`` names: a file, or one that the package ships.

    Raises:
        UsageError: it has nothing to learn.
        CheckpointError: as ``load_checkpoint``.
    """
    checkpoint = load_checkpoint(name)
    model = checkpoint.config.model.name
    if MODELS[model].trained_by is None:
        raise UsageError(
            f"--init {name} is a {model} tokenizer, which has nothing to learn; give --init codec, which "
            "learns on top of the same codes, or a checkpoint of your own"
        )
    return checkpoint


def initial_config(checkpoint: Checkpoint) -> Config:
    """The settings of a training that begins with ``checkpoint``, where nothing else is given.

    Model, input and tracks are the checkpoint's; which windows are trained on, loss and training are as ever.
    """
    theirs = to_dict(checkpoint.config)
    data = {name: value for name, value in theirs["data"].items() if name not in _RECIPE}
    kept = {section: theirs[section] for section in ("video", "tracking", "model")} | {"data": data}
    return config_from_dict(unflatten(flatten(to_dict(Config())) | flatten(kept)), f"in {checkpoint.path}")


def check_initial(checkpoint: Checkpoint, config: Config) -> None:
    """Refuses settings that contradict the weights.

    Raises:
        ConfigError: names the first such setting, its value and the checkpoint's.
    """
    fixed = in_effect(checkpoint.config, "codes", "velocities")
    wanted = in_effect(config, "codes", "velocities")
    differ = [key for key in sorted({*fixed, *wanted}) if fixed.get(key) != wanted.get(key)]
    if not differ:
        return
    key = "model.name" if "model.name" in differ else differ[0]
    raise ConfigError(
        f"{key} = {wanted.get(key)} is impossible: the weights of --init {checkpoint.path} are of "
        f"{fixed.get(key)}; leave it out, of --config files too"
    )


def told(checkpoint: Checkpoint) -> str:
    """The file's name and the beginning of its hash: what a run records of where it began."""
    return f"{checkpoint.path.name} (SHA-256 {file_hash(checkpoint.path)[:8]})"
