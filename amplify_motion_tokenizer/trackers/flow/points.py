"""Points of all open windows of a clip on their way from frame to frame."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.geometry import inside
from amplify_motion_tokenizer.trackers.flow.motion import LocalMotion, Motion, Neighbours
from amplify_motion_tokenizer.trackers.flow.pairs import Pair, Scale, sample
from amplify_motion_tokenizer.trackers.flow.patches import Found, Patches, choose

Floats = NDArray[np.float32]

OWN_FLOW_BETTER = 0.15
"""Gain in match from which a point goes along its own flow instead of with its neighbours."""
ALIKE_PX, ALIKE_MATCH = 0.2, 0.9
"""A point that matches this well along its own flow, this near to where its neighbours have it, is there."""
EVIDENCE = (1.06, 5.0, -1.14, -0.5)
"""Log odds that a point is seen: constant, and factors of match, of log(1 + change of brightness that the
neighbours did not see, in grey levels), and of log(0.025 + squared forward-backward error in pixels).

Logistic regression on the truth of rendered clips, then coordinate search, as it decides what the points
do next: two seeds of fifteen kinds of scene at frame steps 1 and 4. The other constants here, of
``motion`` and of ``patches`` were searched on the same clips; none matters much within a factor of 1.5.
"""
DRIFT = (0.2, 0.05)
"""A step adds a / (w + b) square pixels of variance to a place: a and b, w the weight of the neighbours."""
MOST_VOTE = 3.0
"""Largest evidence of one frame, in log odds, that a point turns with most of the picture or does not."""
MOST_TURN = 0.3
"""A point turns with most of the picture unless it and its neighbours give more evidence against it."""
MOST_DRIFT = 1.5
"""Variance above which a point is not said to be seen, as nothing tells where on its surface it is.

These, ``patches.SPREAD`` and ``patches.NOISE_NORM`` were searched on how points of real clips return, as no
rendered kind loses points so; they cost 0.0005 of occlusion accuracy on rendered clips of other seeds.
"""


class Points(Protocol):
    """P points of the open windows, N of each window; windows that were opened earlier come first."""

    xy_px: Floats
    """(P, 2), (x, y) in pixels of the frame that they have reached."""
    visibility: Floats
    """(P,) in [0, 1]."""

    def begin(self) -> None:
        """Opens a window at the frame that the other windows have reached, with its points at the queries."""

    def end(self) -> None:
        """Closes the window that was opened first."""

    def step(self, pair: Pair) -> None:
        """Moves all points from the pair's first frame, where they are, to its second."""


class PatchPoints:
    """Points that go with the flow or with their neighbours, held to their patches of the first frame.

    A hidden point is carried by the neighbours that had moved like it, and is seen again where its patch
    matches again. No point is said to be seen while neither its patch nor its neighbours fix its place.
    Positions inside are in pixels of the image that flow is computed on.
    """

    def __init__(self, queries_xy_px: Floats, scale: Scale) -> None:
        self._scale = scale
        self._queries = queries_xy_px
        self._start = scale.to_image(queries_xy_px)
        self._motion = LocalMotion(Neighbours.of(self._start))
        self._patches: Patches | None = None
        """Patches of all points but the ones of windows that have just begun."""
        self._xy = self._start[:0]
        self._brighter = np.zeros(0, np.float32)
        self._has_patch = self._seen = np.zeros(0, np.bool_)
        self._drift = np.zeros(0, np.float32)
        """Variance of each place in square pixels, since the first frame."""
        self._turning = np.zeros(0, np.float32)
        """Log odds that each point and its neighbours turn with most of the picture, where that turns."""
        self.xy_px = queries_xy_px[:0]
        self.visibility = np.zeros(0, np.float32)

    def begin(self) -> None:
        """See ``Points``."""
        seen = inside(self._queries, self._scale.size)
        self._motion.begin()
        self._xy = np.concatenate([self._xy, self._start])
        self._brighter = np.concatenate([self._brighter, np.zeros(len(seen), np.float32)])
        self._drift = np.concatenate([self._drift, np.zeros(len(seen), np.float32)])
        self._turning = np.concatenate([self._turning, np.zeros(len(seen), np.float32)])
        self._has_patch = np.concatenate([self._has_patch, seen])
        self._seen = np.concatenate([self._seen, seen])
        self.xy_px = np.concatenate([self.xy_px, self._queries])
        self.visibility = np.concatenate([self.visibility, seen.astype(np.float32)])

    def end(self) -> None:
        """See ``Points``."""
        rest = slice(len(self._queries), None)
        self._motion.end()
        self._patches = self._patches.take(rest) if self._patches else None
        self._xy, self._brighter, self._drift = self._xy[rest], self._brighter[rest], self._drift[rest]
        self._turning = self._turning[rest]
        self._has_patch, self._seen = self._has_patch[rest], self._seen[rest]
        self.xy_px, self.visibility = self.xy_px[rest], self.visibility[rest]

    def step(self, pair: Pair) -> None:
        """See ``Points``."""
        patches = self._patches = self._cut(pair.before)
        seen = self._seen
        own = self._own(patches, pair)
        score = self._score(own, pair)
        trust = score * np.maximum(own.match, 0) ** 2 * (seen & (score >= 0.5)) * _known(self._drift)
        motion = self._motion.fit(own.xy, trust)
        self._brighter = self._motion.average(motion.weight, own.brighter)
        found = _carried(patches, own, motion, pair.after, seen)
        score = self._score(found, pair)
        seen = self._seen = score >= 0.5
        self._xy = np.where(seen[:, None], found.xy, motion.xy)
        self._motion.learn(self._xy, motion.warp, seen)
        self._drift = np.minimum(_drifted(self._drift, motion), patches.variance(found.match))
        self.visibility = np.minimum(score, _known(self._drift))
        self.xy_px = self._scale.to_frame(self._xy)

    def _cut(self, image: Floats) -> Patches:
        """Patches of all points; windows that begin in ``image`` get theirs from it."""
        if self._patches is None:
            return Patches.cut(image, self._xy)
        begun = self._xy[len(self._patches.level) :]
        return self._patches + Patches.cut(image, begun) if len(begun) else self._patches

    def _own(self, patches: Patches, pair: Pair) -> Found:
        """Points found from where their own flow takes them, and warps turned where they go with the turn."""
        straight = patches.find(pair.after, self._xy + sample(pair.forward, self._xy), self._motion.warp)
        if pair.turned is None:
            return straight
        warp = pair.turned.turn @ self._motion.warp
        turned = patches.find(pair.after, self._xy + sample(pair.turned.forward, self._xy), warp)
        better = self._evidence(turned, sample(pair.turned.backward, turned.xy))
        better -= self._evidence(straight, sample(pair.backward, straight.xy))
        self._turning += self._motion.total(better.clip(-MOST_VOTE, MOST_VOTE) * self._seen)
        turns = self._turns
        self._motion.warp = np.where(turns[:, None, None], warp, self._motion.warp)
        return choose(turns, turned, straight)

    @property
    def _turns(self) -> NDArray[np.bool_]:
        """(P,) which points turn with most of the picture; what a turning camera holds does not."""
        return self._turning > -MOST_TURN

    def _score(self, found: Found, pair: Pair) -> Floats:
        """(N,) confidence in [0, 1] that the points are seen where they were found; 0 outside the frame."""
        back = sample(pair.backward, found.xy)
        if pair.turned is not None:
            back = np.where(self._turns[:, None], sample(pair.turned.backward, found.xy), back)
        score = 1 / (1 + np.exp(-np.clip(self._evidence(found, back), -30, 30)))
        possible = self._has_patch & inside(found.xy, self._scale.image_size)
        return np.asarray(score * possible, np.float32)

    def _evidence(self, found: Found, back: Floats) -> Floats:
        """(P,) log odds that points are seen where they were found, whence flow leads ``back`` by (P, 2)."""
        x, y = (found.xy + back - self._xy).T
        constant, by_match, by_light, by_return = EVIDENCE
        return np.asarray(
            constant
            + by_match * found.match
            + by_light * np.log1p(np.abs(found.brighter - self._brighter))
            + by_return * np.log(np.float32(0.025) + x * x + y * y)
        )


def _drifted(drift: Floats, motion: Motion) -> Floats:
    """(N,) variance of places after a step: the less it adds, the more neighbours agree on the motion."""
    by_step, alone = DRIFT
    return np.asarray(drift + np.float32(by_step) / (motion.weight.sum(axis=0) + np.float32(alone)))


def _known(drift: Floats) -> Floats:
    """(N,) in (0, 1], how well places of this variance are known; 0.5 at ``MOST_DRIFT``."""
    ratio = drift / np.float32(MOST_DRIFT)
    return np.asarray(1 / (1 + ratio * ratio))


def _carried(patches: Patches, own: Found, motion: Motion, image: Floats, seen: NDArray[np.bool_]) -> Found:
    """Points found from where their neighbours have them; from ``own`` where that is better or agrees."""
    alike = seen & (own.match > ALIKE_MATCH) & (np.abs(own.xy - motion.xy).max(axis=1) < ALIKE_PX)
    rows = np.flatnonzero(~alike)
    if not len(rows):
        return own
    carried = patches.take(rows).find(image, motion.xy[rows], motion.warp[rows])
    before = own.take(rows)
    better = seen[rows] & (before.match > carried.match + np.float32(OWN_FLOW_BETTER))
    own.put(rows, choose(better, before, carried))
    return own
