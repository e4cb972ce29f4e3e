"""Writes small rendered clips, and with --truth their exact tracks as track files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.errors import EXIT_OK
from amplify_motion_tokenizer.scenes import KINDS, TruthWindows, write_clips
from amplify_motion_tokenizer.scenes.layers import Size
from amplify_motion_tokenizer.scenes.writing import TRUTH_FOLDER


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    options = vars(_parser().parse_args(argv))
    windows = TruthWindows(options.pop("windows"), options.pop("stride"), options.pop("grid"))
    options["clips"] = len(options["kinds"]) if options["clips"] is None else options["clips"]
    write_clips(**options | {"truth": windows if options["truth"] else None})
    sys.stdout.write(f"clips in {options['output']}: {options['clips']} written{_place_of_truth(options)}\n")
    return EXIT_OK


def _place_of_truth(options: Mapping[str, Any]) -> str:
    return f", their true tracks in {options['output'] / TRUTH_FOLDER}" if options["truth"] else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m amplify_motion_tokenizer.scenes", description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder for the clips")
    add("--clips", type=int, help="number of clips (default: one of each of --kinds)")
    add(
        "--kinds",
        nargs="+",
        default=tuple(KINDS),
        metavar="KIND",
        help=f"of {', '.join(KINDS)} (default: all)",
    )
    add("--seed", type=int, default=0, help="the same seed gives the same clips")
    add("--size", type=_size, default="240x320", help="HEIGHTxWIDTH (default 240x320)")
    add("--frames", type=int, default=64, help="frames of a clip (default 64)")
    add("--fps", type=float, default=20.0, help="frames per second (default 20)")
    add("--truth", action="store_true", help="write OUTPUT/truth/<clip>.hdf5, a track file, for each clip")
    windows = TruthWindows()
    add("--windows", type=int, default=windows.length, help="frames of a window of the truth (default 16)")
    add("--stride", type=int, default=windows.stride, help="frames between windows of the truth (default 1)")
    add("--grid", type=int, default=windows.grid_size, help="queries on a side in the truth (default 20)")
    return parser


def _size(text: str) -> Size:
    try:
        height, width = map(int, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no HEIGHTxWIDTH in pixels, such as 240x320") from None
    return height, width


if __name__ == "__main__":
    cli.run(main)
