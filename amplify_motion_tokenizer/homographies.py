"""Projective maps of pictures: applied to points, and told by where they take four points.

A map is a (3, 3) matrix that takes (x, y, 1) to a multiple of the moved point; one that is not known is NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor


def projected(maps: Tensor, xy: Tensor) -> Tensor:
    """Points (..., N, 2), (x, y), under maps (..., 3, 3); of the type of the maps, NaN where one is NaN."""
    points = xy.to(maps.dtype)
    moved = points @ maps[..., :2, :2].mT + maps[..., None, :2, 2]
    depth = points @ maps[..., 2:, :2].mT + maps[..., 2:, 2:]
    return moved / depth


def corner_points(grid_xy: Tensor) -> Tensor:
    """(..., 4, 2), the four corner points of square grids of points (..., N, 2), by their index.

    They are in the order of the grid's points: top left, top right, bottom left, bottom right where those go
    row by row, and with the middle two exchanged where they go column by column.
    """
    count = grid_xy.shape[-2]
    side = round(count**0.5)
    return grid_xy[..., [0, side - 1, count - side, count - 1], :]


def map_of_corners(corners_xy: Tensor, moved_xy: Tensor) -> Tensor:
    """The maps (..., 3, 3) float64 that take four points (..., 4, 2) to others (..., 4, 2).

    NaN where a moved point is not finite, or no map does so: three of the points are on a line.
    """
    target = moved_xy.double()
    source = corners_xy.double().expand_as(target)
    known = (source.isfinite() & target.isfinite()).all(dim=-1).all(dim=-1)
    # About the middle and of size 1, so that the equations are well posed in pixels of any frame.
    middle = source.mean(dim=-2, keepdim=True)
    scale = (source - middle).abs().amax(dim=(-2, -1), keepdim=True)
    (x, y), (u, v) = (((points - middle) / scale).unbind(dim=-1) for points in (source, target))
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [
        torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1),
        torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1),
    ]
    equations = torch.cat(rows, dim=-2)
    safe = torch.where(known[..., None, None], equations, torch.eye(8, dtype=torch.float64))
    sides = torch.where(known[..., None], torch.cat([u, v], dim=-1), 0.0)
    solved, failed = torch.linalg.solve_ex(safe, sides[..., None])
    entries = torch.cat([solved[..., 0], torch.ones_like(solved[..., :1, 0])], dim=-1)
    maps = entries.view(*entries.shape[:-1], 3, 3)
    maps = _about(middle[..., 0, :], scale[..., 0, 0], maps)
    right = known & (failed == 0)
    return torch.where(right[..., None, None], maps, torch.nan)


def _about(middle: Tensor, scale: Tensor, maps: Tensor) -> Tensor:
    """Maps of points less ``middle``, divided by ``scale``, as maps of the points themselves."""
    to = torch.zeros_like(maps)
    to[..., 0, 0] = to[..., 1, 1] = 1 / scale
    to[..., :2, 2] = -middle / scale[..., None]
    to[..., 2, 2] = 1.0
    back = torch.zeros_like(maps)
    back[..., 0, 0] = back[..., 1, 1] = scale
    back[..., :2, 2] = middle
    back[..., 2, 2] = 1.0
    return back @ maps @ to
