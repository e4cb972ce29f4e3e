"""Holds tracks against true ones, codes of overlapping windows against each other, tokenizers against tracks.

tracking: both folders hold track files; the command scenes writes clips with truth. Printed are TAP-Vid's
metrics, means over the clips of a kind, beside the metrics of points that never move.

codes: the folder is the output of infer. Printed are the codes in use, and the share of equal ids in windows
that start 1, 2 ... strides apart: at the same position in both, and, where tokens are steps, about the same
step of the clip. Chance is what any two different windows have in common; a dash stands where
there is nothing to compare.

tokenizer: for any tokenizers and folders of track files, how many bits a window takes and how much of its
motion they leave, beside plain coders at the same bits: no motion, one similarity a step, cosine waves (DCT)
and principal components (PCA) of made-up motion. Of tokenizers of a smaller grid or fewer frames the points
next to that grid are coded, in the first frames, in a table of their own with its own no motion.

segmentation: both files are JSON as segment writes it, or rows with an id and segments of start_sec and
end_sec, as WGO-Bench has them (docs/segmentation.md lists the shapes). Printed is F1 of boundaries within
some seconds of true ones, each matched once: of inner boundaries, and of both ends of every segment, which
counts inner ones twice and a clip's own start and end too. Then F1 of segments, which are matched where of
what both cover half or three quarters is common.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import arguments, cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError
from amplify_motion_tokenizer.files import write_json

logger = logging.getLogger(__name__)

TRACKING: Flags = {
    "--tracks": {"type": Path, "required": True, "help": "folder of the track files to judge"},
    "--truth": {"type": Path, "required": True, "help": "folder of the true tracks"},
    "--json": {"type": Path, "help": "JSON file for all the numbers, each clip's too"},
    "--visibility": {
        "type": float,
        "default": 0.5,
        "help": "confidence from which a point is visible (default 0.5)",
    },
}
CODES: Flags = {
    **arguments.CODES,
    "--lags": {"type": int, "default": 4, "help": "neighbours to compare with (default 4)"},
    "--json": {"type": Path, "help": "file for all the numbers"},
}
TOKENIZER: Flags = {
    "--tracks": {
        "type": Path,
        "action": "append",
        "default": [],
        "help": "folder of track files; may be repeated",
    },
    "--checkpoint": {
        "action": "append",
        "help": "file or shipped name of a tokenizer; may be repeated (default: all the shipped ones)",
    },
    "--made-up": {
        "type": int,
        "default": 0,
        "metavar": "N",
        "help": "judge on so many windows of made-up motion, too, with exact tracks",
    },
    "--json": {"type": Path, "help": "file for all the numbers"},
    "--picture": {"type": Path, "help": "PNG of bits against error; needs matplotlib"},
    "--markdown": {"action": "store_true", "help": "print the tables in Markdown"},
}
SEGMENTATION: Flags = {
    "--segments": {"type": Path, "required": True, "help": "JSON of the segments to judge"},
    "--truth": {"type": Path, "required": True, "help": "JSON of the true segments, of the same clips"},
    "--json": {"type": Path, "help": "file for all the numbers"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    return cli.run_kind(argv, "evaluate", __doc__ or "", FLAGS, RUN)


def evaluate_tracking(flags: argparse.Namespace) -> int:
    """Prints the scores of a folder of tracks; returns the exit status."""
    if not 0 < flags.visibility <= 1:
        raise UsageError(f"--visibility is {flags.visibility:g}; expected above 0 and at most 1")
    from amplify_motion_tokenizer.evaluation.against_truth import evaluate_tracks
    from amplify_motion_tokenizer.evaluation.tables import report, table, without_nan

    content = report(evaluate_tracks(flags.tracks, flags.truth, flags.visibility))
    sys.stdout.write(table(content) + "\n")
    if flags.json is not None:
        write_json(flags.json, without_nan({"visibility": flags.visibility} | content))
    return EXIT_OK


def evaluate_codes(flags: argparse.Namespace) -> int:
    """Prints how a folder of codes uses its codebook; returns the exit status."""
    if flags.lags < 1:
        raise UsageError(f"--lags is {flags.lags}; expected at least 1")
    from amplify_motion_tokenizer.codes.code_set import code_set
    from amplify_motion_tokenizer.codes.reading import read_codes
    from amplify_motion_tokenizer.codes.statistics import code_report
    from amplify_motion_tokenizer.evaluation.tables import code_table, without_nan
    from amplify_motion_tokenizer.scenes import KINDS

    content = code_report(code_set(read_codes(flags.codes)), flags.lags, KINDS)
    sys.stdout.write(code_table(content) + "\n")
    if flags.json is not None:
        write_json(flags.json, without_nan(content))
    return EXIT_OK


def evaluate_tokenizer(flags: argparse.Namespace) -> int:
    """Prints rate and distortion of tokenizers on folders of tracks; returns the exit status."""
    if flags.made_up < 0:
        raise UsageError(f"--made-up is {flags.made_up}; expected 1 or more windows")
    if not flags.tracks and not flags.made_up:
        raise UsageError("there is nothing to judge on: give --tracks FOLDER, --made-up N, or both")
    from amplify_motion_tokenizer.evaluation.code_length import CODER, range_coder
    from amplify_motion_tokenizer.evaluation.grid_windows import folder_windows, made_up_windows
    from amplify_motion_tokenizer.evaluation.rate_picture import check_drawable, draw_rates
    from amplify_motion_tokenizer.evaluation.tables import without_nan
    from amplify_motion_tokenizer.evaluation.tokenizer_tables import report, text
    from amplify_motion_tokenizer.evaluation.tokenizers import evaluate_tokenizers
    from amplify_motion_tokenizer.models.checkpoint import load_tokenizer
    from amplify_motion_tokenizer.models.shipped import DEFAULT, names

    if flags.picture is not None:
        check_drawable()
    if range_coder() is None:
        logger.warning("coded bits are left out, as they need %s; pip install %s", CODER, CODER)
    wanted = flags.checkpoint or [name for name in names() if name != DEFAULT]
    models = {name: load_tokenizer(name, "auto") for name in dict.fromkeys(wanted)}
    sources = [folder_windows(folder) for folder in dict.fromkeys(flags.tracks)]
    if flags.made_up:
        configs = [model.config for model in models.values()]
        grid, frames = max(c.data.grid_size for c in configs), max(c.tracked_length for c in configs)
        sources.append(made_up_windows(flags.made_up, grid, frames))
    sections = evaluate_tokenizers(models, sources)
    sys.stdout.write(text(sections, flags.markdown) + "\n")
    if flags.json is not None:
        write_json(flags.json, without_nan(report(sections)))
    if flags.picture is not None:
        draw_rates(flags.picture, sections)
    return EXIT_OK


def evaluate_segmentation(flags: argparse.Namespace) -> int:
    """Prints how well segments agree with true ones; returns the exit status."""
    from amplify_motion_tokenizer.codes.segment_files import read_segments
    from amplify_motion_tokenizer.evaluation.boundaries import boundary_scores, segment_scores
    from amplify_motion_tokenizer.evaluation.tables import lines, numbers_of, without_nan

    found, true = read_segments(flags.segments), read_segments(flags.truth)
    missing = sorted(true.keys() ^ found.keys())
    if missing:
        lacking = flags.segments if missing[0] in true else flags.truth
        raise UsageError(f"{lacking}: has no segments of the clip {missing[0]}; give files of the same clips")
    scores = boundary_scores(found, true) | {"segments, IoU": segment_scores(found, true)}
    rows = [["boundaries", "within s", "true", "found", "matched", "F1"]]
    for way, by_tolerance in scores.items():
        for tolerance, each in by_tolerance.items():
            rows.append(
                [way, tolerance, str(each.true), str(each.found), str(each.matched), *numbers_of([each.f1])]
            )
    sys.stdout.write(lines(rows) + "\n")
    if flags.json is not None:
        told = {
            way: {within: {**each._asdict(), "f1": each.f1} for within, each in by_tolerance.items()}
            for way, by_tolerance in scores.items()
        }
        write_json(flags.json, without_nan(told))
    return EXIT_OK


FLAGS = {"tracking": TRACKING, "codes": CODES, "tokenizer": TOKENIZER, "segmentation": SEGMENTATION}
"""What can be evaluated, and the flags of each."""

RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "tracking": evaluate_tracking,
    "codes": evaluate_codes,
    "tokenizer": evaluate_tokenizer,
    "segmentation": evaluate_segmentation,
}
