"""How much of the motion is left after coding: one evaluation for all coders.

Errors are in pixels at 240 rows, over points that are seen, after frame 0, which every coder is given.
Letters: B windows, T frames, N points.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from amplify_motion_tokenizer.evaluation.metrics import Mean
from amplify_motion_tokenizer.evaluation.reconstruction import delta_avg

ROWS = 240
"""Rows of the frame that errors are told for."""

SPEEDS_PX = {"still": 0.1, "slow": 1.0, "medium": 4.0, "fast": 10.0, "very fast": math.inf}
"""Class of a window to the mean move per step, in pixels at 240 rows, that it stays below."""

AUC_PX = range(1, 11)
"""Distances of ``delta_auc``, in pixels at 240 rows."""

_NOTHING = Mean(0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """What a coder leaves of the motion of some windows; the distortions of two sets of windows add up."""

    windows: int = 0
    """Number of windows."""
    error: Mean = _NOTHING
    """``error_px``, not yet divided; so are the next three."""
    moved: Mean = _NOTHING
    accuracy: Mean = _NOTHING
    near: Mean = _NOTHING
    by_speed: Mapping[str, Distortion] = field(default_factory=dict)
    """The distortion of the windows of each range of ``SPEEDS_PX`` that has windows."""

    @property
    def error_px(self) -> float:
        """Mean distance between decoded and true points, in pixels at 240 rows; NaN where nothing is seen."""
        return self.error.value

    @property
    def no_motion_px(self) -> float:
        """``error_px`` of the prediction that no point moves."""
        return self.moved.value

    @property
    def delta_avg(self) -> float:
        """TAP-Vid's position accuracy, over all points that are seen together."""
        return self.accuracy.value

    @property
    def delta_auc(self) -> float:
        """Mean over 1 to 10 pixels at 240 rows of the share of coordinates that are off by less."""
        return self.near.value

    @property
    def relative(self) -> float:
        """``error_px`` over ``no_motion_px``; NaN where nothing moves."""
        return self.error_px / self.no_motion_px if self.no_motion_px > 0 else math.nan

    def plus(self, other: Distortion) -> Distortion:
        """The distortion of both sets of windows together."""
        nothing = Distortion()
        speeds = [name for name in SPEEDS_PX if name in self.by_speed or name in other.by_speed]
        return Distortion(
            windows=self.windows + other.windows,
            error=self.error.plus(other.error),
            moved=self.moved.plus(other.moved),
            accuracy=self.accuracy.plus(other.accuracy),
            near=self.near.plus(other.near),
            by_speed={
                name: self.by_speed.get(name, nothing).plus(other.by_speed.get(name, nothing))
                for name in speeds
            },
        )


def distortion(true_xy_px: Tensor, decoded_xy_px: Tensor, visible: Tensor, sizes: Tensor) -> Distortion:
    """One evaluation for every coder.

    Args:
        true_xy_px: (B, T, N, 2), (x, y) pixels of the frames; where a point is not seen, anything.
        decoded_xy_px: the same shape; frame 0 is not judged.
        visible: (B, T, N) bool, true points that count.
        sizes: (B, 2), (height, width) of each window's frames in pixels.

    Raises:
        ValueError: shapes do not fit together.
    """
    shape = tuple(true_xy_px.shape)
    if len(shape) != 4 or shape[-1] != 2 or tuple(decoded_xy_px.shape) != shape:
        raise ValueError(
            f"tracks are {shape} and {tuple(decoded_xy_px.shape)}; expected the same (B, T, N, 2)"
        )
    if tuple(visible.shape) != shape[:3] or tuple(sizes.shape) != (shape[0], 2):
        found = f"{tuple(visible.shape)} and {tuple(sizes.shape)}"
        raise ValueError(f"visible and sizes are {found}; expected {shape[:3]} and ({shape[0]}, 2)")
    true = torch.where(visible[..., None], true_xy_px, decoded_xy_px).float()
    judged = _judged(true, decoded_xy_px.float(), visible, sizes)
    moves = _speeds(true_xy_px, visible, sizes)
    slower, by_speed = torch.zeros_like(moves, dtype=torch.bool), {}
    for name, limit in SPEEDS_PX.items():
        rows = (moves < limit) & ~slower
        slower = slower | rows
        if rows.any():
            columns = (column[rows] for column in (true, decoded_xy_px.float(), visible, sizes))
            by_speed[name] = _judged(*columns)
    return dataclasses.replace(judged, by_speed=by_speed)


def _at_rows(xy_px: Tensor, sizes: Tensor) -> Tensor:
    return xy_px * (ROWS / sizes[:, 0].float())[:, None, None, None]


def _judged(true: Tensor, decoded: Tensor, visible: Tensor, sizes: Tensor) -> Distortion:
    counted = visible[:, 1:]
    count = int(counted.sum())
    off = _at_rows(decoded - true, sizes)[:, 1:][counted].double()
    moved = _at_rows(true[:, :1] - true, sizes)[:, 1:][counted].double()
    # Rows first, in units of half a frame, unclamped: what ``delta_avg`` is told in. All windows as one.
    halves = (sizes.flip(-1).float() / 2)[:, None, None]
    guess, truth = ((xy / halves).flip(-1).transpose(0, 1).flatten(1, 2) for xy in (decoded, true))
    accuracy = float(delta_avg(guess, truth, visible.transpose(0, 1).flatten(1))) if count else 0.0
    near = sum(int((off.abs() < limit).sum()) for limit in AUC_PX)
    return Distortion(
        windows=len(true),
        error=Mean(float(off.norm(dim=-1).sum()), count),
        moved=Mean(float(moved.norm(dim=-1).sum()), count),
        accuracy=Mean(accuracy * count, count),
        near=Mean(near, 2 * count * len(AUC_PX)),
    )


def _speeds(true: Tensor, visible: Tensor, sizes: Tensor) -> Tensor:
    """(B,) mean move per step of points seen at both ends, in pixels at 240 rows; 0 where there is none."""
    both = visible[:, 1:] & visible[:, :-1]
    moves = _at_rows(true, sizes).diff(dim=1).norm(dim=-1)
    total = torch.where(both, moves, 0.0).sum(dim=(1, 2))
    return total / both.sum(dim=(1, 2)).clamp(min=1)
