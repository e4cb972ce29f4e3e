"""Converts tokenizer checkpoints between this project, AMPLIFY and the keypoint reproduction.

IN is any file that load_tokenizer reads. The state of training is not carried over. What the other
system's file has no place for, such as how the training tracks were made, is kept under a key of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK

FLAGS: Flags = {
    "IN": {"type": Path, "help": "checkpoint to read"},
    "OUT": {"type": Path, "help": "checkpoint to write"},
    "--to": {"choices": ("amplify", "keypoint", "native"), "required": True, "help": "whose file to write"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    flags = cli.parse_flags(argv, "convert", __doc__ or "", FLAGS)
    from amplify_motion_tokenizer.models.convert import convert

    written = convert(flags.IN, flags.OUT, flags.to)
    sys.stdout.write(f"wrote {' and '.join(map(str, written))}\n")
    return EXIT_OK
