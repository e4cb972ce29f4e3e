"""Procedural textures with the statistics of photographs, and the outlines of objects.

Textures are drawn at ``DENSITY`` texels a pixel, then blurred to what a frame can hold. Sizes are
(height, width) in texels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.scenes.layers import Floats, Image, Size

DENSITY = 2
"""Texels per pixel of a frame at scale 1."""

_LENS = 1.0
"""Standard deviation in texels of the blur that takes out what is finer than a frame's pixels."""

Mask = NDArray[np.float32]


def leaves(rng: np.random.Generator, size: Size) -> Image:
    """(h, w, 3): shapes strewn over each other, each with its own colour and grain.

    The dead leaves model of photographs: shapes of all sizes hide each other, their areas follow a
    power law, and so edges appear at every scale and the spectrum falls as in nature.
    """
    radii = _power_law(rng, size, least=5.0, most=max(16.0, min(size) / 2.5))
    places = rng.uniform(0, 1, (len(radii), 2))
    fills = np.concatenate([_leaf_colours(rng, places), rng.uniform(0.3, 1.5, (len(radii), 1))], axis=1)
    image = np.full((*size, 4), fills[0], np.float32)  # colour, and how strong the grain is
    for outline, fill in zip(_outlines(rng, places * size[::-1], radii), fills.tolist(), strict=True):
        cv2.fillConvexPoly(image, outline, fill)
    return _through_lens(image[..., :3] + image[..., 3:] * _clouds(rng, size, rng.uniform(5, 11)))


def wall(rng: np.random.Generator, size: Size) -> Image:
    """(h, w, 3): a plain surface, such as a wall or the sky: a gradient, faint clouds, a few soft edges."""
    height, width = size
    colour, change = _palette(rng, 1)[0], rng.uniform(-25, 25) + rng.uniform(-8, 8, 3)
    heading = rng.uniform(0, 2 * np.pi)
    down, right = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    across = np.cos(heading) * right + np.sin(heading) * down
    image = (colour + change * across[..., None]).astype(np.float32)
    shapes = np.zeros_like(image)
    count = int(rng.integers(6, 12))
    radii = rng.uniform(0.05, 0.4, count) * min(size)
    centres = rng.uniform(0, 1, (count, 2)) * size[::-1]
    fills = rng.uniform(-14, 14, (count, 1)) + rng.uniform(-3, 3, (count, 3))
    for outline, fill in zip(_outlines(rng, centres, radii), fills.tolist(), strict=True):
        cv2.fillConvexPoly(shapes, outline, fill)
    image += np.asarray(cv2.GaussianBlur(shapes, (0, 0), 2.0))
    return _through_lens(image + _clouds(rng, size, 0.6))


def blob(rng: np.random.Generator, radius: float) -> Mask:
    """The alpha of a rounded object of about ``radius`` pixels, the object's middle in its middle."""
    half = int(np.ceil(DENSITY * radius)) + 3
    angles = np.arange(64) * 2 * np.pi / 64
    bumps = sum(rng.uniform(-0.3, 0.3) / k * np.cos(k * angles + rng.uniform(0, 6)) for k in (2, 3, 4, 5))
    reach = DENSITY * radius * np.clip(0.75 + np.asarray(bumps), 0.3, 1)
    outline = half + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _filled((2 * half + 1, 2 * half + 1), outline)


def bar(length: float, width: float) -> Mask:
    """The alpha of a bar that lies along x, with round ends about two joints ``length`` pixels apart.

    The joints are ``bar_joint`` from the left and right borders, half way down.
    """
    half = bar_joint(width)
    angles = np.linspace(-np.pi / 2, np.pi / 2, 24)
    cap = DENSITY * width / 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outline = np.concatenate([cap + (DENSITY * length, 0), -cap]) + half
    return _filled((2 * half + 1, 2 * half + 1 + round(DENSITY * length)), outline)


def bar_joint(width: float) -> int:
    """Texels from the borders of a ``bar`` to its joint."""
    return int(np.ceil(DENSITY * width / 2)) + 3


def _filled(size: Size, outline: Floats) -> Mask:
    mask, fine = np.zeros(size, np.float32), 4
    cv2.fillPoly(mask, [np.rint(outline * 2**fine).astype(np.int32)], 1.0, shift=fine)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), _LENS), np.float32)


def _leaf_colours(rng: np.random.Generator, places: Floats) -> Floats:
    """(N, 3) colours of leaves at ``places`` (N, 2), (x, y) from 0 to 1.

    Neighbours resemble each other: what is bright or dark comes in regions.
    """
    colours, side = _palette(rng, int(rng.integers(5, 10))), 16
    column, row = (places * side).astype(int).T
    regions = _clouds(rng, (side, side), 0.2).mean(axis=2)[row, column]
    shares = np.clip(0.5 + regions + rng.normal(0, 0.2, len(places)), 0, 0.999)
    chosen = colours[(shares * len(colours)).astype(int)]
    return np.asarray(chosen + rng.normal(0, 10, (len(places), 1)))


def _palette(rng: np.random.Generator, count: int) -> Floats:
    """(count, 3) colours from dark to bright, close to grey as most of the world is, around one tint."""
    brightness = (np.arange(count) + rng.uniform(0, 1, count)) / count
    tint = rng.normal(0, 9, 3) + rng.normal(0, 12, (count, 3))
    return np.asarray(30 + 190 * brightness[:, None] + tint)


def _power_law(rng: np.random.Generator, size: Size, least: float, most: float) -> Floats:
    """Radii with a density of r^-3, enough to cover ``size`` five times over, were they discs."""
    area = 2 * np.pi * least**2 * np.log(most / least)
    shares = rng.uniform(0, 1, int(np.ceil(5 * size[0] * size[1] / area)))
    return np.asarray((least**-2 + shares * (most**-2 - least**-2)) ** -0.5)


def _outlines(rng: np.random.Generator, centres: Floats, radii: Floats) -> NDArray[np.int32]:
    """(N, 12, 2): ellipses, triangles, rectangles and pentagons, flattened and turned at random.

    Those with fewer than 12 corners have corners that coincide.
    """
    corners = rng.choice([3, 4, 5, 12], (len(radii), 1))
    around = np.floor(np.arange(12) * corners / 12) * 2 * np.pi / corners + np.pi / 4
    x, y = np.cos(around), np.sin(around) * rng.uniform(0.3, 1, (len(radii), 1))
    angle = rng.uniform(0, 2 * np.pi, (len(radii), 1))
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    return np.asarray(np.rint(centres[:, None] + radii[:, None, None] * turned), np.int32)


def _clouds(rng: np.random.Generator, size: Size, contrast: float) -> NDArray[np.float32]:
    """(h, w, 3) of noise with a 1/f spectrum, mostly grey; each octave has the deviation ``contrast``."""
    octaves = max(1, int(np.log2(max(size))) - 2)
    shapes = [(-(-size[0] >> k) + 2, -(-size[1] >> k) + 2) for k in range(octaves, 0, -1)]
    field = np.zeros((*shapes[0], 3), np.float32)
    for height, width in shapes:
        field = np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR))
        noise = rng.standard_normal((height, width, 3), np.float32)
        field += contrast * (0.4 * noise + noise.mean(axis=2, keepdims=True))
    return np.asarray(cv2.resize(field, size[::-1], interpolation=cv2.INTER_LINEAR))


def _through_lens(image: NDArray[np.float32]) -> Image:
    return np.clip(np.rint(cv2.GaussianBlur(image, (0, 0), _LENS)), 0, 255).astype(np.uint8)
