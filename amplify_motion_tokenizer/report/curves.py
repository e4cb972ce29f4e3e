"""The section of a run's training curves."""

from __future__ import annotations

from typing import NamedTuple

from amplify_motion_tokenizer.report.axes import Axis
from amplify_motion_tokenizer.report.charts import Line, line_chart
from amplify_motion_tokenizer.report.events import Events
from amplify_motion_tokenizer.report.markup import Markup, join, missing, paragraph, tag


class _Curve(NamedTuple):
    tag: str
    name: str
    look: str
    dots: bool = False


class _Chart(NamedTuple):
    title: str
    about: str
    y: Axis
    curves: tuple[_Curve, ...]


CHARTS = (
    _Chart(
        "Loss",
        "Loss of training steps, and of held-out windows.",
        Axis("loss"),
        (
            _Curve("train/loss", "training, by step", "c0 faint"),
            _Curve("train_epoch/loss", "training, by epoch", "c0"),
            _Curve("val/loss", "held out", "c1", True),
        ),
    ),
    _Chart(
        "Point error",
        "Mean distance between decoded and true points of held-out windows, in reference pixels.",
        Axis("pixels", from_zero=True),
        (
            _Curve("val/l2_px", "held out", "c1", True),
            _Curve("val/l2_px_no_motion", "no motion", "plain dashed"),
        ),
    ),
    _Chart(
        "Accuracy of velocity classes",
        "Share of steps of points whose likeliest class is right.",
        Axis("share", from_zero=True),
        (
            _Curve("train_epoch/accuracy", "training", "c0"),
            _Curve("val/accuracy", "held out", "c1", True),
            _Curve("val/accuracy_no_motion", "no motion", "plain dashed"),
        ),
    ),
    _Chart(
        "Positions within a few pixels",
        "TAP-Vid's position accuracy of held-out windows, the mean over five distances.",
        Axis("delta avg", from_zero=True),
        (
            _Curve("val/delta_avg", "held out", "c1", True),
            _Curve("val/delta_avg_no_motion", "no motion", "plain dashed"),
        ),
    ),
    _Chart(
        "Codes in use",
        "How many different codes occur, and how many would be as varied if they were used alike.",
        Axis("codes", from_zero=True),
        (
            _Curve("train_epoch/unique_codes", "in use, training", "c0"),
            _Curve("val/unique_codes", "in use, held out", "c1", True),
            _Curve("train_epoch/perplexity", "perplexity, training", "c0 dotted"),
            _Curve("val/perplexity", "perplexity, held out", "c1 dotted"),
        ),
    ),
    _Chart(
        "Learning rate",
        "The learning rate of each step.",
        Axis("learning rate", from_zero=True),
        (_Curve("train/learning_rate", "learning rate", "c2"),),
    ),
)
"""The charts of a run, in their order; one of which nothing was logged is left out."""

_NOTHING = "Left out: the folder of the run holds no TensorBoard log of losses (tensorboard/)."


def training_curves(events: Events) -> Markup:
    """The charts of what a run has logged."""
    charts = []
    for chart in CHARTS:
        lines = [
            Line(each.name, events.scalars[each.tag], each.look, each.dots)
            for each in chart.curves
            if each.tag in events.scalars
        ]
        if lines:
            charts.append(line_chart(chart.title, chart.about, Axis("optimiser steps"), chart.y, lines))
    cut = paragraph(
        f"{', '.join(events.cut)} ends within a record, as where a run was killed; all before it is shown.",
        class_="note",
    )
    shown = tag("div", charts, class_="grid") if charts else missing(_NOTHING)
    return join(shown, cut if events.cut else None)
