"""Windows of point tracks made up without pixels: a camera, a depth, layers that move and cover, and warps.

Letters: B windows, T frames, N points, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.scenes.synthetic.draws import Draws
from amplify_motion_tokenizer.scenes.synthetic.layers import (
    MOST_LAYERS,
    Layers,
    covers,
    draw_layers,
    ripples,
)
from amplify_motion_tokenizer.scenes.synthetic.paths import Camera, camera
from amplify_motion_tokenizer.scenes.synthetic.tracking import tracked
from amplify_motion_tokenizer.scenes.synthetic.warps import warps

CHUNK = 32
"""Windows that are made at a time: what fits a CPU's caches."""

_SHAPES = (16 / 9, 4 / 3, 1.0, 3 / 2, 9 / 16, 3 / 4, 2.35)
_SHAPE_WEIGHTS = (4, 4, 3, 1, 1, 1, 1)
"""Width by height of most frames, and how often each comes."""


class SyntheticWindows(NamedTuple):
    """Windows as a tracker would give them."""

    tracks_xy_px: Tensor
    """(B, T, N, 2) float32, (x, y) pixels of ``sizes``; N is row-major over the grid. Always finite."""
    visibility: Tensor
    """(B, T, N) float32, 1 where the point is seen, else 0; all are in frame 0."""
    sizes: Tensor
    """(B, 2) int64, (height, width) of each window's frame in pixels."""
    seconds: Tensor
    """(B,) float32, time between two frames."""


def synthetic_windows(
    count: int, seed: int, first_index: int = 0, grid_size: int = 20, frames: int = 16, noise: bool = True
) -> SyntheticWindows:
    """The windows ``first_index`` to ``first_index + count - 1`` of the endless row that ``seed`` begins.

    Window i is the same whatever is asked for around it.

    Args:
        count: B, at least 1.
        seed: at least 0.
        first_index: at least 0.
        grid_size: points on a side, N = grid_size^2; centres of a partition of the frame.
        frames: T, at least 2.
        noise: whether positions and visibility have a tracker's errors; else they are exact. A window is
            otherwise the same.

    Raises:
        UsageError: a number is too small.
    """
    asked = {"count": (count, 1), "seed": (seed, 0), "first_index": (first_index, 0)}
    asked |= {"grid_size": (grid_size, 1), "frames": (frames, 2)}
    for name, (value, least) in asked.items():
        if value < least:
            raise UsageError(f"{name} is {value}; expected at least {least}")
    return chosen_windows(range(first_index, first_index + count), seed, grid_size, frames, noise=noise)


def chosen_windows(
    indices: Sequence[int],
    seed: int,
    grid_size: int = 20,
    frames: int = 16,
    size: tuple[int, int] | None = None,
    noise: bool = True,
) -> SyntheticWindows:
    """Any windows of the endless row that ``seed`` begins, in the order of ``indices``.

    Args:
        indices: B of them, at least one; each at least 0.
        seed: as in ``synthetic_windows``, and so are the next two and ``noise``.
        grid_size: points on a side.
        frames: T.
        size: (height, width) in pixels of all frames; None: each window has a size of its own.
        noise: whether there are a tracker's errors.
    """
    parts = [indices[first : first + CHUNK] for first in range(0, len(indices), CHUNK)]
    chunks = [_chunk(Draws(seed, part), grid_size, frames, size, noise) for part in parts]
    return SyntheticWindows(*(torch.cat(column) for column in zip(*chunks, strict=True)))


def _chunk(
    draws: Draws, grid_size: int, frames: int, size: tuple[int, int] | None, noise: bool
) -> SyntheticWindows:
    seconds = draws.log_uniform(1 / 30, 1 / 5)
    sizes = _sizes(draws)
    if size is not None:
        sizes = torch.tensor(size).expand(len(draws), 2)
    rows = 240 / sizes[:, 0]
    half = torch.stack([sizes[:, 1] * rows / 2, torch.full_like(rows, 120)], dim=-1)
    view = camera(draws, seconds, half[:, 0], frames)
    layers = draw_layers(draws, seconds, half[:, 0], frames)
    x, y = _grid(grid_size, half)
    owner = _owners(layers, x, y)
    bent = ripples(draws, seconds, x, y, owner, frames) + warps(draws, seconds, x, y, frames)
    depth = _depths(draws, layers, owner, x, y, half)
    world = _moved(layers, owner, x[:, None] + bent[..., 0], y[:, None] + bent[..., 1])
    places, world = _seen_by(view, layers, owner, depth, world)
    hidden = _covered(layers, owner, places, world, view.shift)
    inside = ((places[0].abs() <= half[:, None, :1]) & (places[1].abs() <= half[:, None, 1:])).clone()
    tracks = torch.stack(places, dim=-1)
    # A track that a projection threw far away says nothing by how far it is.
    tracks = tracks.clamp(-1000, 1000)
    visible = inside & ~hidden
    visible[:, 0] = True
    if noise:
        tracks, visible = tracked(draws, tracks, visible, half)
    tracks = (tracks + half[:, None, None]) / rows[:, None, None, None]
    return SyntheticWindows(tracks, visible.float(), sizes, seconds)


def _sizes(draws: Draws) -> Tensor:
    """(B, 2) int64: frames of the usual shapes and any between, the shorter side 120 to 1080 pixels."""
    usual = torch.tensor(_SHAPES)[draws.choice(_SHAPE_WEIGHTS)]
    shape = torch.where(draws.happens(0.7), usual, draws.log_uniform(0.45, 2.4))
    shorter = draws.log_uniform(120, 1080)
    height = torch.where(shape >= 1, shorter, shorter / shape)
    return torch.stack([height, height * shape], dim=-1).round().long()


def _grid(grid_size: int, half: Tensor) -> tuple[Tensor, Tensor]:
    """X and y, each (B, N), of the centres of a partition of the frame, row-major."""
    centres = (torch.arange(grid_size) * 2 + 1) / grid_size - 1
    x, y = centres.repeat(grid_size), centres.repeat_interleave(grid_size)
    return half[:, :1] * x, half[:, 1:] * y


def _owners(layers: Layers, x: Tensor, y: Tensor) -> Tensor:
    """(B, N) int64: what each point is on in frame 0: 0 the background, else 1 + the highest layer."""
    owner = torch.zeros_like(x, dtype=torch.int64)
    still = torch.zeros(len(x), 1, 2)
    for layer in range(MOST_LAYERS):
        on = covers(layers, layer, x[:, None], y[:, None], slice(0, 1), still)[:, 0]
        owner = torch.where(on, layer + 1, owner)
    return owner


def _depths(draws: Draws, layers: Layers, owner: Tensor, x: Tensor, y: Tensor, half: Tensor) -> Tensor:
    """(B, N) inverse depths: a layer's own; the background's is sloped, rolling or in steps, or all 1."""
    slope = draws.uniform(-0.6, 0.6, 2) * draws.happens(0.5, 1)
    field = slope[:, :1] * x / half[:, :1] + slope[:, 1:] * y / 120
    for _ in range(3):
        number = draws.direction() * (2 * math.pi / draws.log_uniform(40, 500, 1))
        rolling = (number[:, :1] * x + number[:, 1:] * y + draws.uniform(0, 6.3, 1)).sin()
        sharp = draws.log_uniform(1, 30, 1)
        height = draws.uniform(0, 0.4, 1) * draws.happens(0.5, 1)
        field = field + height * (rolling * sharp).tanh()
    field = (1 + field * draws.happens(0.7, 1)).clamp(min=0.1)
    own = torch.gather(layers.depth, 1, (owner - 1).clamp(min=0))
    on_camera = torch.gather(layers.on_camera, 1, (owner - 1).clamp(min=0)) & (owner > 0)
    return torch.where(owner > 0, own, field) * ~on_camera


def _moved(layers: Layers, owner: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where the points' layers carry them, x and y (B, T, N), the background staying."""
    batch, frames, points = x.shape
    stays = torch.eye(3).expand(batch, 1, frames, 3, 3)
    motion = torch.cat([stays, layers.moved], dim=1)
    rows = torch.arange(batch)[:, None]

    def of_owner(row: int, column: int) -> Tensor:
        return motion[..., row, column][rows, owner].mT

    new_x = of_owner(0, 0) * x + of_owner(0, 1) * y + of_owner(0, 2)
    return new_x, of_owner(1, 0) * x + of_owner(1, 1) * y + of_owner(1, 2)


def _seen_by(
    view: Camera, layers: Layers, owner: Tensor, depth: Tensor, world: tuple[Tensor, Tensor]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Places in the frame, and in the world before the camera turns; x and y (B, T, N) of each."""
    nearer = (view.approach[..., None] * depth[:, None]).exp()
    x = world[0] * nearer + view.shift[..., :1] * depth[:, None]
    y = world[1] * nearer + view.shift[..., 1:] * depth[:, None]
    turn = view.turns[..., None]
    far = (turn[..., 2, 0, :] * x + turn[..., 2, 1, :] * y + turn[..., 2, 2, :]).clamp(min=0.1)
    seen_x = (turn[..., 0, 0, :] * x + turn[..., 0, 1, :] * y + turn[..., 0, 2, :]) / far
    seen_y = (turn[..., 1, 0, :] * x + turn[..., 1, 1, :] * y + turn[..., 1, 2, :]) / far
    fixed = torch.gather(layers.on_camera, 1, (owner - 1).clamp(min=0)) & (owner > 0)
    fixed = fixed[:, None]
    return (torch.where(fixed, x, seen_x), torch.where(fixed, y, seen_y)), (x / nearer, y / nearer)


def _covered(
    layers: Layers, owner: Tensor, places: tuple[Tensor, Tensor], world: tuple[Tensor, Tensor], shift: Tensor
) -> Tensor:
    """(B, T, N) bool: points with a layer above their own over them."""
    hidden = torch.zeros_like(places[0], dtype=torch.bool)
    still = torch.zeros_like(shift)
    for layer in range(MOST_LAYERS):
        fixed = layers.on_camera[:, layer, None, None]
        x, y = (torch.where(fixed, seen, there) for seen, there in zip(places, world, strict=True))
        on = covers(layers, layer, x, y, slice(None), torch.where(fixed, still, shift))
        hidden |= on & (owner <= layer)[:, None]
    return hidden
