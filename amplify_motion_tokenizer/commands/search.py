"""Finds the moments of clips that move like a moment of one of them, by their codes alone.

The query is the motion of --clip from second --start on, one window long, or --seconds. Printed are the
nearest moments, none of which overlaps another: where, and a distance from 0 (the same motion) to 2 (its
opposite; two that have nothing in common are 1.4 apart). Codes are decoded with the tokenizer that made
them, so one that does not come with the package is to be given as --checkpoint. --picture draws the query
above what was found, from the videos in --input.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError

FLAGS: Flags = {
    "--codes": {"type": Path, "required": True, "help": "output folder of infer, or a file of codes"},
    "--clip": {"required": True, "help": "name of the clip that the query is a moment of"},
    "--start": {"type": float, "required": True, "help": "second of the clip at which the query begins"},
    "--seconds": {"type": float, "default": 0.0, "help": "how long the query is (default: one window)"},
    "-k": {"type": int, "default": 10, "help": "moments to find at most (default 10)"},
    "--checkpoint": {"type": Path, "help": "the tokenizer of the codes, unless it came with the package"},
    "--json": {"type": Path, "help": "file for what was found"},
    "--picture": {"type": Path, "help": "PNG of three frames of each moment; needs --input"},
    "--input": {"type": Path, "help": "the videos that the codes were made of"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    flags = cli.parse_flags(argv, "search", __doc__ or "", FLAGS)
    _check(flags)
    from amplify_motion_tokenizer.codes.contact_sheet import Pictures, write_contact_sheet
    from amplify_motion_tokenizer.codes.made_with import tokenizer_of
    from amplify_motion_tokenizer.codes.motion_vectors import all_vectors
    from amplify_motion_tokenizer.codes.reading import read_codes
    from amplify_motion_tokenizer.codes.search import nearest, query_moment
    from amplify_motion_tokenizer.evaluation.tables import lines
    from amplify_motion_tokenizer.files import write_json

    codes = read_codes(flags.codes)
    query = query_moment(codes, flags.clip, flags.start, flags.seconds)
    pictures = None if flags.picture is None else Pictures(flags.input)
    found = nearest(codes, all_vectors(codes, tokenizer_of(codes, flags.checkpoint)), query, flags.k)
    rows = [["", "clip", "start s", "end s", "distance"]]
    for rank, moment in enumerate([query, *found]):
        numbers = [f"{value:.2f}" for value in moment.seconds]
        rows.append([str(rank or "query"), moment.clip, *numbers, f"{moment.distance:.3f}"])
    sys.stdout.write(lines(rows) + "\n")
    if flags.json is not None:
        write_json(flags.json, {"query": _told(query), "found": [_told(moment) for moment in found]})
    if pictures is not None:
        pictures.check(moment.clip for moment in [query, *found])
        write_contact_sheet(flags.picture, [query, *found], pictures)
    return EXIT_OK


def _check(flags: argparse.Namespace) -> None:
    if flags.k < 1:
        raise UsageError(f"-k is {flags.k}; expected 1 or more moments")
    for name in ("start", "seconds"):
        value = getattr(flags, name)
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"--{name} is {value:g}; expected seconds, 0 or more")
    if (flags.picture is None) != (flags.input is None):
        raise UsageError("--picture and --input go together: the PNG to draw, and the folder of the videos")


def _told(moment: Any) -> dict[str, Any]:
    """A moment as JSON has it."""
    places = {"clip": moment.clip, "start_seconds": moment.seconds[0], "end_seconds": moment.seconds[1]}
    frames = dict(zip(("source_frame", "end_source_frame"), moment.source_frames, strict=True))
    return places | frames | {"windows": list(moment.rows), "distance": moment.distance}
