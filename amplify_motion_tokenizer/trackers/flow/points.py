"""Points of one window on their way from frame to frame."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.trackers.base import inside
from amplify_motion_tokenizer.trackers.flow.motion import LocalMotion, Neighbours
from amplify_motion_tokenizer.trackers.flow.pairs import Pair
from amplify_motion_tokenizer.trackers.flow.patches import Patches

Floats = NDArray[np.float32]
Size = tuple[int, int]

SURE = 0.8
"""Match above which a point needs no second prediction."""
LOST = 0.6
"""Match below which a point is not where flow took it."""
MARGIN = 0.05
"""By how much the neighbours' motion must match better than the point's own flow."""


class Points(Protocol):
    """N points of a window."""

    xy_px: Floats
    """(N, 2), (x, y) in pixels of the frame they have reached."""
    visibility: Floats
    """(N,) in [0, 1]."""

    def step(self, pair: Pair) -> None:
        """Moves them from the pair's first frame, where they are, to its second."""


class ChainedPoints:
    """Points that go with the flow.

    Visibility is the running minimum of the forward-backward confidence: chained flow cannot find a lost
    point again.
    """

    def __init__(self, queries_xy_px: Floats, size: Size) -> None:
        self._size = size
        self.xy_px = queries_xy_px
        self.visibility = inside(queries_xy_px, size).astype(np.float32)

    def step(self, pair: Pair) -> None:
        """See ``Points``."""
        self.xy_px, confidence = pair.step(self.xy_px)
        self.visibility = np.minimum(self.visibility, confidence * inside(self.xy_px, self._size))


class HeldPoints:
    """Points that go with the flow, or with their neighbours, and are held to their first-frame patches."""

    def __init__(self, queries_xy_px: Floats, size: Size, neighbours: Neighbours) -> None:
        self._size = size
        self._patches: Patches | None = None
        self._motion = LocalMotion(neighbours)
        self.xy_px = queries_xy_px
        self.visibility = inside(queries_xy_px, size).astype(np.float32)

    def step(self, pair: Pair) -> None:
        """See ``Points``."""
        if self._patches is None:
            self._patches = Patches.cut(pair.before, pair.scale.to_image(self.xy_px))
        patches, scale, warp = self._patches, pair.scale, self._motion.warp
        seen = self.visibility >= 0.5
        moved, confidence = pair.step(self.xy_px)
        xy, match = patches.refine(pair.after, scale.to_image(moved), warp)
        xy = scale.to_frame(xy)
        trust = confidence * match**2 * (seen & (match > LOST) & inside(xy, self._size))
        motion = self._motion.fit(xy, trust)
        unsure = np.flatnonzero(~seen | (match < SURE))
        carried, carried_match = patches[unsure].refine(
            pair.after, scale.to_image(motion.xy[unsure]), motion.warp[unsure]
        )
        better = ~seen[unsure] | (carried_match > match[unsure] + MARGIN)
        chosen = unsure[better]
        xy[chosen], match[chosen] = scale.to_frame(carried[better]), carried_match[better]
        confidence[chosen] = 1
        lost = match < LOST
        xy[lost] = motion.xy[lost]
        self.xy_px = xy
        self.visibility = ((match > LOST) & (confidence > 0.5) & inside(xy, self._size)).astype(np.float32)
        self._motion.learn(xy, motion.warp, self.visibility >= 0.5)
