"""Holds tracks against true ones, and the codes of overlapping windows against each other.

tracking: both folders hold track files; the command scenes writes clips with truth. Printed are TAP-Vid's
metrics, means over the clips of a kind, beside the metrics of points that never move.

codes: the folder is the output of infer. Printed are the codes in use, and the share of equal ids in windows
that start 1, 2 ... strides apart: at the same position in both, and, where tokens are steps, about the same
step of the clip. Chance is what any two different windows have in common; a dash stands where
there is nothing to compare.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError
from amplify_motion_tokenizer.files import write_json

TRACKING: Flags = {
    "--tracks": {"type": Path, "required": True, "help": "folder of the track files to judge"},
    "--truth": {"type": Path, "required": True, "help": "folder of the true tracks"},
    "--json": {"type": Path, "help": "JSON file for all the numbers, each clip's too"},
    "--visibility": {
        "type": float,
        "default": 0.5,
        "help": "confidence from which a point is visible (default 0.5)",
    },
}
CODES: Flags = {
    "--codes": {"type": Path, "required": True, "help": "output folder of infer"},
    "--lags": {"type": int, "default": 4, "help": "neighbours to compare with (default 4)"},
    "--json": {"type": Path, "help": "file for all the numbers"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    return cli.run_kind(argv, "evaluate", __doc__ or "", FLAGS, RUN)


def evaluate_tracking(flags: argparse.Namespace) -> int:
    """Prints the scores of a folder of tracks; returns the exit status."""
    if not 0 < flags.visibility <= 1:
        raise UsageError(f"--visibility is {flags.visibility:g}; expected above 0 and at most 1")
    from amplify_motion_tokenizer.evaluation.against_truth import evaluate_tracks
    from amplify_motion_tokenizer.evaluation.tables import report, table, without_nan

    content = report(evaluate_tracks(flags.tracks, flags.truth, flags.visibility))
    sys.stdout.write(table(content) + "\n")
    if flags.json is not None:
        write_json(flags.json, without_nan({"visibility": flags.visibility} | content))
    return EXIT_OK


def evaluate_codes(flags: argparse.Namespace) -> int:
    """Prints how a folder of codes uses its codebook; returns the exit status."""
    if flags.lags < 1:
        raise UsageError(f"--lags is {flags.lags}; expected at least 1")
    from amplify_motion_tokenizer.codes.code_set import code_set
    from amplify_motion_tokenizer.codes.reading import read_codes
    from amplify_motion_tokenizer.codes.statistics import code_report
    from amplify_motion_tokenizer.evaluation.tables import code_table, without_nan
    from amplify_motion_tokenizer.scenes import KINDS

    content = code_report(code_set(read_codes(flags.codes)), flags.lags, KINDS)
    sys.stdout.write(code_table(content) + "\n")
    if flags.json is not None:
        write_json(flags.json, without_nan(content))
    return EXIT_OK


FLAGS = {"tracking": TRACKING, "codes": CODES}
"""What can be evaluated, and the flags of each."""

RUN: dict[str, Callable[[argparse.Namespace], int]] = {"tracking": evaluate_tracking, "codes": evaluate_codes}
