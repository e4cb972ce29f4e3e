"""Trains a motion tokenizer on a folder of tracks, on made-up motion (data.source), or on both."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.config.settings import Setting
from amplify_motion_tokenizer.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED

if TYPE_CHECKING:
    import argparse

    from amplify_motion_tokenizer.config import Config

FLAGS: Flags = {
    "--input": {"type": Path, "help": "folder of track files, or a pack; none with data.source: synthetic"},
    "--output": {"type": Path, "required": True, "help": "folder of the run: checkpoints, logs, config.yaml"},
    "--resume": {
        "type": str,
        "help": "checkpoint to go on from, or auto for the newest whole one in the output folder",
    },
    "--init": {
        "type": str,
        "help": "checkpoint, or name of a shipped tokenizer (codec), to begin with: weights and the model's "
        "settings are its own",
    },
}

AGAIN = "run again with --resume auto to go on"
"""What to do after Ctrl-C."""


def shows(setting: Setting) -> bool:
    """The settings that ``--help`` tells; how tracks were made is read from their files."""
    return setting.section in ("data", "model", "loss", "training")


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status, 143 where SIGTERM ended the run."""

    def begun_with(flags: argparse.Namespace) -> Config | None:
        if flags.init is None:
            return None
        from amplify_motion_tokenizer.training.initial import initial_config, load_initial

        return initial_config(load_initial(flags.init))

    config, flags = cli.parse(argv, "train", __doc__ or "", FLAGS, defaults=begun_with, shows=shows)
    from amplify_motion_tokenizer.training.checkpoints import best_in_words
    from amplify_motion_tokenizer.training.run import train

    stopped_by = train(config, flags.input, flags.output, flags.resume, flags.init)
    if cli.is_first_process():
        sys.stdout.write(f"{best_in_words(flags.output)}\n")
    return {None: EXIT_OK, signal.SIGINT: EXIT_INTERRUPTED, signal.SIGTERM: EXIT_TERMINATED}[stopped_by]
