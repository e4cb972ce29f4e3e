"""Random changes of training windows, made on their tracks: labels and masks then follow by themselves.

Every change is decided by (seed, epoch, window) alone, so it is the same in any worker or process and
after a resume. Points are moved before frames are taken: a mirror needs the query grid, which is in frame
0 of the tracked window. Letters: B windows, V views, H tracked frames, T frames of the model, N points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.inputs import ModelInput
from amplify_motion_tokenizer.data.views import ViewTracks, take_frames
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.tracks.stored import StoredClip

_NUMBERS = 6
"""Random numbers that a window takes before the numbers of its points."""


class Changes(NamedTuple):
    """What happens to each window of a batch."""

    mirror_xy: Tensor
    """(B, 2) bool: whether left and right, and whether top and bottom, change places."""
    speed: Tensor
    """(B,) float32, factor of every displacement."""
    frames: Tensor
    """(B, H or T) int64, the frames of the tracked window that are taken, in this order."""
    kept: Tensor
    """(B, V, N) bool, False for points that are left out."""


def draw_changes(windows: Sequence[int] | NDArray[np.int64], epoch: int, config: Config) -> Changes:
    """The changes of some windows in an epoch, as ``data.augmentation`` says.

    Args:
        windows: (B,) their indices in the data set.
        epoch: counted from 0.
        config: the whole config; ``training.seed`` is the seed.
    """
    own, points = config.data.augmentation, len(config.data.views) * config.num_points
    drawn = _NUMBERS + (points if own.point_dropout else 0)
    numbers = np.stack([_uniform(config.training.seed, epoch, int(window), drawn) for window in windows])
    low, high = own.scale
    frames = _frames(numbers[:, 3:6], config)
    kept = np.ones((len(numbers), points), bool)
    if own.point_dropout:
        kept = numbers[:, _NUMBERS:] >= own.point_dropout
    return Changes(
        torch.from_numpy(numbers[:, :2] < (own.flip_horizontal, own.flip_vertical)),
        # Half and twice the speed are alike likely.
        torch.from_numpy((low * (high / low) ** numbers[:, 2]).astype(np.float32)),
        torch.from_numpy(frames),
        torch.from_numpy(kept.reshape(len(kept), len(config.data.views), -1)),
    )


def _uniform(seed: int, epoch: int, window: int, count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) of one window: Philox has a stream of its own for every counter."""
    return np.random.Generator(np.random.Philox(key=(seed, epoch), counter=(0, 0, 0, window))).random(count)


def _frames(numbers: NDArray[np.float64], config: Config) -> NDArray[np.int64]:
    """Frames that are taken, from (B, 3) numbers that decide reversal, stride and start."""
    own, length = config.data.augmentation, config.tracked_length
    if own.temporal_stride is None:
        frames = np.arange(length) + np.zeros((len(numbers), 1), np.int64)
    else:
        low, high = own.temporal_stride
        stride = low + (numbers[:, 1] * (high - low + 1)).astype(np.int64)
        spare = length - 1 - (config.data.sequence_length - 1) * stride
        start = (numbers[:, 2] * (spare + 1)).astype(np.int64)
        frames = start[:, None] + stride[:, None] * np.arange(config.data.sequence_length)
    return np.where(numbers[:, :1] < own.reverse, frames[:, ::-1], frames)


def changed_view(view: ViewTracks, changes: Changes, config: Config) -> ViewTracks:
    """Windows of a view as ``changes`` have them; all views of a window change alike.

    Points that are left out are still there: ``drop_points`` takes them out of the model's input.
    """
    order, grid_size = config.tracking.query_order, config.data.grid_size
    moved = move_points(view, changes.mirror_xy, changes.speed, order, grid_size)
    frames, valid_steps = changes.frames, moved.valid_steps
    if valid_steps is not None:
        frames, valid_steps = real_first(frames, valid_steps)
    return take_frames(moved, frames)._replace(valid_steps=valid_steps)


def move_points(view: ViewTracks, mirror_xy: Tensor, speed: Tensor, order: str, grid_size: int) -> ViewTracks:
    """Windows as a mirror and another speed would show them, with every point still where it started.

    A mirror carries the track of a grid cell over to the cell that it mirrors. Displacements from frame 0
    change, positions in it do not: so no size is needed, points keep their cells, and the axis of the
    mirror is the grid's, half a tracked pixel from the image's. At another speed points may leave the frame;
    the models clamp them as they clamp tracks that did. (Labels of steps that the amplify model clamps at
    the frame's edge may be a pixel off the mirrored ones: its whole pixels end one before the frame does.)

    Args:
        view: (B, H, N, 2) tracks; frame 0 holds the query grid.
        mirror_xy: (B, 2) bool, as in ``Changes``; first frames are mirrored too.
        speed: (B,) factors of the displacements.
        order: of the query grid, as in ``query_grid``.
        grid_size: its side; N is its square.
    """
    across, down = mirror_xy[:, 0], mirror_xy[:, 1]
    points = mirrored_points(order, grid_size)[across.long(), down.long()]
    starts = view.tracks_xy_px[:, :1]
    moves = (view.tracks_xy_px - starts).take_along_dim(points[:, None, :, None], dim=2)
    factors = torch.where(mirror_xy, -1.0, 1.0) * speed[:, None]
    images = view.first_frames
    if images is not None:
        images = torch.where(across[:, None, None, None], images.flip(2), images)
        images = torch.where(down[:, None, None, None], images.flip(1), images)
    return view._replace(
        tracks_xy_px=starts + moves * factors[:, None, None, :],
        visibility=view.visibility.take_along_dim(points[:, None, :], dim=2),
        first_frames=images,
    )


def mirrored_points(order: str, grid_size: int) -> Tensor:
    """(2, 2, N) int64: ``[across, down, n]`` is the point of the cell that mirrors n's, 1 for a mirror."""
    col, row = query_grid(order, grid_size, (grid_size, grid_size)).astype(np.int64).T
    point_at = np.empty((grid_size, grid_size), np.int64)
    point_at[row, col] = np.arange(grid_size**2)
    last = grid_size - 1
    tables = [[point_at[r, c] for r in (row, last - row)] for c in (col, last - col)]
    return torch.from_numpy(np.array(tables))


def real_first(frames: Tensor, valid_steps: Tensor) -> tuple[Tensor, Tensor]:
    """The frames of padded windows that are taken, the real ones first, and the real steps between them.

    A window that is reversed begins with the last of its real frames, as a film that is shown backwards; its
    padding, too, repeats its last frame.

    Args:
        frames: (B, T) int64, evenly spaced frames of the tracked windows, ascending or descending.
        valid_steps: (B,) int64, real steps of the tracked windows.

    Returns:
        (B, T) int64 frames, and (B,) int64 real steps, 0 where no step between real frames is left.
    """
    real = frames <= valid_steps[:, None]
    skipped = real.int().argmax(dim=1)  # of a reversed window the padding, which comes first there
    steps = (real.sum(dim=1) - 1).clamp(min=0)
    order = skipped[:, None] + torch.arange(frames.shape[1]).minimum(steps[:, None])
    return frames.gather(1, order), steps


def drop_points(inputs: ModelInput, kept: Tensor) -> ModelInput:
    """Input in which points that are not ``kept``, (B, V, N) bool, do not move and do not count."""
    steps = kept.view_as(inputs.finite).unsqueeze(-2)
    return inputs._replace(
        velocities=torch.where(steps[..., None], inputs.velocities, 0.0), mask=inputs.mask & steps
    )


def check_augmentable(clips: Iterable[StoredClip], config: Config) -> None:
    """Raises TrackFileError where clips hold no positions, or mirrors would take their points for others.

    The order of the points is looked at in one clip: ``load_clips`` refuses clips that differ in it.
    """
    own, order, grid_size = config.data.augmentation, config.tracking.query_order, config.data.grid_size
    for clip in clips:
        if clip.stores == "velocities":
            raise TrackFileError(f"{clip.path}: data.augmentation needs positions; use track files")
        if clip.num_windows and (own.flip_horizontal or own.flip_vertical):
            with clip.open() as file:
                in_order = [is_grid(tracks[0, 0], order, grid_size) for tracks, _ in clip.read(file, [0])]
            if not all(in_order):
                raise TrackFileError(
                    f"{clip.path}: its points do not start on a grid in the order tracking.query_order = "
                    f"{order}, by which flips know the mirrored point; set the order that was tracked"
                )
            return


def is_grid(starts_xy_px: NDArray[np.float32], order: str, grid_size: int) -> bool:
    """Whether points (N, 2) lie as a query grid of that order does, each near its own place in the grid."""
    cells = query_grid(order, grid_size, (grid_size, grid_size)) - 0.5
    low, high = np.nanmin(starts_xy_px, axis=0), np.nanmax(starts_xy_px, axis=0)
    spacing = (high - low) / max(1, grid_size - 1)
    return not (np.abs(starts_xy_px - (low + cells * spacing)) > spacing / 2).any()
