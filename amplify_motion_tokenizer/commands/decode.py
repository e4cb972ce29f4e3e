"""Turns codes back into tracks, and shows what they kept: a track file, and a video, for each clip.

The track files have the layout of preprocess. With --input there is a video for each clip, too: the decoded
tracks over its frames, with --tracks the true ones on their left. Below stand the ids of the window that is
shown, and the ids of the whole clip over time, the first on top; the same colour is the same id.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.commands.arguments import CODES, VIDEOS_OF_CODES
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import UsageError

FLAGS: Flags = {
    **CODES,
    "--output": {"type": Path, "required": True, "help": "folder for tracks and videos"},
    "--checkpoint": {
        "default": "default",
        "help": "the one that made the codes, or the name of a shipped tokenizer (default: default)",
    },
    **VIDEOS_OF_CODES,
    "--tracks": {"type": Path, "help": "folder of the true track files, or one of them, to draw beside"},
    "--every": {
        "type": int,
        "default": 1,
        "help": "draw each N-th row and column of the grid of points (default 1)",
        "metavar": "N",
    },
    "--trail": {"type": int, "default": 8, "help": "steps of the trail behind a point (default 8)"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    flags = cli.parse_flags(argv, "decode", __doc__ or "", FLAGS)
    if flags.every < 1 or flags.trail < 0:
        raise UsageError(
            f"--every is {flags.every} and --trail {flags.trail}; expected at least 1 and at least 0"
        )
    if flags.tracks is not None and flags.input is None:
        raise UsageError("--tracks is drawn over the videos; give these with --input, too")
    from amplify_motion_tokenizer.codes.decode_folder import decode_folder
    from amplify_motion_tokenizer.evaluation.drawn_view import Style
    from amplify_motion_tokenizer.models.checkpoint import load_checkpoint

    style = Style(every=flags.every, trail=flags.trail)
    checkpoint = load_checkpoint(flags.checkpoint)
    summary = decode_folder(flags.codes, flags.output, checkpoint, flags.input, flags.tracks, style)
    sys.stdout.write(f"decoded codes in {flags.output}: {summary}\n")
    return summary.exit_status
