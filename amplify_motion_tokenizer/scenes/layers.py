"""Scenes of layered textures, drawn so that each surface point lies where ``Scene.truth`` says.

Coordinates are (x, y) pixels of the frame, the centre of the top-left pixel being (0, 0). Letters:
F frames, M exposures, N points, H and W frame height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.geometry import inside
from amplify_motion_tokenizer.video.pixels import bilinear

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]
Size = tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """A textured plane, moved by transforms that map (x, y, 1) of its texels to frame pixels."""

    rgb: Image
    """(h, w, 3). Finer than the frames and without detail below a pixel, so that sampling it at any
    place neither aliases nor blurs it more than at another."""
    alpha: NDArray[np.float32] | None
    """(h, w), 0 to 1; None covers everything."""
    to_frame: Floats
    """(M, 3, 3), a projective transform for each exposure."""

    def covers(self, xy_px: Floats, exposure: int) -> NDArray[np.bool_]:
        """Which points (N, 2), in frame pixels at ``exposure``, lie on this layer: alpha 0.5 or more."""
        if self.alpha is None:
            return np.ones(len(xy_px), bool)
        x, y = apply(np.linalg.inv(self.to_frame[exposure]), xy_px).astype(np.float32).T[..., None]
        return bilinear(self.alpha, x, y, cv2.BORDER_CONSTANT)[:, 0] >= 0.5

    def paint(self, canvas: Image, exposure: int) -> None:
        """Draws this layer over ``canvas`` (H, W, 3), in place."""
        matrix, size = self.to_frame[exposure], canvas.shape[1::-1]
        if self.alpha is None:
            cv2.warpPerspective(self.rgb, matrix, size, dst=canvas, borderMode=cv2.BORDER_REPLICATE)
            return
        left, top, right, bottom = self._bounds(matrix, size)
        if left >= right or top >= bottom:
            return
        matrix = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]]) @ matrix
        size = (right - left, bottom - top)
        rgb = cv2.warpPerspective(self.rgb, matrix, size, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        alpha = cv2.warpPerspective(self.alpha, matrix, size)[..., None]
        under = canvas[top:bottom, left:right]
        under[:] = np.rint(under + alpha * (rgb - under))

    def _bounds(self, matrix: Floats, size: Size) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the part of a frame of ``size`` (width, height) that it touches."""
        corners = apply(matrix, rectangle(-1, -1, self.rgb.shape[1], self.rgb.shape[0]))
        low = np.clip(np.floor(corners.min(0)), 0, size).astype(int)
        high = np.clip(np.ceil(corners.max(0)) + 1, 0, size).astype(int)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])


@dataclass(frozen=True)
class Scene:
    """Layers, from the background up, seen in ``size`` (height, width)."""

    layers: list[Layer]
    size: Size
    exposures: int = 1
    """Odd number of exposures that are averaged into one frame, for motion blur. The truth is that of
    the middle one, so frame f has the transforms of index f * exposures + exposures // 2."""

    def __len__(self) -> int:
        """Number of frames, F."""
        return len(self.layers[0].to_frame) // self.exposures

    def render(self) -> Image:
        """All frames, (F, H, W, 3) RGB."""
        return np.stack([self.frame(index) for index in range(len(self))])

    def frame(self, index: int) -> Image:
        """Frame ``index``, (H, W, 3) RGB."""
        first = index * self.exposures
        if self.exposures == 1:
            return self._expose(first)
        light = np.zeros((*self.size, 3), np.float32)
        for exposure in range(first, first + self.exposures):
            light += self._expose(exposure)
        return np.rint(light / self.exposures).astype(np.uint8)

    def truth(
        self, queries_xy_px: NDArray[np.floating], start: int, length: int | None = None
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Where the surface points under the queries are in the frames from ``start`` on.

        For a clip of which only every n-th frame is used, take every n-th row.

        Args:
            queries_xy_px: (N, 2) points in frame ``start``, (x, y) pixels.
            start: index of the frame of the queries.
            length: T, number of frames; None goes to the last one.

        Returns:
            Tracks (T, N, 2) in (x, y) pixels, and (T, N) whether the point is inside the frame with no
            other layer over it.
        """
        end = len(self) if length is None else start + length
        exposures = [frame * self.exposures + self.exposures // 2 for frame in range(start, end)]
        queries = queries_xy_px.astype(np.float64)
        owner = self.top_layer(queries, exposures[0])
        to_frame = np.stack([layer.to_frame[exposures] for layer in self.layers])
        on_texture = apply(np.linalg.inv(to_frame[owner, 0]), queries)
        tracks = np.stack([apply(to_frame[owner, step], on_texture) for step in range(len(exposures))])
        tracks[0] = queries  # to the last bit, so that a query on an edge is on the same side of it
        seen = [self.top_layer(xy, at) == owner for xy, at in zip(tracks, exposures, strict=True)]
        return tracks, np.stack(seen) & inside(tracks, self.size)

    def camera(self, start: int, length: int) -> Floats:
        """(length, 3, 3) maps of (x, y, 1) by which the lowest layer moves from frame ``start`` on."""
        frames = np.arange(start, start + length)
        to_frame = self.layers[0].to_frame[frames * self.exposures + self.exposures // 2]
        return np.asarray(to_frame @ np.linalg.inv(to_frame[0]))

    def top_layer(self, xy_px: Floats, exposure: int) -> NDArray[np.intp]:
        """Which layer is seen at each point (N, 2) of the frame, at ``exposure``: its index (N,)."""
        covers = np.stack([layer.covers(xy_px, exposure) for layer in self.layers])
        return np.asarray(len(covers) - 1 - np.argmax(covers[::-1], axis=0))

    def _expose(self, exposure: int) -> Image:
        canvas = np.zeros((*self.size, 3), np.uint8)
        for layer in self.layers:
            layer.paint(canvas, exposure)
        return canvas


def apply(matrices: Floats, xy: Floats) -> Floats:
    """Points (N, 2) under one (3, 3) projective transform or one each (N, 3, 3)."""
    moved = (matrices[..., :2] @ xy[..., None])[..., 0] + matrices[..., 2]
    return np.asarray(moved[..., :2] / moved[..., 2:])


def rectangle(left: float, top: float, right: float, bottom: float) -> Floats:
    """The four corners, (4, 2), in order around it."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
