"""Tracked windows of a view as a batch, and what is done with their time before they become model input.

Letters: B windows, T frames, t = T - 1 steps, N points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.interpolation import interpolate_time
from amplify_motion_tokenizer.trackers.windows import WindowTracks


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
    camera: Tensor | None = None
    """(B, T, 3, 3) float64, maps of pixels of frame 0 to each frame by which the camera's motion was taken
    out of the tracks (``data.camera``), NaN where it is not known; None: the tracks hold it."""


def stack_views(
    windows: Sequence[tuple[WindowTracks, ...]], sizes: Sequence[tuple[int, int] | None]
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


def take_frames(view: ViewTracks, frames: Tensor) -> ViewTracks:
    """Windows of the frames (B, T) of each, in that order: part of a window, every other frame, reversed.

    The grid of queries is in frame 0 of the tracked window, wherever that comes then. First frames and the
    count of real steps stay as they are.
    """
    return view._replace(
        tracks_xy_px=view.tracks_xy_px.take_along_dim(frames[:, :, None, None], dim=1),
        visibility=view.visibility.take_along_dim(frames[:, :, None], dim=1),
        camera=None if view.camera is None else view.camera.take_along_dim(frames[:, :, None, None], dim=1),
    )


def in_model_time(view: ViewTracks, config: Config) -> ViewTracks:
    """``view`` with its real steps counted, points held after them, and visibility at the model's T frames.

    Positions stay at the tracked frames: each kind of input resamples them in its own unit.
    """
    return _at_model_steps(_held_after_end(view), config)


def _held_after_end(view: ViewTracks) -> ViewTracks:
    """``view`` with its real steps counted, and points that stay as they are after the last of them.

    What a tracker makes of frames that repeat the last real one says nothing, lost points included.
    """
    batch, frames = view.visibility.shape[:2]
    if view.valid_steps is None:
        return view._replace(valid_steps=torch.full((batch,), frames - 1))
    if (view.valid_steps == frames - 1).all():
        return view
    return take_frames(view, torch.arange(frames).minimum(view.valid_steps[:, None]))


def _at_model_steps(view: ViewTracks, config: Config) -> ViewTracks:
    """``view`` with visibility and real steps at the model's T frames; positions are the model's affair.

    A step of the model is real where all of it lies within real steps of the tracked window.
    """
    frames, tracked = config.data.sequence_length, view.visibility.shape[1]
    if tracked == frames:
        return view
    visibility = interpolate_time(view.visibility[..., None].expand(-1, -1, -1, 2), frames, "linear")[..., 0]
    valid_steps = known_steps(view) * (frames - 1) // (tracked - 1)
    return view._replace(visibility=visibility, valid_steps=valid_steps)


def known_steps(view: ViewTracks) -> Tensor:
    """The real steps of a view that went through ``in_model_time``."""
    assert view.valid_steps is not None
    return view.valid_steps


def at_model_frames(tracks: Tensor, config: Config) -> Tensor:
    """Tracks (B, H, N, 2) float32 at the model's T frames; themselves where H is T."""
    frames = config.data.sequence_length
    if tracks.shape[1] == frames:
        return tracks.float()
    return interpolate_time(tracks, frames, config.data.interpolation)
