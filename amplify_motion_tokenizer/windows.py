"""Frames to windows of T frames, their first frames, and the gate that drops those that are still."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import GateConfig
from amplify_motion_tokenizer.datatypes import Frame, FrameWindow

LEAST_LIGHT = 16
"""Grey levels added to the means by which frames are brought to one light: near black, they tell little."""


def iter_windows(frames: Iterable[Frame], length: int, stride: int) -> Iterator[FrameWindow]:
    """Yields every window of ``length`` frames that starts at a multiple of ``stride``.

    Holds at most ``length`` frames; a tail of fewer frames than a window is not yielded.
    """
    held: deque[Frame] = deque(maxlen=length)
    for index, frame in enumerate(frames):
        held.append(frame)
        start = index - length + 1
        if start >= 0 and start % stride == 0:
            yield FrameWindow(start, held[0].time_s, [held_frame.rgb for held_frame in held])


def small_frame(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A frame (H, W, 3), RGB, stretched to (side, side, 3): what vision encoders are conditioned on.

    Bilinear without antialiasing, as AMPLIFY stretches frames to 224 x 224. With a side of 224 the model
    sees that stretch of the tracked frame, rounded to whole levels (less than one level apart). With the
    side of a square frame nothing changes, and the stretch is the model's. Any other side means that frames
    are resampled twice. The tracked frame itself was resized from the source's, and may be padded.
    """
    if rgb.shape[:2] == (side, side):
        return rgb
    return np.asarray(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


class MotionGate:
    """Tells windows with motion from still ones, by how small grey copies of its frames differ.

    Every frame is held against the mean of its window's frames: faint or slow motion adds up there, and
    the noise of single frames does not. The copies are so small that noise averages out, and brought to
    one brightness, as light that changes is no motion. Each frame is shrunk once, however many windows
    cover it. One gate serves one clip.
    """

    def __init__(self, config: GateConfig) -> None:
        self.config = config
        self._small: dict[int, tuple[NDArray[np.float32], np.float32]] = {}

    def moves(self, window: FrameWindow) -> bool:
        """True when the window's mean absolute difference or active share reaches its threshold.

        Both are means over the window's T frames, of grey values scaled to 0..1, all frames at the light of
        the brightest.
        """
        self._small = {index: small for index, small in self._small.items() if index >= window.start}
        copies, levels = zip(*(self._shrunk(window, i) for i in range(len(window.frames))), strict=True)
        lights = np.array(levels, np.float32) + LEAST_LIGHT
        gains = lights.max() / lights / 255
        frames = np.stack(copies) * gains[:, None, None]
        change = np.abs(frames - frames.mean(axis=0))
        return bool(
            change.mean() >= self.config.min_mean_difference
            or (change > self.config.pixel_threshold).mean() >= self.config.min_active_share
        )

    def _shrunk(self, window: FrameWindow, index: int) -> tuple[NDArray[np.float32], np.float32]:
        """Small grey copy of the window's frame ``index``, 0..255, and its mean."""
        key = window.start + index
        if key not in self._small:
            grey = cv2.cvtColor(window.frames[index], cv2.COLOR_RGB2GRAY).astype(np.float32)
            scale = min(1.0, self.config.resize_shorter / min(grey.shape))
            size = tuple(max(1, round(side * scale)) for side in grey.shape[::-1])
            small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
            self._small[key] = small, np.float32(small.mean())
        return self._small[key]
