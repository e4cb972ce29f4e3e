"""Windows that advance together: the flow of a frame pair moves the points of all that cover it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.datatypes import FrameWindow, WindowTracks
from amplify_motion_tokenizer.trackers.flow.motion import Neighbours
from amplify_motion_tokenizer.trackers.flow.pairs import Pair, PairFlow, Scale, size_of
from amplify_motion_tokenizer.trackers.flow.points import ChainedPoints, HeldPoints, Points

Floats = NDArray[np.float32]


class FlowTracker:
    """Follows points along dense optical flow, frame by frame, each held to its first-frame patch.

    Flow of a frame pair is computed once, in both directions, for all the windows that cover the pair, so
    overlapping windows cost little. With ``FlowConfig.refine`` off, flow is only chained.
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
        together; at most 2 T frames are held. A window's tracks are the same whatever others are open.

        Raises:
            TrackerError: frames smaller than 16 pixels, or of different sizes.
        """
        cv2.setNumThreads(self._threads)
        pending: deque[_Chain] = deque()
        pairs: PairFlow | None = None
        for window in windows:
            if pairs is None:
                pairs = PairFlow(self._config, size_of(window.frames[0]))
                begin = self._beginning(queries_xy_px, pairs.scale)
            yield from _advance(pending, pairs, until=window.start)
            pending.append(_Chain(window, begin()))
        if pairs is not None:
            yield from _advance(pending, pairs, until=None)

    def _beginning(self, queries_xy_px: Floats, scale: Scale) -> Callable[[], Points]:
        """What makes the points of a window."""
        if not self._config.refine:
            return partial(ChainedPoints, queries_xy_px, scale)
        neighbours = Neighbours.of(scale.to_image(queries_xy_px))
        return partial(HeldPoints, queries_xy_px, scale, neighbours)


class _Chain:
    """A window whose first ``done`` rows are tracked."""

    def __init__(self, window: FrameWindow, points: Points) -> None:
        self._window = window
        self._points = points
        self._rows = [(points.xy_px, points.visibility)]

    @property
    def frame(self) -> int:
        """Index in the clip of the last tracked frame."""
        return self._window.start + len(self._rows) - 1

    @property
    def finished(self) -> bool:
        return len(self._rows) == len(self._window.frames)

    @property
    def frames(self) -> list[NDArray[np.uint8]]:
        """The last tracked frame and the next."""
        return self._window.frames[len(self._rows) - 1 : len(self._rows) + 1]

    def step(self, pair: Pair) -> None:
        """Moves the points to the next frame."""
        self._points.step(pair)
        self._rows.append((self._points.xy_px, self._points.visibility))

    def result(self) -> WindowTracks:
        tracks, visibility = (np.stack(rows) for rows in zip(*self._rows, strict=True))
        return WindowTracks(self._window.start, self._window.time_s, tracks, visibility)


def _advance(pending: deque[_Chain], pairs: PairFlow, until: int | None) -> Iterator[WindowTracks]:
    """Moves the pending chains on to frame ``until`` (None: to their ends), yields the finished ones."""
    while pending:
        if pending[0].finished:
            yield pending.popleft().result()
            continue
        frame = pending[0].frame
        if until is not None and frame >= until:
            return
        pair = pairs.pair(frame, *pending[0].frames)
        for chain in pending:
            if chain.frame == frame and not chain.finished:
                chain.step(pair)
