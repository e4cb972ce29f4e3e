"""The motion gate: drops windows in which nothing moves before they are tracked."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.trackers.windows import FrameWindow

SHORTER_PX = 48
"""Shorter side in pixels of the copies that are compared."""

PIXEL_THRESHOLD = 0.02
"""A pixel is active when it differs from its mean over the window by more than this, of a 0..1 range."""

MIN_MEAN_DIFFERENCE = 0.01
"""A window is kept when its mean absolute difference, of a 0..1 range, reaches this."""

MIN_ACTIVE_SHARE = 0.001
"""A window is kept, too, when its share of active pixels reaches this."""

CLIPPED = 250
"""From this level on a colour may have been brighter than its file can say: compression spreads 255."""

BLACK = 4
"""Pixels that never clip tell a frame's light only where their mean level is above this."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in a grey level."""

DIM = 0.125
"""A frame with at most this share of its window's mean light is too dark to tell what clipped pixels are."""


class MotionGate:
    """Tells windows with motion from still ones, by how small copies of its frames differ.

    Every frame is held against the mean of its window's frames under its own light: faint or slow motion
    adds up there, and the noise of single frames does not. The copies are so small that noise averages out.
    Each frame is shrunk once, however many windows cover it. One gate serves one clip.
    """

    def __init__(self) -> None:
        self._small: dict[int, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}

    def moves(self, window: FrameWindow) -> bool:
        """True when the window's mean absolute difference or active share reaches its threshold.

        Both are means over the window's real frames, of differences scaled to 0..1, the colours weighted as
        in grey. Each colour is compared by itself: a pixel that is clipped in one is known in the others.
        """
        self._small = {index: small for index, small in self._small.items() if index >= window.start}
        copies, clipped = zip(*(self._shrunk(window, i) for i in range(len(window.real_frames))), strict=True)
        # Each colour in one piece, a third faster than with the others between.
        levels, beyond = (np.moveaxis(np.stack(parts), -1, 0).copy() for parts in (copies, clipped))
        rests = [np.abs(_besides_light(*colour)) for colour in zip(levels, beyond, strict=True)]
        change = np.tensordot(LUMA, np.stack(rests), 1) / 255
        return bool(
            change.mean() >= MIN_MEAN_DIFFERENCE or (change > PIXEL_THRESHOLD).mean() >= MIN_ACTIVE_SHARE
        )

    def _shrunk(self, window: FrameWindow, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Small copy (h, w, 3) of the window's frame ``index``, 0..255, and where it is clipped in part."""
        key = window.start + index
        if key not in self._small:
            rgb = window.frames[index]
            scale = min(1.0, SHORTER_PX / min(rgb.shape[:2]))
            size = tuple(max(1, round(side * scale)) for side in rgb.shape[1::-1])
            beyond = cv2.threshold(rgb, CLIPPED - 1, 255, cv2.THRESH_BINARY)[1]
            # In whole levels: to turn a frame into floats would take most of the gate's time.
            copy, share = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (rgb, beyond))
            self._small[key] = np.asarray(copy, np.float32), np.asarray(share) > 0
        return self._small[key]


def _besides_light(levels: NDArray[np.float32], clipped: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The change in one colour's ``levels`` (T, h, w), 0..255, that changing light does not explain.

    Every frame is explained as one still scene times a number of its own, the frame's light: the number
    by which the window's mean comes nearest to the frame. Dark frames are not made brighter, as their
    noise would grow. A ``clipped`` pixel counts as its level or as any brighter one, whichever leaves less
    change; a pixel that is clipped in all but dim frames shows no change.
    """
    mean = levels.mean(axis=0)
    energy, whole = mean * mean, np.asarray(~clipped.any(axis=0))
    if energy[whole].sum() <= BLACK**2 * whole.sum():
        whole = np.ones_like(whole)
    light = (levels * mean)[:, whole].sum(axis=1) / np.maximum(energy[whole].sum(), 1e-3)
    light = light[:, None, None]
    known = ~clipped & (light > DIM)
    scene, dimmer = (
        (levels * used).sum(axis=0) / np.maximum((light * used).sum(axis=0), 1e-3) for used in (known, 1)
    )
    as_seen, rest = levels - light * dimmer, levels - light * scene
    rest = np.where(clipped, np.maximum(rest, 0), rest) * known.any(axis=0)
    brighter = np.abs(rest).sum(axis=0) < np.abs(as_seen).sum(axis=0)
    return np.asarray(np.where(brighter, rest, as_seen), np.float32)
