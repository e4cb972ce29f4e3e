"""How things move over the frames of a window: profiles of speed, camera paths and matrices.

Lengths are in rows of a frame of 240, with (0, 0) in the frame's middle. Letters: B windows, L layers,
T frames, t = T - 1 steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.scenes.synthetic.draws import Draws

SLOWEST, FASTEST = 0.02, 30.0
"""Peak speeds in rows a frame, between which the speeds of what moves are drawn, log-uniform."""


class Camera(NamedTuple):
    """What the camera does."""

    turns: Tensor
    """(B, T, 3, 3), projective: roll, zoom, pan and tilt in place, the same for all that is seen."""
    shift: Tensor
    """(B, T, 2), what a point at the inverse depth 1 moves by because the camera travels sideways."""
    approach: Tensor
    """(B, T), log of the scale of what is at the inverse depth 1 because the camera travels forwards."""


def profiles(draws: Draws, seconds: Tensor, steps: int, *channels: int) -> Tensor:
    """Speeds over time, the largest of each being 1: steady, speeding up, swinging, stopping, starting.

    Args:
        draws: of B windows.
        seconds: (B,) between two frames.
        steps: t.
        channels: shape of what is wanted for each window.

    Returns:
        (B, *channels, t).
    """
    wanted = (*channels, 1)
    step = torch.arange(steps, dtype=torch.float32)
    share = step / max(steps - 1, 1)
    hertz = draws.log_uniform(0.08, 4.0, *wanted) * draws.happens(0.55, *wanted)
    phase = draws.uniform(0, 2 * math.pi, *wanted) * (hertz > 0)
    time = step * seconds.view(-1, *[1] * len(wanted))
    speed = (2 * math.pi * hertz * time + phase).cos()
    speed = speed * (1 + draws.uniform(-1, 1, *wanted) * (share - 0.5))
    speed = speed * _gate(draws, step, steps, *wanted)
    tremor = draws.log_uniform(0.003, 1.0, *wanted) * draws.happens(0.5, *wanted)
    speed = speed + tremor * _wander(draws, steps, *channels)
    return speed / speed.abs().amax(dim=-1, keepdim=True).clamp(min=1e-3)


def camera(draws: Draws, seconds: Tensor, half_width: Tensor, frames: int) -> Camera:
    """Camera paths: one movement that dominates, others beside it, or a stand; half_width (B,)."""
    steps = frames - 1
    speed = draws.log_uniform(SLOWEST, FASTEST, 1) * draws.happens(0.65, 1)
    beside = draws.uniform(0, 1, 5).square() * draws.happens(0.4, 5)
    main = torch.nn.functional.one_hot(draws.choice([4, 2, 1, 2, 2]), 5)
    speeds = (speed * torch.maximum(beside, main.float()))[..., None] * profiles(draws, seconds, steps, 5)
    travel, zoom, roll, turn, forwards = speeds.unbind(dim=1)
    cross = travel.abs().amax(dim=1, keepdim=True) * draws.uniform(0, 1, 1).pow(3)
    cross = cross * profiles(draws, seconds, steps)
    heading, second = draws.direction(), draws.direction()
    shift = _sums(_along(heading, travel) + _along(_quarter_turn(heading), cross))
    radius = 0.6 * torch.hypot(half_width, torch.tensor(120.0))[:, None]
    focal = 240 * draws.uniform(0.8, 2.0, 1)
    angles = _sums(_along(second, turn / focal))
    similarity = matrices(
        _sums(roll / radius), _sums(zoom / radius).exp(), torch.zeros(len(draws), frames, 2)
    )
    turns = _tilted(angles, focal) @ similarity
    return Camera(turns, shift, _sums(forwards / radius))


def matrices(angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(..., 3, 3) that turn by ``angle`` (...) and scale (...) about (0, 0), then ``shift`` (..., 2)."""
    cos, sin = angle.cos() * scale, angle.sin() * scale
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = [cos, -sin, shift[..., 0], sin, cos, shift[..., 1], zero, zero, one]
    return square(rows, 3)


def square(numbers: Sequence[Tensor], side: int) -> Tensor:
    """(..., side, side) from its numbers (...), row by row."""
    flat = torch.stack(list(numbers), dim=-1)
    return flat.view(*flat.shape[:-1], side, side)


def about(pivot: Tensor, turning: Tensor) -> Tensor:
    """``turning`` (..., 3, 3), which keeps (0, 0), about the point ``pivot`` (..., 2) instead."""
    zero, one = torch.zeros_like(pivot[..., 0]), torch.ones_like(pivot[..., 0])
    return matrices(zero, one, pivot) @ turning @ matrices(zero, one, -pivot)


def summed(speeds: Tensor) -> Tensor:
    """(..., T) places from (..., t) speeds, the first of them 0."""
    return torch.nn.functional.pad(speeds.cumsum(dim=-1), (1, 0))


def _sums(speeds: Tensor) -> Tensor:
    """``summed`` of (B, t) or (B, t, 2)."""
    return summed(speeds) if speeds.ndim == 2 else summed(speeds.mT).mT


def _along(heading: Tensor, speeds: Tensor) -> Tensor:
    """(B, t, 2) from (B, 2) and (B, t)."""
    return heading[:, None, :] * speeds[..., None]


def _quarter_turn(heading: Tensor) -> Tensor:
    return torch.stack([-heading[..., 1], heading[..., 0]], dim=-1)


def _tilted(angles: Tensor, focal: Tensor) -> Tensor:
    """K R K^-1 (B, T, 3, 3) of yaw and pitch (B, T, 2), K having the focal length (B, 1)."""
    yaw, pitch = angles.unbind(dim=-1)
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    about_y = [yaw.cos(), zero, yaw.sin(), zero, one, zero, -yaw.sin(), zero, yaw.cos()]
    about_x = [one, zero, zero, zero, pitch.cos(), -pitch.sin(), zero, pitch.sin(), pitch.cos()]
    rotation = square(about_y, 3) @ square(about_x, 3)
    lens = torch.cat([focal, focal, torch.ones_like(focal)], dim=-1)[:, None]
    return lens[..., None] * rotation / lens[..., None, :]


def _gate(draws: Draws, step: Tensor, steps: int, *wanted: int) -> Tensor:
    """Between 0 and 1: mostly 1; else open for a while, or closed for a while."""
    begin = draws.uniform(-0.3, 1.0, *wanted) * steps
    length = draws.uniform(0.2, 1.0, *wanted) * steps
    ease = draws.log_uniform(0.15, 3.0, *wanted)
    opened = ((step - begin) / ease).sigmoid() * ((begin + length - step) / ease).sigmoid()
    kind = draws.choice([0.7, 0.2, 0.1], *wanted)
    return torch.where(kind == 0, torch.ones_like(opened), torch.where(kind == 1, opened, 1 - opened))


def _wander(draws: Draws, steps: int, *channels: int) -> Tensor:
    """(B, *channels, t) normal numbers, each a little or much like the one before."""
    keep = draws.uniform(0, 0.95, *channels)
    fresh = draws.normal(*channels, steps) * (1 - keep.square()).sqrt()[..., None]
    states = [draws.normal(*channels)]
    for step in range(steps):
        states.append(keep * states[-1] + fresh[..., step])
    return torch.stack(states[1:], dim=-1)
