"""The section of rate and distortion: how many bits buy how much of the motion."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.evaluation.grid_windows import GridWindows, WindowSource, folder_windows
from amplify_motion_tokenizer.evaluation.rate_distortion import ROWS
from amplify_motion_tokenizer.evaluation.tokenizers import (
    NO_MOTION,
    SIMILARITY,
    Row,
    Section,
    evaluate_tokenizers,
)
from amplify_motion_tokenizer.models import MotionTokenizer
from amplify_motion_tokenizer.models.checkpoint import load_tokenizer
from amplify_motion_tokenizer.models.shipped import DEFAULT, names
from amplify_motion_tokenizer.report.axes import Axis, told
from amplify_motion_tokenizer.report.charts import Line, line_chart
from amplify_motion_tokenizer.report.given import Subject
from amplify_motion_tokenizer.report.markup import Markup, join, missing, paragraph, table, tag
from amplify_motion_tokenizer.tracks.find import find_recorded

MOST_WINDOWS = 400
"""Windows that tokenizers are judged on, at most, spread evenly over the tracks."""
_MARGIN = 1.25
"""By how much the axis of bits goes beyond them."""
_OTHERS = ("c2", "c3", "c4")
_PLAIN = ("plain dashed", "plain dotted", "plain")


def rates(subject: Subject) -> Markup:
    """Rate and distortion of the tokenizer, beside the shipped ones and plain coders.

    Raises:
        TrackFileError: the tracks do not fit the tokenizer, or a file is bad.
    """
    lacks = subject.lacks("to judge the tokenizer on", "to decode with")
    if lacks or subject.tracks is None or subject.tokenizer is None:
        return missing(lacks)
    own = subject.tokenizer.model
    if not _judgeable(own.config):
        return missing("Left out: this tokenizer takes several views, or images besides tracks.")
    if subject.no_positions:
        return missing(f"Left out: {subject.no_positions}")
    source = _thinned(folder_windows(subject.tracks), subject.tracks)
    models, left_out = _models(subject, source)
    sections = evaluate_tokenizers(models, [source])
    first = list(models)[0]
    parts = [_section(section, first) for section in sections]
    note = (
        f" {' and '.join(left_out)} cannot be judged on them: they take more points or frames."
        if left_out
        else ""
    )
    told_by = paragraph(
        f"Error is the mean distance of decoded from true points at {ROWS} rows, after the first frame, "
        "which every coder is given; 100 % is the error of points that never move. Bits are ids times log2 "
        "of the codebook. PCA and DCT are plain transform coders; one similarity is the best of the whole "
        f"frame at each step, not rounded.{note}",
        class_="note",
    )
    return join(parts, told_by)


def _judgeable(config: Config) -> bool:
    return len(config.data.views) == 1 and not config.conditioned


def _models(subject: Subject, source: WindowSource) -> tuple[dict[str, MotionTokenizer], list[str]]:
    """The tokenizer and the shipped ones by name, and the shipped ones that the tracks are too small for."""
    assert subject.tokenizer is not None and subject.checkpoint is not None
    own, path = subject.tokenizer.model, subject.checkpoint.path
    models, left_out = {f"{path.stem} (this one)": own}, []
    for name in names():
        if name == DEFAULT or path.name.startswith(f"{name}."):
            continue
        model = load_tokenizer(name, own.device)
        try:
            source.check_fits(model.config, name)
        except TrackFileError:
            left_out.append(name)
            continue
        models[name] = model
    return models, left_out


def _thinned(source: WindowSource, tracks: Path) -> WindowSource:
    """``source`` with at most ``MOST_WINDOWS`` of its windows, evenly spread."""
    total = sum(clip.num_windows for clip in find_recorded(tracks).values())
    step = math.ceil(total / MOST_WINDOWS)

    def chunks() -> Iterator[GridWindows]:
        seen = 0
        for windows in source.chunks():
            first, seen = -seen % step, seen + len(windows.visibility)
            kept = windows._replace(
                tracks_xy_px=windows.tracks_xy_px[first::step], visibility=windows.visibility[first::step]
            )
            if len(kept.visibility):
                yield kept

    return dataclasses.replace(source, chunks=chunks)


def _section(section: Section, own: str) -> Markup:
    source = section.source
    judged = (
        f"{section.windows:,} windows of {source.clips} clips in {source.name}; "
        f"{section.grid} x {section.grid} points, {section.frames} frames"
    )
    if math.isnan(section.rows[0].total.relative):
        return missing(f"Nothing moves in {judged}, so there is no error to compare with.")
    bits = [row.bits for row in section.rows if row.bits]
    ends = min(bits) / _MARGIN, max(bits) * _MARGIN
    chart = line_chart(
        "Bits of a window against what they leave of the motion",
        f"Error in percent of no motion, by bits of a window, on {judged}.",
        Axis("bits a window", log=True, ticks=[11 * 2.0**power for power in range(-3, 8)], ends=ends),
        Axis("error, % of no motion", from_zero=True),
        list(_lines(section.rows, own, ends)),
    )
    return join(paragraph(f"On {judged}."), tag("div", chart, _figures(section), class_="grid"))


def _lines(rows: Sequence[Row], own: str, ends: tuple[float, float]) -> Iterator[Line]:
    of_coder: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if row.bits:
            of_coder.setdefault((row.name, row.reading), []).append((row.bits, 100 * row.total.relative))
    plain = {row.name for row in rows if row.plain}
    others, dashes = iter(_OTHERS), iter(_PLAIN)
    looks: dict[str, str] = {own: "c0"}
    for (name, reading), points in sorted(of_coder.items(), key=lambda each: each[0][0] != own):
        if name not in looks:
            looks[name] = next(dashes, "plain") if name in plain else next(others, "c5")
        shown = f"{name}, {reading}" if reading else name
        look = looks[name] + (" dotted" if reading else "")
        yield Line(shown, points, look, dots=name not in plain)
    yield from _levels(rows, ends)


def _levels(rows: Sequence[Row], ends: tuple[float, float]) -> Iterator[Line]:
    """What is left without ids, as level lines."""
    for row in rows:
        if row.name in (NO_MOTION, SIMILARITY) and 100 * row.total.relative <= 130:
            height = 100 * row.total.relative
            look = "plain faint" if row.name == NO_MOTION else "c5 dashed"
            yield Line(row.name, [(ends[0], height), (ends[1], height)], look)


def _figures(section: Section) -> Markup:
    rows = [["coder", "bits", "px", "%", "perplexity"]]
    last: Mapping[tuple[str, str], Row] = {(row.name, row.reading): row for row in section.rows}
    for row in sorted(last.values(), key=lambda row: row.total.error_px):
        name = f"{row.name}, {row.reading}" if row.reading else row.name
        perplexity = None if row.use is None else row.use.codes.perplexity
        figures = (row.bits, row.total.error_px, 100 * row.total.relative, perplexity)
        rows.append([name, *map(told, figures)])
    caption = "With all ids, the least error first"
    return tag("figure", tag("figcaption", caption), table(rows, caption))
