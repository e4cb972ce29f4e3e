"""Writes one HTML page about a training run, or about codes, that needs nothing but itself.

SOURCE is the output folder of train or infer, or a file of codes. The page loads nothing from anywhere and
stays below 10 MB: it has the key numbers, sample clips above their codes over time, how the codebook is used,
rate and distortion, reconstructions, training curves, and how everything was made. Sections that need videos,
tracks or the tokenizer say what to give.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError

MOST_CLIPS = 24
"""Clips that a page can show."""

FLAGS: Flags = {
    "SOURCE": {"type": Path, "help": "output folder of train or infer, or a file of codes of any format"},
    "--output": {"type": Path, "required": True, "help": "the page, such as report.html"},
    "--input": {
        "type": Path,
        "help": "the videos that codes were made of; of a run the tracks to judge it on, as --tracks",
    },
    "--tracks": {"type": Path, "help": "folder of tracks to judge the tokenizer on"},
    "--checkpoint": {"help": "the tokenizer of the codes, unless it came with the package"},
    "--clips": {"type": int, "default": 6, "help": "clips to show at most (default 6)", "metavar": "N"},
    "--overwrite": {"action": "store_true", "help": "replace a page that is there"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    flags = cli.parse_flags(argv, "report", __doc__ or "", FLAGS)
    if not 1 <= flags.clips <= MOST_CLIPS:
        raise UsageError(f"--clips is {flags.clips}; expected 1 to {MOST_CLIPS}")
    from amplify_motion_tokenizer.report.build import Request, write_report

    request = Request(
        source=flags.SOURCE,
        output=flags.output,
        given=flags.input,
        tracks=flags.tracks,
        checkpoint=flags.checkpoint,
        clips=flags.clips,
        overwrite=flags.overwrite,
        command=["motion-tokenizer", "report", *argv],
    )
    size = write_report(request, datetime.now(timezone.utc))
    sys.stdout.write(f"report: {flags.output} ({size / 1e6:.2f} MB)\n")
    return EXIT_OK
