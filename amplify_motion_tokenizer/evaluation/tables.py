"""Puts the scores of clips into tables and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from amplify_motion_tokenizer.evaluation.against_truth import VideoScore
from amplify_motion_tokenizer.evaluation.tapvid import mean_metrics

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
            rows.append([heads[0], shown, *heads[1:], *numbers_of(numbers)])
            heads = [""] * len(heads)
    return lines(rows)


def code_table(content: dict[str, Any]) -> str:
    """A ``code_report``'s kinds and overall numbers as lines of text."""
    lags = [f"lag {lag}" for lag in content["lags"]]
    rows = [["kind", "same", "clips", "windows", "codes", "perplexity", *lags]]
    for kind, values in [*content["kinds"].items(), ("overall", content["overall"])]:
        heads = [kind, *(str(values[name]) for name in ("clips", "windows", "unique_codes"))]
        heads += numbers_of([values["perplexity"]], digits=1)
        for name in [name for name in COMPARED if name in values]:
            rows.append([heads[0], COMPARED[name], *heads[1:], *numbers_of(values[name])])
            heads = [""] * len(heads)
    return lines(rows)


def numbers_of(values: Sequence[float], digits: int = 3) -> list[str]:
    """Numbers as text with so many decimals; a dash stands for the mean of nothing."""
    return ["-" if math.isnan(value) else f"{value:.{digits}f}" for value in values]


def lines(rows: Sequence[Sequence[str]], names: int = 2) -> str:
    """Rows of one length as lines of text; the first ``names`` columns to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(_cells(row, widths, names)).rstrip() for row in rows)


def markdown(rows: Sequence[Sequence[str]], names: int = 2) -> str:
    """Rows of one length as a table in Markdown, the first row its head."""
    rule = ["---" if place < names else "---:" for place in range(len(rows[0]))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def _cells(row: Sequence[str], widths: Sequence[int], names: int) -> list[str]:
    return [
        text.ljust(width) if place < names else text.rjust(width)
        for place, (text, width) in enumerate(zip(row, widths, strict=True))
    ]


def without_nan(value: Any) -> Any:
    """``value`` with None for the NaN that JSON does not know."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
