"""Draws tracks over the videos that they were made from: as videos, as a recording for Rerun, or both.

With --output there is per clip, or view of a clip, an mp4 with the points and their trails, and a PNG with
the whole tracks of its first window. A point has the colour of the row that it started in; one that is
hidden is a dim ring. The bar below the frames tells the fate of the windows that start there: green kept,
red dropped by the motion gate, grey none; white is the present frame.

With --rerun there is one file of all clips for the viewer of rerun-sdk; with --codes it has the ids over
time and, beside the true tracks, those that the ids tell, with --segments the segments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError

FLAGS: Flags = {
    "--tracks": {"type": Path, "required": True, "help": "folder of track files, or one of them"},
    "--input": {"type": Path, "required": True, "help": "the video or folder that was preprocessed"},
    "--output": {"type": Path, "help": "folder for the drawings"},
    "--rerun": {"type": Path, "help": "file for a Rerun recording, whose name ends in .rrd"},
    "--codes": {"type": Path, "help": "output folder of infer, or a file of codes; with --rerun"},
    "--checkpoint": {"help": "the tokenizer of the codes, unless it came with the package"},
    "--segments": {"type": Path, "help": "what segment --json wrote; with --rerun"},
    "--starts": {
        "type": int,
        "nargs": "+",
        "default": (),
        "help": "start frames of the windows to draw; windows end to end where it is not given",
    },
    "--every": {
        "type": int,
        "default": 1,
        "help": "draw each N-th row and column of the grid of points (default 1)",
        "metavar": "N",
    },
    "--trail": {"type": int, "default": 8, "help": "steps of the trail behind a point (default 8)"},
    "--visibility": {
        "type": float,
        "default": 0.5,
        "help": "confidence from which a point is visible (default 0.5)",
    },
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    flags = cli.parse_flags(argv, "draw", __doc__ or "", FLAGS)
    if flags.every < 1 or flags.trail < 0 or not 0 < flags.visibility <= 1:
        raise UsageError(
            f"--every is {flags.every}, --trail {flags.trail} and --visibility {flags.visibility:g}; "
            "expected at least 1, at least 0, and above 0 and at most 1"
        )
    _check_targets(flags)
    from amplify_motion_tokenizer.evaluation.drawn_view import Style

    style, status = Style(tuple(flags.starts), flags.every, flags.trail, flags.visibility), EXIT_OK
    if flags.output is not None:
        from amplify_motion_tokenizer.evaluation.draw import draw_tracked

        summary = draw_tracked(flags.tracks, flags.input, flags.output, style)
        sys.stdout.write(f"drawings in {flags.output}: {summary}\n")
        status = summary.exit_status
    if flags.rerun is not None:
        from amplify_motion_tokenizer.codes.rerun_recording import Beside, record_tracked

        beside = Beside(flags.codes, flags.checkpoint, flags.segments)
        summary = record_tracked(flags.tracks, flags.input, flags.rerun, style, beside)
        sys.stdout.write(f"recording in {flags.rerun}: {summary}\n")
        status = max(status, summary.exit_status)
    return status


def _check_targets(flags: argparse.Namespace) -> None:
    if flags.output is None and flags.rerun is None:
        raise UsageError("nothing says where to draw; give --output FOLDER, --rerun FILE.rrd, or both")
    alone = [name for name in ("codes", "checkpoint", "segments") if getattr(flags, name) is not None]
    if alone and flags.rerun is None:
        raise UsageError(f"--{alone[0]} is drawn in a recording; give --rerun FILE.rrd, too")
    if flags.checkpoint is not None and flags.codes is None:
        raise UsageError("--checkpoint is the tokenizer of codes; give --codes, too")
