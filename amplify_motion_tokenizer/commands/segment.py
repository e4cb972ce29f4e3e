"""Cuts clips where the motion changes, by their codes alone.

A window tells a change where the motions that its two halves decode to differ: 0 where motion goes on, 1.4
where they have nothing in common, 2 where they are opposite. A boundary is a peak of at least --change; it
cannot be nearer to a clip's ends than half a window. Windows close together (tracking.window_stride 4 or
less) place it to some tenths of a second. --cut writes each segment as a video, encoded again so that cuts
are exact.
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
    "--codes": {"type": Path, "required": True, "help": "output folder of infer, or a file of codes"},
    "--change": {"type": float, "default": 0.8, "help": "change of a boundary, 0 to 2 (default 0.8)"},
    "--shortest": {"type": float, "default": 0.6, "help": "seconds of a segment at least (default 0.6)"},
    "--longest": {"type": float, "default": 60.0, "help": "seconds of a segment at most (default 60)"},
    "--checkpoint": {"type": Path, "help": "the tokenizer of the codes, unless it came with the package"},
    "--json": {"type": Path, "help": "file for the segments"},
    "--cut": {"type": Path, "help": "folder for a video of each segment; needs --input"},
    "--input": {"type": Path, "help": "the videos that the codes were made of"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    flags = cli.parse_flags(argv, "segment", __doc__ or "", FLAGS)
    _check(flags)
    from amplify_motion_tokenizer.codes.contact_sheet import Pictures
    from amplify_motion_tokenizer.codes.made_with import tokenizer_of
    from amplify_motion_tokenizer.codes.motion_vectors import changes_within
    from amplify_motion_tokenizer.codes.reading import read_codes
    from amplify_motion_tokenizer.codes.segment_files import cut, write_segments
    from amplify_motion_tokenizer.codes.segmentation import Rules, change_of, segments_of

    codes = read_codes(flags.codes)
    tokenizer = tokenizer_of(codes, flags.checkpoint)
    rules = Rules(least_change=flags.change, shortest_s=flags.shortest, longest_s=flags.longest)
    videos = None
    if flags.cut is not None:
        videos = Pictures(flags.input)
        videos.check(codes)
    segments = {}
    for name, clip in codes.items():
        segments[name] = segments_of(clip, change_of(clip, changes_within(clip, tokenizer)), rules)
        spans = ", ".join(f"{start:.2f}-{end:.2f}" for start, end in segments[name])
        sys.stdout.write(f"{name}: {spans or 'no windows'} s\n")
    if flags.json is not None:
        write_segments(flags.json, segments)
    if videos is not None:
        count = sum(len(cut(videos.clip(name), each, flags.cut)) for name, each in segments.items() if each)
        sys.stdout.write(f"videos in {flags.cut}: {count} written, encoded again\n")
    return EXIT_OK


def _check(flags: argparse.Namespace) -> None:
    if not 0 < flags.change <= 2:
        raise UsageError(f"--change is {flags.change:g}; expected above 0 and at most 2")
    if not 0 < flags.shortest <= flags.longest / 2:
        raise UsageError(
            f"--shortest is {flags.shortest:g} and --longest {flags.longest:g}; expected seconds above 0, "
            "the longest at least twice the shortest"
        )
    if (flags.cut is None) != (flags.input is None):
        raise UsageError(
            "--cut and --input go together: the folder for segments, and the folder of the videos"
        )
    if flags.cut is not None and flags.input.resolve() in (flags.cut.resolve(), *flags.cut.resolve().parents):
        raise UsageError(f"--cut {flags.cut} lies in --input {flags.input}; give a folder outside the videos")
