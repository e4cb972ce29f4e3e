"""Tracks to the model's input: the one path that training, inference and export share.

Letters: B windows, V views, T frames, t = T - 1 steps, N points. ``[V, ]`` is there for models of
several views (amplify) and not for the keypoint model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.geometry import (
    beyond_rc_norm,
    beyond_wnorm,
    finite_points,
    labels_from_rc_norm,
    labels_from_wnorm,
    rc_norm_from_px,
    reference_scale,
    remap,
    tracks_to_velocities,
    wnorm_from_rc_norm,
)
from amplify_motion_tokenizer.interpolation import interpolate_time
from amplify_motion_tokenizer.losses import static_mask


class ViewTracks(NamedTuple):
    """Tracked windows of one view."""

    tracks_xy_px: Tensor
    """(B, T, N, 2), (x, y) pixels of the tracked size."""
    visibility: Tensor
    """(B, T, N), confidence 0..1."""
    size: tuple[int, int] | None
    """(height, width) that was tracked; None: the pixels are taken as those of the reference size."""
    first_frames: Tensor | None = None
    """(B, h, w, 3) uint8, RGB, each window's first frame; None where it is not kept or not needed."""


class ModelInput(NamedTuple):
    """A batch of windows as the model takes them."""

    velocities: Tensor
    """(B, [V, ]t, N, 2) float32: keypoint (x, y) W-normalised, amplify (row, col) of rc_norm."""
    labels: Tensor
    """(B, [V, ]t, N) int64, velocity classes."""
    mask: Tensor
    """(B, [V, ]t, N) bool, True where an element counts: finite, not static, visible enough."""
    visibility: Tensor
    """(B, [V, ]T, N) float32, confidence 0..1."""
    finite: Tensor
    """(B, [V, ]N) bool, False where the track holds NaN or infinity; its velocities are 0 there."""
    tracks_rc_norm: Tensor
    """(B, [V, ]T, N, 2) float32, what a reconstruction is held against; NaN where it is not known."""
    size_px: Tensor
    """(B, [V, ]2) float32, (height, width) in reference pixels of the frame that rc_norm refers to."""
    first_frames: Tensor
    """(B, [V, ]h, w, 3) uint8, RGB; (B, [V, ]0, 0, 3) for models that are not conditioned on images."""

    @property
    def images(self) -> Tensor | None:
        """What ``encode`` takes: first frames as float32 in [0, 1]; None for models without conditioning."""
        return self.first_frames.float() / 255 if self.first_frames.numel() else None

    def to(self, device: torch.device) -> ModelInput:
        """The same on ``device``."""
        return ModelInput(*(tensor.to(device, non_blocking=True) for tensor in self))


def from_tracks(views: Sequence[ViewTracks], config: Config) -> ModelInput:
    """Model input of tracked windows, one entry of ``views`` for each of ``data.views``.

    Raises:
        ValueError: the model is conditioned on images, and a view comes without first frames.
    """
    parts = [INPUTS[config.model.name](_resampled(view, config), config) for view in views]
    if config.model.name == "keypoint":
        return parts[0]
    return ModelInput(*(torch.stack(column, dim=1) for column in zip(*parts, strict=True)))


def from_velocities(velocities: Tensor, config: Config) -> ModelInput:
    """Keypoint input of stored velocities (B, t, N, 2), (x, y), W-normalised; all points visible."""
    finite = finite_points(velocities)
    batch, steps, points, _ = velocities.shape
    velocities = velocities.nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)
    visibility = torch.ones(batch, steps + 1, points)
    unknown = velocities.new_full((batch, steps + 1, points, 2), torch.nan)
    return ModelInput(
        velocities,
        labels_from_wnorm(velocities, config.model.decoder_window_size),
        _mask(velocities, visibility, finite, config),
        visibility,
        finite,
        unknown,
        velocities.new_full((batch, 2), torch.nan),
        _no_frames(batch),
    )


def _resampled(view: ViewTracks, config: Config) -> ViewTracks:
    """``view`` with visibility brought to the model's T frames; positions are the model's affair."""
    frames = config.data.sequence_length
    if view.visibility.shape[1] == frames:
        return view
    visibility = interpolate_time(view.visibility[..., None].expand(-1, -1, -1, 2), frames, "linear")[..., 0]
    return view._replace(visibility=visibility)


def _keypoint_input(view: ViewTracks, config: Config) -> ModelInput:
    data, width = config.data, config.model.decoder_window_size
    tracks = interpolate_time(view.tracks_xy_px, data.sequence_length, data.interpolation)
    velocities = tracks_to_velocities(tracks, view.size, data.reference_size, width)
    finite = finite_points(view.tracks_xy_px)
    tracks_rc_norm, size_px = _rc_norm(tracks, view.size, config)
    return ModelInput(
        velocities,
        labels_from_wnorm(velocities, width),
        _mask(velocities, view.visibility, finite, config),
        view.visibility,
        finite,
        tracks_rc_norm,
        size_px,
        _no_frames(len(velocities)),
    )


def _amplify_input(view: ViewTracks, config: Config) -> ModelInput:
    """AMPLIFY's way: NaN and infinities are 0, positions are clamped, then interpolated in time."""
    data = config.data
    finite = finite_points(view.tracks_xy_px)
    known = view.tracks_xy_px if finite.all() else view.tracks_xy_px.nan_to_num(0.0, 0.0, 0.0)
    tracks_rc_norm, size_px = _rc_norm(known, view.size, config)
    tracks_rc_norm = interpolate_time(tracks_rc_norm, data.sequence_length, data.interpolation)
    velocities = tracks_rc_norm.diff(dim=-3)
    size = tuple(size_px[0].tolist())
    # The static filter judges the same unit for every model.
    velocities_wnorm = wnorm_from_rc_norm(velocities, size, config.model.decoder_window_size)
    return ModelInput(
        velocities,
        labels_from_rc_norm(tracks_rc_norm, size, config.class_grid),
        _mask(velocities_wnorm, view.visibility, finite, config),
        view.visibility,
        finite,
        tracks_rc_norm,
        size_px,
        _first_frames(view, config),
    )


def beyond_window(inputs: ModelInput, config: Config) -> Tensor:
    """(B, [V, ]t, N) bool: moves as large as the window of classes or larger, whose labels are clamped."""
    if config.model.name == "keypoint":
        return beyond_wnorm(inputs.velocities)
    return beyond_rc_norm(inputs.velocities, inputs.size_px, config.class_grid)


INPUTS: dict[str, Callable[[ViewTracks, Config], ModelInput]] = {
    "keypoint": _keypoint_input,
    "amplify": _amplify_input,
}
"""Value of ``model.name`` to the input that the model takes of one view, without the axis V."""


def _first_frames(view: ViewTracks, config: Config) -> Tensor:
    if not config.conditioned:
        return _no_frames(len(view.tracks_xy_px))
    if view.first_frames is None:
        raise ValueError("the model is conditioned on images, but its windows come without first frames")
    return view.first_frames


def _no_frames(batch: int) -> Tensor:
    return torch.empty(batch, 0, 0, 3, dtype=torch.uint8)


def _rc_norm(tracks_xy_px: Tensor, size: tuple[int, int] | None, config: Config) -> tuple[Tensor, Tensor]:
    """Tracks as rc_norm, (B, T, N, 2), and the frame's size in reference pixels, (B, 2)."""
    reference = config.data.reference_size
    if size is not None:
        scale_x, scale_y = reference_scale(size, reference)
        size_px = (size[0] * scale_y, size[1] * scale_x)
        tracks_xy_px = remap(tracks_xy_px, size, reference)
    elif reference is None or isinstance(reference, dict):
        size_px = (torch.nan, torch.nan)  # nothing says how long both sides are
    else:
        size_px = (float(reference[0]), float(reference[1]))
    sizes = tracks_xy_px.new_tensor(size_px).expand(len(tracks_xy_px), 2)
    return rc_norm_from_px(tracks_xy_px.flip(-1).float(), size_px), sizes


def _mask(velocities_wnorm: Tensor, visibility: Tensor, finite: Tensor, config: Config) -> Tensor:
    """(B, t, N) bool from W-normalised velocities, visibility (B, T, N) and finite points (B, N)."""
    static, points = config.data.static_filter, finite
    if static.enable:
        # A point that is lost somewhere must not be one of the min_keep.
        known = velocities_wnorm if finite.all() else velocities_wnorm.where(finite[:, None, :, None], 0.0)
        points = finite & static_mask(known, static.metric, static.threshold, static.min_keep)
    visible = visibility >= config.loss.min_visibility
    steps = visible[:, 1:] & visible[:, :-1]
    enough = steps.float().mean(dim=(1, 2)) >= config.loss.min_visible_share
    return points[:, None, :] & steps & enough[:, None, None]
