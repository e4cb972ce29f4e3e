"""TAP-Vid's metrics of point tracks (Doersch et al. 2022), as tapnet's ``compute_tapvid_metrics`` has them.

Every window's queries lie in its first frame, which does not count (query mode ``first``). Distances
are those in a frame rescaled to 256 x 256. Counts of a video's windows are added up, its metrics follow
from the sums, and the number for a set of videos is the mean of their metrics.

Letters: S windows, T frames, N points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLDS_PX = (1, 2, 4, 8, 16)
"""A position is right when it is strictly nearer than this to the true one."""
SIDE_PX = 256
"""Height and width of the frame in which the thresholds are meant."""

Bools = NDArray[np.bool_]
Positions = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TrackCounts:
    """What is counted over points and frames of one video; add the counts of its parts."""

    positions: int
    """Positions that count: every point in every frame after the first."""
    visible: int
    """Positions that are visible in the truth."""
    visibility_right: int
    """Positions whose visibility is predicted right."""
    within: NDArray[np.int64]
    """(5,) truly visible positions that are within each of ``THRESHOLDS_PX``, seen or not."""
    true_positives: NDArray[np.int64]
    """(5,) the positions counted in ``within`` that are predicted visible."""
    false_positives: NDArray[np.int64]
    """(5,) positions predicted visible that are hidden in truth, or not within the threshold."""
    error_px: float
    """Sum of the distances of the truly visible positions, in pixels of the frame; NaN if one is."""

    def __add__(self, other: TrackCounts) -> TrackCounts:
        return TrackCounts(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def metrics(self) -> dict[str, float]:
        """The video's metrics; a metric of no position is NaN.

        ``delta_avg`` (<delta^x_avg), ``occlusion_accuracy`` and ``average_jaccard`` in [0, 1], each
        threshold's ``pts_within_k`` and ``jaccard_k``, and ``mean_error_px``.
        """
        within = [_share(count, self.visible) for count in self.within]
        # True positives and false negatives together are all that is truly visible.
        jaccard = [
            _share(right, self.visible + wrong)
            for right, wrong in zip(self.true_positives, self.false_positives, strict=True)
        ]
        return {
            "delta_avg": float(np.mean(within)),
            "occlusion_accuracy": _share(self.visibility_right, self.positions),
            "average_jaccard": float(np.mean(jaccard)),
            "mean_error_px": _share(self.error_px, self.visible),
            **{f"pts_within_{px}": value for px, value in zip(THRESHOLDS_PX, within, strict=True)},
            **{f"jaccard_{px}": value for px, value in zip(THRESHOLDS_PX, jaccard, strict=True)},
        }


_ZEROS = np.zeros(len(THRESHOLDS_PX), np.int64)
NO_COUNTS = TrackCounts(0, 0, 0, _ZEROS, _ZEROS, _ZEROS, 0.0)
"""Counts of no window at all, to which others are added."""


def count_tracks(
    predicted_xy_px: Positions,
    predicted_visible: Bools,
    true_xy_px: Positions,
    true_visible: Bools,
    size: Sequence[float],
    valid_steps: NDArray[np.int64] | None = None,
) -> TrackCounts:
    """Counts of one video, or of a part of its windows.

    Args:
        predicted_xy_px: (S, T, N, 2), (x, y) in pixels of the frame; one that is not finite is wrong.
        predicted_visible: (S, T, N).
        true_xy_px: (S, T, N, 2); hidden positions may be anything.
        true_visible: (S, T, N).
        size: (height, width) of the frame in pixels.
        valid_steps: (S,) how many frames after the first count, the first ones; None: all.

    Raises:
        ValueError: when the shapes differ.
    """
    shapes = [true_visible.shape, predicted_visible.shape, true_xy_px.shape[:-1], predicted_xy_px.shape[:-1]]
    if len(set(shapes)) > 1 or len(shapes[0]) != 3:
        raise ValueError(
            f"tracks {predicted_xy_px.shape} and {true_xy_px.shape} with visibility "
            f"{predicted_visible.shape} and {true_visible.shape}; expected (S, T, N, 2) and (S, T, N)"
        )
    steps = true_visible.shape[1] - 1
    counted = np.arange(steps) < (steps if valid_steps is None else valid_steps[:, None])
    counted = np.broadcast_to(counted, (len(true_visible), steps))
    off_px = predicted_xy_px[:, 1:][counted].astype(np.float64) - true_xy_px[:, 1:][counted]
    seen, visible = predicted_visible[:, 1:][counted], true_visible[:, 1:][counted]
    squared = np.square(off_px * (SIDE_PX / np.array(size[::-1]))).sum(axis=-1)
    within = [squared < px**2 for px in THRESHOLDS_PX]
    return TrackCounts(
        positions=visible.size,
        visible=int(visible.sum()),
        visibility_right=int((seen == visible).sum()),
        within=np.array([(near & visible).sum() for near in within]),
        true_positives=np.array([(near & visible & seen).sum() for near in within]),
        false_positives=np.array([(seen & ~(near & visible)).sum() for near in within]),
        error_px=float(np.linalg.norm(off_px[visible], axis=-1).sum()),
    )


def no_motion(true_xy_px: Positions) -> tuple[Positions, Bools]:
    """The prediction that all points (S, T, N, 2) stay where they are first, and in sight."""
    return np.broadcast_to(true_xy_px[:, :1], true_xy_px.shape), np.ones(true_xy_px.shape[:-1], bool)


def mean_metrics(videos: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each metric's mean over videos, those left out in which it is NaN; NaN when no video has it."""
    columns = {name: np.array([video[name] for video in videos]) for name in videos[0]}
    known = {name: values[~np.isnan(values)] for name, values in columns.items()}
    return {name: float(values.mean()) if len(values) else float("nan") for name, values in known.items()}


def _share(part: float, whole: int) -> float:
    return float(part) / whole if whole else float("nan")
