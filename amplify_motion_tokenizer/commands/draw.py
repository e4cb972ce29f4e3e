"""TODO"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.evaluation.draw import Style, draw_tracked
from amplify_motion_tokenizer.trackers.windows import SEEN


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m amplify_motion_tokenizer.draw",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tracks", type=Path, required=True, help="folder of track files, or one of them")
    parser.add_argument("--input", type=Path, required=True, help="the video or folder that was preprocessed")
    parser.add_argument("--output", type=Path, required=True, help="folder for the drawings")
    parser.add_argument(
        "--starts",
        type=int,
        nargs="+",
        default=(),
        help="start frames of the windows to draw (default: a chain)",
    )
    parser.add_argument("--every", type=int, default=1, help="each how many-th row and column of the grid")
    parser.add_argument("--trail", type=int, default=8, help="steps of the trail behind a point (default 8)")
    parser.add_argument(
        "--visibility",
        type=float,
        default=SEEN,
        help="confidence from which a point is visible (default 0.5)",
    )
    arguments = parser.parse_args(argv)
    if arguments.every < 1 or arguments.trail < 0 or not 0 < arguments.visibility <= 1:
        raise UsageError(
            "--every must be at least 1, --trail at least 0, and --visibility above 0 and at most 1"
        )
    style = Style(tuple(arguments.starts), arguments.every, arguments.trail, arguments.visibility)
    summary = draw_tracked(arguments.tracks, arguments.input, arguments.output, style)
    sys.stdout.write(f"drawings in {arguments.output}: {summary}\n")
    return summary.exit_status
