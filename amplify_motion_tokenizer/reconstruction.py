"""Decoded velocities back to tracks, and how far they are from the true ones.

Letters: B windows, V views, T frames, t = T - 1 steps, N points, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from amplify_motion_tokenizer.data.inputs import ModelInput
from amplify_motion_tokenizer.geometry import integrate_velocities, rc_norm_from_labels
from amplify_motion_tokenizer.track_metrics import (
    amplify_track_metrics,
    delta_avg,
    point_error_px,
    zero_motion,
)
from amplify_motion_tokenizer.trackers.windows import SEEN


def predicted_tracks(answers: Tensor, inputs: ModelInput, class_grid: tuple[int, int]) -> Tensor:
    """Tracks of the classes that were answered, from the true first frame on.

    Args:
        answers: (B, [V, ]t or 1, N) int64, the most likely class of each element.
        inputs: what the model was given.
        class_grid: (rows, columns) of the classes.

    Returns:
        (B, [V, ]T, N, 2) float32, rc_norm, not clamped.
    """
    labels = answers.expand_as(inputs.labels)
    velocities = rc_norm_from_labels(labels, inputs.size_px, class_grid)
    return integrate_velocities(inputs.tracks_rc_norm[..., 0, :, :], velocities)


def track_metrics(predicted: Tensor, inputs: ModelInput) -> dict[str, float]:
    """AMPLIFY's metrics by their names, ``l2_px`` and ``delta_avg``.

    ``l2_px``, ``delta_avg`` and AMPLIFY's ``delta_auc`` come a second time with the suffix
    ``_no_motion``, of tracks that stay where they begin.

    Args:
        predicted: (B, [V, ]T, N, 2) rc_norm.
        inputs: the truth; all positions must be finite.
    """
    target, visible, size = inputs.tracks_rc_norm, inputs.visibility >= SEEN, inputs.size_px
    if target.ndim == 4:
        predicted, target, visible, size = (x[:, None] for x in (predicted, target, visible, size))
    metrics = amplify_track_metrics(predicted, target, size[:, 0, 0])
    for suffix, tracks in (("", predicted), ("_no_motion", zero_motion(target))):
        metrics[f"l2_px{suffix}"] = _mean(point_error_px(tracks, target, size, visible))
        metrics[f"delta_avg{suffix}"] = _mean(delta_avg(tracks, target, visible))
    still = amplify_track_metrics(zero_motion(target), target, size[:, 0, 0])
    metrics["delta_auc_no_motion"] = still["delta_auc"]
    return metrics


def known_windows(inputs: ModelInput, real: Tensor) -> Tensor:
    """(B,) bool: real windows of which all true positions and the frame's size are known and finite."""
    positions = inputs.tracks_rc_norm.isfinite().flatten(1).all(dim=1)
    return real & positions & inputs.size_px.isfinite().flatten(1).all(dim=1)


def _mean(values: Tensor) -> float:
    """Mean of the track sets where something counts; 0 where nothing does."""
    return float(torch.nan_to_num(values.nanmean(), nan=0.0))
