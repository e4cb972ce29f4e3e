"""Draws tracks over the videos that they were made from.

Per clip, or view of a clip: an mp4 with the points and their trails, and a PNG with the whole tracks of
its first window. A point has the colour of the row that it started in; one that is hidden is a dim ring.
The bar below the frames tells the fate of the windows that start there: green kept, red dropped by
the motion gate, grey none; white is the present frame.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import UsageError

FLAGS: Flags = {
    "--tracks": {"type": Path, "required": True, "help": "folder of track files, or one of them"},
    "--input": {"type": Path, "required": True, "help": "the video or folder that was preprocessed"},
    "--output": {"type": Path, "required": True, "help": "folder for the drawings"},
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
    from amplify_motion_tokenizer.evaluation.draw import draw_tracked
    from amplify_motion_tokenizer.evaluation.drawn_view import Style

    style = Style(tuple(flags.starts), flags.every, flags.trail, flags.visibility)
    summary = draw_tracked(flags.tracks, flags.input, flags.output, style)
    sys.stdout.write(f"drawings in {flags.output}: {summary}\n")
    return summary.exit_status
