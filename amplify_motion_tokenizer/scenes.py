"""Small rendered clips with exact ground-truth tracks, for tests and for trying the scripts out.

``python -m amplify_motion_tokenizer.scenes --output DIR`` writes some. A scene is a stack of textured
layers, each under its own affine motion: a background that the camera moves over, and sprites above
it. A new kind of scene is one function named in ``KINDS``.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import TokenizerError, UsageError, VideoError
from amplify_motion_tokenizer.trackers.base import inside

Floats = NDArray[np.float64]
Size = tuple[int, int]
Seed = int | Sequence[int]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layer:
    """A textured plane. Its transforms map texture pixels to frame pixels, (x, y, 1) columns."""

    rgb: NDArray[np.float32]
    """(h, w, 3), 0..255."""
    alpha: NDArray[np.float32] | None
    """(h, w), 0 to 1; None covers everything."""
    to_frame: Floats
    """(F, 3, 3), one affine transform for each frame."""

    def covers(self, xy_px: Floats, frame: int) -> NDArray[np.bool_]:
        """Which points (N, 2), in pixels of frame ``frame``, lie on this layer."""
        if self.alpha is None:
            return np.ones(len(xy_px), bool)
        x, y = apply(np.linalg.inv(self.to_frame[frame]), xy_px).astype(np.float32).T
        return np.asarray(cv2.remap(self.alpha, x, y, cv2.INTER_LINEAR).ravel() >= 0.5)

    def paint(self, canvas: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
        """``canvas`` (H, W, 3), 0..255, with this layer drawn over it."""
        matrix, size = self.to_frame[frame, :2], canvas.shape[1::-1]
        rgb = cv2.warpAffine(self.rgb, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        if self.alpha is None:
            return np.asarray(rgb, np.float32)
        alpha = cv2.warpAffine(self.alpha, matrix, size)[..., None]
        return np.asarray(canvas + alpha * (rgb - canvas), np.float32)


@dataclass(frozen=True)
class Scene:
    """Layers, from the background up, seen in ``size`` (height, width)."""

    layers: list[Layer]
    size: Size

    def render(self) -> NDArray[np.uint8]:
        """All frames, (F, H, W, 3) RGB."""
        frames = len(self.layers[0].to_frame)
        video = np.empty((frames, *self.size, 3), np.uint8)
        for index in range(frames):
            canvas = np.zeros((*self.size, 3), np.float32)
            for layer in self.layers:
                canvas = layer.paint(canvas, index)
            video[index] = np.clip(np.rint(canvas), 0, 255)
        return video

    def truth(self, queries_xy_px: NDArray[np.float32], start: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Where the surface points under the queries are from frame ``start`` to the last one.

        Args:
            queries_xy_px: (N, 2) points in frame ``start``, (x, y) pixels.
            start: index of the frame of the queries.

        Returns:
            Tracks (T, N, 2) in (x, y) pixels, and (T, N) whether the point is inside the frame with no
            other layer over it.
        """
        queries = queries_xy_px.astype(np.float64)
        owner = self._top_layer(queries, start)
        to_frame = np.stack([layer.to_frame for layer in self.layers])
        on_texture = apply(np.linalg.inv(to_frame[owner, start]), queries)
        frames = range(start, to_frame.shape[1])
        tracks = np.stack([apply(to_frame[owner, frame], on_texture) for frame in frames])
        seen = [self._top_layer(xy, frame) == owner for xy, frame in zip(tracks, frames, strict=True)]
        return tracks, np.stack(seen) & inside(tracks, self.size)

    def _top_layer(self, xy_px: Floats, frame: int) -> NDArray[np.intp]:
        covers = np.stack([layer.covers(xy_px, frame) for layer in self.layers])
        return np.asarray(len(covers) - 1 - np.argmax(covers[::-1], axis=0))


def apply(matrices: Floats, xy: Floats) -> Floats:
    """Points (N, 2) under one (3, 3) affine transform or one each (N, 3, 3)."""
    return np.asarray((matrices[..., :2, :2] @ xy[..., None])[..., 0] + matrices[..., :2, 2])


def similarity(
    frames: int,
    shift: Floats | float = 0.0,
    angle: Floats | float = 0.0,
    scale: Floats | float = 1.0,
    centre: tuple[float, float] = (0.0, 0.0),
) -> Floats:
    """``frames`` transforms (F, 3, 3) that turn and zoom about ``centre``, then shift.

    Args:
        frames: F.
        shift: (F, 2) or one for all, (x, y) pixels.
        angle: (F,) or one for all, radians, from x towards y.
        scale: (F,) or one for all.
        centre: (x, y) pixels.
    """
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    matrices = np.tile(np.eye(3), (frames, 1, 1))
    matrices[:, 0, 0] = matrices[:, 1, 1] = cos
    matrices[:, 1, 0], matrices[:, 0, 1] = sin, -sin
    matrices[:, :2, 2] = np.array(centre) - matrices[:, :2, :2] @ np.array(centre) + shift
    return matrices


def texture(rng: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """(h, w, 3) of coloured noise in octaves with shapes strewn over it, 0..255."""
    height, width = size
    image = np.full((*size, 3), 128.0, np.float32) + rng.uniform(-40, 40, 3).astype(np.float32)
    shapes = np.zeros_like(image)
    for _ in range(height * width // 1500):
        at = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(3, 24)), int(rng.integers(3, 24)))
        colour = rng.uniform(-60, 60, 3).tolist()
        cv2.ellipse(shapes, at, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    image += cv2.GaussianBlur(shapes, (0, 0), 0.7)
    for cell in (64, 32, 16, 8, 4):
        coarse = rng.uniform(-1, 1, (height // cell + 3, width // cell + 3, 3)).astype(np.float32)
        coarse = 0.4 * coarse + 0.6 * coarse[..., :1]  # mostly brightness, some colour
        fine = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        image += 14.0 * cell**0.3 * fine[:height, :width]
    return np.clip(image, 0, 255)


def background(rng: np.random.Generator, size: Size, camera: Floats) -> Layer:
    """A layer that fills the frame under every transform of ``camera`` (F, 3, 3), world to frame."""
    height, width = size
    corners = np.array([(x, y) for x in (0, width) for y in (0, height)], np.float64)
    seen = np.concatenate([apply(np.linalg.inv(matrix), corners) for matrix in camera])
    low, high = np.floor(seen.min(0)) - 2, np.ceil(seen.max(0)) + 2
    width, height = (int(length) for length in high - low)
    return Layer(texture(rng, (height, width)), None, camera @ similarity(1, shift=low))


def sprite(rng: np.random.Generator, size: Size, camera: Floats) -> Layer:
    """A textured blob that turns and bounces between the borders of the frame's place in the world."""
    frames, unit = len(camera), min(size) / 240
    side = round(unit * rng.uniform(40, 90))
    middle, steps = (side - 1) / 2, np.arange(frames)
    mask = np.zeros((side, side), np.float32)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    outline = middle + (middle - 2) * np.stack([np.cos(angles), np.sin(angles)], 1)
    cv2.fillPoly(mask, [outline.astype(np.int32)], 1.0)
    cv2.circle(mask, (side // 2, side // 2), side // 3, 1.0, -1)
    speed, heading = unit * rng.uniform(0.5, 5), rng.uniform(0, 2 * np.pi)
    velocity = speed * np.array([np.cos(heading), np.sin(heading)])
    room = np.array(size[::-1], float)
    place = rng.uniform(0, room) + steps[:, None] * velocity
    place = room - np.abs(room - place % (2 * room))  # reflected at the borders
    turn = np.float64(rng.uniform(-0.05, 0.05)) * steps
    own = similarity(frames, shift=place - middle, angle=turn, centre=(middle, middle))
    alpha = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.7), np.float32)
    return Layer(texture(rng, (side, side)), alpha, camera @ own)


def _fixed(rng: np.random.Generator, size: Size, frames: int) -> Floats:
    return similarity(frames)


def _pan(rng: np.random.Generator, size: Size, frames: int) -> Floats:
    steps, heading = np.arange(frames), rng.uniform(0, 2 * np.pi)
    way = np.stack([np.cos(heading) * steps, np.sin(heading) * steps], 1)
    return similarity(frames, shift=min(size) / 240 * rng.uniform(0.5, 4) * way)


def _wave(rng: np.random.Generator, frames: int, steepest: float) -> Floats:
    """A sine over time from 0, that changes by at most ``steepest`` in one frame."""
    period = rng.uniform(48, 96)
    height = rng.choice([-1.0, 1.0]) * steepest * period / (2 * np.pi)
    return np.asarray(height * np.sin(2 * np.pi / period * np.arange(frames)))


def _zoom(rng: np.random.Generator, size: Size, frames: int) -> Floats:
    scale = np.exp(_wave(rng, frames, rng.uniform(0.01, 0.025)))
    return similarity(frames, scale=scale, centre=(size[1] / 2, size[0] / 2))


def _roll(rng: np.random.Generator, size: Size, frames: int) -> Floats:
    angle = _wave(rng, frames, rng.uniform(0.01, 0.03))
    return similarity(frames, angle=angle, centre=(size[1] / 2, size[0] / 2))


def _mixed(rng: np.random.Generator, size: Size, frames: int) -> Floats:
    shift = min(size) / 240 * np.stack([_wave(rng, frames, 2), _wave(rng, frames, 1.5)], 1)
    angle, scale = _wave(rng, frames, 0.01), np.exp(_wave(rng, frames, 0.008))
    return similarity(frames, shift, angle, scale, (size[1] / 2, size[0] / 2))


KINDS: dict[str, tuple[Callable[[np.random.Generator, Size, int], Floats], int]] = {
    "pan": (_pan, 0),
    "zoom": (_zoom, 0),
    "roll": (_roll, 0),
    "movers": (_fixed, 4),
    "mixed": (_mixed, 3),
    "still": (_fixed, 0),
}
"""Kinds of scene: the camera's (F, 3, 3) transforms, world to frame, and the number of sprites."""


def make_scene(kind: str, seed: Seed, size: Size, frames: int) -> Scene:
    """The scene of that kind (a key of ``KINDS``), the same one for the same arguments.

    ``size`` is (height, width); speeds are mostly 0.5 to 6 pixels a frame at a shorter side of 240.
    """
    rng = np.random.default_rng(seed)
    camera_path, sprites = KINDS[kind]
    camera = camera_path(rng, size, frames)
    return Scene([background(rng, size, camera), *(sprite(rng, size, camera) for _ in range(sprites))], size)


def render_clip(kind: str, seed: Seed, size: Size, frames: int) -> tuple[NDArray[np.uint8], Scene]:
    """Frames (F, H, W, 3) RGB of ``make_scene``, and the scene, which knows the true tracks."""
    scene = make_scene(kind, seed, size, frames)
    return scene.render(), scene


def write_clip(path: Path, video: NDArray[np.uint8], fps: float) -> None:
    """Writes ``video`` (F, H, W, 3) RGB to an mp4 file that appears only when it is complete."""
    height, width = video.shape[1:3]
    part = path.with_name(f".{path.stem}.part.mp4")
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        raise VideoError(f"{path}: OpenCV cannot write an mp4 file here")
    try:
        for frame in video:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_clips(output: Path, clips: int, seed: int, size: Size, frames: int, fps: float) -> None:
    """Writes ``clips`` clips, cycling through ``KINDS``.

    Raises:
        VideoError: OpenCV cannot write there.
        UsageError: ``size`` is odd or under 32 pixels, or a number is not positive.
    """
    if min(size) < 32 or any(side % 2 for side in size):
        raise UsageError(f"size {size[0]}x{size[1]} cannot be written; sides must be even, 32 or more")
    if min(clips, frames, fps) <= 0:
        raise UsageError(f"clips, frames and fps must be above 0, not {clips}, {frames} and {fps}")
    output.mkdir(parents=True, exist_ok=True)
    for index, kind in zip(range(clips), itertools.cycle(KINDS)):
        path = output / f"{index:03d}_{kind}.mp4"
        write_clip(path, render_clip(kind, (seed, index), size, frames)[0], fps)
        log.info("%s", path)


def _size(text: str) -> Size:
    height, width = map(int, text.split("x"))
    return height, width


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m amplify_motion_tokenizer.scenes", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the clips")
    parser.add_argument("--clips", type=int, default=6, help="number of clips (default 6)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same clips")
    parser.add_argument("--size", type=_size, default="240x320", help="HEIGHTxWIDTH (default 240x320)")
    parser.add_argument("--frames", type=int, default=64, help="frames of a clip (default 64)")
    parser.add_argument("--fps", type=float, default=20.0, help="frames per second (default 20)")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        write_clips(**vars(parser.parse_args(arguments)))
    except TokenizerError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
