"""Paths of cameras and objects over time, as transforms.

``times`` (M,) counts frames and may lie between them. Speeds are in pixels a frame of a 480 x 640 frame
and grow with the frame: times ``unit(size)``, where a size is (height, width) in pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from amplify_motion_tokenizer.scenes.layers import Floats, Size

Camera = Callable[[np.random.Generator, Size, Floats], Floats]
"""From (rng, size, times) to (M, 3, 3), from the world to the frame; the two agree where it does not move."""

_SHARPNESS = 0.97
"""How sudden the turns of ``sweep`` are: 1 is a zigzag, 0 a sine."""


def unit(size: Size) -> float:
    """Pixels of a frame of ``size`` for one of 480 x 640."""
    return min(size) / 480


def middle(size: Size) -> tuple[float, float]:
    """(x, y) of the centre of a frame."""
    return (size[1] - 1) / 2, (size[0] - 1) / 2


def similarity(
    count: int,
    shift: Floats | float = 0.0,
    angle: Floats | float = 0.0,
    scale: Floats | float = 1.0,
    centre: tuple[float, float] = (0.0, 0.0),
) -> Floats:
    """``count`` transforms (M, 3, 3) that turn and zoom about ``centre``, then shift.

    Args:
        count: M.
        shift: (M, 2) or one for all, (x, y) pixels.
        angle: (M,) or one for all, radians, from x towards y.
        scale: (M,) or one for all.
        centre: (x, y) pixels.
    """
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    matrices = np.tile(np.eye(3), (count, 1, 1))
    matrices[:, 0, 0] = matrices[:, 1, 1] = cos
    matrices[:, 1, 0], matrices[:, 0, 1] = sin, -sin
    matrices[:, :2, 2] = np.array(centre) - matrices[:, :2, :2] @ np.array(centre) + shift
    return matrices


def wave(
    rng: np.random.Generator, times: Floats, steepest: float, period: tuple[float, float] = (48, 96)
) -> Floats:
    """A sine (M,), 0 at time 0 and steepest there, that changes by at most ``steepest`` in one frame."""
    frames = rng.uniform(*period)
    height = rng.choice([-1.0, 1.0]) * steepest * frames / (2 * np.pi)
    return np.asarray(height * np.sin(2 * np.pi / frames * times))


def sweep(rng: np.random.Generator, times: Floats, speed: float, span: float) -> Floats:
    """To and fro (M,) between -span and span, at nearly constant speed with eased turns."""
    pace = speed / span * np.arcsin(_SHARPNESS) / _SHARPNESS
    phase = rng.choice([0.0, np.pi]) + rng.uniform(-1, 0.5) + pace * times
    return np.asarray(span * np.arcsin(_SHARPNESS * np.sin(phase)) / np.arcsin(_SHARPNESS))


def along(heading: float, distance: Floats) -> Floats:
    """(M, 2) places at ``distance`` (M,) in the direction ``heading``, radians from x towards y."""
    return np.stack([np.cos(heading) * distance, np.sin(heading) * distance], axis=-1)


def fixed(rng: np.random.Generator, size: Size, times: Floats) -> Floats:
    """A camera on a stand."""
    return similarity(len(times))


def pan_at(slowest: float, fastest: float) -> Camera:
    """Cameras that pan in one direction and back, at a speed between the two."""

    def pan(rng: np.random.Generator, size: Size, times: Floats) -> Floats:
        speed, heading = unit(size) * rng.uniform(slowest, fastest), rng.uniform(0, 2 * np.pi)
        return similarity(len(times), along(heading, sweep(rng, times, speed, speed * rng.uniform(30, 60))))

    return pan


def zoom(rng: np.random.Generator, size: Size, times: Floats) -> Floats:
    """In and out about the centre, up to 2.5 % a frame: 10 pixels a frame in the corners."""
    scale = np.exp(wave(rng, times, rng.uniform(0.008, 0.025)))
    return similarity(len(times), scale=scale, centre=middle(size))


def roll(rng: np.random.Generator, size: Size, times: Floats) -> Floats:
    """To and fro about the optical axis, up to 0.03 radians a frame: 12 pixels a frame in the corners."""
    return similarity(len(times), angle=wave(rng, times, rng.uniform(0.008, 0.03)), centre=middle(size))


def fast_roll(rng: np.random.Generator, size: Size, times: Floats) -> Floats:
    """To and fro about the optical axis at 5 to 8 degrees a frame: up to 56 pixels a frame in the corners."""
    angle = sweep(rng, times, np.deg2rad(rng.uniform(5, 8)), rng.uniform(1, 2))
    return similarity(len(times), angle=angle, centre=middle(size))


def fast_zoom(rng: np.random.Generator, size: Size, times: Floats) -> Floats:
    """In and out about the centre by 4 to 6 % a frame: up to 24 pixels a frame in the corners."""
    scale = np.exp(sweep(rng, times, rng.uniform(0.04, 0.06), rng.uniform(0.3, 0.5)))
    return similarity(len(times), scale=scale, centre=middle(size))


def tilt(rng: np.random.Generator, size: Size, times: Floats) -> Floats:
    """A camera that turns left and right, up and down, in place: the homography K R K^-1 of all it sees."""
    focal = float(max(size))
    fastest = unit(size) * rng.uniform(2, 8) / focal
    yaw, pitch = wave(rng, times, fastest), wave(rng, times, 0.5 * fastest)
    zero, one = np.zeros_like(times), np.ones_like(times)
    about_y = [[np.cos(yaw), zero, np.sin(yaw)], [zero, one, zero], [-np.sin(yaw), zero, np.cos(yaw)]]
    about_x = [[one, zero, zero], [zero, np.cos(pitch), -np.sin(pitch)], [zero, np.sin(pitch), np.cos(pitch)]]
    rotation = np.moveaxis(np.array(about_y), -1, 0) @ np.moveaxis(np.array(about_x), -1, 0)
    intrinsics = np.diag([focal, focal, 1.0])
    intrinsics[:2, 2] = middle(size)
    return np.asarray(intrinsics @ rotation @ np.linalg.inv(intrinsics))


def handheld(rng: np.random.Generator, size: Size, times: Floats) -> Floats:
    """A slow drift with the tremor of a hand over it."""
    speeds = {(120, 240): 2.0, (40, 80): 1.5, (15, 30): 1.0, (6, 12): 0.8}
    tremor = [
        sum(wave(rng, times + rng.uniform(0, 240), speed, period) for period, speed in speeds.items())
        for _ in range(3)
    ]
    shift = unit(size) * rng.uniform(0.6, 1.4) * np.stack(tremor[:2], axis=-1)
    return similarity(len(times), shift, 0.0015 * np.asarray(tremor[2]), centre=middle(size))


def free(rng: np.random.Generator, size: Size, times: Floats) -> Floats:
    """Pan, roll and zoom at once."""
    shift = unit(size) * np.stack([wave(rng, times, 4), wave(rng, times, 3)], axis=-1)
    angle, scale = wave(rng, times, 0.01), np.exp(wave(rng, times, 0.008))
    return similarity(len(times), shift, angle, scale, middle(size))
