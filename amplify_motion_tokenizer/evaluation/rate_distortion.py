"""How much of the motion is left after coding, one evaluation for all coders, and plain ones to compare with.

Errors are in pixels at 240 rows, over points that are seen, after frame 0, which every coder is given.
Letters: B windows, T frames, t = T - 1 steps, N points.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.evaluation.reconstruction import delta_avg
from amplify_motion_tokenizer.models.displacement.digits import GAIN, Digits, plan_with_gain
from amplify_motion_tokenizer.models.displacement.tokenizer import OCTAVES, SMALLEST, companded, expanded
from amplify_motion_tokenizer.models.displacement.waves import Waves, velocities_of

ROWS = 240
"""Rows of the frame that errors are told for."""

SPEEDS_PX = {"still": 0.1, "slow": 1.0, "medium": 4.0, "fast": 10.0, "very fast": math.inf}
"""Class of a window to the mean move per step, in pixels at 240 rows, that it stays below."""

AUC_PX = range(1, 11)
"""Distances of ``delta_auc``, in pixels at 240 rows."""

GAIN_LEVELS = 32
"""Levels of a PCA coder's gain, which takes 5 bits."""

Coder = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From tracks (B, T, N, 2) (x, y) px, visible (B, T, N) bool and sizes (B, 2) to decoded tracks."""


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """What a coder leaves of the motion of some windows."""

    windows: int
    """Number of windows."""
    error_px: float
    """Mean distance between decoded and true points, in pixels at 240 rows; NaN where nothing is seen."""
    no_motion_px: float
    """``error_px`` of the prediction that no point moves."""
    delta_avg: float
    """TAP-Vid's position accuracy, over all points that are seen together."""
    delta_auc: float
    """Mean over 1 to 10 pixels at 240 rows of the share of coordinates that are off by less."""
    by_speed: Mapping[str, Distortion] = field(default_factory=dict)
    """The distortion of the windows of each range of ``SPEEDS_PX`` that has windows."""

    @property
    def relative(self) -> float:
        """``error_px`` over ``no_motion_px``; NaN where nothing moves."""
        return self.error_px / self.no_motion_px if self.no_motion_px > 0 else math.nan


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


def no_motion(tracks_xy_px: Tensor, visible: Tensor, sizes: Tensor) -> Tensor:
    """The coder of 0 bits: everything stays where it is in frame 0."""
    return tracks_xy_px[:, :1].expand_as(tracks_xy_px)


def global_similarity(tracks_xy_px: Tensor, visible: Tensor, sizes: Tensor) -> Tensor:
    """The best shift, turn and scale of the whole frame at each step, unrounded: 4 t numbers a window.

    Least squares over the points that are seen; where fewer than two are, nothing moves.
    """
    start = tracks_xy_px[:, :1].double()
    seen = (visible & visible[:, :1])[..., None].double()
    ends = torch.where(seen > 0, tracks_xy_px.double(), start)
    count = seen.sum(dim=2, keepdim=True).clamp(min=1)
    middle, there = (start * seen).sum(2, True) / count, (ends * seen).sum(2, True) / count
    place = torch.view_as_complex((start - middle).contiguous())
    goal = torch.view_as_complex(((ends - there) * seen).contiguous())
    power = (place.abs().square() * seen[..., 0]).sum(dim=2, keepdim=True)
    turn = (place.conj() * goal).sum(dim=2, keepdim=True) / power.clamp(min=1e-9)
    enough = (seen.sum(dim=2, keepdim=True) >= 2)[..., 0] & (power > 1e-9)
    moved = torch.view_as_real(torch.where(enough, turn, torch.ones_like(turn)) * place) + there
    return torch.where(enough[..., None], moved, start).to(tracks_xy_px.dtype)


class PcaCoder:
    """A transform coder whose basis and deviations are fitted: the bar for what is learned.

    Gain in 5 bits and principal components of displacements by gain, companded and told digit by digit as
    the transform tokenizer's waves are; only the basis and its deviations come from the windows of the fit.

    Args:
        displacements: (B, t, N, 2) since frame 0, in shorter sides of the frame, lost points filled.
        ids: of a window.
        levels: of an id's digits.
    """

    def __init__(self, displacements: Tensor, ids: int, levels: Sequence[int] = (8, 8, 8, 4)) -> None:
        side = round(displacements.shape[2] ** 0.5)
        self._waves = Waves(displacements.shape[1], side)
        amplitudes = self._waves.amplitudes(velocities_of(displacements))
        gain = amplitudes.square().sum(dim=1, keepdim=True).sqrt()
        shape = (amplitudes / gain.clamp(min=SMALLEST)).double()
        powers, basis = torch.linalg.eigh(shape.mT @ shape / len(shape))
        kept = min(len(powers), 2 * ids * len(levels))
        self._basis = basis.flip(1)[:, :kept].float()
        deviations = powers.flip(0)[:kept].clamp(min=1e-12).sqrt()
        plan = plan_with_gain(deviations, levels, ids)
        self._digits = Digits(plan, levels)
        told = [component - 1 for component in self._digits.quantities if component != GAIN]
        self._basis, self._deviations = self._basis[:, told], deviations[told].float()

    def __call__(self, tracks_xy_px: Tensor, visible: Tensor, sizes: Tensor) -> Tensor:
        """Tracks coded and decoded, as ``Coder``."""
        sides = sizes.amin(dim=1).float()[:, None, None, None]
        moves = fill_lost(tracks_xy_px - tracks_xy_px[:, :1], visible)[:, 1:] / sides
        amplitudes = self._waves.amplitudes(velocities_of(moves))
        gain = amplitudes.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-9)
        share = ((gain / SMALLEST).log2() / OCTAVES * GAIN_LEVELS).floor().clamp(0, GAIN_LEVELS - 1)
        gain = SMALLEST * torch.exp2(OCTAVES * (share + 0.5) / GAIN_LEVELS)
        numbers = companded(amplitudes @ self._basis / gain, self._deviations)
        numbers = torch.cat([(share + 0.5) / GAIN_LEVELS, numbers], dim=1)
        told = self._digits.numbers(self._digits.of_numbers(numbers).floor())[:, 1:]
        decoded = expanded(told, self._deviations) * gain @ self._basis.mT
        return with_start(tracks_xy_px, self._waves.displacements(decoded) * sides)


def with_start(tracks_xy_px: Tensor, displacements_px: Tensor) -> Tensor:
    """Tracks (B, T, N, 2) from the first frame of true ones and displacements (B, t, N, 2) since then."""
    start = tracks_xy_px[:, :1]
    return torch.cat([start, start + displacements_px], dim=1)


def _at_rows(xy_px: Tensor, sizes: Tensor) -> Tensor:
    return xy_px * (ROWS / sizes[:, 0].float())[:, None, None, None]


def _judged(true: Tensor, decoded: Tensor, visible: Tensor, sizes: Tensor) -> Distortion:
    counted = visible[:, 1:]
    off = _at_rows(decoded - true, sizes)[:, 1:][counted]
    moved = _at_rows(true[:, :1] - true, sizes)[:, 1:][counted]
    # Rows first, in units of half a frame, unclamped: what ``delta_avg`` is told in. All windows as one.
    halves = (sizes.flip(-1).float() / 2)[:, None, None]
    guess, truth = ((xy / halves).flip(-1).transpose(0, 1).flatten(1, 2) for xy in (decoded, true))
    accuracy = delta_avg(guess, truth, visible.transpose(0, 1).flatten(1)) if counted.any() else math.nan
    within = [float((off.abs() < limit).float().mean()) for limit in AUC_PX]
    return Distortion(
        windows=len(true),
        error_px=float(off.norm(dim=-1).mean()),
        no_motion_px=float(moved.norm(dim=-1).mean()),
        delta_avg=float(accuracy),
        delta_auc=sum(within) / len(within),
    )


def _speeds(true: Tensor, visible: Tensor, sizes: Tensor) -> Tensor:
    """(B,) mean move per step of points seen at both ends, in pixels at 240 rows; 0 where there is none."""
    both = visible[:, 1:] & visible[:, :-1]
    moves = _at_rows(true, sizes).diff(dim=1).norm(dim=-1)
    total = torch.where(both, moves, 0.0).sum(dim=(1, 2))
    return total / both.sum(dim=(1, 2)).clamp(min=1)
