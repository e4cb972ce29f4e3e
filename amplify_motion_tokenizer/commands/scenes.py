"""Renders small clips of known motion, and with --truth writes their exact tracks as track files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = map(int, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no HEIGHTxWIDTH in pixels, such as 240x320") from None
    return height, width


FLAGS: Flags = {
    "--output": {"type": Path, "required": True, "help": "folder for the clips"},
    "--clips": {"type": int, "help": "number of clips (default: one of each of --kinds)"},
    "--kinds": {
        "nargs": "+",
        "metavar": "KIND",
        "help": "kinds of motion to render (default: all; a wrong one lists them)",
    },
    "--seed": {"type": int, "default": 0, "help": "the same seed gives the same clips"},
    "--size": {"type": _size, "default": "240x320", "help": "HEIGHTxWIDTH in pixels (default 240x320)"},
    "--frames": {"type": int, "default": 64, "help": "frames of a clip (default 64)"},
    "--fps": {"type": float, "default": 20.0, "help": "frames per second (default 20)"},
    "--truth": {
        "action": "store_true",
        "help": "write OUTPUT/truth/<clip>.hdf5, a track file, for each clip",
    },
    "--windows": {"type": int, "default": 16, "help": "frames of a window of the truth (default 16)"},
    "--stride": {"type": int, "default": 1, "help": "frames between windows of the truth (default 1)"},
    "--grid": {"type": int, "default": 20, "help": "queries on a side in the truth (default 20)"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    options = vars(cli.parse_flags(argv, "scenes", __doc__ or "", FLAGS))
    from amplify_motion_tokenizer.scenes import KINDS, TruthWindows, write_clips
    from amplify_motion_tokenizer.scenes.writing import TRUTH_FOLDER

    windows = TruthWindows(options.pop("windows"), options.pop("stride"), options.pop("grid"))
    options["kinds"] = tuple(options["kinds"] or KINDS)
    options["clips"] = len(options["kinds"]) if options["clips"] is None else options["clips"]
    truth = options["truth"]
    write_clips(**options | {"truth": windows if truth else None})
    place = f", their true tracks in {options['output'] / TRUTH_FOLDER}" if truth else ""
    sys.stdout.write(f"clips in {options['output']}: {options['clips']} written{place}\n")
    return EXIT_OK
