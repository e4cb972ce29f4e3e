"""Probes of codes and of tracks, held against each other on the same windows and splits."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.probing.features import (
    Floats,
    Numbers,
    latent_width,
    of_codes,
    of_tracks,
    pca_coder,
    windows_of,
)
from amplify_motion_tokenizer.codes.probing.labels import ClipLabels
from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation.probes import (
    LEAST_GROUPS,
    Measure,
    Target,
    chance,
    probe,
    splits,
    unfit,
    usable,
)
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.tracks.stored import RecordedClip

logger = logging.getLogger(__name__)

CHANCE = "chance"


class Probed(NamedTuple):
    """One target, told by one kind of numbers, judged on clips or tasks that were not fitted on."""

    target: str
    by: str
    """What is kept apart: clip or task."""
    measure: Measure
    numbers: str
    """Name of what the probe read; CHANCE for nothing."""
    width: int
    """How many numbers of a window it read."""
    values: list[float]
    """The measure for each seed."""
    windows: int
    """Windows that are fitted or judged on."""
    groups: int
    """Clips or tasks that they are of."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 of one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


def probe_codes(
    codes: MotionCodeSet,
    tokenizer: Tokenizer,
    labels: Mapping[str, ClipLabels],
    tracks: Mapping[str, RecordedClip] | None = None,
    seeds: int = 5,
    summed: bool = False,
) -> list[Probed]:
    """Probes of all targets of the labels, from codes and, where they are given, from tracks.

    Args:
        codes: of one run.
        tokenizer: that made them.
        labels: by clip; clips without are left out, with a warning.
        tracks: that codes were made of, by clip.
        seeds: splits of the clips.
        summed: as in ``ClipLabels.targets``.

    Raises:
        UsageError: no clip has labels, or none of the targets can be probed.
        TrackFileError: tracks of a clip are missing, or are others than codes were made of.
    """
    clips = [each for name, each in codes.items() if name in labels and len(each)]
    if not clips:
        raise UsageError(
            f"{codes.path}: none of its clips, such as {next(iter(codes), 'none')}, has labels, which are of "
            f"{', '.join(list(labels)[:3]) or 'none'}"
        )
    if len(clips) < len(codes):
        left_out = len(codes) - len(clips)
        logger.warning("%d of %d clips have no labels or no windows; left out", left_out, len(codes))
    targets = _fit([*_targets(clips, labels, summed, by="clip"), *_targets(clips, labels, summed, by="task")])
    numbers = _numbers(clips, tokenizer, tracks)
    with Progress(len(targets), "target") as progress:
        return [found for each in progress.each(targets) for found in _probed(each, numbers, seeds)]


class _Wanted(NamedTuple):
    target: Target
    """Of the windows that count."""
    by: str
    rows: NDArray[np.bool_]
    """Which of all windows count."""


def _fit(targets: list[tuple[str, Target]]) -> list[_Wanted]:
    """The targets that can be probed; the others are told.

    Raises:
        UsageError: none can.
    """
    found, reasons = [], []
    for by, target in targets:
        rows = usable(target) & (target.groups >= 0)
        own = Target(target.name, target.values[rows], target.groups[rows])
        reason = unfit(own)
        if reason:
            reasons.append(f"the target {target.name} {reason}")
        else:
            found.append(_Wanted(own, by, rows))
    if not found:
        raise UsageError(f"there is nothing to probe: {reasons[0] if reasons else 'labels have no targets'}")
    for reason in reasons:
        logger.warning("left out: %s", reason)
    return found


def _numbers(
    clips: list[MotionCodes], tokenizer: Tokenizer, tracks: Mapping[str, RecordedClip] | None
) -> dict[str, Numbers]:
    width = latent_width(tokenizer)
    parts = [of_codes(each, tokenizer, width) for each in clips]
    if tracks is not None:
        missing = [each.clip for each in clips if each.clip not in tracks]
        if missing:
            raise TrackFileError(f"--tracks: lack {missing[0]}; give the tracks that the codes were made of")
        windows = [windows_of(tracks[each.clip], each) for each in clips]
        coder = pca_coder(tokenizer, windows[0])
        parts = [own | of_tracks(each, width, coder) for own, each in zip(parts, windows, strict=True)]
    found = {name: Numbers(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    fine = "raw velocities, fine"
    if fine in found:
        widest = found.pop(fine)
        components = min(width, widest.of_windows.shape[1])
        found |= {"raw velocities, PCA": Numbers(widest.of_windows, components), fine: widest}
    return found


def _targets(
    clips: list[MotionCodes], labels: Mapping[str, ClipLabels], summed: bool, by: str
) -> list[tuple[str, Target]]:
    """All targets, of windows grouped by clip or by task; none by task where there are too few to split."""
    names = [each.clip if by == "clip" else labels[each.clip].task or "" for each in clips]
    tasks = sorted(set(names) - {""})
    if by == "task" and len(tasks) < LEAST_GROUPS:
        if len(tasks) > 1:
            logger.warning("clips are of %d tasks; a split by task needs %d", len(tasks), LEAST_GROUPS)
        return []
    number = {name: place for place, name in enumerate(tasks)}
    groups = np.concatenate(
        [np.full(len(each), number.get(name, -1)) for name, each in zip(names, clips, strict=True)]
    )
    by_clip = [labels[each.clip].targets(each, summed) for each in clips]
    found = []
    for name in dict.fromkeys(name for each in by_clip for name in each):
        values = _joined(name, clips, by_clip)
        # A class that is of one task, as its name is, cannot be told of another task.
        if by == "clip" or values.dtype.kind != "U":
            found.append((by, Target(name, values, groups)))
    return found


def _joined(name: str, clips: list[MotionCodes], by_clip: list[dict[str, NDArray[Any]]]) -> NDArray[Any]:
    known = [each[name] for each in by_clip if name in each]
    first = known[0]
    if len({(each.dtype.kind, each.shape[1:]) for each in known}) > 1:
        raise UsageError(
            f"the target {name} is text or numbers, or of more or fewer numbers, from clip to clip; expected "
            "one kind"
        )
    unknown: Any = "" if first.dtype.kind == "U" else np.nan
    return np.concatenate(
        [
            own[name] if name in own else np.full((len(each), *first.shape[1:]), unknown)
            for own, each in zip(by_clip, clips, strict=True)
        ]
    )


def _probed(wanted: _Wanted, numbers: Mapping[str, Numbers], seeds: int) -> list[Probed]:
    own, by, rows = wanted
    parts, groups = splits(own, seeds), len(set(own.groups.tolist()))

    def found(name: str, width: int, values: list[float]) -> Probed:
        return Probed(own.name, by, own.measure, name, width, values, len(own.values), groups)

    made = [
        found(name, _width(each), probe(_rows(each.of_windows, rows), own, parts, each.components))
        for name, each in numbers.items()
    ]
    return [*made, found(CHANCE, 0, chance(own, parts))]


def _rows(numbers: Floats, rows: NDArray[np.bool_]) -> Floats:
    return np.asarray(numbers[rows], np.float32)


def _width(numbers: Numbers) -> int:
    return numbers.components or numbers.of_windows.shape[1]


def report(probed: list[Probed]) -> list[dict[str, Any]]:
    """The probes as JSON has them."""
    return [each._asdict() | {"mean": each.mean, "spread": each.spread} for each in probed]


def rows_of(probed: list[Probed]) -> list[list[str]]:
    """A table of the probes: a row for each kind of numbers, a column for each target and way to split."""
    columns = list(dict.fromkeys((each.target, each.by, each.measure) for each in probed))
    several = len({by for _, by, _ in columns}) > 1
    heads = [f"{name} ({measure}{f', by {by}' if several else ''})" for name, by, measure in columns]
    rows = [["a linear probe reads", "numbers", *heads]]
    for name in dict.fromkeys(each.numbers for each in probed):
        own = {(each.target, each.by, each.measure): each for each in probed if each.numbers == name}
        cells = [f"{own[column].mean:.3f} ± {own[column].spread:.3f}" for column in columns]
        rows.append([name, str(next(iter(own.values())).width), *cells])
    return rows
