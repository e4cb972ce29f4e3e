"""Dense flow of neighbouring frames, both ways.

Flow is DIS (Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search") as OpenCV has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.errors import TrackerError
from amplify_motion_tokenizer.trackers.flow.turns import camera_turn, inverse, turned, turned_flow
from amplify_motion_tokenizer.video.pixels import bilinear

Floats = NDArray[np.float32]
Grey = NDArray[np.uint8]

PRESET = cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST
"""DIS preset; the slower ones gain little where points are held to their patches."""
FINEST_SCALE = 2
"""Finest pyramid level that DIS solves, 0 being full size; the finer, the slower."""
PATCH_PX = 8
"""Side of the patches that DIS matches; a pyramid level smaller than one gives NaN, not an error."""
MIN_SIDE_PX = 2 * PATCH_PX
"""Shortest side of the frames that flow is computed on."""
LEAST_SHIFT_PX = 4
"""Shift of the whole image, in pixels of half its size, below which DIS needs no help."""
MOST_SHIFT = 0.7
"""A shift by more than this share of a side leaves too little in view to tell it by."""
SHIFT_GAIN = 0.7
"""A shift is believed when it leaves less than this share of the difference between two frames."""
LEAST_BANDS = 0.1
"""Light of rows that differs by less than this, from the darkest to the brightest, does not matter."""
SAMPLED_COLUMNS = 8
"""Step from one column to the next that is looked at for the light of rows."""
ROWS_GAIN = 0.5
"""Rows are lit one by one when that leaves less than this share of the difference that one light leaves."""


@dataclass(frozen=True)
class Scale:
    """From pixels of the frames to pixels of the smaller image that flow is computed on, and back."""

    size: tuple[int, int]
    """(height, width) of the frames."""
    image_size: tuple[int, int]

    @property
    def ratio_xy(self) -> Floats:
        """(2,) image pixels in a frame pixel, across and down; rounding makes the two slightly different."""
        pairs = zip(self.image_size, self.size, strict=True)
        return np.array([image / frame for image, frame in pairs][::-1], np.float32)

    def to_image(self, xy_px: Floats) -> Floats:
        """Points (..., 2) of a frame in pixels of the image; centres are at whole numbers in both."""
        return np.asarray((xy_px + np.float32(0.5)) * self.ratio_xy - np.float32(0.5))

    def to_frame(self, xy: Floats) -> Floats:
        """Points (..., 2) in pixels of the image, in pixels of the frame: undoes ``to_image``."""
        return np.asarray((xy + np.float32(0.5)) / self.ratio_xy - np.float32(0.5))


@dataclass(frozen=True)
class Turned:
    """Flow of two frames, looked for after the first was turned as most of the picture turns."""

    turn: Floats
    """(2, 2), what becomes of a distance (x, y) in the first frame by the second."""
    forward: Floats
    """(h, w, 2), as in ``Pair``."""
    backward: Floats
    """(h, w, 2), as in ``Pair``."""


@dataclass(frozen=True)
class Pair:
    """Two neighbouring frames."""

    before: Floats
    """(h, w) the first, grey 0..255, at the size that flow is computed on."""
    after: Floats
    """(h, w) the second."""
    forward: Floats
    """(h, w, 2) flow from the first to the second, in pixels of ``before``."""
    backward: Floats
    """(h, w, 2) flow from the second to the first, in pixels of ``after``."""
    turned: Turned | None = None
    """The frames' flow after the turn of most of the picture; None where it turns and grows little."""


class PairFlow:
    """Computes the flow of pairs of one clip, at the size that ``FlowConfig.scale`` asks for."""

    def __init__(
        self,
        config: FlowConfig,
        size: tuple[int, int],
        preset: int = PRESET,
        finest_scale: int = FINEST_SCALE,
    ) -> None:
        """Takes frames of ``size``, (height, width); ``preset`` and ``finest_scale`` are settings of DIS.

        Raises:
            TrackerError: a side is shorter than 16 pixels.
        """
        if min(size) < MIN_SIDE_PX:
            raise TrackerError(
                f"frames of {size[1]}x{size[0]} are too small for optical flow, which needs "
                f"{MIN_SIDE_PX} pixels on the shorter side; raise video.size"
            )
        asked = flow_scale(size) if config.scale is None else config.scale
        ratio = max(asked, MIN_SIDE_PX / min(size))
        self.scale = Scale(size, (round(size[0] * ratio), round(size[1] * ratio)))
        coarsest = (min(self.scale.image_size) // PATCH_PX).bit_length() - 1
        self._preset, self._finest_scale = preset, min(finest_scale, coarsest)
        self._last: tuple[int, Grey] | None = None

    def pair(self, index: int, source: NDArray[np.uint8], target: NDArray[np.uint8]) -> Pair:
        """Frame ``index``, ``source``, and the next, ``target``, (H, W, 3) RGB.

        Raises:
            TrackerError: frames of another size.
        """
        kept = self._last is not None and self._last[0] == index
        before = self._last[1] if self._last is not None and kept else self._grey(source)
        after = self._grey(target)
        self._last = (index + 1, after)
        lit = evenly_lit(before, after)
        shift = camera_shift(before, lit)
        forward = self._flow(before, shifted(lit, -shift))
        backward = self._flow(lit, shifted(before, shift))
        if shift.any():  # on small last axes numpy is slow
            forward, backward = forward + shift, backward - shift
        turned = self._turned(before, lit, forward)
        return Pair(before.astype(np.float32), after.astype(np.float32), forward, backward, turned)

    def _turned(self, before: Grey, after: Grey, forward: Floats) -> Turned | None:
        """The frames' flow after the turn of most of the picture; None where ``forward`` shows no turn."""
        turn = camera_turn(forward)
        if turn is None:
            return None
        back = inverse(turn)
        return Turned(
            turn[:, :2].astype(np.float32),
            turned_flow(turn, self._flow(before, turned(after, turn))),
            turned_flow(back, self._flow(after, turned(before, back))),
        )

    def _flow(self, source: Grey, target: Grey) -> Floats:
        """Flow (h, w, 2) by a new DIS object, which takes some 0.01 ms to make.

        An object that is used again may take other pyramid levels: on images of up to some 90 pixels,
        which have no level as coarse as its finest, ``calc`` chooses a finer one, keeps it, and chooses
        another next time.
        """
        dis: Any = cv2.DISOpticalFlow.create(self._preset)  # Any: the stubs forbid None for a new array
        dis.setFinestScale(self._finest_scale)
        return np.asarray(dis.calc(source, target, None), np.float32)

    def _grey(self, rgb: NDArray[np.uint8]) -> Grey:
        if size_of(rgb) != self.scale.size:
            raise TrackerError(
                f"frames of one clip differ in size: {self.scale.size} and {size_of(rgb)} (height, width); "
                "expected one size"
            )
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        height, width = self.scale.image_size
        return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def flow_scale(size: tuple[int, int]) -> float:
    """Scale for frames of ``size``: 240 pixels on the shorter side, but at least half of the frame's own."""
    return min(1.0, max(0.5, 240 / min(size)))


def size_of(image: NDArray[np.uint8]) -> tuple[int, int]:
    """(height, width)."""
    return image.shape[0], image.shape[1]


def camera_shift(before: Grey, after: Grey) -> Floats:
    """(2,) whole pixels, (x, y), by which most of the image moves when it moves far; else 0, 0.

    DIS finds motion of up to about an eighth of the image. Phase correlation (Kuglin and Hines 1975) of
    copies of half the size finds more, and DIS then solves for the rest.
    """
    one, other = (
        cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float32)
        for image in (before, after)
    )
    still = np.zeros(2, np.float32)
    height, width = one.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    shift = np.rint(cv2.phaseCorrelate(one.copy(), other.copy(), window)[0])  # it changes what it is given
    far = np.abs(shift).max() >= LEAST_SHIFT_PX
    if not (far and (np.abs(shift) <= MOST_SHIFT * np.array([width, height])).all()):
        return still
    x, y = shift.astype(int)
    then = one[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
    now = other[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
    explains = np.abs(now - then).mean() < SHIFT_GAIN * np.abs(one - other).mean()
    return np.asarray(2 * shift, np.float32) if explains else still


def evenly_lit(before: Grey, after: Grey) -> Grey:
    """``after`` in the light that each of its rows had in ``before``, where that explains most of the change.

    Lamps that flicker make bands that roll over the picture, row by row as the sensor is read. Flow would
    follow them. Light that changes in all rows alike is left as it is.
    """
    then, now = (image[:, ::SAMPLED_COLUMNS].astype(np.float32) for image in (before, after))
    gain = (then.mean(axis=1, keepdims=True) + 1) / (now.mean(axis=1, keepdims=True) + 1)
    common = np.median(gain)
    if np.ptp(gain) < LEAST_BANDS * common:
        return after
    by_rows, by_one = (np.abs(then - now * light).mean() for light in (gain, common))
    return cv2.convertScaleAbs(after * (gain / common)) if by_rows < ROWS_GAIN * by_one else after


def shifted(image: Grey, shift: Floats) -> Grey:
    """The image moved by ``shift`` (x, y) whole pixels, its border repeated."""
    if not shift.any():
        return image
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    size = image.shape[1], image.shape[0]
    moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def sample(flow: Floats, xy: Floats) -> Floats:
    """Flow (h, w, 2) at points ``xy`` (N, 2) of its field, bilinear, with the border's flow outside."""
    return bilinear(flow, xy[:, :1], xy[:, 1:])[:, 0]
