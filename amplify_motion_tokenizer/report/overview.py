"""The head of the page: what it is of, its key numbers, and how it was made."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.config import Config, to_dict
from amplify_motion_tokenizer.files import yaml_text
from amplify_motion_tokenizer.models.torch_files import file_hash
from amplify_motion_tokenizer.report.axes import told
from amplify_motion_tokenizer.report.codebook import Ids
from amplify_motion_tokenizer.report.events import Events
from amplify_motion_tokenizer.report.given import Subject
from amplify_motion_tokenizer.report.markup import Content, Markup, folded, missing, tag
from amplify_motion_tokenizer.version import versions

MOST_LETTERS = 100_000
"""Of a text that is shown whole, at most."""


def headline(subject: Subject) -> Markup:
    """What the page is of, and its tokenizer."""
    what = "training run" if subject.is_run else "codes"
    model, name, digest = _tokenizer(subject)
    line = [f"{model} tokenizer {name}", tag("code", f" SHA-256 {digest[:12]}\u2026") if digest else None]
    return tag(
        "div",
        tag("p", f"Motion tokenizer report \u00b7 {what}", class_="kicker"),
        tag("h1", subject.source.resolve().name),
        tag("p", line, class_="lead"),
    )


def _tokenizer(subject: Subject) -> tuple[str, str, str | None]:
    """Model, file name and SHA-256 of the tokenizer; None where nothing says."""
    if subject.checkpoint is not None:
        path = subject.checkpoint.path
        return subject.checkpoint.config.model.name, path.name, file_hash(path)
    meta = subject.meta
    return str(meta["model"]), str(meta.get("checkpoint") or "(not named)"), meta.get("checkpoint_sha256")


def tiles(subject: Subject, ids: Ids | None, events: Events) -> Markup:
    """The key numbers."""
    facts = _of_run(subject, events) if subject.codes is None else _of_codes(subject.codes)
    if ids is not None:
        usage = ids.usage
        share = 100 * usage.unique / ids.codebook_size
        facts = [
            *facts,
            ("codes in use", told(float(usage.unique)), f"of {ids.codebook_size:,}, {told(share)} %"),
            (
                "perplexity",
                told(usage.perplexity),
                f"entropy {told(100 * usage.normalized_entropy)} %",
            ),
        ]
    shown = [
        tag("div", tag("dt", name), tag("dd", value, tag("small", note)), class_="tile")
        for name, value, note in facts
    ]
    return tag("dl", shown, class_="tiles")


def _of_codes(codes: MotionCodeSet) -> list[tuple[str, str, str]]:
    clips = list(codes.values())
    meta = clips[0].meta
    windows, count = sum(map(len, clips)), max((each.ids.shape[1] for each in clips), default=0)
    bits, length, fps = count * math.log2(meta["codebook_size"]), meta["tracked_length"], meta.get("fps")
    spans = [
        float(np.nanmax(each.seconds[:, 1].numpy())) for each in clips if len(each) and _has_seconds(each)
    ]
    covered = f"{told(sum(spans))} s covered" if spans else "seconds are not known"
    each_second = f"; end to end {told(bits * fps / length)} bits a second" if fps else ""
    moves = np.concatenate([each.motion_energy.numpy() for each in clips])
    moves = moves[np.isfinite(moves)]
    facts = [
        ("clips", f"{len(clips):,}", covered),
        ("windows", f"{windows:,}", f"{length} frames, stride {meta['window_stride']}"),
        ("bits a window", told(bits), f"{count} ids{each_second}"),
    ]
    if len(moves):
        median = told(240 * float(np.median(moves)))
        facts.append(("motion, median", f"{median} px", "a frame at 240 rows"))
    return facts


def _has_seconds(codes: Any) -> bool:
    return bool(np.isfinite(codes.seconds[:, 1].numpy()).any())


def _of_run(subject: Subject, events: Events) -> list[tuple[str, str, str]]:
    config = subject.config or Config()
    facts = []
    if subject.tokenizer is not None:
        weights = sum(parameter.numel() for parameter in subject.tokenizer.model.parameters())
        bits = subject.tokenizer.num_codes * math.log2(config.codebook_size)
        facts.append(("weights", f"{weights:,}", f"{config.model.name} model"))
        facts.append(
            ("bits a window", told(bits), f"{subject.tokenizer.num_codes} ids of {config.codebook_size:,}")
        )
    loss = [(value, step) for step, value in events.scalars.get("val/loss", []) if math.isfinite(value)]
    if loss:
        best, step = min(loss)
        facts.append(
            (
                "best held-out loss",
                told(best, 4),
                f"at step {step:,} of {events.scalars['val/loss'][-1][0]:,}",
            )
        )
    error, still = (events.scalars.get(name) for name in ("val/l2_px", "val/l2_px_no_motion"))
    if error and still:
        facts.append(
            ("point error, last", f"{told(error[-1][1])} px", f"no motion leaves {told(still[-1][1])} px")
        )
    return facts


def made_by(subject: Subject, command: Sequence[str], events: Events, now: datetime) -> Markup:
    """How source and page were made, and the whole config."""
    model, name, digest = _tokenizer(subject)
    found = subject.checkpoint
    made = found.versions if found is not None else {}
    facts: list[tuple[str, Content]] = [
        ("source", str(subject.source)),
        ("last changed", _date(subject.source)),
        ("tokenizer", f"{name}, {model}"),
        ("SHA-256", tag("code", digest) if digest else "not known"),
    ]
    if found is not None:
        facts.append(("tokenizer written", _date(found.path)))
    if events.seconds is not None:
        first, last = (utc(seconds) for seconds in events.seconds)
        facts.append(("trained", f"{first} to {last}"))
    facts += [
        ("tokenizer made with", _versions(made) if made else "not known"),
        ("codes made with", _versions(subject.meta.get("versions") or {}) if not subject.is_run else None),
        ("page made with", _versions(versions())),
        ("page made", f"{now:%Y-%m-%d %H:%M} UTC"),
        ("command", tag("code", shlex.join(command)[:MOST_LETTERS])),
    ]
    listed = [tag("div", tag("dt", key), tag("dd", value)) for key, value in facts if value]
    return tag("div", tag("dl", listed, class_="facts"), _config(subject), _meta(subject))


def _config(subject: Subject) -> Markup:
    if subject.config is None:
        return missing(subject.lacks(tokenizer="or config.yaml beside the codes, to tell the config"))
    config = subject.config
    told_short = [
        ("model", f"{config.model.name}, FSQ levels {' x '.join(map(str, config.model.fsq_levels))}"),
        (
            "window",
            f"{config.tracked_length} frames, a {config.data.grid_size} x {config.data.grid_size} grid",
        ),
        ("stride", told(config.tracking.window_stride)),
        (
            "rate",
            f"{told(config.video.target_fps)} frames a second" if config.video.target_fps else "as it is",
        ),
    ]
    listed = [tag("div", tag("dt", key), tag("dd", value)) for key, value in told_short]
    whole = _yaml(to_dict(config))
    return tag(
        "div", tag("h3", "Config"), tag("dl", listed, class_="facts"), folded("The whole config", whole)
    )


def _meta(subject: Subject) -> Markup | None:
    if subject.is_run:
        return None
    whole = _yaml({key: _plain(value) for key, value in subject.meta.items()})
    return folded("What the first clip's codes say of themselves", whole)


def _yaml(value: dict[str, Any]) -> Markup:
    text = yaml_text(value)
    rest = len(text) - MOST_LETTERS
    return tag("pre", text[:MOST_LETTERS], f"... ({rest:,} letters more)" if rest > 0 else None, tabindex="0")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _versions(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _date(path: Path) -> str:
    return utc(path.stat().st_mtime)


def utc(seconds: float) -> str:
    """A time since 1970 in words, to the minute."""
    try:
        return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):  # a damaged event file may name any time
        return "not known"
