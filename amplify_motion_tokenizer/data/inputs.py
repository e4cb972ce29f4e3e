"""Tracks to the model's input: the one path that training, inference and export share.

Letters: B windows, V views, T frames, t = T - 1 steps, N points. ``[V, ]`` is there for kinds of input
with a view axis (amplify's) and not for others (keypoint's). A new kind is a line in ``INPUTS`` and one in
``config.input_kinds``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.input_kinds import FRAME, SIDES, WNORM, InputKind
from amplify_motion_tokenizer.data.camera import camera_apart
from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.data.masks import counting_mask
from amplify_motion_tokenizer.data.views import (
    ViewTracks,
    at_model_frames,
    in_model_time,
    known_steps,
)
from amplify_motion_tokenizer.geometry import (
    all_finite,
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
from amplify_motion_tokenizer.trackers.windows import SEEN


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
        return _as_images(self.first_frames)

    def to(self, device: torch.device) -> ModelInput:
        """The same on ``device``."""
        return ModelInput(*(tensor.to(device, non_blocking=True) for tensor in self))


class EncoderInput(NamedTuple):
    """A batch of windows as far as ``encode`` needs it, and no further: no labels and no masks."""

    velocities: Tensor
    """As in ``ModelInput``, bit for bit."""
    first_frames: Tensor
    """As in ``ModelInput``."""
    window_steps: Tensor
    """(B,) int64, the real steps of each window, which all its views have in common."""

    @property
    def images(self) -> Tensor | None:
        """As in ``ModelInput``."""
        return _as_images(self.first_frames)

    def to(self, device: torch.device) -> EncoderInput:
        """The same on ``device``."""
        return EncoderInput(*(tensor.to(device, non_blocking=True) for tensor in self))


def _as_images(first_frames: Tensor) -> Tensor | None:
    """First frames (B, [V, ]h, w, 3) uint8 as float32 in [0, 1]; None where there are none."""
    return first_frames.float() / 255 if first_frames.numel() else None


def encoder_input(windows: Sequence[ViewTracks] | Tensor, config: Config) -> EncoderInput:
    """What ``from_tracks`` or ``from_velocities`` gives of the same windows, as far as codes depend on it.

    Args:
        windows: tracks of each of ``data.views``; or stored velocities (B, t, N, 2), (x, y), W-normalised.
        config: how they become model input.

    Raises:
        ValueError: as ``from_tracks``.
    """
    if isinstance(windows, Tensor):
        count, length = windows.shape[:2]
        return EncoderInput(_known_velocities(windows), _no_images(count), _all_steps(count, length))
    kind, views = config.input_kind, windows
    ready = [in_model_time(camera_apart(view, config), config) for view in views]
    steps = torch.stack([known_steps(view) for view in ready]).amin(dim=0)
    parts = [(INPUTS[kind].velocities_of(view, config), _first_frames(view, config)) for view in ready]
    if not kind.view_axis:
        return EncoderInput(*parts[0], steps)
    velocities, frames = (torch.stack(column, dim=1) for column in zip(*parts, strict=True))
    return EncoderInput(velocities, frames, steps)


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
    ready = [in_model_time(camera_apart(view, config), config) for view in views]
    parts = [INPUTS[kind].of_view(view, config, truth) for view in ready]
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
    velocities = _known_velocities(velocities)
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


def _known_velocities(velocities: Tensor) -> Tensor:
    return velocities.nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)


def _all_steps(batch: int, steps: int) -> Tensor:
    """(B,) int64 of windows whose steps are all real."""
    return torch.full((batch,), steps)


def _wnorm_input(view: ViewTracks, config: Config, truth: bool) -> ModelInput:
    width = config.model.decoder_window_size
    tracks = at_model_frames(view.tracks_xy_px, config)
    velocities = tracks_to_velocities(tracks, view.size, config.data.reference_size, width)
    finite = finite_points(view.tracks_xy_px)
    return ModelInput(
        velocities,
        labels_from_wnorm(velocities, width),
        counting_mask(velocities, view.visibility, finite, known_steps(view), config),
        view.visibility if truth else _none_of(view.visibility),
        finite,
        _rc_norm(tracks, view, config) if truth else _none_of(tracks),
        _sizes_px(view, config),
        _no_images(len(velocities)),
        known_steps(view),
    )


def _wnorm_velocities(view: ViewTracks, config: Config) -> Tensor:
    tracks, width = at_model_frames(view.tracks_xy_px, config), config.model.decoder_window_size
    return tracks_to_velocities(tracks, view.size, config.data.reference_size, width)


def _frame_positions(view: ViewTracks, config: Config) -> Tensor:
    """AMPLIFY's way: NaN and infinities are 0, positions are clamped, then interpolated in time."""
    tracks = view.tracks_xy_px
    known = tracks if all_finite(tracks) else tracks.nan_to_num(0.0, 0.0, 0.0)
    return at_model_frames(_rc_norm(known, view, config), config)


def _frame_velocities(view: ViewTracks, config: Config) -> Tensor:
    return _frame_positions(view, config).diff(dim=-3)


def _frame_input(view: ViewTracks, config: Config, truth: bool) -> ModelInput:
    finite = finite_points(view.tracks_xy_px)
    size_px = _size_px(view.size, config)
    tracks_rc_norm = _frame_positions(view, config)
    velocities = tracks_rc_norm.diff(dim=-3)
    # The static filter judges the same unit for every model.
    velocities_wnorm = wnorm_from_rc_norm(velocities, size_px, config.model.decoder_window_size)
    return ModelInput(
        velocities,
        labels_from_rc_norm(tracks_rc_norm, size_px, config.class_grid),
        counting_mask(velocities_wnorm, view.visibility, finite, known_steps(view), config),
        view.visibility if truth else _none_of(view.visibility),
        finite,
        tracks_rc_norm if truth else _none_of(tracks_rc_norm),
        velocities.new_tensor(size_px).repeat(len(velocities), 1),
        _first_frames(view, config),
        known_steps(view),
    )


def _sides_moves_px(tracks: Tensor, view: ViewTracks, config: Config) -> Tensor:
    """Moves (B, t, N, 2) in reference pixels, not clamped; lost points move as their neighbours."""
    scaled = tracks if view.size is None else remap(tracks, view.size, config.data.reference_size)
    return fill_lost(scaled - scaled[:, :1], _seen(tracks, view)).diff(dim=1)


def _sides_velocities(view: ViewTracks, config: Config) -> Tensor:
    tracks = at_model_frames(view.tracks_xy_px, config)
    return _sides_moves_px(tracks, view, config) / config.shorter_side


def _sides_input(view: ViewTracks, config: Config, truth: bool) -> ModelInput:
    """Moves in shorter sides of the reference frame.

    Still points count as others do, whatever ``data.static_filter`` says: waves move them all too easily.
    """
    width = config.model.decoder_window_size
    tracks = at_model_frames(view.tracks_xy_px, config)
    finite = finite_points(view.tracks_xy_px)
    velocities_px = _sides_moves_px(tracks, view, config)
    velocities_wnorm = wnorm_from_px(velocities_px, width)
    return ModelInput(
        velocities_px / config.shorter_side,
        labels_from_wnorm(velocities_wnorm, width),
        counting_mask(None, view.visibility, finite, known_steps(view), config) & _seen(tracks, view)[:, 1:],
        view.visibility if truth else _none_of(view.visibility),
        finite,
        _rc_norm(tracks, view, config) if truth else _none_of(tracks),
        _sizes_px(view, config),
        _no_images(len(velocities_px)),
        known_steps(view),
    )


def _seen(tracks_xy_px: Tensor, view: ViewTracks) -> Tensor:
    """(B, T, N) bool: points of ``view`` that are seen, in the frame or less than half of one off it.

    What is farther is a tracker's slip, whatever its confidence, and would outweigh all other points.
    """
    seen = view.visibility >= SEEN
    if view.size is None:
        return seen & tracks_xy_px.isfinite().all(dim=-1)
    height, width = view.size
    # By axis: torch's all over an axis of two takes as long as the rest.
    off = (tracks_xy_px - tracks_xy_px.new_tensor([width, height]) / 2).abs()
    return seen & (off[..., 0] < width) & (off[..., 1] < height)


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
    velocities: Callable[[ViewTracks, Config], Tensor] | None = None
    """The velocities of ``of_view`` alone, for encoding; None makes all of the input for them."""

    def velocities_of(self, view: ViewTracks, config: Config) -> Tensor:
        """Velocities (B, t, N, 2) of one view, as ``of_view`` has them."""
        if self.velocities is None:
            return self.of_view(view, config, False).velocities
        return self.velocities(view, config)


INPUTS: dict[InputKind, InputWays] = {
    WNORM: InputWays(_wnorm_input, _beyond_wnorm, _px_of_wnorm, _wnorm_velocities),
    FRAME: InputWays(_frame_input, _beyond_frame, _px_of_frame, _frame_velocities),
    SIDES: InputWays(_sides_input, _beyond_sides, _px_of_sides, _sides_velocities),
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
    return torch.tensor(_size_px(view.size, config)).repeat(len(view.tracks_xy_px), 1)


def _rc_norm(tracks_xy_px: Tensor, view: ViewTracks, config: Config) -> Tensor:
    """Tracks (B, T, N, 2) of the view, at any frames, as rc_norm."""
    size_px = view.sizes_px if view.sizes_px is not None else _size_px(view.size, config)
    if view.size is not None:
        tracks_xy_px = remap(tracks_xy_px, view.size, config.data.reference_size)
    # Of two numbers a roll is the quickest way to turn the order.
    return rc_norm_from_px(tracks_xy_px.roll(1, dims=-1).float(), size_px)
