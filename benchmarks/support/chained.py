"""The embedded tracker with other flow, and one that only chains it: what the embedded one is held against.

The forward-backward check comes from Sundaram et al. 2010, "Dense point trajectories by GPU-accelerated large
displacement optical flow".
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.geometry import inside
from amplify_motion_tokenizer.trackers.flow import FlowTracker
from amplify_motion_tokenizer.trackers.flow.pairs import FINEST_SCALE, Pair, PairFlow, Scale, sample
from amplify_motion_tokenizer.trackers.flow.points import Points

Floats = NDArray[np.float32]

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class OtherFlowTracker(FlowTracker):
    """The embedded tracker with a preset and a finest pyramid level of DIS of choice."""

    def __init__(
        self,
        config: FlowConfig,
        preset: str = "ultrafast",
        finest_scale: int = FINEST_SCALE,
        threads: int = 1,
    ) -> None:
        super().__init__(config, threads)
        self._scale_of, self._preset, self._finest_scale = config, PRESETS[preset], finest_scale

    def pairs(self, size: tuple[int, int]) -> PairFlow:
        return PairFlow(self._scale_of, size, self._preset, self._finest_scale)


class ChainedTracker(OtherFlowTracker):
    """Points that go with the flow and are held to nothing."""

    def points(self, queries_xy_px: Floats, scale: Scale) -> Points:
        return ChainedPoints(queries_xy_px, scale)


class ChainedPoints:
    """Points that go with the flow.

    Visibility is the running minimum of the forward-backward confidence: chained flow cannot find a lost
    point again.
    """

    def __init__(self, queries_xy_px: Floats, scale: Scale) -> None:
        self._scale = scale
        self._queries = queries_xy_px
        self.xy_px = queries_xy_px[:0]
        self.visibility = np.zeros(0, np.float32)

    def begin(self) -> None:
        """See ``Points``."""
        seen = inside(self._queries, self._scale.size).astype(np.float32)
        self.xy_px = np.concatenate([self.xy_px, self._queries])
        self.visibility = np.concatenate([self.visibility, seen])

    def end(self) -> None:
        """See ``Points``."""
        points = len(self._queries)
        self.xy_px, self.visibility = self.xy_px[points:], self.visibility[points:]

    def step(self, pair: Pair) -> None:
        """See ``Points``."""
        start = self._scale.to_image(self.xy_px)
        there = sample(pair.forward, start)
        back = sample(pair.backward, start + there)
        ratio = self._scale.ratio_xy
        self.xy_px = self.xy_px + there / ratio
        confidence = pair_confidence(there / ratio, back / ratio)
        self.visibility = np.minimum(self.visibility, confidence * inside(self.xy_px, self._scale.size))


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
