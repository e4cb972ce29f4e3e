"""Tracks to the model's input: the one path that training, inference and export share.

Letters: B windows, T frames, t = T - 1 steps, N points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.geometry import finite_points, labels_from_wnorm, tracks_to_velocities
from amplify_motion_tokenizer.losses import static_mask


class ModelInput(NamedTuple):
    """A batch of windows as the keypoint model takes them."""

    velocities: Tensor
    """(B, t, N, 2) float32, (x, y), W-normalised pixels of the reference size."""
    labels: Tensor
    """(B, t, N) int64, velocity classes."""
    mask: Tensor
    """(B, N) bool, True for points that count in the loss: finite, and not static."""
    visibility: Tensor
    """(B, T, N) float32, confidence 0..1."""
    finite: Tensor
    """(B, N) bool, False where the track holds NaN or infinity; its velocities are 0 there."""


def from_tracks(
    tracks_xy_px: Tensor, visibility: Tensor, size: tuple[int, int] | None, config: Config
) -> ModelInput:
    """Model input of tracked windows.

    Args:
        tracks_xy_px: (B, T, N, 2), (x, y) pixels of the tracked size.
        visibility: (B, T, N), confidence 0..1.
        size: (height, width) that was tracked; None normalises by the reference size directly.
        config: reference size, W and the static filter.
    """
    velocities = tracks_to_velocities(
        tracks_xy_px, size, config.data.reference_size, config.model.decoder_window_size
    )
    return _assemble(velocities, visibility, finite_points(tracks_xy_px), config)


def from_velocities(velocities: Tensor, config: Config) -> ModelInput:
    """Model input of stored velocities (B, t, N, 2), (x, y), W-normalised; all points visible."""
    finite = finite_points(velocities)
    batch, steps, points, _ = velocities.shape
    velocities = velocities.nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)
    return _assemble(velocities, torch.ones(batch, steps + 1, points), finite, config)


def _assemble(velocities: Tensor, visibility: Tensor, finite: Tensor, config: Config) -> ModelInput:
    static = config.data.static_filter
    mask = finite
    if static.enable:
        mask = mask & static_mask(
            # A point that is lost somewhere must not be one of the min_keep.
            torch.where(finite[:, None, :, None], velocities, 0.0),
            static.metric,
            static.threshold,
            static.min_keep,
        )
    labels = labels_from_wnorm(velocities, config.model.decoder_window_size)
    return ModelInput(velocities, labels, mask, visibility, finite)
