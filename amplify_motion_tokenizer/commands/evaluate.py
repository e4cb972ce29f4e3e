"""Holds tracks against true ones, and the codes of overlapping windows against each other.

    python -m amplify_motion_tokenizer.evaluate tracking --tracks DIR --truth DIR [--json FILE]
    python -m amplify_motion_tokenizer.evaluate codes --codes DIR [--lags 4] [--json FILE]

tracking: both folders hold track files; ``python -m amplify_motion_tokenizer.scenes`` writes clips with
truth. Printed are TAP-Vid's metrics, means over the clips of a kind, and those of points that never move.

codes: the folder is inference's output. Printed are the codes in use, and the share of equal ids in windows
that start 1, 2 ... strides apart: at the same position in both, and, where tokens are steps, about the same
step of the clip. Chance is what any two different windows have in common; a dash stands where
there is nothing to compare.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.codes.reading import read_codes
from amplify_motion_tokenizer.codes.statistics import code_report
from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError
from amplify_motion_tokenizer.evaluation.against_truth import evaluate_tracks
from amplify_motion_tokenizer.evaluation.tables import _without_nan, code_table, report, table
from amplify_motion_tokenizer.files import write_json
from amplify_motion_tokenizer.trackers.windows import SEEN


def evaluate_tracking(arguments: argparse.Namespace) -> int:
    """The command ``tracking``; returns the exit status."""
    if not 0 < arguments.visibility <= 1:
        raise UsageError(f"--visibility is {arguments.visibility:g}; expected above 0 and at most 1")
    content = report(evaluate_tracks(arguments.tracks, arguments.truth, arguments.visibility))
    sys.stdout.write(table(content) + "\n")
    if arguments.json is not None:
        write_json(arguments.json, _without_nan({"visibility": arguments.visibility} | content))
    return EXIT_OK


def evaluate_codes(arguments: argparse.Namespace) -> int:
    """The command ``codes``; returns the exit status."""
    if arguments.lags < 1:
        raise UsageError(f"--lags is {arguments.lags}; expected at least 1")
    content = code_report(read_codes(arguments.codes), arguments.lags)
    sys.stdout.write(code_table(content) + "\n")
    if arguments.json is not None:
        write_json(arguments.json, _without_nan(content))
    return EXIT_OK


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m amplify_motion_tokenizer.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tracking = commands.add_parser("tracking", help="point tracks against true ones")
    tracking.add_argument("--tracks", type=Path, required=True, help="folder of the track files to judge")
    tracking.add_argument("--truth", type=Path, required=True, help="folder of the true tracks")
    tracking.add_argument("--json", type=Path, help="file for all the numbers, also those of each clip")
    tracking.add_argument(
        "--visibility",
        type=float,
        default=SEEN,
        help="confidence from which a point is visible (default 0.5)",
    )
    tracking.set_defaults(run=evaluate_tracking)
    codes = commands.add_parser("codes", help="usage of codes, and how alike overlapping windows are")
    codes.add_argument("--codes", type=Path, required=True, help="output folder of inference_short_clip.py")
    codes.add_argument("--lags", type=int, default=4, help="neighbours to compare with (default 4)")
    codes.add_argument("--json", type=Path, help="file for all the numbers")
    codes.set_defaults(run=evaluate_codes)
    arguments = parser.parse_args(argv)
    status: int = arguments.run(arguments)
    return status


if __name__ == "__main__":
    cli.run(main)
