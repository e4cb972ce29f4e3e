"""Joins what the shards of an output folder left, once all have ended, into the output of one run.

The shards are runs of preprocess or infer with --shard 1/N to --shard N/N. Merging checks that all N are
there and whole, names what is missing, and can be run again whatever ended it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK

FLAGS: Flags = {
    "OUTPUT": {
        "type": Path,
        "help": "the --output of the shards; of several checkpoints the folder that holds theirs",
    },
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    flags = cli.parse_flags(argv, "merge", __doc__ or "", FLAGS)
    from amplify_motion_tokenizer.codes.merging import folders_to_merge, merge

    for folder in folders_to_merge(flags.OUTPUT):
        counts = merge(folder)
        told = ", ".join(f"{counts[status]} {status}" for status in ("done", "skipped", "failed"))
        sys.stdout.write(f"merged {folder}: {told}\n")
    return EXIT_OK
