"""The picture of ``evaluate tokenizer``: bits of a window against the error that they leave."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.evaluation.tokenizers import NO_MOTION, PLAIN_BITS, Row, Section
from amplify_motion_tokenizer.files import atomic_path

WIDTH_PX = 900
"""Width of the picture in pixels."""

_DPI = 100
_PANEL_INCHES = 3.9
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of tokenizers; told apart by people of any colour vision (Okabe and Ito)."""
_MARKERS = "osD^vP"
_GREY = "#777777"
_DASHES = ("--", ":", "-.")


def check_drawable() -> None:
    """Raises UsageError where matplotlib is not installed."""
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise UsageError(
            "--picture needs matplotlib; install it with pip install matplotlib, or leave --picture out"
        ) from None


def draw_rates(path: Path, sections: Sequence[Section]) -> None:
    """Writes a PNG with a panel for each source, one line a tokenizer, plain coders thin and grey.

    Both axes are logarithmic. A tokenizer of which the first ids are a code is a line, others are points;
    hollow points are tracks of the most likely class.

    Args:
        path: of the PNG.
        sections: from ``evaluate_tokenizers``.

    Raises:
        UsageError: matplotlib is not installed, or ``path`` cannot be written.
    """
    check_drawable()
    figures = importlib.import_module("matplotlib.figure")
    names = list(dict.fromkeys(section.source.name for section in sections))
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    size = WIDTH_PX / _DPI, rows * _PANEL_INCHES + 0.7
    figure = figures.Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor="white")
    limits = _limits(row for section in sections for row in section.rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    tokenizers = list(
        dict.fromkeys(row.name for section in sections for row in section.rows if not row.plain)
    )
    for panel, name in zip(panels, names, strict=False):
        own = [section for section in sections if section.source.name == name]
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_ylim(*limits)
        _draw_panel(panel, own, tokenizers)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    for panel in panels[::columns]:
        panel.set_ylabel("point error, % of no motion")
    handles: dict[str, Any] = {}
    for panel in panels:
        lines, labels = panel.get_legend_handles_labels()
        handles |= zip(labels, lines, strict=True)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _limits(rows: Iterable[Row]) -> tuple[float, float]:
    """The errors that are shown, from below what the best code leaves to above no motion and the worst."""
    errors = [100 * row.total.relative for row in rows if row.bits]
    errors = [error for error in errors if math.isfinite(error) and error > 0]
    return 0.8 * min([50.0, *errors]), 1.15 * max([100.0, *errors])


def _draw_panel(panel: Any, sections: Sequence[Section], tokenizers: Sequence[str]) -> None:
    """The coders of the sections of one source; plain ones of the largest part of the windows alone."""
    whole = max(sections, key=lambda section: (section.grid, section.frames))
    if math.isnan(whole.rows[0].total.relative):
        panel.text(0.5, 0.5, "nothing moves", transform=panel.transAxes, ha="center", color=_GREY)
    _draw_plain(panel, whole.rows)
    for section in sections:
        for row_of in _lines(row for row in section.rows if not row.plain):
            name = row_of[0].name
            place = tokenizers.index(name)
            hollow = {"markerfacecolor": "white"} if row_of[0].reading else {}
            panel.plot(
                [row.bits for row in row_of],
                [100 * row.total.relative for row in row_of],
                color=_COLOURS[place % len(_COLOURS)],
                marker=_MARKERS[place % len(_MARKERS)],
                markersize=6,
                linewidth=2,
                label=f"{name}, {row_of[0].reading}" if row_of[0].reading else name,
                zorder=3,
                **hollow,
            )
    _label_axes(panel, whole)


def _draw_plain(panel: Any, rows: Sequence[Row]) -> None:
    dashes = iter(_DASHES)
    for row_of in _lines(row for row in rows if row.plain):
        first = row_of[0]
        if first.bits is None or first.name == NO_MOTION:
            height = 100 * first.total.relative
            if not height > panel.get_ylim()[0]:  # below all codes, or no number where nothing moves
                continue
            panel.axhline(height, color=_GREY, linewidth=0.8)
            panel.annotate(
                first.name, (0.01, height), (0, 2), xycoords=("axes fraction", "data"),
                textcoords="offset points", fontsize=8, color=_GREY,
            )  # fmt: skip
            continue
        bits, errors = [row.bits for row in row_of], [100 * row.total.relative for row in row_of]
        panel.plot(bits, errors, next(dashes), color=_GREY, linewidth=1.2, label=first.name)


def _label_axes(panel: Any, section: Section) -> None:
    tickers = importlib.import_module("matplotlib.ticker")
    ids = [row.bits / PLAIN_BITS for row in section.rows if row.bits]
    powers = range(math.floor(math.log2(min(ids))), math.ceil(math.log2(max(ids))) + 1)
    ticks = [PLAIN_BITS * 2.0**power for power in powers]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.xaxis.set_minor_locator(tickers.NullLocator())
    panel.yaxis.set_major_locator(tickers.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    panel.yaxis.set_major_formatter(tickers.FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_locator(tickers.NullLocator())
    panel.set_xlabel("bits a window")
    place = "/".join(Path(section.source.name).parts[-2:])
    panel.set_title(f"{place}: {section.windows} windows", fontsize=10)
    panel.grid(True, color="#e6e6e6", linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _lines(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows that are one line of the picture, together."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.name, row.reading), []).append(row)
    return list(found.values())
