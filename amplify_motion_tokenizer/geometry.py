"""Every conversion between coordinates: pixels, normalised positions, velocities and classes.

Suffixes: ``_xy_px`` is (x, y) in pixels of a stated frame, ``_rc_px`` is (row, col) in pixels,
``_rc_norm`` is (row, col) in AMPLIFY's [-1, 1] of the frame, and ``_xy_wnorm`` is an (x, y) velocity
divided by half of ``width - 1`` pixels, where ``width`` is W, the odd side of the label square. Sizes
are (height, width) of a frame in pixels. Letters: T frames, N points.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ReferenceSize = Sequence[int] | Mapping[str, int] | None
"""(height, width) in pixels, {"shorter": pixels} for one scale on both axes, or None for no rescaling."""


def query_grid(order: str, grid_size: int, size: Sequence[int]) -> NDArray[np.float32]:
    """The points that tracking starts from: centres of a grid_size x grid_size partition of a frame.

    Centres are n = -1 + 1/g ... 1 - 1/g in normalised coordinates and (n + 1) * side / 2 in pixels, as
    in AMPLIFY, but with each axis' own side, so that frames need not be square.

    Args:
        order: row_major, k = row * g + col, or uniform, AMPLIFY's k = col * g + row.
        grid_size: g, points on a side.
        size: (height, width) of the frame in pixels.

    Returns:
        (g * g, 2) float32, (x, y) pixels.

    Raises:
        ValueError: when the order is unknown or the grid empty.
    """
    if grid_size < 1:
        raise ValueError(f"grid_size is {grid_size}; expected at least 1")
    fast, slow = np.arange(grid_size**2) % grid_size, np.arange(grid_size**2) // grid_size
    if order == "row_major":
        col, row = fast, slow
    elif order == "uniform":
        col, row = slow, fast
    else:
        raise ValueError(f"order is {order!r}; expected 'row_major' or 'uniform'")
    height, width = size
    normalised = np.stack([col, row], axis=-1) * (2 / grid_size) + (1 / grid_size - 1)
    return np.asarray((normalised + 1) * np.array([width, height]) / 2, dtype=np.float32)


def reference_scale(size: Sequence[int], reference_size: ReferenceSize) -> tuple[float, float]:
    """(scale_x, scale_y) that turn pixels of a frame of ``size`` into pixels of the reference size.

    Args:
        size: (height, width) that was tracked, in pixels.
        reference_size: as in ``ReferenceSize``.

    Raises:
        ValueError: when a side is not positive or the reference has none of the forms.
    """
    height, width = size
    if reference_size is None:
        sides, scale_x, scale_y = [height, width], 1.0, 1.0
    elif isinstance(reference_size, Mapping):
        if list(reference_size) != ["shorter"]:
            raise ValueError(f"reference_size is {dict(reference_size)}; expected {{'shorter': pixels}}")
        sides = [height, width, reference_size["shorter"]]
        scale_x = scale_y = reference_size["shorter"] / max(min(height, width), 1)
    else:
        reference_height, reference_width = reference_size
        sides = [height, width, reference_height, reference_width]
        scale_x, scale_y = reference_width / max(width, 1), reference_height / max(height, 1)
    if min(sides) < 1:
        raise ValueError(f"size {tuple(size)} or reference_size {reference_size} has a side below 1 pixel")
    return scale_x, scale_y


def reference_scales(sizes: Tensor, reference_size: ReferenceSize) -> Tensor:
    """(B, 2) float32, ``reference_scale`` of each of the frames (B, 2) int64, (height, width) in pixels."""
    return torch.tensor([reference_scale(size, reference_size) for size in sizes.tolist()])


def remap(xy_px: Tensor, size: Sequence[int], reference_size: ReferenceSize) -> Tensor:
    """Rescales (..., 2) positions or velocities, (x, y) pixels of ``size``, to the reference size.

    This is the remap of AMPLIFY's training on tracks of several sizes: a plain scale about the origin.
    The result is float32, or float64 where the positions are.

    Raises:
        ValueError: as ``reference_scale``.
    """
    # Of a float type: in one of whole pixels the scales themselves would be cut to whole numbers.
    dtype = torch.promote_types(xy_px.dtype, torch.float32)
    return _by_axis(torch.mul, xy_px, xy_px.new_tensor(reference_scale(size, reference_size), dtype=dtype))


def raster_from_px(
    xy_px: NDArray[np.float32], size: tuple[int, int], raster_size: tuple[int, int]
) -> NDArray[np.float32]:
    """(..., 2) positions, (x, y) pixels of a frame of ``size``, on the same frame at ``raster_size``.

    On a raster, TAP-Vid's coordinates, (0, 0) is the upper left corner of the top-left pixel; in pixels it is
    that pixel's centre. Sizes are (height, width).
    """
    return np.asarray((xy_px + 0.5) * _ratio(raster_size, size), np.float32)


def px_from_raster(
    xy_raster: NDArray[np.float32], size: tuple[int, int], raster_size: tuple[int, int]
) -> NDArray[np.float32]:
    """(..., 2) positions, (x, y) on a raster of ``raster_size``, in pixels of the frame at ``size``.

    Undoes ``raster_from_px``.
    """
    return np.asarray(xy_raster * _ratio(size, raster_size) - 0.5, np.float32)


def wnorm_from_px(velocity_xy_px: Tensor, width: int, out: Tensor | None = None) -> Tensor:
    """(..., 2) velocities in reference pixels as W-normalised ones in [-1, 1], clamped; put in ``out``."""
    return torch.div(velocity_xy_px, _half(width), out=out).clamp_(-1, 1)


def px_from_wnorm(velocity_xy_wnorm: Tensor, width: int) -> Tensor:
    """(..., 2) W-normalised velocities in pixels of the reference size."""
    return velocity_xy_wnorm * _half(width)


def tracks_to_velocities(
    tracks_xy_px: Tensor, size: Sequence[int] | None, reference_size: ReferenceSize, width: int
) -> Tensor:
    """The model's input from point tracks: remap, difference along time, W-normalise.

    Args:
        tracks_xy_px: (..., T, N, 2), (x, y) pixels of the tracked frames.
        size: (height, width) of those frames; None when they already are of the reference size.
        reference_size: as in ``ReferenceSize``; unused when ``size`` is None.
        width: W.

    Returns:
        (..., T - 1, N, 2) float32 xy_wnorm in [-1, 1]. A step that starts or ends at a position that is
        not finite is 0; ``finite_points`` says which points have one.

    Raises:
        ValueError: when the shape is not (..., T, N, 2) with T of at least 2, or as ``reference_scale``.
    """
    if tracks_xy_px.ndim < 3 or tracks_xy_px.shape[-1] != 2 or tracks_xy_px.shape[-3] < 2:
        raise ValueError(f"tracks are {tuple(tracks_xy_px.shape)}; expected (..., T, N, 2) with T >= 2")
    velocities = reference_velocities(tracks_xy_px, size, reference_size)
    usable = None if all_finite(velocities) else velocities.isfinite().all(dim=-1, keepdim=True)
    wnorm_from_px(velocities, width, out=velocities)
    return velocities if usable is None else torch.where(usable, velocities, 0.0)


def reference_velocities(
    tracks_xy_px: Tensor, size: Sequence[int] | None, reference_size: ReferenceSize
) -> Tensor:
    """(..., T - 1, N, 2) float32 moves per step, (x, y) in pixels of the reference size, not clamped.

    Args as in ``tracks_to_velocities``; positions that are not finite give moves that are not.
    """
    positions = tracks_xy_px.float()
    if size is not None:
        positions = remap(positions, size, reference_size)
    return positions.diff(dim=-3)


def labels_from_wnorm(velocity_xy_wnorm: Tensor, width: int) -> Tensor:
    """Classes of velocities, as in the keypoint reproduction.

    Args:
        velocity_xy_wnorm: (..., 2), (x, y), W-normalised.
        width: W.

    Returns:
        (...) int64 in [0, W * W): y * W + x, where per axis c = round(v (W-1)/2 + (W-1)/2), half to
        even, clamped to [0, W - 1].
    """
    # In float32: half precision cannot hold a cell and its fraction, so ties would appear and vanish.
    cells = velocity_xy_wnorm.float() * _half(width)
    cells.add_(_half(width)).round_().clamp_(0, width - 1)
    return torch.add(cells[..., 0], cells[..., 1], alpha=width).long()


def beyond_wnorm(velocity_xy_wnorm: Tensor) -> Tensor:
    """(...) bool from (..., 2): True where W-normalising has clamped, at moves of (W-1)/2 px on an axis."""
    return (velocity_xy_wnorm.abs() >= 1).any(dim=-1)


def beyond_rc_norm(velocity_rc_norm: Tensor, size_px: Tensor, class_grid: Sequence[int]) -> Tensor:
    """True where AMPLIFY's velocities move by half the window of classes or more on an axis.

    Args:
        velocity_rc_norm: (..., t, N, 2).
        size_px: (..., 2), (height, width) of the frame in pixels.
        class_grid: (rows, cols) of the window of classes, both odd.

    Returns:
        (..., t, N) bool.
    """
    half_rows, half_cols = _half_grid(class_grid)
    moved_px = velocity_rc_norm.abs() * (size_px[..., None, None, :] / 2)
    return (moved_px[..., 0] >= half_rows) | (moved_px[..., 1] >= half_cols)


def center_label(class_grid: Sequence[int]) -> int:
    """The class of no motion in a grid of (rows, cols), both odd."""
    half_rows, half_cols = _half_grid(class_grid)
    return half_rows * class_grid[1] + half_cols


def px_from_labels(labels: Tensor, width: int) -> Tensor:
    """Class centres: (...) int64 labels as (..., 2) float32 velocities, (x, y) reference pixels."""
    cells = torch.stack([labels % width, labels.div(width, rounding_mode="floor")], dim=-1)
    return cells.float() - _half(width)


def rc_norm_from_px(positions_rc_px: Tensor, size: Sequence[float] | Tensor) -> Tensor:
    """AMPLIFY's normalised positions: (..., 2) (row, col) pixels of ``size`` to [-1, 1], clamped.

    Args:
        positions_rc_px: (..., 2).
        size: (height, width) in pixels; or (B, 2), one of each window of (B, T, N, 2).
    """
    if isinstance(size, Tensor):
        halves = size[:, None, None] / 2
        return ((positions_rc_px - halves) / halves).clamp_(-1, 1)
    half = positions_rc_px.new_tensor(tuple(size)) / 2
    centred = _by_axis(torch.sub, positions_rc_px, half)
    return _by_axis(Tensor.div_, centred, half).clamp_(-1, 1)


def px_from_rc_norm(positions_rc_norm: Tensor, size: Sequence[float]) -> Tensor:
    """(..., 2) (row, col) in AMPLIFY's [-1, 1] as pixels of ``size``; undoes ``rc_norm_from_px``."""
    half = positions_rc_norm.new_tensor(tuple(size)) / 2
    return _by_axis(Tensor.add_, _by_axis(torch.mul, positions_rc_norm, half), half)


def wnorm_from_rc_norm(velocity_rc_norm: Tensor, size: Sequence[float], width: int) -> Tensor:
    """(..., 2) velocities in rc_norm of ``size``, W-normalised; still (row, col)."""
    velocity_rc_px = _by_axis(torch.mul, velocity_rc_norm, velocity_rc_norm.new_tensor(tuple(size)) / 2)
    return wnorm_from_px(velocity_rc_px, width)


def labels_from_rc_norm(tracks_rc_norm: Tensor, size: Sequence[float], class_grid: Sequence[int]) -> Tensor:
    """AMPLIFY's classes of the steps of normalised tracks.

    Positions become whole pixels inside the frame (rounded half to even), and a step's class is its
    move in pixels, clamped to the window of classes: (d_row + rows // 2) * cols + d_col + cols // 2.

    Args:
        tracks_rc_norm: (..., T, N, 2) float, (row, col), AMPLIFY's [-1, 1]. Computed in float32.
        size: (height, width) of the frame in pixels, AMPLIFY's ``img_shape``.
        class_grid: (rows, cols) of the window of classes, both odd.

    Returns:
        (..., T - 1, N) int64 in [0, rows * cols).

    Raises:
        ValueError: when the shape is not (..., T, N, 2) with T of at least 2, or a side is even.
    """
    if tracks_rc_norm.ndim < 3 or tracks_rc_norm.shape[-1] != 2 or tracks_rc_norm.shape[-3] < 2:
        raise ValueError(f"tracks are {tuple(tracks_rc_norm.shape)}; expected (..., T, N, 2) with T >= 2")
    half_grid = tracks_rc_norm.new_tensor(_half_grid(class_grid), dtype=torch.float32)
    last_px = half_grid.new_tensor(tuple(size)) - 1
    positions_rc_px = px_from_rc_norm(tracks_rc_norm.float(), size)
    whole_rc_px = _by_axis(Tensor.clamp_max_, positions_rc_px.clamp_min_(0), last_px).round_()
    moves = _by_axis(Tensor.clamp_min_, whole_rc_px.diff(dim=-3), -half_grid)
    moves = _by_axis(Tensor.clamp_max_, moves, half_grid)
    classes = torch.add(moves[..., 1], moves[..., 0], alpha=class_grid[1])
    return classes.add_(center_label(class_grid)).long()


def rc_px_from_labels(labels: Tensor, class_grid: Sequence[int]) -> Tensor:
    """Class centres: (...) int64 AMPLIFY classes as (..., 2) float32 velocities, (row, col) pixels.

    Raises:
        ValueError: when a side of ``class_grid``, (rows, cols), is even.
    """
    half_rows, half_cols = _half_grid(class_grid)
    cols = class_grid[1]
    rows = labels.div(cols, rounding_mode="floor")
    return torch.stack([rows - half_rows, labels % cols - half_cols], dim=-1).float()


def rc_norm_from_labels(labels: Tensor, size: Sequence[float] | Tensor, class_grid: Sequence[int]) -> Tensor:
    """(...) AMPLIFY classes as (..., 2) float32 velocities, rc_norm of ``size``.

    Args:
        labels: int64 in [0, rows * cols).
        size: (height, width) of the frame in pixels; or a tensor (..., 2), one for each set of labels
            (..., t, N).
        class_grid: (rows, cols) of the window of classes, both odd.

    Raises:
        ValueError: when a side of ``class_grid`` is even.
    """
    velocity_rc_px = rc_px_from_labels(labels, class_grid)
    sizes = size[..., None, None, :] if isinstance(size, Tensor) else velocity_rc_px.new_tensor(tuple(size))
    return velocity_rc_px * (2 / sizes)


def integrate_velocities(first: Tensor, velocities: Tensor) -> Tensor:
    """Tracks from their first frame and the moves after it; nothing is clamped.

    Args:
        first: (..., N, 2), true positions in the first frame, in the unit of the velocities.
        velocities: (..., t, N, 2).

    Returns:
        (..., t + 1, N, 2); frame 0 is ``first``, frame k adds the first k velocities to it.
    """
    start = first.unsqueeze(-3)
    # Step by step, because CUDA has no deterministic cumsum.
    moves = torch.stack(list(itertools.accumulate(velocities.unbind(dim=-3))), dim=-3)
    return torch.cat([start, start + moves], dim=-3)


def _by_axis(operation: Callable[[Tensor, Tensor], Tensor], values: Tensor, pair: Tensor) -> Tensor:
    """``operation`` on (..., N, 2) and the two numbers of its axes, by whole rows of N points.

    Six times as fast as letting (2,) spread over the last axis; the numbers are the same. An operation in
    place changes ``values``.
    """
    if values.ndim == 1:
        return operation(values, pair)
    return operation(values.flatten(-2), pair.repeat(values.shape[-2])).view(values.shape)


def _ratio(size: tuple[int, int], other: tuple[int, int]) -> NDArray[np.float32]:
    """(x, y) scale from a frame of ``other`` to one of ``size``, both (height, width)."""
    return np.array([size[1] / other[1], size[0] / other[0]], np.float32)


def _half(width: int) -> float:
    return (width - 1) / 2


def _half_grid(class_grid: Sequence[int]) -> tuple[int, int]:
    rows, cols = class_grid
    if rows % 2 == 0 or cols % 2 == 0:
        # AMPLIFY's clamp to +-rows // 2 would give an even window one row more than it has.
        raise ValueError(f"class_grid is {rows} x {cols}; expected odd sides, with a class of no motion")
    return rows // 2, cols // 2


def inside(xy_px: NDArray[np.floating[Any]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which points (..., 2) lie on a frame of ``size`` (height, width), border pixels in full."""
    height, width = size
    x, y = xy_px[..., 0], xy_px[..., 1]
    return (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)


def all_finite(values: Tensor) -> bool:
    """Whether ``values`` hold neither NaN nor infinity; False too where their sum overflows.

    One pass over them, a quarter of what looking at each costs; a loader asks it of every batch.
    """
    return bool(values.sum().isfinite())


def finite_points(tracks_xy_px: Tensor) -> Tensor:
    """(..., N) bool from (..., T, N, 2): True where a point's position is finite in every frame."""
    if all_finite(tracks_xy_px):
        *lead, _, points, _ = tracks_xy_px.shape
        return torch.ones((*lead, points), dtype=torch.bool, device=tracks_xy_px.device)
    return tracks_xy_px.isfinite().all(dim=-1).all(dim=-2)
