"""Frames to windows of T frames, their first frames, and the gate that drops those that are still."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import GateConfig
from amplify_motion_tokenizer.datatypes import Frame, FrameWindow


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
    """Tells windows with motion from still ones, by differences of small grey copies.

    Each frame is shrunk once and each pair compared once, however many windows cover it.
    One gate serves one clip.
    """

    def __init__(self, config: GateConfig) -> None:
        self.config = config
        self._small: dict[int, NDArray[np.uint8]] = {}
        self._pairs: dict[int, tuple[float, float]] = {}

    def moves(self, window: FrameWindow) -> bool:
        """True when the window's mean absolute difference or active share reaches its threshold.

        Both are means over the window's T - 1 frame pairs, of grey values scaled to 0..1.
        """
        first, last = window.start, window.start + len(window.frames) - 1
        self._forget_before(first)
        pairs = np.array([self._difference(window, index) for index in range(first, last)])
        mean_difference, active_share = pairs.mean(axis=0)
        return bool(
            mean_difference >= self.config.min_mean_difference or active_share >= self.config.min_active_share
        )

    def _difference(self, window: FrameWindow, index: int) -> tuple[float, float]:
        if index not in self._pairs:
            before, after = (self._grey(window, i) for i in (index, index + 1))
            change = cv2.absdiff(before, after).astype(np.float32) / 255.0
            self._pairs[index] = float(change.mean()), float((change > self.config.pixel_threshold).mean())
        return self._pairs[index]

    def _grey(self, window: FrameWindow, index: int) -> NDArray[np.uint8]:
        if index not in self._small:
            grey = cv2.cvtColor(window.frames[index - window.start], cv2.COLOR_RGB2GRAY)
            scale = min(1.0, self.config.resize_shorter / min(grey.shape))
            size = tuple(max(1, round(side * scale)) for side in grey.shape[::-1])
            self._small[index] = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        return self._small[index]

    def _forget_before(self, first: int) -> None:
        for kept in (self._small, self._pairs):
            for index in [index for index in kept if index < first]:
                del kept[index]
