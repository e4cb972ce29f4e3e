"""What a camera and its file do to rendered frames: light, defocus, noise and compression.

Motion blur is not among them, because it needs the scene: ``Scene.exposures``.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.scenes.layers import Floats, Image
from amplify_motion_tokenizer.scenes.motions import unit, wave


@dataclass(frozen=True)
class Effects:
    """How strong each effect is; the defaults leave frames as they are. None moves anything."""

    light: float = 0.0
    """Change of exposure, gamma and colour over time: 1 is up to about a third brighter or darker."""
    shadow: float = 0.0
    """Share of the light that a shadow takes, which sweeps over the frame."""
    bands: float = 0.0
    """Share of the light that is missing in the middle of dark bands, which roll down the rows."""
    defocus: float = 0.0
    """Standard deviation of the blur in pixels of a 480 x 640 frame."""
    noise: float = 0.0
    """Standard deviation of the sensor's noise at mid-grey, in levels of 255; it is less in the dark."""
    jpeg: int | None = None
    """Quality, 1 to 100, at which each frame is compressed and read again."""

    def apply(self, video: Image, rng: np.random.Generator) -> Image:
        """Frames (F, H, W, 3) RGB with the effects; the input is not changed."""
        if self == Effects():
            return video
        frames, size = len(video), video.shape[1:3]
        tables = _light_tables(rng, frames, self.light) if self.light else None
        shadows = _shadow_lines(rng, frames, size) if self.shadow else None
        bands = _row_gains(rng, frames, size, self.bands) if self.bands else None
        result = np.empty_like(video)
        for index, frame in enumerate(video):
            image = frame if tables is None else cv2.LUT(frame, tables[index])
            if shadows is not None:
                image = _round(image * (1 - self.shadow * _band(shadows[index], size))[..., None])
            if bands is not None:
                image = _round(image * bands[index][:, None, None])
            if self.defocus:
                image = cv2.GaussianBlur(image, (0, 0), self.defocus * unit(size))
            if self.noise:
                image = _with_noise(rng, image, self.noise)
            result[index] = image if self.jpeg is None else _through_jpeg(image, self.jpeg)
        return result


def _light_tables(rng: np.random.Generator, frames: int, strength: float) -> NDArray[np.uint8]:
    """(F, 1, 256, 3): what becomes of each level of each colour."""
    times, levels = np.arange(frames, dtype=np.float64), np.linspace(0, 1, 256)
    gain = wave(rng, times, 0.02 * strength, (50, 90))[:, None]
    tint = np.stack([wave(rng, times, 0.005 * strength) for _ in range(3)], axis=1)
    gamma = np.exp(wave(rng, times, 0.015 * strength))
    curves = np.exp(gain + tint)[:, None] * (levels ** gamma[:, None])[..., None]
    return _round(255 * curves)[:, None]


def _shadow_lines(rng: np.random.Generator, frames: int, size: tuple[int, int]) -> Floats:
    """(F, 3): a, b, c of the shadow's axis a x + b y = c in each frame, in pixels."""
    heading, speed = rng.uniform(0, 2 * np.pi), unit(size) * rng.uniform(4, 12)
    normal = np.array([np.cos(heading), np.sin(heading)])
    middle = normal @ np.array(size[::-1]) / 2
    across = middle + speed * (np.arange(frames) - rng.uniform(0.3, 0.7) * frames)
    return np.concatenate([np.tile(normal, (frames, 1)), across[:, None]], axis=1)


def _row_gains(rng: np.random.Generator, frames: int, size: tuple[int, int], depth: float) -> Floats:
    """(F, H): a sine over the rows, as lamps that flicker give where rows are read one after another."""
    period, speed = unit(size) * rng.uniform(120, 240), rng.uniform(0.2, 0.45)
    phase = np.arange(size[0]) / period - speed * np.arange(frames)[:, None] + rng.uniform(0, 1)
    return np.asarray(1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * phase)))


def _band(line: Floats, size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W): 1 in the shadow of a post along ``line``, 0 outside, with a soft edge."""
    x, y = np.arange(size[1], dtype=np.float32), np.arange(size[0], dtype=np.float32)[:, None]
    away = np.abs(np.float32(line[0]) * x + np.float32(line[1]) * y - np.float32(line[2])) / unit(size)
    return np.asarray(np.clip((110 - away) / 40, 0, 1), np.float32)


def _with_noise(rng: np.random.Generator, image: Image, deviation: float) -> Image:
    """Half of the noise's variance at mid-grey is the sensor's own, the rest grows with the light."""
    spread = np.sqrt(0.5 + np.arange(256, dtype=np.float32) / 255) * deviation
    return _round(image + np.take(spread, image) * rng.standard_normal(image.shape, np.float32))


def _through_jpeg(image: Image, quality: int) -> Image:
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
    if read is None:
        raise VideoError("OpenCV cannot compress frames as JPEG here")
    return np.asarray(read[..., ::-1], np.uint8)


def _round(levels: NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)
