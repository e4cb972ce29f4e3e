"""Writes the report of a training run, or of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from amplify_motion_tokenizer.codes.tokenizer import Tokenizer
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.files import check_target, write_text
from amplify_motion_tokenizer.report.charts import every
from amplify_motion_tokenizer.report.codebook import Ids, codebook_use, ids_of, logged_histogram
from amplify_motion_tokenizer.report.curves import training_curves
from amplify_motion_tokenizer.report.events import Events, read_events
from amplify_motion_tokenizer.report.given import Subject, open_subject
from amplify_motion_tokenizer.report.labels import motion_told
from amplify_motion_tokenizer.report.markup import Markup, join, missing, paragraph, tag
from amplify_motion_tokenizer.report.media import Budget
from amplify_motion_tokenizer.report.overview import headline, made_by, tiles
from amplify_motion_tokenizer.report.page import Section, page
from amplify_motion_tokenizer.report.pictures import reconstructions
from amplify_motion_tokenizer.report.rates import rates
from amplify_motion_tokenizer.report.timelines import timelines
from amplify_motion_tokenizer.tracks.stored import Clips

MOST_BYTES = 10_000_000
"""Of the page, whatever it is of."""
MOST_MEDIA = 7_000_000
"""Of its pictures and videos, as they stand in the page."""
MOST_WINDOWS = 1000
"""Windows of a run's tracks that are encoded, at most, spread evenly."""
CHUNK_WINDOWS = 64
HISTOGRAMS = ("val/code_usage", "train_epoch/code_usage", "train/code_usage")
"""Where a run logs how often ids occur, the most telling first."""


@dataclass(frozen=True)
class Request:
    """What to report of."""

    source: Path
    output: Path
    given: Path | None = None
    """Of codes their videos; of a run its tracks."""
    tracks: Path | None = None
    checkpoint: str | None = None
    clips: int = 6
    """Clips to show, at most."""
    overwrite: bool = False
    command: Sequence[str] = ()
    """The command line, which the page tells."""


def write_report(request: Request, now: datetime) -> int:
    """Writes the page, atomically, and returns its size in bytes.

    Args:
        request: what to report of.
        now: when the page is made, in UTC.

    Raises:
        UsageError: the output is there or cannot be written; the source is neither run nor codes, or damaged.
        CheckpointError: the tokenizer cannot be read.
        TrackFileError: tracks, or videos, are not what the codes were made of, or do not fit the tokenizer.
        VideoError: a video cannot be read.
    """
    _check_output(request)
    subject = open_subject(request.source, request.given, request.tracks, request.checkpoint)
    text = page(f"Motion tokenizer report: {subject.source.resolve().name}", *_content(subject, request, now))
    write_text(request.output, text)
    return len(text.encode("utf-8"))


def _check_output(request: Request) -> None:
    output = request.output
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output is {output}; expected the name of a page, such as report.html")
    if output.is_file() and not request.overwrite:
        raise UsageError(f"{output}: is there already; give --overwrite to replace it, or another --output")
    check_target(output)


def _content(subject: Subject, request: Request, now: datetime) -> tuple[Markup, list[Section]]:
    events = read_events(subject.source) if subject.is_run else Events()
    budget = Budget(MOST_MEDIA)
    ids = _ids(subject)
    sections = []
    if subject.codes is not None:
        clips = timelines(subject, subject.codes, request.clips, budget)
        sections.append(Section("clips", "Clips and their codes", clips))
    else:
        sections.append(Section("training", "Training", training_curves(events)))
    pictures = reconstructions(subject, events, request.clips, budget)
    sections += [
        Section("rate", "Rate and distortion", rates(subject)),
        Section("codebook", "Use of the codebook", _codebook(subject, ids, events)),
        Section("pictures", "Reconstruction", pictures),
        Section("motion", _motion_title(subject), motion_told(subject, ids, budget)),
        Section("about", "How it was made", made_by(subject, request.command, events, now)),
    ]
    head = [headline(subject), tiles(subject, ids, events)]
    if budget.refused:
        head.append(
            paragraph(
                f"{budget.refused} pictures or videos are left out, to keep the page below "
                f"{MOST_BYTES // 1_000_000} MB.",
                class_="note",
            )
        )
    return join(head), sections


def _motion_title(subject: Subject) -> str:
    classes = subject.tokenizer is None or subject.tokenizer.config.model.name in ("keypoint", "amplify")
    return "Label map" if classes else "What the ids stand for"


def _ids(subject: Subject) -> Ids | None:
    """The ids that the report tells of: the codes' own, or what a run's tokenizer makes of its tracks."""
    if subject.codes is not None:
        return ids_of(subject.codes)
    if subject.tokenizer is None or subject.clips is None:
        return None
    rows = _encoded(subject.tokenizer, subject.clips)
    config = subject.tokenizer.config
    of = f"{len(rows):,} windows of {subject.tracks}"
    return Ids(rows, config.codebook_size, config.model.fsq_levels, of) if len(rows) else None


@torch.no_grad()
def _encoded(tokenizer: Tokenizer, clips: Clips) -> torch.Tensor:
    """(S, d) ids of whole windows of tracks."""
    data = WindowDataset(clips, tokenizer.config)
    indices = every(range(len(data)), MOST_WINDOWS)
    found = []
    for first in range(0, len(indices), CHUNK_WINDOWS):
        inputs = data.batch(indices[first : first + CHUNK_WINDOWS]).inputs
        ids = tokenizer.tokenize(inputs.velocities, inputs.images).cpu()
        found.append(ids[inputs.window_steps == tokenizer.config.num_steps])
    return torch.cat(found)


def _codebook(subject: Subject, ids: Ids | None, events: Events) -> Markup:
    if ids is not None:
        return codebook_use(ids, subject.codes)
    if subject.codes is not None:
        return missing("Left out: there is no window without padding, of which codes tell too.")
    lacks = missing(subject.lacks("to make codes of, for more than training has logged"))
    logged = next((events.histograms[name] for name in HISTOGRAMS if name in events.histograms), None)
    return lacks if logged is None else join(lacks, tag("div", logged_histogram(logged), class_="grid"))
