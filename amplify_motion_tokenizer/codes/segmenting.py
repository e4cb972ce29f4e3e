"""Cuts all clips of a set of codes, by either method, and draws how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amplify_motion_tokenizer.codes.change_points import (
    PENALTY,
    change_of_histograms,
    change_points,
    check_ruptures,
    histograms,
)
from amplify_motion_tokenizer.codes.contact_sheet import Pictures
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.motion_vectors import all_vectors, changes_within
from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.codes.segment_clusters import check_scipy, clusters_of
from amplify_motion_tokenizer.codes.segment_picture import (
    key_frames,
    thresholds_of,
    write_segment_picture,
)
from amplify_motion_tokenizer.codes.segmentation import Change, Rules, Segment, change_of, segments_of
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer
from amplify_motion_tokenizer.errors import UsageError


@dataclass(frozen=True)
class Segmented:
    """How clips were cut, by their names."""

    codes: MotionCodeSet
    segments: Mapping[str, Sequence[Segment]]
    """Of each clip; none of a clip without windows."""
    changes: Mapping[str, Change]
    """The curve of each clip."""
    clusters: Mapping[str, Sequence[int]]
    """Of each clip a number for each segment; empty where none were asked for."""
    thresholds: Sequence[float]
    """Values of the curve that decide; none by the method histograms."""

    def draw(self, folder: Path, videos: Pictures | None) -> None:
        """Writes ``<clip>.png`` of each clip that has windows, with key frames where ``videos`` are given.

        Raises:
            UsageError: a file cannot be written, or a clip's video is another.
            VideoError: a video cannot be read.
        """
        for name, segments in self.segments.items():
            if segments:
                frames = (
                    [] if videos is None else key_frames(videos, name, _middles(self.codes[name], segments))
                )
                write_segment_picture(
                    folder / f"{name}.png",
                    self.changes[name],
                    segments,
                    self.thresholds,
                    frames,
                    self.clusters.get(name, ()),
                )


def segmented(
    codes: MotionCodeSet,
    tokenizer: Tokenizer,
    method: str = "motion",
    least_change: float | None = None,
    lengths_s: tuple[float, float] = (Rules.shortest_s, Rules.longest_s),
    clusters: int = 0,
) -> Segmented:
    """Cuts every clip of ``codes``.

    Args:
        codes: of one run.
        tokenizer: that made them.
        method: "motion" compares what the halves of windows decode to; "histograms" finds change points of
            the digits' histograms.
        least_change: of a boundary; None: 0.8 by motion, ``PENALTY`` by histograms.
        lengths_s: seconds of a segment at least, and at most.
        clusters: kinds of segments to tell apart; 0: none.

    Raises:
        UsageError: codes do not say when their windows are, a library is missing, or there are fewer
            segments than ``clusters``.
    """
    of_motion = method == "motion"
    if not of_motion:
        check_ruptures()
    if clusters:
        check_scipy()
    default = Rules.least_change if of_motion else PENALTY
    rules = Rules(default if least_change is None else least_change, Rules.ends_below, *lengths_s)
    changes: dict[str, Change] = {}
    segments: dict[str, list[Segment]] = {}
    for name, clip in codes.items():
        if of_motion:
            changes[name] = change_of(clip, changes_within(clip, tokenizer))
            segments[name] = segments_of(clip, changes[name], rules)
        else:
            change_of(clip, np.zeros(len(clip)))  # refuses codes without times
            rows = histograms(clip, tokenizer)
            changes[name] = change_of_histograms(clip, rows)
            segments[name] = segments_of(clip, changes[name], rules, change_points(clip, rows, rules))
    kinds = clusters_of(codes, all_vectors(codes, tokenizer), segments, clusters) if clusters else {}
    return Segmented(codes, segments, changes, kinds, thresholds_of(rules) if of_motion else ())


def _middles(codes: MotionCodes, segments: Sequence[Segment]) -> list[int]:
    """Of each segment the frame in its middle, by its number in the source, as near as windows tell.

    Raises:
        UsageError: codes do not say which frames they are of.
    """
    seconds, frames = codes.seconds.numpy().ravel(), codes.source_frames.numpy().ravel()
    if (frames < 0).any():
        raise UsageError(
            f"the codes of {codes.clip} do not say which frames they are of; leave out --input, and pictures "
            "have no key frames"
        )
    order = np.argsort(seconds, kind="stable")
    middles = [(segment.start_s + segment.end_s) / 2 for segment in segments]
    return [round(float(at)) for at in np.interp(middles, seconds[order], frames[order])]
