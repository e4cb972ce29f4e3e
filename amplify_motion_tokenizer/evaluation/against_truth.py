"""Scores tracks against true ones, both in folders of track files: what belongs together, and how near it is.

A video is one view of one clip. The windows that both files hold count, matched by their start
frames, and the points of a window are matched by where their queries lie in the frame, so that the
two files may differ in tracked size and in the order of the grid.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.evaluation.tapvid import NO_COUNTS, TrackCounts, count_tracks, no_motion
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.letterbox import Letterbox, content_norm_from_px, unpadded
from amplify_motion_tokenizer.trackers.windows import SEEN
from amplify_motion_tokenizer.tracks.find import find_recorded
from amplify_motion_tokenizer.tracks.record import view_letterbox
from amplify_motion_tokenizer.tracks.stored import RecordedClip

KIND_ATTRIBUTES = ("scene_kind", "motion_class")
"""Root attributes of a truth file that say what kind of clip it is; the first that is there counts."""
_RATE_TOLERANCE = 1e-4
"""Relative difference of two frame rates that are the same."""

_QUERY_TOLERANCE = 1e-3
"""Furthest that two queries of one point may lie apart, as a share of the frame's side."""
_BLOCK = 64
"""Windows scored at once."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoScore:
    """Counts of one view of one clip."""

    clip: str
    view: str
    kind: str
    """What the truth file says that it shows; the clip's name where it does not say."""
    windows: int
    """Windows that were scored."""
    true_windows: int
    """Windows that the truth holds; windows that the motion gate dropped are not scored."""
    tracks: TrackCounts
    no_motion: TrackCounts
    """Counts of the prediction that every point stays where it is."""


def evaluate_tracks(tracks: Path, truth: Path, min_visibility: float = SEEN) -> list[VideoScore]:
    """Scores of every clip of ``truth``, a folder of track files, which ``tracks`` must all hold.

    Distances are in pixels of the truth's frames. Other clips in ``tracks`` are left out, with one warning.

    Args:
        tracks: the folder of the track files to score.
        truth: the folder of the true track files.
        min_visibility: a point counts as visible from this confidence on, in either folder.

    Raises:
        TrackFileError: a file is damaged, misses, or does not belong to its truth; says what differs.
    """
    predicted, true = find_recorded(tracks), find_recorded(truth)
    missing = [clip for clip in true if clip not in predicted]
    if missing:
        raise TrackFileError(
            f"{tracks}: lacks {missing[0]}.hdf5 ({len(missing)} of the {len(true)} clips in {truth} are not "
            "there); track the missing clips too, or take their true tracks out of the folder"
        )
    extra = [clip for clip in predicted if clip not in true]
    if extra:
        log.warning("%s: holds %d clips without truth, such as %s; left out", tracks, len(extra), extra[0])
    with Progress(len(true), "clip") as progress:
        return [
            score
            for clip in progress.each(true)
            for score in evaluate_clip(clip, predicted[clip], true[clip], min_visibility)
        ]


def evaluate_clip(
    clip: str, predicted: RecordedClip, true: RecordedClip, min_visibility: float
) -> Iterator[VideoScore]:
    """Scores of each view of one clip.

    Raises:
        TrackFileError: the two files do not belong together.
    """
    _check_alike(predicted, true)
    rows, true_rows = _common_windows(predicted, true)
    kind = next((str(true.attributes[name]) for name in KIND_ATTRIBUTES if name in true.attributes), clip)
    for view, true_view in _paired_views(predicted, true):
        tracks, truth = _View(predicted, view), _View(true, true_view)
        counts = [
            _count(
                tracks, rows[first : first + _BLOCK], truth, true_rows[first : first + _BLOCK], min_visibility
            )
            for first in range(0, len(rows), _BLOCK)
        ]
        sums = [sum(column, start=NO_COUNTS) for column in zip(*counts, strict=True)] or [NO_COUNTS] * 2
        yield VideoScore(clip, truth.name, kind, len(rows), true.num_windows, *sums)


class _View:
    """One view of a track file, with positions as shares of the source frame.

    Attributes:
        name: of its group in the file.
        box: where the source frame lies in the tracked one.
    """

    def __init__(self, file: RecordedClip, index: int) -> None:
        self.path = file.path
        self.name = _view_name(file.views[index])
        self._file, self._index = file, index
        self.box = _letterbox(file, index)

    def read(
        self, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
        """Positions (R, T, N, 2), (x, y) from 0 to 1, visibility (R, T, N), and real steps (R,)."""
        with self._file.open() as file:
            tracks, visibility = self._file.read(file, rows.tolist())[self._index]
            valid_steps = self._file.valid_steps(file)[rows]
        return content_norm_from_px(tracks, self.box), visibility, valid_steps


def _count(
    tracks: _View,
    rows: NDArray[np.intp],
    truth: _View,
    true_rows: NDArray[np.intp],
    min_visibility: float,
) -> tuple[TrackCounts, TrackCounts]:
    xy, visibility, valid_steps = tracks.read(rows)
    true_xy, true_visibility, true_steps = truth.read(true_rows)
    valid_steps = np.minimum(valid_steps, true_steps)
    order = _same_points(xy[:, 0], true_xy[:, 0], tracks.path, truth.path)
    height, width = truth.box.content_size
    true_xy_px, visible = true_xy * (width, height), true_visibility >= min_visibility

    def count(xy_px: NDArray[Any], seen: NDArray[np.bool_]) -> TrackCounts:
        return count_tracks(xy_px, seen, true_xy_px, visible, (height, width), valid_steps)

    moved = count(xy[:, :, order] * (width, height), visibility[:, :, order] >= min_visibility)
    return moved, count(*no_motion(true_xy_px))


def _same_points(
    queries: NDArray[np.float64], true_queries: NDArray[np.float64], path: Path, true_path: Path
) -> NDArray[np.intp]:
    """For each true point the number of the point that has its query; both queries are (R, N, 2).

    Raises:
        TrackFileError: a point has no counterpart in some window.
    """
    order = _near(queries[0], true_queries[0])
    off = np.linalg.norm(queries[:, order] - true_queries, axis=-1)
    if len(np.unique(order)) < len(order) or not off.max() <= _QUERY_TOLERANCE:
        raise TrackFileError(
            f"{path}: its queries differ from the queries of {true_path}: one lies {off.max():.3g} of the "
            f"frame's side off, expected {_QUERY_TOLERANCE:g} at most; use one grid (data.grid_size) for both"
        )
    return order


def _near(points: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.intp]:
    """For each of ``targets`` (N, 2) the number of the nearest of ``points`` (N, 2) within the tolerance.

    Where no point is within it, the nearest of all is given. Points are looked for in cells as wide as the
    tolerance, as a dense grid has too many distances to hold.
    """
    best, order = np.full(len(targets), np.inf), np.zeros(len(targets), np.intp)
    cells = _cell(points)
    by_cell = np.argsort(cells, kind="stable")
    cells = cells[by_cell]
    for step in itertools.product((-_QUERY_TOLERANCE, 0, _QUERY_TOLERANCE), repeat=2):
        cell = _cell(targets + step)
        first, end = np.searchsorted(cells, cell), np.searchsorted(cells, cell, side="right")
        for place in range(int((end - first).max())):
            rows = np.flatnonzero(first + place < end)
            candidates = by_cell[first[rows] + place]
            apart = np.linalg.norm(points[candidates] - targets[rows], axis=-1)
            nearer = apart < best[rows]
            best[rows[nearer]], order[rows[nearer]] = apart[nearer], candidates[nearer]
    for row in np.flatnonzero(np.isinf(best)):
        order[row] = np.linalg.norm(points - targets[row], axis=-1).argmin()
    return order


def _cell(xy: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) number of the cell, as wide as the tolerance, that holds each point (N, 2)."""
    column, row = np.floor(np.nan_to_num(xy) / _QUERY_TOLERANCE).astype(np.int64).T
    return np.asarray(column * 2**31 + row)


def _check_alike(predicted: RecordedClip, true: RecordedClip) -> None:
    """Raises TrackFileError when T, N or the frame rates differ."""
    for what, found, expected, key in (
        ("frames in a window", predicted.length, true.length, "data.sequence_length"),
        ("points", predicted.num_points, true.num_points, "data.grid_size"),
    ):
        if found != expected:
            raise TrackFileError(
                f"{predicted.path}: has {found} {what}, expected {expected} as in {true.path}; "
                f"set {key} alike"
            )
    fps, true_fps = (float(file.attributes.get("fps", math.nan)) for file in (predicted, true))
    if abs(fps - true_fps) > _RATE_TOLERANCE * true_fps:  # not so where a file does not say
        raise TrackFileError(
            f"{predicted.path}: was tracked at {fps:g} frames per second, expected {true_fps:g} as in "
            f"{true.path}; set video.target_fps alike"
        )


def _common_windows(predicted: RecordedClip, true: RecordedClip) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the windows that both files hold, in either file; none where the gate dropped all.

    Raises:
        TrackFileError: they have windows, and none in common.
    """
    with predicted.open() as file, true.open() as true_file:
        starts, true_starts = predicted.starts(file), true.starts(true_file)
    common, rows, true_rows = np.intersect1d(starts, true_starts, return_indices=True)
    if not len(common) and len(starts):
        raise TrackFileError(
            f"{predicted.path}: its windows start at the frames {listed_starts(starts)}, none at a start of "
            f"the windows of {true.path}, {listed_starts(true_starts)}; set tracking.window_stride alike"
        )
    return rows, true_rows


def listed_starts(starts: Sequence[int] | NDArray[np.int64]) -> str:
    """The first few start frames, for messages."""
    shown = ", ".join(map(str, starts[:3]))
    return f"{shown} ..." if len(starts) > 3 else shown


def _paired_views(predicted: RecordedClip, true: RecordedClip) -> list[tuple[int, int]]:
    """Places of the views that belong together, by name; a lone view in both serves whatever its name.

    Raises:
        TrackFileError: the files hold other views.
    """
    names, true_names = ([_view_name(view) for view in file.views] for file in (predicted, true))
    if len(names) == len(true_names) == 1:
        return [(0, 0)]
    if set(names) != set(true_names):
        raise TrackFileError(
            f"{predicted.path}: holds the views {', '.join(names)}, expected {', '.join(true_names)} as in "
            f"{true.path}; set tracking.view_files alike"
        )
    return [(names.index(name), place) for place, name in enumerate(true_names)]


def _view_name(group: str) -> str:
    return PurePosixPath(group).name


def _letterbox(file: RecordedClip, index: int) -> Letterbox:
    size = file.sizes[index]
    if size is None:
        raise TrackFileError(
            f"{file.path}: does not say the size that was tracked; remake it with preprocess_videos.py"
        )
    height, width = file.attributes.get("source_height"), file.attributes.get("source_width")
    if height is None or width is None:  # AMPLIFY's writer
        return unpadded(size, size)
    source = int(height), int(width)
    try:
        return view_letterbox(file.view_attributes[index], source)
    except ValueError as error:
        raise TrackFileError(
            f"{file.path}: in the view {file.views[index]}, {error}; track its clip again"
        ) from None
