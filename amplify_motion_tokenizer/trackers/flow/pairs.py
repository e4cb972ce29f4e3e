"""Dense flow of neighbouring frames, both ways, and how far a step along it can be trusted.

Flow is DIS (Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search") as OpenCV has it. The
forward-backward check is that of Sundaram et al. 2010, "Dense point trajectories by GPU-accelerated large
displacement optical flow".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.errors import TrackerError

Floats = NDArray[np.float32]

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
PATCH_PX = 8
"""Side of the patches that DIS matches; a pyramid level smaller than one gives NaN, not an error."""
MIN_SIDE_PX = 2 * PATCH_PX
"""Shortest side of the frames that flow is computed on."""


@dataclass(frozen=True)
class Scale:
    """From pixels of the frames to those of the smaller image that flow is computed on, and back."""

    size: tuple[int, int]
    """(height, width) of the frames."""
    image_size: tuple[int, int]

    @property
    def ratio_xy(self) -> Floats:
        """Image pixels in a frame pixel; rounding makes those of the two axes slightly different."""
        pairs = zip(self.image_size, self.size, strict=True)
        return np.array([image / frame for image, frame in pairs][::-1], np.float32)

    def to_image(self, xy_px: Floats) -> Floats:
        """Points (..., 2) of a frame in pixels of the image; centres are at whole numbers in both."""
        return np.asarray((xy_px + np.float32(0.5)) * self.ratio_xy - np.float32(0.5))

    def to_frame(self, xy: Floats) -> Floats:
        """The reverse of ``to_image``."""
        return np.asarray((xy + np.float32(0.5)) / self.ratio_xy - np.float32(0.5))


@dataclass(frozen=True)
class Pair:
    """Two neighbouring frames."""

    scale: Scale
    before: NDArray[np.uint8]
    """(h, w) the first, grey, at the size that flow is computed on."""
    after: NDArray[np.uint8]
    """(h, w) the second."""
    forward: Floats
    """(h, w, 2) flow from the first to the second, in pixels of ``before``."""
    backward: Floats
    """The reverse, in pixels of ``after``."""

    def step(self, xy_px: Floats) -> tuple[Floats, Floats]:
        """Moves points along the flow.

        Args:
            xy_px: (N, 2), (x, y) in pixels of the first frame.

        Returns:
            (N, 2) points in the second frame, and (N,) ``pair_confidence``.
        """
        there = sample_flow(self.forward, xy_px, self.scale)
        moved = xy_px + there
        return moved, pair_confidence(there, sample_flow(self.backward, moved, self.scale))


class PairFlow:
    """Computes the flow of pairs of one clip, at the size that ``FlowConfig.scale`` asks for."""

    def __init__(self, config: FlowConfig) -> None:
        self._config = config
        # Any: OpenCV's stubs forbid the None that asks for a new array
        self._dis: Any = cv2.DISOpticalFlow.create(PRESETS[config.preset])
        self._scale: Scale | None = None
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    def pair(self, index: int, source: NDArray[np.uint8], target: NDArray[np.uint8]) -> Pair:
        """Frame ``index``, ``source``, and the next, ``target``, (H, W, 3) RGB.

        Raises:
            TrackerError: frames smaller than 16 pixels, or not of the size of earlier ones.
        """
        if self._scale is None:
            self._scale = self._choose_scale(_size(source))
        kept = self._last is not None and self._last[0] == index
        before = self._last[1] if self._last is not None and kept else self._grey(source, self._scale)
        after = self._grey(target, self._scale)
        self._last = (index + 1, after)
        forward, backward = self._dis.calc(before, after, None), self._dis.calc(after, before, None)
        return Pair(self._scale, before, after, forward, backward)

    def _choose_scale(self, size: tuple[int, int]) -> Scale:
        if min(size) < MIN_SIDE_PX:
            raise TrackerError(
                f"frames of {size[1]}x{size[0]} are too small for optical flow, which needs "
                f"{MIN_SIDE_PX} pixels on the shorter side; raise video.resize_shorter"
            )
        ratio = max(self._config.scale, MIN_SIDE_PX / min(size))
        image_size = (round(size[0] * ratio), round(size[1] * ratio))
        coarsest = (min(image_size) // PATCH_PX).bit_length() - 1
        self._dis.setFinestScale(min(self._config.finest_scale, coarsest))
        return Scale(size, image_size)

    def _grey(self, rgb: NDArray[np.uint8], scale: Scale) -> NDArray[np.uint8]:
        if _size(rgb) != scale.size:
            raise TrackerError(f"frames of one clip differ in size: {scale.size} and {_size(rgb)}")
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        height, width = scale.image_size
        return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _size(frame: NDArray[np.uint8]) -> tuple[int, int]:
    return frame.shape[0], frame.shape[1]


def sample_flow(flow: Floats, xy_px: Floats, scale: Scale) -> Floats:
    """Flow at points, bilinear, with the border's flow for points outside the frame.

    Args:
        flow: (h, w, 2) flow in pixels of its own field, which may be smaller than the frames.
        xy_px: (N, 2) points, (x, y) in pixels of the frames.
        scale: from the frames to the field.

    Returns:
        (N, 2) flow in pixels of the frames.
    """
    x, y = np.split(scale.to_image(xy_px), 2, axis=1)
    sampled = cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled[:, 0] / scale.ratio_xy, np.float32)


def pair_confidence(there: Floats, back: Floats) -> Floats:
    """Confidence in a step from its forward-backward error, (..., 2) pixels to (...) in [0, 1].

    1 / (1 + r) with r = |there + back|^2 / (0.01 (|there|^2 + |back|^2) + 0.5): at r = 1, confidence
    0.5, is the occlusion threshold of Sundaram et al. 2010.
    """
    error = _squared_length(there + back)
    allowed = np.float32(0.01) * (_squared_length(there) + _squared_length(back)) + np.float32(0.5)
    return np.asarray(allowed / (allowed + error), np.float32)


def _squared_length(xy: Floats) -> Floats:
    return np.asarray(xy[..., 0] ** 2 + xy[..., 1] ** 2, np.float32)  # a sum over axis -1 is 5x slower
