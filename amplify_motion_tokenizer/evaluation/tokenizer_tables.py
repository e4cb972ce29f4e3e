"""Puts what ``evaluation.tokenizers`` measured into tables and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from amplify_motion_tokenizer.evaluation.grid_windows import farthest_off
from amplify_motion_tokenizer.evaluation.rate_distortion import ROWS, SPEEDS_PX, Distortion
from amplify_motion_tokenizer.evaluation.tables import lines, markdown, numbers_of
from amplify_motion_tokenizer.evaluation.tokenizers import Row, Section

HEADS = (
    "coder", "ids", "bits", "coded", "px", "%", "delta_avg", "delta_auc", "held out %", "codes", "perplexity",
    "digits used",
)  # fmt: skip
"""Columns of the table of a section; ``LEGEND`` explains them."""

LEGEND = (
    f"bits: ids times log2 of the codebook. coded: bits of a range coder that learns as it reads. px: mean "
    f"point error at {ROWS} rows, and as % of no motion. held out: the same % of points that the encoder "
    "took for lost. one similarity: the best of the whole frame at each step, not rounded. PCA, DCT: plain "
    "transform coders. codes, perplexity: of the ids that are told. digits used: entropy of each digit of an "
    "id over its most, mean over the ids. A dash: no such figure."
)
"""What the columns are."""

_BY_CLASS = "error in px by speed (px a step, per window) and kind of scene"


def text(sections: Sequence[Section], as_markdown: bool = False) -> str:
    """All sections as tables, in plain text or in Markdown."""
    write = markdown if as_markdown else lines
    parts = []
    for section in sections:
        parts += [f"**{heading(section)}**" if as_markdown else heading(section)]
        parts += [write([HEADS, *map(_cells, section.rows)], 1)]
        parts += [_BY_CLASS, write(_by_class(section), 1)]
        parts += _order(section)
    return "\n\n".join([*parts, LEGEND])


def heading(section: Section) -> str:
    """What windows the coders of a section are judged on."""
    source = section.source
    of_clips = f" of {source.clips} clips" if source.clips else ""
    grid, frames = (f"{side} x {side} points" for side in (section.grid, source.grid)), section.frames
    own, stored = grid
    told = f"{source.name}: {section.windows} windows{of_clips}, {own}, {frames} frames"
    told += "" if section.camera else ", the camera's motion taken out"
    if (section.grid, frames) == (source.grid, source.frames):
        return told
    off = 100 * farthest_off(source.grid, section.grid)
    return f"{told}; the points of {stored} that lie next to that grid, up to {off:.1f} % of a side off it"


def report(sections: Sequence[Section]) -> dict[str, Any]:
    """All numbers as plain values; NaN where there is nothing to take the mean of."""
    return {"rows": ROWS, "sections": [_section(section) for section in sections]}


def _section(section: Section) -> dict[str, Any]:
    source = section.source
    return {
        "source": source.name,
        "clips": source.clips,
        "windows": section.windows,
        "stored_grid": source.grid,
        "stored_frames": source.frames,
        "grid": section.grid,
        "frames": section.frames,
        "camera": "keep" if section.camera else "remove",
        "coders": [_coder(row) for row in section.rows],
    }


def _coder(row: Row) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": row.name,
        "plain": row.plain,
        "reading": row.reading,
        "ids": row.ids,
        "bits": row.bits,
        **_figures(row.total),
        "by_speed": {name: _figures(part) for name, part in row.total.by_speed.items()},
        "by_kind": {name: _figures(part) for name, part in sorted(row.kinds.items())},
    }
    if row.held_out is not None:
        content["held_out"] = _figures(row.held_out)
    if row.use is not None:
        content["coded_bits"] = row.use.coded_bits
        content |= row.use.codes._asdict()
        content["digit_use"] = row.use.digits.tolist()
    return content


def _figures(found: Distortion) -> dict[str, Any]:
    names = ("windows", "error_px", "no_motion_px", "relative", "delta_avg", "delta_auc")
    return {name: getattr(found, name) for name in names}


def _cells(row: Row) -> list[str]:
    name = f"{row.name}, {row.reading}" if row.reading else row.name
    use, held_out = row.use, math.nan if row.held_out is None else row.held_out.relative
    return [
        name,
        "-" if row.ids is None else str(row.ids),
        "-" if row.bits is None else f"{row.bits:.0f}",
        *numbers_of([math.nan if use is None else use.coded_bits], 0),
        *numbers_of([row.total.error_px], 2),
        *numbers_of([100 * row.total.relative], 1),
        *numbers_of([row.total.delta_avg, row.total.delta_auc]),
        *numbers_of([100 * held_out], 1),
        "-" if use is None else str(use.codes.unique),
        *numbers_of([math.nan if use is None else use.codes.perplexity], 0),
        "-" if use is None else " ".join(numbers_of(use.digits.mean(dim=0).tolist(), 2)),
    ]


def _by_class(section: Section) -> list[list[str]]:
    """A row for each class of windows; a column for each coder at its highest rate."""
    last = _highest(section)
    names = [f"{row.name}{f' {row.bits:.0f}' if row.bits else ''}" for row in last]
    names = [f"{name}, {row.reading}" if row.reading else name for name, row in zip(names, last, strict=True)]
    first = last[0]
    rows = [["windows of", "number", *names]]
    for key, told in _speed_names(first).items():
        of_class = [row.total.by_speed[key] for row in last]
        rows.append([told, str(of_class[0].windows), *numbers_of([part.error_px for part in of_class], 2)])
    for key in sorted(first.kinds):
        of_class = [row.kinds[key] for row in last]
        rows.append([key, str(of_class[0].windows), *numbers_of([part.error_px for part in of_class], 2)])
    return rows


def _highest(section: Section) -> list[Row]:
    """Each coder at its highest rate."""
    return list({(row.name, row.reading): row for row in section.rows}.values())


def _order(section: Section) -> list[str]:
    """A line that tells which of several tokenizers leaves the least error; none where there is no choice."""
    rows = [row for row in _highest(section) if not row.plain and not math.isnan(row.total.error_px)]
    if len(rows) < 2:
        return []
    rows.sort(key=lambda row: row.total.error_px)
    told = [
        f"{_cells(row)[0]} {row.total.error_px:.3f} px ({100 * row.total.relative:.2f} %)" for row in rows
    ]
    return [f"error with all ids, the least first: {', '.join(told)}"]


def _speed_names(row: Row) -> dict[str, str]:
    """The classes of speed that a row has, with what they stand for."""
    lower = dict(zip(SPEEDS_PX, [0.0, *SPEEDS_PX.values()], strict=False))
    return {
        name: f"{name} ({lower[name]:g} to {limit:g})"
        if math.isfinite(limit)
        else f"{name} (from {lower[name]:g})"
        for name, limit in SPEEDS_PX.items()
        if name in row.total.by_speed
    }
