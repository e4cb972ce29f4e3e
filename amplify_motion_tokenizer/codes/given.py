"""Arrays that a caller gives, checked and brought into one form: every fault is a ValueError that tells it.

Letters: B windows, T frames of a window, N points, F frames of a clip, H and W their height and width.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.geometry import query_grid

Array = Tensor | NDArray[Any]

_NORMALISED = 2.0
"""Where no position is above this, in a frame of more than a few pixels, positions are not pixels."""

_NEAR = 0.01
"""Mean distance from a grid of queries, in shorter sides of the frame, up to which points are on it."""


def given_array(name: str, value: Any, expected: str) -> NDArray[Any]:
    """``value`` as a numpy array of numbers, from a tensor of any device, an array or nested lists.

    Args:
        name: what the message calls it.
        value: what was given.
        expected: shape, unit and order that are expected, for the message.

    Raises:
        ValueError: it is none of these, or does not hold real numbers.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} cannot be read as an array ({type(value).__name__}); {expected}") from None
    if array.dtype.kind not in "biuf":
        found = "None" if value is None else f"a {type(value).__name__} of {array.dtype}"
        raise ValueError(f"{name}: found {found}; {expected}")
    return array


def given_tracks(tracks_xy_px: Any, visibility: Any, size: Any, config: Config) -> ViewTracks:
    """Windows of tracks of one view; a lone window gets the axis B.

    Warns where windows do not begin on the query grid, for which the codes are made.

    Args:
        tracks_xy_px: (B, T, N, 2) or (T, N, 2), (x, y) pixels of the frames; NaN where a point is lost.
        visibility: (B, T, N) or (T, N), confidence 0 to 1, or bool.
        size: (height, width) of the frames in pixels.
        config: of the tokenizer.

    Raises:
        ValueError: naming the shape, unit or order that was expected and what was found.
    """
    points = config.num_points
    expected = f"expected (B, T, {points}, 2) or (T, {points}, 2), (x, y) pixels"
    tracks = given_array("tracks_xy_px", tracks_xy_px, expected)
    seen = given_array(
        "visibility", visibility, f"expected (B, T, {points}) or (T, {points}), 0 to 1 or bool; ones where "
        "every point is seen"
    )  # fmt: skip
    height, width = given_size(size)
    if tracks.ndim not in (3, 4) or tracks.shape[-1] != 2 or tracks.shape[-2] != points:
        raise ValueError(f"tracks_xy_px are {tracks.shape}; {expected} of a {points}-point grid")
    if seen.shape != tracks.shape[:-1]:
        raise ValueError(f"visibility is {seen.shape}; expected {tracks.shape[:-1]}")
    if tracks.shape[-3] < 2:
        raise ValueError(f"tracks_xy_px have {tracks.shape[-3]} frame; expected 2 or more")
    positions, confidence = (
        torch.from_numpy(np.require(array, np.float32, ["C", "W"])) for array in (tracks, seen)
    )
    _check_confidence(confidence)
    if positions.ndim == 3:
        positions, confidence = positions[None], confidence[None]
    _check_places(positions, (height, width), config)
    return ViewTracks(positions, confidence, (height, width))


def given_size(size: Any) -> tuple[int, int]:
    """(height, width) in pixels.

    Raises:
        ValueError: it is not two whole numbers of at least 1.
    """
    try:
        height, width = size
        whole = all(isinstance(side, numbers.Integral) and int(side) >= 1 for side in (height, width))
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise ValueError(f"size is {size!r:.60}; expected (height, width) of the frames, in whole pixels")
    return int(height), int(width)


def given_fps(fps: Any) -> float:
    """Frames per second.

    Raises:
        ValueError: it is no number above 0.
    """
    real = isinstance(fps, numbers.Real) and not isinstance(fps, bool)
    if not real or not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps is {fps!r:.60}; expected frames per second, a number above 0")
    return float(fps)


def given_frames(frames: Any, name: str = "frames") -> list[NDArray[np.uint8]]:
    """(H, W, 3) frames of (F, H, W, 3) uint8, RGB, 0 to 255.

    Raises:
        ValueError: naming the expected and the found shape and type.
    """
    expected = "expected uint8 (F, H, W, 3), RGB, 0 to 255"
    array = given_array(name, frames, expected)
    found = f"{name} are {array.dtype} {array.shape}; {expected}"
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] == 3:
        raise ValueError(f"{found}: put the colours last, as frames.transpose(0, 2, 3, 1) does in numpy")
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(found)
    if array.dtype != np.uint8:
        top = float(np.nanmax(array)) if array.dtype.kind == "f" else math.inf
        raise ValueError(f"{found}: (frames * 255).round() where they are 0 to 1" if top <= 1 else found)
    return [np.ascontiguousarray(frame) for frame in array]


def given_ids(ids: Any, codebook_size: int, expected: str) -> Tensor:
    """int64 ids, on the CPU.

    Raises:
        ValueError: they are not whole numbers, or outside of the codebook.
    """
    array = given_array("code ids", ids, expected)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"code ids are {array.dtype}; {expected}, whole numbers")
    if array.size and not 0 <= array.min() <= array.max() < codebook_size:
        raise ValueError(f"code ids are {array.min()} to {array.max()}; expected 0 to {codebook_size - 1}")
    return torch.from_numpy(array.astype(np.int64))


def given_starts(starts: Sequence[int] | Array | None, windows: int, stride: int) -> Tensor:
    """(B,) int64 first frames of windows; ``stride`` apart where None is given.

    Raises:
        ValueError: they are not one whole number from 0 on for each window, each larger than the one before.
    """
    if starts is None:
        return torch.arange(windows) * stride
    expected = f"expected the first frame of each of the {windows} windows, ascending whole numbers"
    array = given_array("starts", starts, expected)
    if array.shape != (windows,) or array.dtype.kind not in "iu" or (array < 0).any():
        raise ValueError(f"starts are {array.dtype} {array.shape}; {expected}")
    if (np.diff(array.astype(np.int64)) <= 0).any():
        raise ValueError(f"starts do not ascend; {expected}")
    return torch.from_numpy(array.astype(np.int64))


def _check_confidence(visibility: Tensor) -> None:
    """Raises ValueError unless all that is not NaN is within 0 to 1."""
    if not visibility.numel():
        return
    low, high = map(float, visibility.aminmax())
    if math.isnan(low + high):
        low, high = map(float, visibility.nan_to_num(0.0).aminmax())
    if low < 0 or high > 1:
        raise ValueError(f"visibility is {low:g} to {high:g}; expected a confidence of 0 to 1, or bool")


def _check_places(tracks: Tensor, size: tuple[int, int], config: Config) -> None:
    """Raises ValueError unless tracks (B, T, N, 2) can be (x, y) pixels of frames of ``size``.

    Looks at where windows begin, which is the query grid: a pass over all positions would take as long as
    encoding them.
    """
    first = tracks[:, 0]
    known = first.isfinite().all(dim=-1)
    if len(tracks) and not known.any() and not tracks.isfinite().any():
        raise ValueError("tracks_xy_px hold no finite position; expected NaN for lost points alone")
    if not known.any():
        return
    places, frame = first[known], f"a frame of {size[0]} x {size[1]} (height x width)"
    if min(size) > 2 * _NORMALISED and places.abs().max() <= _NORMALISED:
        raise ValueError(
            f"tracks_xy_px reach {float(places.abs().max()):g} where windows begin; expected (x, y) pixels "
            f"of {frame}, not normalised positions"
        )
    grid = _grid(size, config).expand_as(first)[known]
    off = _distance(places, grid, size)
    if off <= _NEAR or isinstance(config.video.size, tuple):  # the grid of padded frames is not known here
        return
    order = config.tracking.query_order
    if _distance(places, grid.flip(-1), size) <= _NEAR:
        raise ValueError(
            f"tracks_xy_px begin on the query grid with x and y exchanged; expected (x, y) pixels of {frame} "
            f"and points in the order {order}"
        )
    if _distance(places, _grid(size[::-1], config).expand_as(first)[known], size) <= _NEAR:
        raise ValueError(
            f"tracks_xy_px begin on the query grid of a frame of {size[1]} x {size[0]}; expected size to be "
            f"(height, width), found {size}"
        )
    outside = (places < -0.5) | (places > places.new_tensor(size[::-1]) - 0.5)
    if outside.any(dim=-1).float().mean() > 0.5:
        raise ValueError(f"most of tracks_xy_px begin outside of {frame}; expected pixels of that frame")
    warnings.warn(
        f"tracks_xy_px begin {off:.1%} of the shorter side off the query grid ({order}), for which codes "
        "are made",
        stacklevel=5,
    )


def _grid(size: tuple[int, int], config: Config) -> Tensor:
    return torch.from_numpy(query_grid(config.tracking.query_order, config.data.grid_size, size))


def _distance(places: Tensor, grid: Tensor, size: tuple[int, int]) -> float:
    """Mean distance, in shorter sides of the frame."""
    return float((places - grid).norm(dim=-1).mean()) / min(size)
