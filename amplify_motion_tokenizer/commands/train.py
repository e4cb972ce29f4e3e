"""Trains a motion tokenizer on a folder of tracks."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED

FLAGS: Flags = {
    "--input": {"type": str, "help": "folder of track files; short for --data.tracks_dir"},
    "--output": {"type": str, "help": "folder of the run; short for --training.output_dir"},
    "--resume": {
        "type": str,
        "help": "checkpoint to go on from, or auto for the newest whole one in the output folder",
    },
}

SHORT_FOR = {"--input": "--data.tracks_dir", "--output": "--training.output_dir"}

AGAIN = "run again with --resume auto to go on"
"""What to do after Ctrl-C."""


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status, 143 where SIGTERM ended the run."""
    config, flags = cli.parse(argv, "train", __doc__ or "", FLAGS, short_for=SHORT_FOR)
    from amplify_motion_tokenizer.training.checkpoints import best_in_words
    from amplify_motion_tokenizer.training.run import train

    stopped_by = train(config, flags.resume)
    if cli.is_first_process():
        sys.stdout.write(f"{best_in_words(Path(config.training.output_dir))}\n")
    return {None: EXIT_OK, signal.SIGINT: EXIT_INTERRUPTED, signal.SIGTERM: EXIT_TERMINATED}[stopped_by]
