"""Trains the codec on made-up motion, with no videos and no tracks, and writes it as one small file.

The file goes where --checkpoint is asked for. FILE.json beside it says how it was made. The transform
tokenizer, which has nothing to train, is written as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.config.settings import Setting
from amplify_motion_tokenizer.errors import EXIT_OK

FLAGS: Flags = {
    "--output": {"type": Path, "required": True, "help": "the file to write, NAME.safetensors"},
    "--seed": {"type": int, "help": "of weights, made-up windows and all that is random (default 0)"},
    "--steps": {"type": int, "help": "optimiser steps (default 4000)"},
    "--windows": {"type": int, "help": "made-up windows to train on (default 32000)"},
    "--batch-size": {"type": int, "help": "windows of a step (default 192)"},
}


def shows(setting: Setting) -> bool:
    """The settings that ``--help`` tells: of the model and its input."""
    return setting.section in ("model", "data") and bool(setting.decides & {"codes", "tracks", "velocities"})


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    config, flags = cli.parse(argv, "pretrain", __doc__ or "", FLAGS, shows=shows)
    from amplify_motion_tokenizer.training.pretraining import Pretraining, write_pretrained

    given = {name: getattr(flags, name) for name in ("seed", "steps", "windows", "batch_size")}
    options = Pretraining(**{name: value for name, value in given.items() if value is not None})

    def tell(step: int, loss: float, seconds: float) -> None:
        sys.stdout.write(f"step {step} of {options.steps}: loss {loss:.4f}, {seconds:.0f} CPU s\n")
        sys.stdout.flush()

    record = write_pretrained(flags.output, config, options, tell)
    sys.stdout.write(f"{flags.output}: {record['weights']} weights, {record['bytes']} bytes\n")
    return EXIT_OK
