"""What scenes are made of: layers, each a texture with an outline and a path.

``camera`` (M, 3, 3) maps the world to the frame at each of ``times``, in frames.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from amplify_motion_tokenizer.scenes.layers import Floats, Image, Layer, Size, apply, rectangle
from amplify_motion_tokenizer.scenes.motions import along, similarity, sweep, unit, wave
from amplify_motion_tokenizer.scenes.textures import DENSITY, Mask, bar, bar_joint, blob, leaves

Texture = Callable[[np.random.Generator, Size], Image]


def background(rng: np.random.Generator, size: Size, camera: Floats, texture: Texture = leaves) -> Layer:
    """A layer that fills a frame of ``size`` (height, width) whatever the camera does."""
    corners = rectangle(0, 0, size[1], size[0])
    seen = np.concatenate([apply(np.linalg.inv(matrix), corners) for matrix in camera])
    low, high = np.floor(seen.min(0)) - 2, np.ceil(seen.max(0)) + 2
    width, height = (int(DENSITY * length) for length in high - low)
    return Layer(texture(rng, (height, width)), None, camera @ similarity(1, low, scale=1 / DENSITY))


def cut_out(rng: np.random.Generator, alpha: Mask, origin: tuple[float, float], poses: Floats) -> Layer:
    """A textured layer with the outline ``alpha``, whose texel ``origin`` (x, y) is the poses' (0, 0)."""
    to_origin = similarity(1, -np.array(origin) / DENSITY, scale=1 / DENSITY)
    return Layer(leaves(rng, (alpha.shape[0], alpha.shape[1])), alpha, poses @ to_origin)


def _large(rng: np.random.Generator, size: Size, poses: Floats) -> Layer:
    """A rounded object of 55 to 110 pixels' radius (at 480 x 640) about the poses' (0, 0)."""
    return _thing(rng, poses, unit(size) * rng.uniform(55, 110))


def _thing(rng: np.random.Generator, poses: Floats, radius: float) -> Layer:
    """A rounded object of about ``radius`` pixels about the poses' (0, 0)."""
    alpha = blob(rng, radius)
    centre = (alpha.shape[0] - 1) / 2
    return cut_out(rng, alpha, (centre, centre), poses)


def mover(rng: np.random.Generator, size: Size, camera: Floats, times: Floats) -> Layer:
    """An object that turns, comes nearer and goes, and travels between the borders of the world's frame."""
    speed, heading = unit(size) * rng.uniform(1, 8), rng.uniform(0, 2 * np.pi)
    room = np.array(size[::-1]) / 2
    x, y = (
        sweep(rng, times, max(abs(part), 0.1), half)
        for part, half in zip(speed * along(heading, np.array(1.0)), room, strict=True)
    )
    scale = np.exp(wave(rng, times, rng.uniform(0, 0.006)))
    turn = rng.uniform(0, 6) + wave(rng, times, rng.uniform(0, 0.05))
    own = similarity(len(times), room + np.stack([x, y], axis=-1), turn, scale)
    return _large(rng, size, camera @ own)


def speck(rng: np.random.Generator, size: Size, camera: Floats, times: Floats) -> Layer:
    """An object of some 16 pixels' width that travels to and fro from a place in the world's frame."""
    speed, heading = unit(size) * rng.uniform(2, 8), rng.uniform(0, 2 * np.pi)
    path = rng.uniform(0.1, 0.9, 2) * size[::-1] + along(heading, sweep(rng, times, speed, 16 * speed))
    return _thing(rng, camera @ similarity(len(times), path, rng.uniform(0, 6)), unit(size) * 10)


def passer(rng: np.random.Generator, size: Size, camera: Floats, times: Floats) -> Layer:
    """An object that crosses a border of the world's frame during the clip, inwards or outwards."""
    side, place = int(rng.integers(4)), rng.uniform(0.15, 0.85)
    height, width = size
    border = [(0, place * height), (place * width, 0), (width, place * height), (place * width, height)][side]
    inwards = side * np.pi / 2 + rng.uniform(-0.7, 0.7)
    way = rng.choice([-1.0, 1.0]) * unit(size) * rng.uniform(2.5, 10)
    crossing = rng.uniform(0.1, 0.9) * times[-1]
    path = np.array(border) + along(inwards, way * (times - crossing))
    own = similarity(len(times), path, rng.uniform(0, 6) + rng.uniform(-0.03, 0.03) * times)
    return _large(rng, size, camera @ own)


def arm(rng: np.random.Generator, size: Size, camera: Floats, times: Floats) -> list[Layer]:
    """Two or three bars in a chain, that swing about their joints; the first joint stays in the world."""
    foot = rng.uniform((0.15, 0.4), (0.85, 0.95)) * size[::-1]
    swing = wave(rng, times, rng.uniform(0.01, 0.03))
    poses = camera @ similarity(len(times), foot, -np.pi / 2 + rng.uniform(-0.5, 0.5) + swing)
    layers = []
    for part in range(int(rng.integers(2, 4))):
        length = unit(size) * rng.uniform(110, 170) * 0.8**part
        width = unit(size) * rng.uniform(44, 64) * 0.8**part
        joint = float(bar_joint(width))
        layers.append(cut_out(rng, bar(length, width), (joint, joint), poses))
        bend = rng.uniform(-0.8, 0.8) + wave(rng, times, rng.uniform(0.02, 0.06), (30, 70))
        poses = poses @ similarity(len(times), np.array([length, 0.0]), bend)
    return layers


def post(rng: np.random.Generator, size: Size, camera: Floats, at: float) -> Layer:
    """An upright bar, taller than the frame, that stands at ``at`` of the world frame's width."""
    height, width = size
    thickness = unit(size) * rng.uniform(24, 60)
    poses = similarity(1, np.array([at * width, -0.25 * height]), np.pi / 2 + rng.uniform(-0.1, 0.1))
    joint = float(bar_joint(thickness))
    return cut_out(rng, bar(1.5 * height, thickness), (joint, joint), camera @ poses)
