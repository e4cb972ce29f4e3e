"""Cuts clips where the motion changes, by their codes alone.

Codes are read from --codes or, without it, made on the way of the videos in --input (not kept), with
--checkpoint or the tokenizer that comes with the package.

A window tells a change where the motions that its two halves decode to differ: 0 where motion goes on, 1.4
where they have nothing in common, 2 where they are opposite. A boundary is a peak of at least --change; it
cannot be nearer to a clip's ends than half a window. Windows close together (tracking.window_stride 4 or
less) place it to some tenths of a second. --method histograms goes by the codes' digits, without decoding
them: boundaries are change points of their histograms (ruptures).

--cut writes each segment as a video, encoded again so that cuts are exact; with --copy as it is stored, from
the last key frame before it on. --clusters tells which segments move alike.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.commands.arguments import CODES, TOKENIZER_OF_CODES, VIDEOS_OF_CODES
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from amplify_motion_tokenizer.codes.contact_sheet import Pictures
    from amplify_motion_tokenizer.codes.reading import MotionCodeSet
    from amplify_motion_tokenizer.codes.segmenting import Segmented
    from amplify_motion_tokenizer.codes.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

FLAGS: Flags = {
    "--codes": {
        **CODES["--codes"],
        "required": False,
        "help": "output folder of infer, or a file of codes (default: made of --input)",
    },
    "--input": {
        **VIDEOS_OF_CODES["--input"],
        "help": "the video, or the folder of the videos: that --codes were made of, or to cut without",
    },
    "--method": {
        "choices": ("motion", "histograms"),
        "default": "motion",
        "help": "what is compared: decoded motion, or histograms of digits, which needs ruptures",
    },
    "--change": {
        "type": float,
        "help": "change of a boundary, 0 to 2 (default 0.8); of histograms what a boundary must explain, in "
        "windows (default 1.5)",
    },
    "--percentile": {
        "type": float,
        "metavar": "P",
        "help": "instead of --change: the change that P %% of all windows stay below, for clips of one kind",
    },
    "--shortest": {"type": float, "default": 0.6, "help": "seconds of a segment at least (default 0.6)"},
    "--longest": {"type": float, "default": 60.0, "help": "seconds of a segment at most (default 60)"},
    "--clusters": {
        "type": int,
        "default": 0,
        "metavar": "K",
        "help": "sort segments into K kinds of motion, by k-means; needs scipy",
    },
    **TOKENIZER_OF_CODES,
    "--json": {"type": Path, "help": "file for the segments"},
    "--picture": {
        "type": Path,
        "help": "folder for a PNG of each clip: curve, boundaries and, with --input, key frames",
    },
    "--cut": {"type": Path, "help": "folder for a video of each segment; needs --input"},
    "--copy": {"action": "store_true", "help": "cut without encoding, at key frames"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    flags = cli.parse_flags(argv, "segment", __doc__ or "", FLAGS)
    _check(flags)
    from amplify_motion_tokenizer.codes.segment_files import write_segments
    from amplify_motion_tokenizer.codes.segmenting import segmented

    codes, tokenizer, status = _codes(flags)
    videos = _videos(flags, codes)
    lengths = (flags.shortest, flags.longest)
    result = segmented(
        codes, tokenizer, flags.method, flags.change, lengths, flags.clusters, flags.percentile
    )
    for name, segments in result.segments.items():
        told = ", ".join(f"{start:.2f}-{end:.2f}" for start, end in segments)
        kinds = f" (kinds {' '.join(map(str, result.clusters[name]))})" if segments and flags.clusters else ""
        sys.stdout.write(f"{name}: {told} s{kinds}\n" if segments else f"{name}: no windows\n")
    if flags.json is not None:
        write_segments(flags.json, result.segments, result.clusters)
    if flags.picture is not None:
        result.draw(flags.picture, videos)
    if flags.cut is not None and videos is not None:
        _cut(flags, result, videos)
    return status


def _codes(flags: argparse.Namespace) -> tuple[MotionCodeSet, Tokenizer, int]:
    """Codes, their tokenizer, and the exit status."""
    from amplify_motion_tokenizer.codes.made_with import tokenizer_of
    from amplify_motion_tokenizer.codes.of_videos import codes_of_videos
    from amplify_motion_tokenizer.codes.reading import read_codes

    if flags.codes is not None:
        codes, status = read_codes(flags.codes), EXIT_OK
    else:
        codes, summary = codes_of_videos(flags.input, flags.checkpoint)
        status = summary.exit_status
    return codes, tokenizer_of(codes, flags.checkpoint), status


def _videos(flags: argparse.Namespace, codes: MotionCodeSet) -> Pictures | None:
    """The videos of the clips, where they are given."""
    from amplify_motion_tokenizer.codes.contact_sheet import Pictures

    if flags.input is None or (flags.cut is None and flags.picture is None):
        return None
    videos = Pictures(flags.input)
    videos.check(codes)
    return videos


def _cut(flags: argparse.Namespace, result: Segmented, videos: Pictures) -> None:
    from amplify_motion_tokenizer.codes.segment_videos import copy, cut, others_beside

    written, early = list[Path](), 0.0
    for name, segments in result.segments.items():
        if segments and flags.copy:
            copies, own = copy(videos.clip(name), segments, flags.cut)
            written, early = [*written, *copies], max(early, own)
        elif segments:
            written += cut(videos.clip(name), segments, flags.cut)
    if others := others_beside(written, flags.cut, result.segments):
        logger.warning(
            "%s also holds %d videos of earlier cuts of these clips, such as %s; remove them, or cut into "
            "another folder",
            flags.cut, len(others), others[0].relative_to(flags.cut),
        )  # fmt: skip
    how = "encoded again, cut at the very frame"
    if flags.copy:
        how = f"copied from key frames on, which lie up to {early:.2f} s before their segments"
    sys.stdout.write(f"videos in {flags.cut}: {len(written)} written, {how}\n")


def _check(flags: argparse.Namespace) -> None:
    if flags.codes is None and flags.input is None:
        raise UsageError("there is nothing to cut: give --codes, or videos as --input")
    if flags.change is not None and not 0 < flags.change <= (2 if flags.method == "motion" else float("inf")):
        most = " and at most 2" if flags.method == "motion" else ""
        raise UsageError(f"--change is {flags.change:g}; expected above 0{most}")
    if flags.percentile is not None and not 0 < flags.percentile < 100:
        raise UsageError(f"--percentile is {flags.percentile:g}; expected above 0 and below 100")
    if flags.percentile is not None and (flags.change is not None or flags.method != "motion"):
        raise UsageError(
            "--percentile takes the place of --change, by --method motion alone; give one of them"
        )
    if not 0 < flags.shortest <= flags.longest / 2:
        raise UsageError(
            f"--shortest is {flags.shortest:g} and --longest {flags.longest:g}; expected seconds above 0, "
            "the longest at least twice the shortest"
        )
    if flags.clusters < 0:
        raise UsageError(f"--clusters is {flags.clusters}; expected 1 or more kinds")
    if flags.cut is not None and flags.input is None:
        raise UsageError("--cut needs --input, the folder of the videos, too")
    if flags.copy and flags.cut is None:
        raise UsageError("--copy is a way to --cut; give the folder for the videos of segments")
    if flags.input is None:
        return
    for name, folder in (("--cut", flags.cut), ("--picture", flags.picture)):
        if folder and flags.input.resolve() in (folder.resolve(), *folder.resolve().parents):
            raise UsageError(
                f"{name} {folder} lies in --input {flags.input}; give a folder outside the videos"
            )
