"""The camera's motion apart from the objects': found in the tracks of a window, taken out, put back.

The camera of a frame is the projective map that takes places of the window's first frame to where the
background under them lies in that frame. It is found by a robust fit to the points that are seen in both.
Letters: B windows, V views, T frames, t = T - 1 steps, N points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.checks import LEAST_CAMERA_POINTS
from amplify_motion_tokenizer.data.views import ViewTracks, at_model_frames, in_model_time
from amplify_motion_tokenizer.homographies import corner_points, map_of_corners, projected
from amplify_motion_tokenizer.trackers.windows import SEEN

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEAST_SHARE = 0.2
"""Share of the points of frame 0 that a frame shows which must move with the camera."""
MARGIN = 1.5
"""How many times as much as another motion the camera's must weigh: points, times the area that they span."""
TOLERANCE = 1 / 480
"""How far a point may be off the camera's motion and still move with it, in shorter sides of the picture."""
STILL = 0.25 / 480
"""How far points may be off their places where the camera stands still, in the same unit."""
_NARROWEST = 0.02
"""Least spread of points across their line, in the same unit: on a line any number of maps fits."""
_METHOD = cv2.USAC_FAST
_MOST_TRIES = 300
_CONFIDENCE = 0.999
_WORST = 1e10
"""Condition of equations from which they tell no map: points all but on a line."""
_CLEAR = 3.0
"""As ``MARGIN``, from which the motion is the background's in all frames of the window."""
_LEAST_AREA = 0.01
"""Least area that a map may leave of one: no camera looks at a picture from its edge."""
_AGREE = 0.9
"""Share of the background's points that must move alike in another frame, too, not to be looked for anew."""


def picture_side(first_xy_px: Tensor) -> Tensor:
    """(B,) shorter sides, in pixels, of the pictures that query grids (B, N, 2) of frame 0 span.

    NaN where a corner point of the grid has no position.
    """
    corners = corner_points(first_xy_px)
    side = round(first_xy_px.shape[-2] ** 0.5)
    spans = (corners.amax(dim=-2) - corners.amin(dim=-2)).amin(dim=-1)
    return torch.mul(spans, side / max(side - 1, 1))


def cameras_of(tracks_xy_px: Tensor, visibility: Tensor) -> Tensor:
    """The camera of each frame of windows that begin on the query grid.

    Args:
        tracks_xy_px: (B, T, N, 2), (x, y) pixels, NaN where a point is lost.
        visibility: (B, T, N), confidence 0..1.

    Returns:
        (B, T, 3, 3) float64, maps of (x, y) pixels of the first frame; that of frame 0 is the identity. NaN
        in frames whose camera is not known: fewer than ``LEAST_CAMERA_POINTS`` of the points that frame 0
        shows are seen, these are all but on a line, less than ``LEAST_SHARE`` of them move alike, another
        motion weighs about as much (``MARGIN``), or what rests, less than half of the points that frame 0
        shows, may ride with the camera.
    """
    seen = (visibility >= SEEN) & tracks_xy_px.isfinite().all(dim=-1)
    both = (seen & seen[:, :1]).numpy()
    places = tracks_xy_px.numpy().astype(np.float64)
    sides = picture_side(tracks_xy_px[:, 0].double()).tolist()
    windows = [_window(*window) for window in zip(places, both, sides, strict=True)]
    return torch.from_numpy(np.array(windows).reshape(-1, seen.shape[1], 3, 3))


def _window(places: Floats, both: Flags, side: float) -> Floats:
    """(T, 3, 3) of one window: places (T, N, 2), and which points are seen there and in frame 0 (T, N)."""
    found = np.full((len(places), 3, 3), np.nan)
    if not np.isfinite(side):
        return found
    first = places[0]
    moved = np.linalg.norm(np.nan_to_num(places - first, nan=np.inf), axis=-1)
    rest = 2 * ((moved < STILL * side) & both).sum(axis=1) > both[0].sum()
    found[0 if not rest.all() else slice(None)] = np.eye(3)
    # Half way things have come far from the background, and little of it is out of the picture yet.
    waiting = [] if rest.all() else _from_middle(len(places))
    while waiting:
        frame, *waiting = waiting
        at = both[frame]
        motion = _background(first[at], places[frame, at], side)
        if motion is None:
            continue
        found[frame] = motion.matrix
        if motion.margin < _CLEAR:  # in another frame the other motion may weigh more
            continue
        own = np.zeros_like(at)
        own[at] = motion.follows
        maps = _fitted(first, places[waiting], both[waiting], own, side)
        found[waiting] = maps
        waiting = [frame for frame, matrix in zip(waiting, maps, strict=True) if np.isnan(matrix[2, 2])]
    corners: Floats = corner_points(torch.from_numpy(first)).numpy()
    for frame in np.flatnonzero(~rest).tolist():
        # What rests and is less than half of the picture may ride with the camera, as a gripper does.
        if np.abs(_moved(found[frame], corners) - corners).max() < STILL * side:
            found[frame] = np.nan
    return found


def _from_middle(frames: int) -> list[int]:
    """The frames after the first, the one in the middle first and the ones at the ends last."""
    return sorted(range(1, frames), key=lambda frame: abs(2 * frame - frames))


def _fitted(first: Floats, now: Floats, seen: Flags, own: Flags, side: float) -> Floats:
    """The maps (F, 3, 3) by which the background moves to F frames; NaN where that must be looked for anew.

    Args:
        first: (N, 2), where the points are in frame 0.
        now: (F, N, 2), where they are then.
        seen: (F, N), whether they are seen then.
        own: (N,), the points of the background, as another frame tells them.
        side: the picture's shorter side.
    """
    of_it = seen & own
    maps, _ = _least_squares(first[own], now[:, own], of_it[:, own], side)
    follow = _follow(maps, first[own], now[:, own], of_it[:, own], side)
    maps, known = _least_squares(first[own], now[:, own], follow, side)
    follow = _follow(maps, first, now, seen, side)
    known &= _possible(maps, first[own])
    known &= (follow & own).sum(axis=1) >= _AGREE * of_it.sum(axis=1)
    known &= follow.sum(axis=1) >= LEAST_SHARE * seen.sum(axis=1)
    return np.where(known[:, None, None], maps, np.nan)


def _follow(maps: Floats, first: Floats, now: Floats, seen: Flags, side: float) -> Flags:
    """Which points (F, n) are where the maps (F, 3, 3) take them, before the camera."""
    moved = first @ np.swapaxes(maps[:, :2, :2], 1, 2) + maps[:, None, :2, 2]
    depth = (maps[:, 2, :2] @ first.T + maps[:, 2, 2:])[..., None]
    near = np.linalg.norm(moved - np.where(seen[..., None], now, 0) * depth, axis=-1)
    return np.asarray(seen & (depth[..., 0] > 0) & (near < TOLERANCE * side * depth[..., 0]))


def _least_squares(first: Floats, now: Floats, used: Flags, side: float) -> tuple[Floats, Flags]:
    """The maps (F, 3, 3) that take points ``used`` (F, n) nearest to ``now``; whether they tell one (F,)."""
    middle = first.mean(axis=0)
    x, y = np.broadcast_to(((first - middle) / side).T[:, None], (2, *used.shape))
    u, v = np.moveaxis((np.where(used[..., None], now, middle) - middle) / side, -1, 0)
    one, zero = np.ones_like(u), np.zeros_like(u)
    equations = [[x, y, one, zero, zero, zero, -u * x, -u * y], [zero, zero, zero, x, y, one, -v * x, -v * y]]
    rows = np.concatenate([np.stack(each, axis=-1) * used[..., None] for each in equations], axis=1)
    squares = np.swapaxes(rows, 1, 2) @ rows
    known = (used.sum(axis=1) >= LEAST_CAMERA_POINTS) & (np.linalg.cond(squares) < _WORST)
    squares[~known] = np.eye(8)
    entries = np.linalg.solve(squares, np.swapaxes(rows, 1, 2) @ np.concatenate([u, v], axis=1)[..., None])
    maps = np.concatenate([entries[..., 0], np.ones((len(now), 1))], axis=1).reshape(-1, 3, 3)
    to = np.array([[1 / side, 0, -middle[0] / side], [0, 1 / side, -middle[1] / side], [0, 0, 1]])
    return np.linalg.inv(to) @ maps @ to, np.asarray(known)


def _possible(maps: Floats, first: Floats) -> Flags:
    """Whether a camera could do what the maps (F, 3, 3) do to the points ``first`` (n, 2).

    None of them comes to lie behind it, is mirrored, or stands in an area of less than a hundredth of before.
    """
    depth = maps[:, 2, :2] @ first.T + maps[:, 2, 2:]
    ahead = (depth > 0).all(axis=1)
    areas = np.linalg.det(maps)[:, None] / np.where(ahead[:, None], depth, 1) ** 3
    return np.asarray(ahead & (areas > _LEAST_AREA).all(axis=1))


def _background(first: Floats, now: Floats, side: float) -> _Motion | None:
    """How the background moves points ``first`` (n, 2) to ``now``; None where nothing is clear.

    Of two motions that each move many points the background's is the one that is spread out: it surrounds
    what is before it. Where they are about as many and as spread, nothing says which one it is.
    """
    best = _Motion.of(first, now, side)
    if best is None:
        return None
    rest = ~best.follows
    # Looked for only where it could weigh enough: a search in points that move each by itself takes long.
    if rest.sum() >= LEAST_CAMERA_POINTS and _CLEAR * _weight(first[rest]) >= best.weight:
        other = _Motion.of(first[rest], now[rest], side)
        if other is not None:
            if other.weight > best.weight:
                rest[rest] = other.follows
                best, other = other._replace(follows=rest), best
            best = best._replace(margin=best.weight / other.weight)
    if best.margin < MARGIN:
        return None
    return best if best.follows.mean() >= LEAST_SHARE else None


class _Motion(NamedTuple):
    """A map that moves many points alike."""

    matrix: Floats
    """(3, 3)."""
    follows: Flags
    """(n,), the points that it moves."""
    weight: float
    """Their number times the area that they are spread over."""
    margin: float = math.inf
    """How many times as much as the other motion it weighs; infinity where there is none to speak of."""

    @staticmethod
    def of(first: Floats, now: Floats, side: float) -> _Motion | None:
        """The map that takes most of the points ``first`` (n, 2) to ``now``; None where none can be told."""
        if len(first) < LEAST_CAMERA_POINTS or _spread(first) < _NARROWEST * side:
            return None
        tolerance = TOLERANCE * side
        made, _ = cv2.findHomography(first, now, _METHOD, tolerance, None, _MOST_TRIES, _CONFIDENCE)
        if made is None or not np.isfinite(made).all():
            return None
        matrix = np.asarray(made, np.float64)
        if not _possible(matrix[None], first)[0]:
            return None
        follows = np.hypot(*(_moved(matrix, first) - now).T) < tolerance
        if follows.sum() < LEAST_CAMERA_POINTS or _spread(first[follows]) < _NARROWEST * side:
            return None
        return _Motion(matrix, follows, _weight(first[follows]))


def _moved(matrix: Floats, points: Floats) -> Floats:
    """Points (n, 2) under a map (3, 3)."""
    moved = points @ matrix[:2, :2].T + matrix[:2, 2]
    return np.asarray(moved / (points @ matrix[2:, :2].T + matrix[2, 2]))


def _weight(points: Floats) -> float:
    """The number of points (n, 2) times the area that they are spread over."""
    across = _spread(points)
    return len(points) * across * math.sqrt(float(points.var(axis=0).sum()) - across**2)


def _spread(points: Floats) -> float:
    """Root mean square distance of points (n, 2) from the line that is nearest to all of them."""
    x, y = (points - points.mean(axis=0)).T
    xx, yy, xy = (float(a @ b) / len(points) for a, b in ((x, x), (y, y), (x, y)))
    return math.sqrt(max(0.0, xx + yy - math.hypot(xx - yy, 2 * xy)) / 2)


def camera_apart(view: ViewTracks, config: Config) -> ViewTracks:
    """``view`` as ``data.camera`` wants it: as it is, or ``without_camera``."""
    return view if config.data.camera == "keep" or view.camera is not None else without_camera(view)


def without_camera(view: ViewTracks) -> ViewTracks:
    """Windows as a camera would have seen them that stayed where it was in frame 0.

    In a frame whose camera is not known points stay where they were in the last frame before, and are not
    seen. ``camera`` of the result tells the maps.

    Args:
        view: windows that begin on the query grid.
    """
    maps = cameras_of(view.tracks_xy_px, view.visibility)
    known = _known(maps)
    back = torch.linalg.inv(torch.where(known[..., None, None], maps, torch.eye(3, dtype=maps.dtype)))
    rest = _held(projected(back, view.tracks_xy_px).float(), known)
    return view._replace(tracks_xy_px=rest, visibility=view.visibility * known[..., None], camera=maps)


def camera_alone(view: ViewTracks) -> ViewTracks:
    """The windows of a result of ``without_camera`` if nothing but the camera had moved: its grid's tracks.

    All points are seen, but in frames whose camera is not known, where they stay as ``without_camera`` says.
    """
    assert view.camera is not None
    known = _known(view.camera)
    safe = torch.where(known[..., None, None], view.camera, torch.eye(3, dtype=view.camera.dtype))
    moved = _held(projected(safe, view.tracks_xy_px[:, :1]).float(), known)
    seen = known[..., None].expand(view.visibility.shape).to(view.visibility.dtype)
    return view._replace(tracks_xy_px=moved, visibility=seen)


def camera_moves(views: Sequence[ViewTracks], config: Config) -> Tensor:
    """What is kept of the camera, of results of ``without_camera``.

    Returns:
        (B, V, t, 4, 2) float32 at the model's frames: how far the camera has moved the four corner points of
        the query grid since frame 0, (x, y) in shorter sides of the picture; NaN where it is not known.
        After the last real step it stays as it is.
    """
    moves = []
    for view in views:
        first = view.tracks_xy_px[:, 0].double()
        maps = in_model_time(view, config).camera
        assert maps is not None
        corners = corner_points(first)
        tracks = projected(maps, corners[:, None]) - corners[:, None]
        steps = at_model_frames(tracks / picture_side(first)[:, None, None, None], config)
        moves.append(steps[:, 1:])
    return torch.stack(moves, dim=1)


def with_camera(tracks_xy_px: Tensor, moves: Tensor, side_px: float, scale_xy: tuple[float, float]) -> Tensor:
    """Tracks of the whole motion, from those without the camera's.

    Args:
        tracks_xy_px: (B, T, N, 2), (x, y) pixels of the frames that are shown, from the query grid on.
        moves: (B, t, 4, 2), as ``camera_moves`` gives of one view.
        side_px: shorter side of the picture in pixels of the tracked frames.
        scale_xy: pixels of the shown frames for one of the tracked ones, along x and y.

    Returns:
        (B, T, N, 2) float32; NaN in frames whose camera is not known.
    """
    corners = corner_points(tracks_xy_px[:, :1].double())
    moved = corners + moves.double() * (moves.new_tensor(scale_xy, dtype=torch.float64) * side_px)
    whole = projected(map_of_corners(corners, moved), tracks_xy_px[:, 1:]).float()
    return torch.cat([tracks_xy_px[:, :1], whole], dim=1)


def _known(maps: Tensor) -> Tensor:
    """(B, T) bool of maps (B, T, 3, 3)."""
    return maps[..., 2, 2].isfinite()


def _held(tracks_xy_px: Tensor, known: Tensor) -> Tensor:
    """Tracks (B, T, N, 2) whose points stay in place in frames that are not ``known`` (B, T) bool."""
    if known.all():
        return tracks_xy_px
    last = torch.where(known, torch.arange(known.shape[1]), 0).cummax(dim=1).values
    return tracks_xy_px.take_along_dim(last[:, :, None, None], dim=1)
