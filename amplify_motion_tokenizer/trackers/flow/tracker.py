"""Windows that advance together: the flow of a frame pair moves the points of all that cover it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import Config, FlowConfig
from amplify_motion_tokenizer.trackers.base import PointTracker
from amplify_motion_tokenizer.trackers.flow.cuts import hide_after_cut
from amplify_motion_tokenizer.trackers.flow.pairs import PairFlow, Scale, size_of
from amplify_motion_tokenizer.trackers.flow.points import PatchPoints, Points
from amplify_motion_tokenizer.trackers.windows import FrameWindow, WindowTracks

Floats = NDArray[np.float32]


class FlowTracker(PointTracker):
    """Follows points along dense optical flow, frame by frame, each held to its first-frame patch.

    Flow of a frame pair is computed once, in both directions, for all the windows that cover the pair, so
    overlapping windows cost little. After a cut within a window its points are hidden and stay where they
    were; in frames that repeat the last real one they stay as they are there.
    """

    name = "flow"
    takes_announced = True

    def __init__(self, config: FlowConfig, threads: int = 1) -> None:
        """Uses ``threads`` OpenCV threads; their number does not change the tracks."""
        self._config = config
        self._threads = threads

    @classmethod
    def from_config(cls, config: Config) -> FlowTracker:
        """A tracker with the settings of ``tracking.flow`` and as many threads as ``video.threads``."""
        return cls(config.tracking.flow, threads=config.video.threads)

    def pairs(self, size: tuple[int, int]) -> PairFlow:
        """The flow of a clip whose frames are ``size``, (height, width)."""
        return PairFlow(self._config, size)

    def points(self, queries_xy_px: Floats, scale: Scale) -> Points:
        """The points of a clip, of windows that each start from ``queries_xy_px`` (N, 2)."""
        return PatchPoints(queries_xy_px, scale)

    def track(self, windows: Iterable[FrameWindow], queries_xy_px: Floats) -> Iterator[WindowTracks]:
        """Tracks of each window; see ``PointTracker.track``.

        Reads windows ahead until it has all that share frames with the first, so that they advance
        together; at most 2 T frames are held. Windows that are announced advance with every frame that comes,
        so that none waits for those after it. A window's tracks are the same, to 0.001 pixels, whatever other
        windows are open.

        Raises:
            TrackerError: frames smaller than 16 pixels, or of different sizes.
        """
        cv2.setNumThreads(self._threads)
        clip: _Clip | None = None
        for window in windows:
            if clip is None:
                pairs = self.pairs(size_of(window.frames[0]))
                clip = _Clip(pairs, self.points(queries_xy_px, pairs.scale), len(queries_xy_px))
            yield from clip.take(window)
        if clip is not None:
            yield from clip.advance(until=None)


class _Chain:
    """A window and its tracks so far, a row for each real frame."""

    def __init__(self, window: FrameWindow) -> None:
        self.window = window
        self._rows: list[tuple[Floats, Floats]] = []

    @property
    def frame(self) -> int:
        """Index in the clip of the last tracked frame."""
        return self.window.start + len(self._rows) - 1

    @property
    def announced(self) -> bool:
        """Whether it is not known yet if the window will be whole."""
        return not self.window.whole

    @property
    def finished(self) -> bool:
        return self.window.whole and len(self._rows) == len(self.window.real_frames)

    def is_void(self, start: int, begins: bool) -> bool:
        """Whether the window became none, now that one from frame ``start`` on ``begins`` or goes on."""
        return self.frame < start if begins else self.window.start < start

    @property
    def frames(self) -> list[NDArray[np.uint8]]:
        """The last tracked frame and the next."""
        return self.window.frames[len(self._rows) - 1 : len(self._rows) + 1]

    def add(self, xy_px: Floats, visibility: Floats) -> None:
        """Adds the next row, (N, 2) and (N,); rows after the window's last are dropped."""
        if not self.finished:
            self._rows.append((xy_px, visibility))

    def result(self) -> WindowTracks:
        rows = self._rows + self._rows[-1:] * self.window.padding
        tracks, visibility = (np.stack(column) for column in zip(*rows, strict=True))
        window = WindowTracks(self.window.start, self.window.time_s, tracks, visibility)
        return hide_after_cut(window, size_of(self.window.frames[0]))


class _Clip:
    """The open windows of a clip, which have all reached the same frame."""

    def __init__(self, pairs: PairFlow, points: Points, num_points: int) -> None:
        self._pairs, self._points, self._num_points = pairs, points, num_points
        self._chains: deque[_Chain] = deque()

    def take(self, window: FrameWindow) -> Iterator[WindowTracks]:
        """Opens ``window``, or takes the open windows on to its last frame; yields the finished ones."""
        if window.whole and not (self._chains and self._chains[0].announced):
            yield from self.advance(until=window.start)
            self._begin(window)
            return
        begins = len(window.frames) == 1 and not window.whole
        while self._chains and self._chains[0].is_void(window.start, begins):
            self._close_first()
        if begins:
            self._begin(window)
        elif self._chains and self._chains[0].window.start == window.start:
            self._chains[0].window = window
            if window.whole:
                yield self._close_first().result()
            else:
                self._step(self._chains[0])

    def _begin(self, window: FrameWindow) -> None:
        """Opens a window that starts at the frame which the other windows have reached."""
        self._chains.append(_Chain(window))
        self._points.begin()
        first = slice(-self._num_points, None)
        self._chains[-1].add(self._points.xy_px[first], self._points.visibility[first])

    def advance(self, until: int | None) -> Iterator[WindowTracks]:
        """Moves the windows on to frame ``until`` (None: to their ends), yields the finished ones.

        Windows that are only announced stay where they are.
        """
        while self._chains and not self._chains[0].announced:
            chain = self._chains[0]
            if chain.finished:
                yield self._close_first().result()
            elif until is not None and chain.frame >= until:
                return
            else:
                self._step(chain)

    def _step(self, chain: _Chain) -> None:
        self._points.step(self._pairs.pair(chain.frame, *chain.frames))
        self._record()

    def _close_first(self) -> _Chain:
        self._points.end()
        return self._chains.popleft()

    def _record(self) -> None:
        xy_px = self._points.xy_px.reshape(-1, self._num_points, 2)
        visibility = self._points.visibility.reshape(-1, self._num_points)
        for chain, *row in zip(self._chains, xy_px, visibility, strict=True):
            chain.add(*row)
