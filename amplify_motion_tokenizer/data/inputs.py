"""Tracks to the model's input: the one path that training, inference and export share.

Letters: B windows, V views, T frames, t = T - 1 steps, N points. ``[V, ]`` is there for kinds of input
with a view axis (amplify's) and not for others (keypoint's). A new kind is a line in ``INPUTS`` and one in
``config.input_kinds``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.input_kinds import FRAME, SIDES, WNORM, InputKind
from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.data.interpolation import interpolate_time
from amplify_motion_tokenizer.data.masks import counting_mask
from amplify_motion_tokenizer.geometry import (
    beyond_rc_norm,
    beyond_wnorm,
    finite_points,
    labels_from_rc_norm,
    labels_from_wnorm,
    px_from_wnorm,
    rc_norm_from_px,
    reference_scale,
    remap,
    tracks_to_velocities,
    wnorm_from_px,
    wnorm_from_rc_norm,
)
from amplify_motion_tokenizer.trackers.windows import SEEN, WindowTracks


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
    valid_steps: Tensor | None = None
    """(B,) int64, how many of its T - 1 steps are real, the first ones; None: all of every window."""
    sizes_px: Tensor | None = None
    """(B, 2) float32, (height, width) of each window's own frame in reference pixels, which the tracks are in
    then, and ``size`` is None; None: ``size`` says it."""


class ModelInput(NamedTuple):
    """A batch of windows as the model takes them."""

    velocities: Tensor
    """(B, [V, ]t, N, 2) float32: of WNORM (x, y) W-normalised, of FRAME (row, col) of rc_norm."""
    labels: Tensor
    """(B, [V, ]t, N) int64, velocity classes."""
    mask: Tensor
    """(B, [V, ]t, N) bool, True where an element counts: finite, not static, visible enough, no padding."""
    visibility: Tensor
    """(B, [V, ]T, N) float32, confidence 0..1; T is 0 where only a training step is wanted."""
    finite: Tensor
    """(B, [V, ]N) bool, False where the track holds NaN or infinity; its velocities are 0 there."""
    tracks_rc_norm: Tensor
    """(B, [V, ]T, N, 2) float32, what a reconstruction is held against; NaN where it is not known, and
    T is 0 where only a training step is wanted."""
    size_px: Tensor
    """(B, [V, ]2) float32, (height, width) in reference pixels of the frame that rc_norm refers to."""
    first_frames: Tensor
    """(B, [V, ]h, w, 3) uint8, RGB; (B, [V, ]0, 0, 3) for models that are not conditioned on images."""
    valid_steps: Tensor
    """(B, [V, ]) int64, how many of the t steps are real, the first ones; in the rest, which is padding,
    points stay where they are."""

    @property
    def window_steps(self) -> Tensor:
        """(B,) int64, the real steps of each window, which all its views have in common."""
        return self.valid_steps.flatten(1).amin(dim=1) if self.valid_steps.ndim > 1 else self.valid_steps

    @property
    def real_steps(self) -> Tensor:
        """(B, [V, ]t) bool, False for steps that are padding."""
        return torch.arange(self.labels.shape[-2], device=self.labels.device) < self.valid_steps[..., None]

    @property
    def images(self) -> Tensor | None:
        """What ``encode`` takes: first frames as float32 in [0, 1]; None for models without conditioning."""
        return self.first_frames.float() / 255 if self.first_frames.numel() else None

    def to(self, device: torch.device) -> ModelInput:
        """The same on ``device``."""
        return ModelInput(*(tensor.to(device, non_blocking=True) for tensor in self))


def from_tracks(views: Sequence[ViewTracks], config: Config, truth: bool = True) -> ModelInput:
    """Model input of tracked windows, one entry of ``views`` for each of ``data.views``.

    Args:
        views: windows of each view.
        config: how they become model input.
        truth: False leaves out ``visibility`` and ``tracks_rc_norm``, half of all bytes, which only the
            metrics and pictures of a reconstruction need; the rest is the same.

    Raises:
        ValueError: the model is conditioned on images, and a view comes without first frames.
    """
    kind = config.input_kind
    parts = [INPUTS[kind].of_view(_resampled(_held(view), config), config, truth) for view in views]
    if not kind.view_axis:
        return parts[0]
    if len(parts) == 1:
        return ModelInput(*(column.unsqueeze(1) for column in parts[0]))
    return ModelInput(*(torch.stack(column, dim=1) for column in zip(*parts, strict=True)))


def from_velocities(velocities: Tensor, config: Config, truth: bool = True) -> ModelInput:
    """Input of kind WNORM, of stored velocities (B, t, N, 2), (x, y), W-normalised; all points visible.

    ``truth`` is as in ``from_tracks``; no positions are known.
    """
    finite = finite_points(velocities)
    batch, steps, points, _ = velocities.shape
    velocities = velocities.nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)
    visibility = torch.ones(batch, steps + 1, points)
    unknown = velocities.new_full((batch, steps + 1, points, 2), torch.nan)
    return ModelInput(
        velocities,
        labels_from_wnorm(velocities, config.model.decoder_window_size),
        counting_mask(velocities, visibility, finite, _all_steps(batch, steps), config),
        visibility if truth else _none_of(visibility),
        finite,
        unknown if truth else _none_of(unknown),
        velocities.new_full((batch, 2), torch.nan),
        _no_images(batch),
        _all_steps(batch, steps),
    )


def _all_steps(batch: int, steps: int) -> Tensor:
    """(B,) int64 of windows whose steps are all real."""
    return torch.full((batch,), steps)


def _held(view: ViewTracks) -> ViewTracks:
    """``view`` with its real steps counted, and points that stay as they are after the last of them.

    What a tracker makes of frames that repeat the last real one says nothing, lost points included.
    """
    batch, frames = view.visibility.shape[:2]
    if view.valid_steps is None:
        return view._replace(valid_steps=_all_steps(batch, frames - 1))
    if (view.valid_steps == frames - 1).all():
        return view
    return take_frames(view, torch.arange(frames).minimum(view.valid_steps[:, None]))


def take_frames(view: ViewTracks, frames: Tensor) -> ViewTracks:
    """Windows of the frames (B, T) of each, in that order: part of a window, every other frame, reversed.

    The grid of queries is in frame 0 of the tracked window, wherever that comes then. First frames and the
    count of real steps stay as they are.
    """
    return view._replace(
        tracks_xy_px=view.tracks_xy_px.take_along_dim(frames[:, :, None, None], dim=1),
        visibility=view.visibility.take_along_dim(frames[:, :, None], dim=1),
    )


def _resampled(view: ViewTracks, config: Config) -> ViewTracks:
    """``view`` with visibility and real steps at the model's T frames; positions are the model's affair.

    A step of the model is real where all of it lies within real steps of the tracked window.
    """
    frames, tracked = config.data.sequence_length, view.visibility.shape[1]
    if tracked == frames:
        return view
    visibility = interpolate_time(view.visibility[..., None].expand(-1, -1, -1, 2), frames, "linear")[..., 0]
    valid_steps = _known_steps(view) * (frames - 1) // (tracked - 1)
    return view._replace(visibility=visibility, valid_steps=valid_steps)


def _known_steps(view: ViewTracks) -> Tensor:
    """The real steps of a view that went through ``_held``."""
    assert view.valid_steps is not None
    return view.valid_steps


def _wnorm_input(view: ViewTracks, config: Config, truth: bool) -> ModelInput:
    data, width = config.data, config.model.decoder_window_size
    tracks = _at_model_frames(view.tracks_xy_px, config)
    velocities = tracks_to_velocities(tracks, view.size, data.reference_size, width)
    finite = finite_points(view.tracks_xy_px)
    return ModelInput(
        velocities,
        labels_from_wnorm(velocities, width),
        counting_mask(velocities, view.visibility, finite, _known_steps(view), config),
        view.visibility if truth else _none_of(view.visibility),
        finite,
        _rc_norm(tracks, view, config) if truth else _none_of(tracks),
        _sizes_px(view, config),
        _no_images(len(velocities)),
        _known_steps(view),
    )


def _frame_input(view: ViewTracks, config: Config, truth: bool) -> ModelInput:
    """AMPLIFY's way: NaN and infinities are 0, positions are clamped, then interpolated in time."""
    finite = finite_points(view.tracks_xy_px)
    known = view.tracks_xy_px if finite.all() else view.tracks_xy_px.nan_to_num(0.0, 0.0, 0.0)
    size_px = _size_px(view.size, config)
    tracks_rc_norm = _at_model_frames(_rc_norm(known, view, config), config)
    velocities = tracks_rc_norm.diff(dim=-3)
    # The static filter judges the same unit for every model.
    velocities_wnorm = wnorm_from_rc_norm(velocities, size_px, config.model.decoder_window_size)
    return ModelInput(
        velocities,
        labels_from_rc_norm(tracks_rc_norm, size_px, config.class_grid),
        counting_mask(velocities_wnorm, view.visibility, finite, _known_steps(view), config),
        view.visibility if truth else _none_of(view.visibility),
        finite,
        tracks_rc_norm if truth else _none_of(tracks_rc_norm),
        velocities.new_tensor(size_px).expand(len(velocities), 2),
        _first_frames(view, config),
        _known_steps(view),
    )


def _sides_input(view: ViewTracks, config: Config, truth: bool) -> ModelInput:
    """Moves in shorter sides of the reference frame, not clamped; lost points move as their neighbours.

    Still points count as others do, whatever ``data.static_filter`` says: waves move them all too easily.
    """
    width = config.model.decoder_window_size
    tracks = _at_model_frames(view.tracks_xy_px, config)
    finite = finite_points(view.tracks_xy_px)
    scaled = tracks if view.size is None else remap(tracks, view.size, config.data.reference_size)
    seen = (view.visibility >= SEEN) & _about_frame(tracks, view.size)
    displacements = fill_lost(scaled - scaled[:, :1], seen)
    velocities_px = displacements.diff(dim=1)
    velocities_wnorm = wnorm_from_px(velocities_px, width)
    return ModelInput(
        velocities_px / config.shorter_side,
        labels_from_wnorm(velocities_wnorm, width),
        counting_mask(None, view.visibility, finite, _known_steps(view), config) & seen[:, 1:],
        view.visibility if truth else _none_of(view.visibility),
        finite,
        _rc_norm(tracks, view, config) if truth else _none_of(tracks),
        _sizes_px(view, config),
        _no_images(len(velocities_px)),
        _known_steps(view),
    )


def _about_frame(tracks_xy_px: Tensor, size: tuple[int, int] | None) -> Tensor:
    """(B, T, N) bool: finite positions that are in the frame or less than half of one off it.

    What is farther is a tracker's slip, whatever its confidence, and would outweigh all other points.
    """
    if size is None:
        return tracks_xy_px.isfinite().all(dim=-1)
    sides = tracks_xy_px.new_tensor(size[::-1])
    return ((tracks_xy_px - sides / 2).abs() < sides).all(dim=-1)


def _at_model_frames(tracks: Tensor, config: Config) -> Tensor:
    """Tracks (B, H, N, 2) float32 at the model's T frames; themselves where H is T."""
    frames = config.data.sequence_length
    if tracks.shape[1] == frames:
        return tracks.float()
    return interpolate_time(tracks, frames, config.data.interpolation)


def beyond_window(inputs: ModelInput, config: Config) -> Tensor:
    """(B, [V, ]t, N) bool: moves as large as the window of classes or larger, whose labels are clamped."""
    return INPUTS[config.input_kind].beyond(inputs, config)


def _beyond_wnorm(inputs: ModelInput, _config: Config) -> Tensor:
    return beyond_wnorm(inputs.velocities)


def _beyond_sides(inputs: ModelInput, config: Config) -> Tensor:
    velocities_px = inputs.velocities * config.shorter_side
    return beyond_wnorm(wnorm_from_px(velocities_px, config.model.decoder_window_size))


def _beyond_frame(inputs: ModelInput, config: Config) -> Tensor:
    return beyond_rc_norm(inputs.velocities, inputs.size_px, config.class_grid)


def moves_px(velocities: Tensor, size: tuple[int, int], config: Config) -> Tensor:
    """Velocities (..., t, N, 2) as the model takes them, as (x, y) moves in pixels of a frame of ``size``."""
    scale = reference_scale(size, config.data.reference_size)
    return INPUTS[config.input_kind].to_px(velocities, config) / velocities.new_tensor(scale)


def _px_of_wnorm(velocities: Tensor, config: Config) -> Tensor:
    return px_from_wnorm(velocities, config.model.decoder_window_size)


def _px_of_sides(velocities: Tensor, config: Config) -> Tensor:
    return velocities * config.shorter_side


def _px_of_frame(velocities: Tensor, config: Config) -> Tensor:
    size = config.data.reference_size
    assert isinstance(size, tuple)  # a rule of the config for this kind of input
    return (velocities * (velocities.new_tensor(size) / 2)).flip(-1)


class InputWays(NamedTuple):
    """How input of one kind is made and read."""

    of_view: Callable[[ViewTracks, Config, bool], ModelInput]
    """From (view, config, truth) to the input that a model takes of one view, without the axis V."""
    beyond: Callable[[ModelInput, Config], Tensor]
    """``beyond_window`` of input of this kind."""
    to_px: Callable[[Tensor, Config], Tensor]
    """From velocities (..., t, N, 2) of input to (x, y) moves in pixels of the reference size."""


INPUTS: dict[InputKind, InputWays] = {
    WNORM: InputWays(_wnorm_input, _beyond_wnorm, _px_of_wnorm),
    FRAME: InputWays(_frame_input, _beyond_frame, _px_of_frame),
    SIDES: InputWays(_sides_input, _beyond_sides, _px_of_sides),
}
"""Each kind of input to how it is made."""


def _first_frames(view: ViewTracks, config: Config) -> Tensor:
    if not config.conditioned:
        return _no_images(len(view.tracks_xy_px))
    if view.first_frames is None:
        raise ValueError("the model is conditioned on images, but its windows come without first frames")
    return view.first_frames


def _none_of(values: Tensor) -> Tensor:
    """(B, 0, N, ...) for (B, T, N, ...); no part of it, which would keep all of it in memory."""
    return values.new_empty(len(values), 0, *values.shape[2:])


def _no_images(batch: int) -> Tensor:
    return torch.empty(batch, 0, 0, 3, dtype=torch.uint8)


def _size_px(size: tuple[int, int] | None, config: Config) -> tuple[float, float]:
    """(height, width) in reference pixels of frames of ``size``; NaN where nothing says it."""
    reference = config.data.reference_size
    if size is not None:
        scale_x, scale_y = reference_scale(size, reference)
        return size[0] * scale_y, size[1] * scale_x
    if reference is None or isinstance(reference, dict):
        return math.nan, math.nan
    return float(reference[0]), float(reference[1])


def _sizes_px(view: ViewTracks, config: Config) -> Tensor:
    """(B, 2) float32, ``_size_px`` of each window."""
    if view.sizes_px is not None:
        return view.sizes_px
    return torch.tensor(_size_px(view.size, config)).expand(len(view.tracks_xy_px), 2)


def _rc_norm(tracks_xy_px: Tensor, view: ViewTracks, config: Config) -> Tensor:
    """Tracks (B, T, N, 2) of the view, at any frames, as rc_norm."""
    size_px = view.sizes_px if view.sizes_px is not None else _size_px(view.size, config)
    if view.size is not None:
        tracks_xy_px = remap(tracks_xy_px, view.size, config.data.reference_size)
    # Of two numbers a roll is the quickest way to turn the order.
    return rc_norm_from_px(tracks_xy_px.roll(1, dims=-1).float(), size_px)


def stack_views(
    windows: Sequence[tuple[WindowTracks, ...]], sizes: Sequence[tuple[int, int]]
) -> list[ViewTracks]:
    """Windows of a ``TrackedClip`` as the batch, an entry for each view, that ``from_tracks`` takes."""
    return [
        ViewTracks(
            torch.from_numpy(np.stack([window.tracks_xy_px for window in column])),
            torch.from_numpy(np.stack([window.visibility for window in column])),
            size,
            _stack_frames(column),
            torch.tensor([window.valid_steps for window in column]),
        )
        for column, size in zip(zip(*windows, strict=True), sizes, strict=True)
    ]


def _stack_frames(windows: Sequence[WindowTracks]) -> Tensor | None:
    """(B, h, w, 3) uint8; None where no first frames are kept."""
    frames = [window.first_frame for window in windows if window.first_frame is not None]
    return torch.from_numpy(np.stack(frames)) if frames else None
