"""Holds tracks against true ones, and the codes of overlapping windows against each other.

    python -m amplify_motion_tokenizer.evaluate tracking --tracks DIR --truth DIR [--json FILE]
    python -m amplify_motion_tokenizer.evaluate codes --codes DIR [--lags 4] [--json FILE]

tracking: both folders hold track files; ``python -m amplify_motion_tokenizer.scenes`` writes clips with
truth. Printed are TAP-Vid's metrics, means over the clips of a kind, and those of points that never move.

codes: the folder is inference's output. Printed are the codes in use, and the share of equal ids in windows
that start 1, 2 ... strides apart: at the same position in both, and, where tokens are steps, about the same
step of the clip. Chance is what any two different windows have in common; a dash stands where
there is nothing to compare.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer import cli
from amplify_motion_tokenizer.code_statistics import code_report, read_codes
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError
from amplify_motion_tokenizer.files import write_json
from amplify_motion_tokenizer.tapvid import mean_metrics
from amplify_motion_tokenizer.trackers.windows import SEEN
from amplify_motion_tokenizer.tracking_evaluation import VideoScore, evaluate_tracks

COLUMNS = {
    "delta_avg": "delta_avg",
    "occlusion_accuracy": "occlusion",
    "average_jaccard": "AJ",
    "mean_error_px": "error px",
}
"""Metrics that the table shows, and their headings."""
PREDICTIONS = {"tracks": "tracks", "no_motion": "no motion"}
"""What is scored, and what the table calls it."""
COMPARED = {
    "same_position": "position",
    "chance_position": "by chance",
    "same_step": "step",
    "chance_step": "by chance",
}
"""Shares of equal ids, and what the table of codes calls them."""


def summary(scores: Sequence[VideoScore]) -> dict[str, Any]:
    """Counts of the videos together, and for ``tracks`` and ``no_motion`` each metric's mean over them."""
    return {
        "videos": len(scores),
        "windows": sum(score.windows for score in scores),
        "true_windows": sum(score.true_windows for score in scores),
        "visible_positions": sum(score.tracks.visible for score in scores),
        **{name: mean_metrics([getattr(score, name).metrics() for score in scores]) for name in PREDICTIONS},
    }


def report(scores: Sequence[VideoScore]) -> dict[str, Any]:
    """``summary`` of every kind of clip and of each video, and ``overall`` the mean over all videos."""
    kinds = sorted({score.kind for score in scores})
    return {
        "overall": summary(scores),
        "kinds": {kind: summary([score for score in scores if score.kind == kind]) for kind in kinds},
        "videos": [{"clip": score.clip, "view": score.view} | summary([score]) for score in scores],
    }


def table(content: dict[str, Any]) -> str:
    """A ``report``'s kinds and overall numbers as lines of text."""
    rows = [["kind", "prediction", "clips", "windows", "positions", *COLUMNS.values()]]
    for kind, values in [*content["kinds"].items(), ("overall", content["overall"])]:
        windows = f"{values['windows']} of {values['true_windows']}"
        heads = [kind, str(values["videos"]), windows, str(values["visible_positions"])]
        for name, shown in PREDICTIONS.items():
            numbers = [values[name][metric] for metric in COLUMNS]
            rows.append([heads[0], shown, *heads[1:], *_numbers(numbers)])
            heads = [""] * len(heads)
    return _lines(rows)


def code_table(content: dict[str, Any]) -> str:
    """A ``code_report``'s kinds and overall numbers as lines of text."""
    lags = [f"lag {lag}" for lag in content["lags"]]
    rows = [["kind", "same", "clips", "windows", "codes", "perplexity", *lags]]
    for kind, values in [*content["kinds"].items(), ("overall", content["overall"])]:
        heads = [kind, *(str(values[name]) for name in ("clips", "windows", "unique_codes"))]
        heads.append(f"{values['perplexity']:.1f}")
        for name in [name for name in COMPARED if name in values]:
            rows.append([heads[0], COMPARED[name], *heads[1:], *_numbers(values[name])])
            heads = [""] * len(heads)
    return _lines(rows)


def _numbers(values: Sequence[float]) -> list[str]:
    """As text; a dash where there is nothing to take a mean of."""
    return ["-" if math.isnan(value) else f"{value:.3f}" for value in values]


def _lines(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(_cells(row, widths)).rstrip() for row in rows)


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Names to the left, numbers to the right."""
    return [
        text.ljust(width) if place < 2 else text.rjust(width)
        for place, (text, width) in enumerate(zip(row, widths, strict=True))
    ]


def _without_nan(value: Any) -> Any:
    """``value`` with None for the NaN that JSON does not know."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluate_tracking(arguments: argparse.Namespace) -> int:
    """The command ``tracking``; returns the exit status."""
    if not 0 < arguments.visibility <= 1:
        raise UsageError(f"--visibility is {arguments.visibility:g}; expected above 0 and at most 1")
    content = report(evaluate_tracks(arguments.tracks, arguments.truth, arguments.visibility))
    sys.stdout.write(table(content) + "\n")
    if arguments.json is not None:
        write_json(arguments.json, _without_nan({"visibility": arguments.visibility} | content))
    return EXIT_OK


def evaluate_codes(arguments: argparse.Namespace) -> int:
    """The command ``codes``; returns the exit status."""
    if arguments.lags < 1:
        raise UsageError(f"--lags is {arguments.lags}; expected at least 1")
    content = code_report(read_codes(arguments.codes), arguments.lags)
    sys.stdout.write(code_table(content) + "\n")
    if arguments.json is not None:
        write_json(arguments.json, _without_nan(content))
    return EXIT_OK


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m amplify_motion_tokenizer.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tracking = commands.add_parser("tracking", help="point tracks against true ones")
    tracking.add_argument("--tracks", type=Path, required=True, help="folder of the track files to judge")
    tracking.add_argument("--truth", type=Path, required=True, help="folder of the true tracks")
    tracking.add_argument("--json", type=Path, help="file for all the numbers, also those of each clip")
    tracking.add_argument(
        "--visibility",
        type=float,
        default=SEEN,
        help="confidence from which a point is visible (default 0.5)",
    )
    tracking.set_defaults(run=evaluate_tracking)
    codes = commands.add_parser("codes", help="usage of codes, and how alike overlapping windows are")
    codes.add_argument("--codes", type=Path, required=True, help="output folder of inference_short_clip.py")
    codes.add_argument("--lags", type=int, default=4, help="neighbours to compare with (default 4)")
    codes.add_argument("--json", type=Path, help="file for all the numbers")
    codes.set_defaults(run=evaluate_codes)
    arguments = parser.parse_args(argv)
    status: int = arguments.run(arguments)
    return status


if __name__ == "__main__":
    cli.run(main)
