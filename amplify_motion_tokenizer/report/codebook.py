"""The section of how a codebook is used.

Letters: S windows, d ids of a window, K codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amplify_motion_tokenizer.codes.code_set import code_set
from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.codes.statistics import code_summary
from amplify_motion_tokenizer.evaluation.code_length import digit_use, digits_of
from amplify_motion_tokenizer.evaluation.metrics import CodeUsage, code_histogram, code_usage, used_codes
from amplify_motion_tokenizer.report.axes import Axis, told
from amplify_motion_tokenizer.report.charts import Line, bar_chart, cells, figure, line_chart
from amplify_motion_tokenizer.report.events import Histogram
from amplify_motion_tokenizer.report.markup import Markup, folded, join, missing, paragraph, table, tag

MOST_BINS = 96
"""Bars of the histogram of ids, at most."""
MOST_RANGES = 200
"""Ranges of dead codes that are named, at most."""
MOST_POSITIONS = 64
"""Positions of a window that have a row of their own, at most."""
MOST_LEVELS = 32
"""Levels of a digit whose shares are shown, at most."""
LAGS = 4
"""Neighbours that a window is compared with."""


@dataclass(frozen=True)
class Ids:
    """The ids of all windows that a report tells of."""

    rows: Tensor
    """(S, d) int64."""
    codebook_size: int
    levels: Sequence[int] | None
    """FSQ levels of an id's digits; None where nothing says."""
    of: str
    """What windows they are, in words."""

    @property
    def usage(self) -> CodeUsage:
        """How evenly codes are used."""
        return code_usage(code_histogram(self.rows, self.codebook_size), self.codebook_size)

    @property
    def reachable(self) -> int:
        """Codes that could be in use: no more than there are ids."""
        return min(self.rows.numel(), self.codebook_size)


def ids_of(codes: MotionCodeSet) -> Ids | None:
    """The ids of codes, without windows that have padding; None where there is no other window."""
    first = next(iter(codes.values()))
    whole = [each.ids[each.valid_steps == each.meta["sequence_length"] - 1] for each in codes.values()]
    whole = [rows for rows in whole if len(rows)]
    if not whole:
        return None
    meta: Mapping[str, Any] = first.meta
    rows = torch.cat(whole)
    return Ids(rows, meta["codebook_size"], meta.get("fsq_levels"), f"{len(rows):,} windows of these codes")


def codebook_use(ids: Ids, codes: MotionCodeSet | None) -> Markup:
    """The charts of how ids are used; of codes also how alike windows close together are written."""
    parts = [_by_id(ids), _by_rank(ids), _by_position(ids)]
    if ids.levels is not None:
        parts.append(_digits(ids, ids.levels))
        if max(ids.levels) <= MOST_LEVELS:
            parts.append(_levels(ids, ids.levels))
    if codes is not None:
        parts.append(_neighbours(codes))
    return join(_sentence(ids), tag("div", parts, class_="columns"), _dead(ids))


def _sentence(ids: Ids) -> Markup:
    usage, count = ids.usage, ids.rows.numel()
    few = ""
    if count < 10 * ids.codebook_size:
        few = (
            f" {count:,} ids are few for {ids.codebook_size:,} codes: a code that is missing here is not "
            "therefore dead."
        )
    return paragraph(
        f"Of {ids.of}: {count:,} ids are {usage.unique:,} of {ids.codebook_size:,} codes; "
        f"{ids.codebook_size - usage.unique:,} do not occur. Perplexity {told(usage.perplexity)}: as varied "
        f"as so many codes used alike.{few}"
    )


def _by_id(ids: Ids) -> Markup:
    counts = np.zeros(min(MOST_BINS, ids.codebook_size), np.float64)
    used, often = (each.numpy() for each in used_codes(code_histogram(ids.rows, ids.codebook_size)))
    ends = np.linspace(0, ids.codebook_size, len(counts) + 1).round().astype(np.int64)
    np.add.at(counts, np.searchsorted(ends, used, side="right") - 1, often)
    return _histogram(ends, counts, f"How often ids occur, {len(counts)} ranges of ids from 0 on.")


def logged_histogram(histogram: Histogram) -> Markup:
    """The chart of a histogram that a run has logged."""
    ends = np.concatenate([[0], np.rint(histogram.ends + 0.5)]).astype(np.int64)
    keep = max(1, -(-len(histogram.counts) // MOST_BINS))
    starts = np.arange(0, len(histogram.counts), keep)
    counts = np.add.reduceat(histogram.counts, starts)
    return _histogram(ends[[*starts, -1]], counts, f"How often ids occur at step {histogram.step}.")


def _histogram(ends: Any, counts: Any, about: str) -> Markup:
    bars = [
        (float(low), float(high), f"{low}" if high == low + 1 else f"{low} to {high - 1}", float(count))
        for low, high, count in zip(ends[:-1], ends[1:], counts, strict=True)
    ]
    ranges = "" if len(bars) == int(ends[-1]) else f", in {len(bars)} ranges"
    return bar_chart(f"How often ids occur{ranges}", about, Axis("id"), Axis("times", from_zero=True), bars)


def _by_rank(ids: Ids) -> Markup:
    often = used_codes(code_histogram(ids.rows, ids.codebook_size))[1].sort(descending=True).values
    ranks = np.unique(np.geomspace(1, len(often), 120).round().astype(int))
    points = [(float(rank), float(often[rank - 1])) for rank in ranks]
    even = ids.rows.numel() / ids.codebook_size
    lines = [Line("codes in use", points)]
    if even >= 1:
        lines.append(
            Line("if all were used alike", [(1, even), (float(ids.codebook_size), even)], "plain dashed")
        )
    about = f"How often each of the {len(often)} codes in use occurs, the most frequent first."
    x, y = Axis("rank of the code", log=True), Axis("times", log=True)
    return line_chart("From the most frequent code to the rarest", about, x, y, lines)


def _by_position(ids: Ids) -> Markup:
    size = ids.codebook_size
    found = [code_usage(code_histogram(column, size), size) for column in ids.rows.unbind(dim=1)]
    lines = [
        Line("codes in use", [(place + 1.0, each.unique) for place, each in enumerate(found)], "c0", True),
        Line("perplexity", [(place + 1.0, each.perplexity) for place, each in enumerate(found)], "c1", True),
    ]
    about = "Codes in use and perplexity at each position of a window's ids."
    x, y = Axis("position in the window", ticks=_positions(len(found))), Axis("codes", from_zero=True)
    return line_chart("By position", about, x, y, lines)


def _positions(count: int) -> list[float]:
    step = next(step for step in (1, 2, 4, 8, 16, 32, 64, 128, count) if count / step <= 9 or step == count)
    return [1.0, *(float(place) for place in range(step, count + 1, step) if place > 1)]


def _digits(ids: Ids, levels: Sequence[int]) -> Markup:
    use = digit_use(ids.rows, levels)
    shown = use[:MOST_POSITIONS]
    rows = [("all", use.mean(dim=0).tolist())]
    rows += [(str(place + 1), row.tolist()) for place, row in enumerate(shown)]
    head = ["position", *(f"digit {k + 1} of {level}" for k, level in enumerate(levels))]
    if len(shown) < len(use):
        rows.append(("\u2026", [float("nan")] * len(levels)))
    return cells("Entropy of each digit, of the most that it can have", head, rows)


def _levels(ids: Ids, levels: Sequence[int]) -> Markup:
    digits = digits_of(ids.rows, levels).flatten(0, 1)
    rows = []
    for place, level in enumerate(levels):
        share = torch.bincount(digits[:, place], minlength=level).double() / len(digits)
        told_shares = [*share.tolist(), *[float("nan")] * (max(levels) - level)]
        rows.append((f"digit {place + 1}", told_shares))
    return cells("Share of each level", ["", *(str(level) for level in range(max(levels)))], rows)


def _neighbours(codes: MotionCodeSet) -> Markup:
    found = code_set(codes)
    lags = found.lags(LAGS)
    title = "Equal ids in windows that overlap"
    if not lags:
        return figure(
            title, missing("Left out, as no two windows overlap: infer with a smaller window_stride.")
        )
    summary = code_summary(found, LAGS)
    rows: list[list[str]] = [["windows apart", "equal ids", "any two windows", "pairs"]]
    columns = (summary[name] for name in ("same_position", "chance_position", "pairs"))
    for lag, same, chance, pairs in zip(lags, *columns, strict=True):
        frames = lag * found.stride
        rows.append([f"{lag} ({frames} frame{'s' * (frames > 1)})", told(same), told(chance), told(pairs)])
    return figure(title, table(rows, title))


def _dead(ids: Ids) -> Markup | None:
    used = used_codes(code_histogram(ids.rows, ids.codebook_size))[0].numpy()
    edges = np.concatenate([[-1], used, [ids.codebook_size]])
    gaps = [(int(low) + 1, int(high) - 1) for low, high in zip(edges, edges[1:], strict=False)]
    gaps = [gap for gap in gaps if gap[1] >= gap[0]]
    if not gaps:
        return None
    shown = sorted(sorted(gaps, key=lambda gap: gap[0] - gap[1])[:MOST_RANGES])
    names = [str(low) if low == high else f"{low}\u2013{high}" for low, high in shown]
    more = "" if len(shown) == len(gaps) else f" The {len(shown)} longest of {len(gaps)} ranges."
    count = ids.codebook_size - len(used)
    return folded(f"The {count:,} codes that do not occur", paragraph(", ".join(names), more))
