"""The embedded tracker: dense optical flow, chained over each window. It needs no weights.

Flow is DIS (Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search") as OpenCV has it.
The chaining and its forward-backward check follow Sundaram et al. 2010, "Dense point trajectories by
GPU-accelerated large displacement optical flow".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.datatypes import FrameWindow, WindowTracks
from amplify_motion_tokenizer.errors import TrackerError
from amplify_motion_tokenizer.trackers.base import inside

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


class FlowTracker:
    """Follows points along dense optical flow, frame by frame.

    Flow of a frame pair is computed once, in both directions, and moves the points of all the windows
    that cover the pair, so overlapping windows cost little. Visibility is the running minimum of the
    forward-backward confidence (``pair_confidence``): chained flow cannot find a lost point again.
    """

    name = "flow"
    weights_sha256 = None

    def __init__(self, config: FlowConfig, threads: int = 1) -> None:
        """Uses ``threads`` OpenCV threads; their number does not change the tracks."""
        self._config = config
        self._threads = threads

    def track(self, windows: Iterable[FrameWindow], queries_xy_px: Floats) -> Iterator[WindowTracks]:
        """Tracks of each window; see ``PointTracker.track``.

        Reads windows ahead until it has all that share frames with the first, so that they advance
        together; at most 2 T frames are held.

        Raises:
            TrackerError: frames smaller than 16 pixels, or of different sizes.
        """
        cv2.setNumThreads(self._threads)
        pairs = _PairFlow(self._config)
        pending: deque[_Chain] = deque()
        for window in windows:
            yield from _advance(pending, pairs, until=window.start)
            pending.append(_Chain.begin(window, queries_xy_px))
        yield from _advance(pending, pairs, until=None)


@dataclass
class _Chain:
    """A window whose first ``done`` rows are tracked."""

    window: FrameWindow
    tracks: Floats
    visibility: Floats
    done: int = 1

    @classmethod
    def begin(cls, window: FrameWindow, queries_xy_px: Floats) -> _Chain:
        steps, points = len(window.frames), len(queries_xy_px)
        tracks = np.empty((steps, points, 2), np.float32)
        visibility = np.zeros((steps, points), np.float32)
        tracks[0] = queries_xy_px
        visibility[0] = inside(tracks[0], _size(window.frames[0]))
        return cls(window, tracks, visibility)

    @property
    def frame(self) -> int:
        """Index in the clip of the last tracked frame."""
        return self.window.start + self.done - 1

    @property
    def finished(self) -> bool:
        return self.done == len(self.window.frames)

    def result(self) -> WindowTracks:
        return WindowTracks(self.window.start, self.window.time_s, self.tracks, self.visibility)


def _advance(pending: deque[_Chain], pairs: _PairFlow, until: int | None) -> Iterator[WindowTracks]:
    """Moves the pending chains on to frame ``until`` (None: to their ends), yields the finished ones.

    Chains that stand at the same frame step together, with one flow lookup for all their points.
    """
    while pending:
        if pending[0].finished:
            yield pending.popleft().result()
            continue
        frame = pending[0].frame
        if until is not None and frame >= until:
            return
        _step([chain for chain in pending if chain.frame == frame and not chain.finished], pairs)


def _step(chains: list[_Chain], pairs: _PairFlow) -> None:
    """Moves ``chains``, which stand at the same frame, by one frame."""
    first = chains[0]
    source, target = first.window.frames[first.done - 1 : first.done + 1]
    forward, backward = pairs.flow(first.frame, source, target)
    size = _size(source)
    start = np.stack([chain.tracks[chain.done - 1] for chain in chains])
    there = sample_flow(forward, start, size)
    end = start + there
    confidence = pair_confidence(there, sample_flow(backward, end, size))
    confidence *= inside(end, size)
    for chain, xy, conf in zip(chains, end, confidence, strict=True):
        chain.tracks[chain.done] = xy
        np.minimum(conf, chain.visibility[chain.done - 1], out=chain.visibility[chain.done])
        chain.done += 1


class _PairFlow:
    """Flow of neighbouring frames of one clip, at the size that ``FlowConfig.scale`` asks for."""

    def __init__(self, config: FlowConfig) -> None:
        self._config = config
        # Any: OpenCV's stubs forbid the None that asks for a new array
        self._dis: Any = cv2.DISOpticalFlow.create(PRESETS[config.preset])
        self._size: tuple[int, int] | None = None
        self._flow_size = (0, 0)
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    def flow(self, index: int, source: NDArray[np.uint8], target: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Flow from frame ``index`` to the next and back, (h, w, 2) in pixels of the h x w flow field."""
        self._set_size(_size(source))
        kept = self._last is not None and self._last[0] == index
        before = self._last[1] if self._last is not None and kept else self._grey(source)
        after = self._grey(target)
        self._last = (index + 1, after)
        return self._dis.calc(before, after, None), self._dis.calc(after, before, None)

    def _set_size(self, size: tuple[int, int]) -> None:
        if size == self._size:
            return
        if self._size is not None:
            raise TrackerError(f"frames of one clip differ in size: {self._size} and {size}")
        if min(size) < MIN_SIDE_PX:
            raise TrackerError(
                f"frames of {size[1]}x{size[0]} are too small for optical flow, which needs "
                f"{MIN_SIDE_PX} pixels on the shorter side; raise video.resize_shorter"
            )
        scale = max(self._config.scale, MIN_SIDE_PX / min(size))
        self._flow_size = (round(size[0] * scale), round(size[1] * scale))
        coarsest = (min(self._flow_size) // PATCH_PX).bit_length() - 1
        self._dis.setFinestScale(min(self._config.finest_scale, coarsest))
        self._size = size

    def _grey(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if _size(rgb) != self._size:
            raise TrackerError(f"frames of one clip differ in size: {self._size} and {_size(rgb)}")
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        height, width = self._flow_size
        return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _size(frame: NDArray[np.uint8]) -> tuple[int, int]:
    return frame.shape[0], frame.shape[1]


def sample_flow(flow: Floats, xy_px: Floats, size: tuple[int, int]) -> Floats:
    """Flow at points, bilinear, with the border's flow for points outside the frame.

    Args:
        flow: (h, w, 2) flow in pixels of its own field, which may be smaller than the frames.
        xy_px: (K, N, 2) points, (x, y) in pixels of frames of ``size``.
        size: (height, width) of the frames.

    Returns:
        (K, N, 2) flow in pixels of the frames.
    """
    # Rounding makes the ratios of the two axes slightly different.
    ratio_y, ratio_x = (np.float32(small / full) for small, full in zip(flow.shape[:2], size, strict=True))
    half = np.float32(0.5)  # pixel centres are at whole numbers, at either size
    map_x, map_y = (xy_px[..., 0] + half) * ratio_x - half, (xy_px[..., 1] + half) * ratio_y - half
    sampled = cv2.remap(flow, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled / np.array([ratio_x, ratio_y], np.float32), np.float32)


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
