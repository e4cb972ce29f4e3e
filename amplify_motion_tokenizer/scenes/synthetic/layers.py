"""What moves before the camera: outlines, how each moves, and what bends.

Lengths are in rows of a frame of 240, with (0, 0) in the frame's middle. Letters: B windows, L layers,
T frames, N points. A higher layer covers those below; the background lies under all and is none of the L.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.scenes.synthetic.draws import Draws
from amplify_motion_tokenizer.scenes.synthetic.paths import (
    FASTEST,
    SLOWEST,
    about,
    matrices,
    profiles,
    square,
    summed,
)

MOST_LAYERS = 6
"""L."""


class Layers(NamedTuple):
    """The moving layers of B windows."""

    outline: Tensor
    """(B, L, 3, 3), from places in frame 0 to places in the layer's own square, which ends at -1 and 1."""
    boxy: Tensor
    """(B, L), 0 for an ellipse in that square, 1 for all of it."""
    there: Tensor
    """(B, L) bool, whether the window has this layer."""
    moved: Tensor
    """(B, L, T, 3, 3), similarities from frame 0 to each frame, without what the camera does."""
    depth: Tensor
    """(B, L), inverse depth, which the camera's travel is multiplied by."""
    on_camera: Tensor
    """(B, L) bool, fixed to the camera: a gripper, the edge of a windscreen."""


def draw_layers(draws: Draws, seconds: Tensor, half_width: Tensor, frames: int) -> Layers:
    """Layers of 0 to ``MOST_LAYERS``: objects, chains of parts that turn about joints, things that pass.

    Args:
        draws: of B windows.
        seconds: (B,) between two frames.
        half_width: (B,), half of the frame's width.
        frames: T.
    """
    number = draws.choice([4, 4, 3, 2, 1, 1, 1])
    there = torch.arange(MOST_LAYERS) < number[:, None]
    chained = draws.happens(0.35, MOST_LAYERS) & (draws.uniform(0, 1, 1) < 0.6)
    long_side = draws.log_uniform(12, 130, MOST_LAYERS)
    sides = torch.stack([long_side, long_side * draws.log_uniform(0.15, 1.0, MOST_LAYERS)], dim=-1)
    tilt = draws.uniform(0, 2 * math.pi, MOST_LAYERS)
    room = torch.stack([half_width, torch.full_like(half_width, 120)], dim=-1)[:, None]
    centre = draws.uniform(-1.25, 1.25, MOST_LAYERS, 2) * room
    own = _own_motion(draws, seconds, frames, long_side)
    turning, travel = own
    joint = draws.uniform(0.5, 1.0, MOST_LAYERS)
    moved: list[Tensor] = []
    ends: list[Tensor] = []
    centres: list[Tensor] = []
    for layer in range(MOST_LAYERS):
        reach = torch.stack([tilt[:, layer].cos(), tilt[:, layer].sin()], dim=-1)
        reach = reach * (sides[:, layer, :1] * joint[:, layer, None])
        hangs = chained[:, layer] if layer else torch.zeros_like(chained[:, 0])
        middle = torch.where(hangs[:, None], ends[-1] + reach, centre[:, layer]) if layer else centre[:, 0]
        pivot = torch.where(hangs[:, None], middle - reach, middle)
        motion = about(pivot[:, None], turning[:, layer])
        free = matrices(*_no_turn(travel[:, layer])) @ motion
        follows = moved[-1] @ motion if layer else free
        moved.append(torch.where(hangs[:, None, None, None], follows, free))
        ends.append(middle + reach)
        centres.append(middle)
    outline = _outlines(torch.stack(centres, dim=1), sides, tilt)
    on_camera = torch.zeros_like(there)
    on_camera[:, -1] = draws.happens(0.3)
    depth = 1 + draws.uniform(0, 1, 1) * draws.uniform(-0.5, 2.0, MOST_LAYERS)
    boxy = draws.uniform(0, 1, MOST_LAYERS)
    return Layers(outline, boxy, there, torch.stack(moved, dim=1), depth, on_camera)


def covers(layers: Layers, layer: int, x: Tensor, y: Tensor, frames: slice, shift: Tensor) -> Tensor:
    """(B, F, N) bool: which points lie on the layer, in the frames ``frames``.

    Args:
        layers: of B windows.
        layer: which of the L.
        x: (B, F, N), in the world of that frame, before the camera turns.
        y: the same.
        frames: which of the T.
        shift: (B, F, 2), what the camera's travel moves a point at inverse depth 1 by.
    """
    back = layers.outline[:, layer, None] @ _inverse(layers.moved[:, layer, frames])
    travelled = shift * layers.depth[:, layer, None, None]
    offset = back[..., :2, 2] - (back[..., :2, :2] @ travelled[..., None])[..., 0]
    u = x * back[..., 0, 0, None] + y * back[..., 0, 1, None] + offset[..., 0, None]
    v = x * back[..., 1, 0, None] + y * back[..., 1, 1, None] + offset[..., 1, None]
    u, v, boxy = u.square_(), v.square_(), layers.boxy[:, layer, None, None]
    return (torch.lerp(u + v, torch.maximum(u, v), boxy) < 1) & layers.there[:, layer, None, None]


def ripples(draws: Draws, seconds: Tensor, x: Tensor, y: Tensor, owner: Tensor, frames: int) -> Tensor:
    """(B, T, N, 2): how far points are off their layer's plane as it bends, 0 in frame 0.

    A layer bends in two travelling waves; most layers do not.

    Args:
        draws: of B windows.
        seconds: (B,) between two frames.
        x: (B, N), places in frame 0.
        y: the same.
        owner: (B, N) int64, 0 for the background, else 1 + the layer.
        frames: T.
    """
    shape = (MOST_LAYERS + 1, 2)
    height = draws.log_uniform(0.1, 12, *shape) * (draws.happens(0.15, *shape[:1])[..., None])
    number = draws.direction(*shape) * (2 * math.pi / draws.log_uniform(25, 500, *shape))[..., None]
    hertz = draws.log_uniform(0.1, 3.0, *shape)
    phase = draws.uniform(0, 2 * math.pi, *shape)
    heading = draws.direction(*shape)
    swell = draws.happens(0.5, *shape[:1])[..., None]
    time = torch.arange(frames) * seconds[:, None]
    total = torch.zeros(*x.shape[:1], frames, x.shape[1], 2)
    rows = torch.arange(len(x))[:, None]
    for part in range(2):
        own = [values[..., part][rows, owner] for values in (height, hertz, phase)]
        along = number[:, :, part][rows, owner]
        place = along[..., 0] * x + along[..., 1] * y + own[2]
        # A standing wave grows and sinks where it is; a travelling one runs through the points.
        stands = swell[..., 0][rows, owner]
        turn = 2 * math.pi * own[1][:, None] * time[..., None]
        running = (place[:, None] + turn * ~stands[:, None]).sin()
        wave = torch.where(stands[:, None], running * turn.sin(), running - place[:, None].sin())
        total += (own[0][:, None] * wave)[..., None] * heading[:, :, part][rows, owner][:, None]
    return total


def _own_motion(draws: Draws, seconds: Tensor, frames: int, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Turning and scaling about (0, 0), (B, L, T, 3, 3), and travel, (B, L, T, 2)."""
    shape, steps = (MOST_LAYERS,), frames - 1
    fastest = draws.log_uniform(SLOWEST, FASTEST, *shape) * draws.happens(0.85, *shape)
    beside = draws.uniform(0, 1, *shape, 2).square() * draws.happens(0.5, *shape, 2)
    turn, zoom = (beside * (fastest / radius)[..., None]).clamp(max=0.5).unbind(dim=-1)
    speed = profiles(draws, seconds, steps, MOST_LAYERS, 4)
    heading = draws.direction(*shape)
    bend = heading.flip(-1) * torch.tensor([-1.0, 1.0]) * draws.uniform(0, 1, *shape).pow(3)[..., None]
    ways = speed[:, :, 0, :, None] * heading[:, :, None] + speed[:, :, 1, :, None] * bend[:, :, None]
    travel = summed((ways * fastest[..., None, None]).mT).mT
    angle, scale = summed(speed[:, :, 2] * turn[..., None]), summed(speed[:, :, 3] * zoom[..., None] * 0.5)
    return matrices(angle, scale.clamp(-1, 1).exp(), torch.zeros_like(travel)), travel


def _no_turn(shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros_like(shift[..., 0]), torch.ones_like(shift[..., 0]), shift


def _outlines(centre: Tensor, sides: Tensor, tilt: Tensor) -> Tensor:
    """(B, L, 3, 3) from frame to square: the inverse of sizing, turning, then moving to the centre."""
    cos, sin = tilt.cos(), tilt.sin()
    turn = square([cos, sin, -sin, cos], 2) / sides[..., None]
    outline = torch.eye(3).repeat(*tilt.shape, 1, 1)
    outline[..., :2, :2] = turn
    outline[..., :2, 2] = -(turn @ centre[..., None])[..., 0]
    return outline


def _inverse(similarity: Tensor) -> Tensor:
    """(..., 3, 3): the inverse of a similarity, whose square part is a turn times a scale."""
    turn, shift = similarity[..., :2, :2], similarity[..., :2, 2:]
    squared = similarity[..., :2, 0].square().sum(dim=-1)[..., None, None]
    inverse = similarity.clone()
    inverse[..., :2, :2] = turn.mT / squared
    inverse[..., :2, 2:] = -inverse[..., :2, :2] @ shift
    return inverse
