"""Finds the moments of clips that move like a moment of one of them, by their codes alone.

search query (the word may be left out): the query is the motion of --clip from second --start on, one window
long, or --seconds. Printed are the nearest moments, none of which overlaps another: where, and a distance
from 0 (the same motion) to 2.9 (unlike in all; two that go different ways are 1.4 apart or more). Codes are
decoded with the tokenizer that made them, so one that does not come with the package is to be given as
--checkpoint. --picture draws the query and what was found, from the videos in --input: as a PNG, or playing
side by side as an mp4.

search build CODES keeps what codes decode to beside them (search_index), so that queries wait for it no more;
--approximate adds a graph (usearch), by which a query looks at few of millions of windows. A query takes the
index that is there. One of other codes than are there now is refused: build again.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.commands.arguments import CODES, TOKENIZER_OF_CODES, VIDEOS_OF_CODES
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError

logger = logging.getLogger(__name__)

QUERY: Flags = {
    **CODES,
    "--clip": {"required": True, "help": "name of the clip that the query is a moment of"},
    "--start": {"type": float, "required": True, "help": "second of the clip at which the query begins"},
    "--seconds": {"type": float, "default": 0.0, "help": "how long the query is (default: one window)"},
    "-k": {"type": int, "default": 10, "help": "moments to find at most (default 10)"},
    **TOKENIZER_OF_CODES,
    "--exact": {"action": "store_true", "help": "look at all windows, also where the index has a graph"},
    "--json": {"type": Path, "help": "file for what was found"},
    "--picture": {
        "type": Path,
        "help": "PNG of three frames of each moment, or mp4 of all of them side by side; needs --input",
    },
    **VIDEOS_OF_CODES,
}
BUILD: Flags = {
    "CODES": {"type": Path, "help": "output folder of infer, or a file of codes of any format"},
    **TOKENIZER_OF_CODES,
    "--approximate": {"action": "store_true", "help": "add a graph for millions of windows; needs usearch"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    if argv and argv[0].startswith("-") and argv[0] not in ("-h", "--help"):
        argv = ["query", *argv]
    return cli.run_kind(argv, "search", __doc__ or "", FLAGS, RUN)


def build(flags: argparse.Namespace) -> int:
    """Builds the index of a folder or file of codes; returns the exit status."""
    from amplify_motion_tokenizer.codes.search_index import build_index, index_folder

    index = build_index(flags.CODES, flags.checkpoint, flags.approximate)
    kind = "with a graph" if flags.approximate else "for exact search"
    windows, clips = index.record["windows"], len(index.clips)
    sys.stdout.write(f"{index_folder(flags.CODES)}: {windows} windows of {clips} clips, {kind}\n")
    return EXIT_OK


def query(flags: argparse.Namespace) -> int:
    """Prints the moments that are most like one; returns the exit status."""
    _check(flags)
    from amplify_motion_tokenizer.codes.contact_sheet import Pictures, write_contact_sheet
    from amplify_motion_tokenizer.codes.contact_video import write_contact_video
    from amplify_motion_tokenizer.codes.search import nearest, query_moment
    from amplify_motion_tokenizer.codes.search_index import searchable
    from amplify_motion_tokenizer.evaluation.tables import lines
    from amplify_motion_tokenizer.files import write_json

    pictures = None if flags.picture is None else Pictures(flags.input)
    index = searchable(flags.codes, flags.checkpoint, flags.exact)
    asked = query_moment(index.clips, flags.clip, flags.start, flags.seconds)
    found = nearest(index.clips, index.vectors, asked, flags.k, index.graph)
    rows = [["", "clip", "start s", "end s", "distance"]]
    for rank, moment in enumerate([asked, *found]):
        numbers = [f"{value:.2f}" for value in moment.seconds]
        rows.append([str(rank or "query"), moment.clip, *numbers, f"{moment.distance:.3f}"])
    sys.stdout.write(lines(rows) + "\n")
    if len(found) < flags.k:
        logger.warning(
            "-k is %d, and there are %d moments of this length that do not overlap", flags.k, len(found)
        )
    if flags.json is not None:
        write_json(flags.json, {"query": _told(asked), "found": [_told(moment) for moment in found]})
    if pictures is not None:
        pictures.check(moment.clip for moment in [asked, *found])
        write = write_contact_video if flags.picture.suffix == ".mp4" else write_contact_sheet
        write(flags.picture, [asked, *found], pictures)
    return EXIT_OK


def _check(flags: argparse.Namespace) -> None:
    if flags.k < 1:
        raise UsageError(f"-k is {flags.k}; expected 1 or more moments")
    for name in ("start", "seconds"):
        value = getattr(flags, name)
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"--{name} is {value:g}; expected seconds, 0 or more")
    if (flags.picture is None) != (flags.input is None):
        raise UsageError("--picture and --input go together: the PNG or mp4, and the folder of the videos")
    if flags.picture is not None and flags.picture.suffix not in (".png", ".mp4"):
        raise UsageError(f"--picture is {flags.picture}; expected a file that ends in .png or .mp4")


def _told(moment: Any) -> dict[str, Any]:
    """A moment as JSON has it."""
    places = {"clip": moment.clip, "start_seconds": moment.seconds[0], "end_seconds": moment.seconds[1]}
    frames = dict(zip(("source_frame", "end_source_frame"), moment.source_frames, strict=True))
    return places | frames | {"windows": list(moment.rows), "distance": moment.distance}


FLAGS = {"query": QUERY, "build": BUILD}
"""What search does, and the flags of each."""

RUN = {"query": query, "build": build}
