"""Charts as SVG within the page: lines, bars and cells, each with the numbers that it shows as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from amplify_motion_tokenizer.report.axes import Axis, Scale, told
from amplify_motion_tokenizer.report.markup import Markup, folded, join, table, tag

T = TypeVar("T")

WIDTH, HEIGHT = 440, 250
"""Of a chart in its own units, which are pixels where a page is narrow."""
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
"""Room around the plot, for numbers and labels."""
MOST_POINTS = 300
"""Points of a line, at most; of more some are left out, evenly."""
MOST_ROWS = 60
"""Rows of a table of numbers, at most."""


class Line(NamedTuple):
    """What a line of a chart shows."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y), x ascending; a y that is no number interrupts the line."""
    look: str = "c0"
    """Classes of style.css: c0 to c5 for its colour, or plain; dashed, dotted."""
    dots: bool = False
    """Whether points are marked."""


def line_chart(title: str, description: str, x: Axis, y: Axis, lines: Sequence[Line]) -> Markup:
    """A figure of lines over one x axis; all x and y that are shown must be finite or NaN."""
    thinned = [line._replace(points=every(line.points, MOST_POINTS)) for line in lines]
    points = [point for line in thinned for point in line.points if math.isfinite(point[1])]
    across = Scale.of(x, [point[0] for point in points])
    up = Scale.of(y, [point[1] for point in points])
    drawn = [_line(line, across, up) for line in thinned]
    picture = _svg(title, description, [_grid(across, up, x.label, y.label), *drawn])
    rows = [[x.label, *(line.name for line in lines)], *_numbers(thinned)]
    return figure(title, picture, legend(lines), numbers(rows, title))


def bar_chart(
    title: str, description: str, x: Axis, y: Axis, bars: Sequence[tuple[float, float, str, float]]
) -> Markup:
    """A figure of bars.

    Args:
        title: above it.
        description: for those who do not see it.
        x: below the bars.
        y: how high they are.
        bars: (left end, right end, name, height).
    """
    across = Scale.of(Axis(x.label, ticks=x.ticks, ends=(bars[0][0], bars[-1][1])), [bars[0][0], bars[-1][1]])
    up = Scale.of(y, [0.0, *(bar[3] for bar in bars)])
    drawn, foot = [], _y(up, 0.0)
    for left, right, name, height in bars:
        if height <= 0:
            continue
        ends, top = (_x(across, left), _x(across, right)), _y(up, height)
        gap = min(1.0, (ends[1] - ends[0]) * 0.15)
        drawn.append(
            tag(
                "rect",
                tag("title", f"{name}: {told(height)}"),
                x=_short(ends[0] + gap / 2),
                y=_short(top),
                width=_short(ends[1] - ends[0] - gap),
                height=_short(max(0.6, foot - top)),
                class_="bar",
            )
        )
    picture = _svg(title, description, [_grid(across, up, x.label, y.label), *drawn])
    rows = [[x.label, y.label], *([name, told(height)] for _, _, name, height in bars)]
    return figure(title, picture, None, numbers(rows, title))


def cells(
    title: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]], digits: int = 2
) -> Markup:
    """A table whose cells are the stronger the nearer their number, 0 to 1, is to 1."""

    def cell(value: float) -> Markup:
        share = 0.0 if math.isnan(value) else value
        return tag("td", told(value, digits), style=f"--share:{share:.3f}", class_="number shaded")

    body = [tag("tr", tag("th", name, scope="row"), map(cell, values)) for name, values in rows]
    names = tag("tr", [tag("th", name, scope="col", class_="number" if name else None) for name in head])
    whole = tag("table", tag("thead", names), tag("tbody", body))
    return figure(
        title, tag("div", whole, class_="scroll cells", tabindex="0", role="region", aria_label=title)
    )


def figure(title: str, *content: Markup | None) -> Markup:
    """Content under a title."""
    return tag("figure", tag("figcaption", title), content)


def legend(lines: Sequence[Line]) -> Markup | None:
    """The names of lines beside what they look like; None where there is one alone."""
    if len(lines) < 2:
        return None
    swatch = [
        tag(
            "li",
            tag(
                "svg",
                tag("line", x1=0, y1=5, x2=22, y2=5, class_=f"line {line.look}"),
                viewBox="0 0 22 10",
                aria_hidden="true",
            ),
            line.name,
        )
        for line in lines
    ]
    return tag("ul", swatch, class_="legend")


def numbers(rows: Sequence[Sequence[str]], title: str) -> Markup:
    """The numbers of a chart, folded; of many rows some are left out, evenly."""
    shown = every(rows[1:], MOST_ROWS)
    some = "" if len(shown) == len(rows) - 1 else f" ({len(shown)} of {len(rows) - 1} rows)"
    return folded(f"Numbers{some}", table([rows[0], *shown], title))


def every(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of the items, spread evenly, the first and the last among them."""
    if len(items) <= most or most < 2:
        return list(items[:most])
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _svg(title: str, description: str, content: Sequence[Markup]) -> Markup:
    about = [tag("title", title), tag("desc", description)]
    return tag("svg", about, content, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="chart")


def _grid(across: Scale, up: Scale, x_label: str, y_label: str) -> Markup:
    """Lines at the ticks, their numbers, and what the axes tell."""
    bottom, right, parts = HEIGHT - BOTTOM, WIDTH - RIGHT, []
    for tick in up.ticks:
        y = _short(_y(up, tick))
        parts.append(tag("line", x1=LEFT, y1=y, x2=right, y2=y, class_="grid"))
        parts.append(tag("text", told(tick), x=LEFT - 6, y=y, dy="0.35em", class_="end"))
    for tick in across.ticks:
        x = _short(_x(across, tick))
        parts.append(tag("line", x1=x, y1=bottom, x2=x, y2=bottom + 4, class_="tick"))
        parts.append(tag("text", told(tick), x=x, y=bottom + 17, class_="middle"))
    parts.append(tag("line", x1=LEFT, y1=bottom, x2=right, y2=bottom, class_="tick"))
    parts.append(tag("text", x_label, x=(LEFT + right) // 2, y=HEIGHT - 4, class_="middle label"))
    middle = (TOP + bottom) // 2
    parts.append(tag("text", y_label, transform=f"translate(11 {middle}) rotate(-90)", class_="middle label"))
    return join(parts)


def _line(line: Line, across: Scale, up: Scale) -> Markup:
    steps, dots, drawing = [], [], False
    for x, y in line.points:
        place = up.place(y)
        if math.isnan(place) or math.isnan(across.place(x)):
            drawing = False
            continue
        at = f"{_short(_x(across, x))} {_short(_y(up, y))}"
        steps.append(f"{'L' if drawing else 'M'}{at}")
        drawing = True
        alone = len(line.points) == 1  # of which no line is seen
        if line.dots or alone:
            hint = tag("title", f"{line.name}: {told(x)}, {told(y)}")
            cx, cy = at.split(" ")
            dots.append(tag("circle", hint, cx=cx, cy=cy, r=3.5, class_=f"dot {line.look}"))
    return join(tag("path", d="".join(steps), class_=f"line {line.look}"), dots)


def _numbers(lines: Sequence[Line]) -> list[list[str]]:
    of_lines = [dict(line.points) for line in lines]
    places = sorted({x for points in of_lines for x in points})
    return [[told(x), *(told(points.get(x), 4) for points in of_lines)] for x in places]


def _x(across: Scale, value: float) -> float:
    return LEFT + across.place(value) * (WIDTH - LEFT - RIGHT)


def _y(up: Scale, value: float) -> float:
    return HEIGHT - BOTTOM - min(1.0, max(0.0, up.place(value))) * (HEIGHT - TOP - BOTTOM)


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
