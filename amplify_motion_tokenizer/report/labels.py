"""The section of what motion there is, in the terms of the tokenizer: velocity classes, or its modes."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import torch

from amplify_motion_tokenizer.evaluation.label_map import label_map
from amplify_motion_tokenizer.evaluation.motion_report import counted
from amplify_motion_tokenizer.evaluation.motion_statistics import measure
from amplify_motion_tokenizer.models.displacement.codec import CodecTokenizer
from amplify_motion_tokenizer.models.displacement.tokenizer import DisplacementTokenizer
from amplify_motion_tokenizer.report.axes import Axis, told
from amplify_motion_tokenizer.report.charts import bar_chart
from amplify_motion_tokenizer.report.codebook import Ids
from amplify_motion_tokenizer.report.given import Subject
from amplify_motion_tokenizer.report.markup import Markup, join, missing, paragraph, tag
from amplify_motion_tokenizer.report.media import Budget


def motion_told(subject: Subject, ids: Ids | None, budget: Budget) -> Markup:
    """The label map of a model of velocity classes; of the codec, how often each mode is chosen.

    Raises:
        TrackFileError: the tracks do not fit the tokenizer, or a file is bad.
    """
    tokenizer = subject.tokenizer
    if tokenizer is None:
        return missing(subject.lacks(tokenizer="to know what its ids stand for"))
    if isinstance(tokenizer.model, CodecTokenizer):
        return _modes(tokenizer.model, ids, subject)
    if isinstance(tokenizer.model, DisplacementTokenizer):
        return paragraph(
            f"A {tokenizer.config.model.name} tokenizer has no velocity classes, so there is no map of "
            "them: its ids tell a gain and amplitudes of waves of displacement, whose use the "
            "digits in the codebook's section show."
        )
    if subject.clips is None:
        return missing(subject.lacks("to count velocities in"))
    found = measure(subject.clips, tokenizer.config)
    picture = label_map(found.label_counts, counted(found, tokenizer.config))
    png = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    rows, columns = found.label_counts.shape
    height, width = picture.shape[:2]
    text = (
        f"{told(100 * found.center_share)} % of steps are in the class of no motion, "
        f"{told(100 * found.clamped_share)} % at the edge of the classes or beyond."
    )
    uri = budget.take("image/png", png)
    if uri is None:
        return missing("Left out, as the page is full.")
    image = tag(
        "img",
        src=uri,
        alt=f"How often each of {rows} x {columns} velocity classes occurs. {text}",
        width=width,
        height=height,
        class_="plate",
    )
    return join(paragraph(f"True velocities of {subject.tracks}. {text}"), image)


def _modes(model: CodecTokenizer, ids: Ids | None, subject: Subject) -> Markup:
    about = (
        "A codec has no velocity classes, so there is no map of them. The first id of a window names one "
        "of its modes instead, and a gain."
    )
    if ids is None:
        return join(
            paragraph(about), missing(subject.lacks("to make codes of") or "There is no whole window.")
        )
    digits = subject.tokenizer.digits(ids.rows)  # type: ignore[union-attr]
    counts = torch.bincount(model.modes_of(digits), minlength=len(model.modes) + len(model.objects))
    bars = [(mode - 0.5, mode + 0.5, f"mode {mode}", float(count)) for mode, count in enumerate(counts)]
    total = int(counts.sum())
    shares = _sentences(
        f"{kind}: {told(100 * float(counts[list(modes)].sum()) / total)} %"
        for kind, modes in model.kinds_of_modes.items()
    )
    chart = bar_chart(
        "Modes",
        f"How often each mode is chosen. {shares}",
        Axis("mode"),
        Axis("windows", from_zero=True),
        bars,
    )
    ranges = _sentences(f"{kind}: {_range(modes)}" for kind, modes in model.kinds_of_modes.items())
    return join(
        paragraph(f"{about} Of the {total:,} windows: {shares}."),
        tag("div", chart, class_="grid"),
        paragraph(f"Numbers of the modes: {ranges}.", class_="note"),
    )


def _range(modes: range) -> str:
    return f"{modes.start}" if len(modes) == 1 else f"{modes.start} to {modes.stop - 1}"


def _sentences(parts: Iterable[str]) -> str:
    return ", ".join(parts)
