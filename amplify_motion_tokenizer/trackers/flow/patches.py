"""Every point's patch of the first frame, found again in later frames.

Inverse compositional alignment (Baker and Matthews 2004, "Lucas-Kanade 20 Years On: A Unifying
Framework") by a translation. Gain and offset of the light are projected out of the steepest descent
images, so an iteration is one image lookup and three inner products with what was computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.video.pixels import bilinear

Floats = NDArray[np.float32]

RADIUS_PX = 5
"""Patches are every third pixel of 11 x 11 of the image that flow is computed on; all do no better."""
ITERATIONS = 2
CONVERGED_PX = 0.05
"""A point whose next step is no longer than this has arrived."""
LONGEST_STEP_PX = 1.0
LONGEST_MOVE_PX = 3.0
"""A point that refining moves further than this from its prediction has slipped to something else."""
LEAST_GAIN = 1e-3
"""A point that would match better by less stays where it was predicted, so that still points do not move."""
PRIOR = 3.0
"""Weight of the prediction against the patch: variance of the patch's grey levels over the prediction's."""
NOISE_NORM = 20.0
"""Norm of the contrast that noise or compression may put into a patch: three grey levels in every pixel."""
SPREAD = (0.2, 1.01)
"""Factor a and constant b of the variance of a found place, a (b - match) / hold; a is four times the factor
that independent noise in every pixel would give."""
FLAT = 1e-3
"""Added to the norm of a patch, so that one without contrast matches nothing."""


class Found(NamedTuple):
    """Where N patches were found in a later frame, and how well they match there."""

    xy: Floats
    """(N, 2) pixels of the image."""
    match: Floats
    """(N,) correlation with the first-frame patch, -1..1."""
    brighter: Floats
    """(N,) by how many grey levels the mean of the place is above the mean of the first-frame patch."""

    def take(self, rows: NDArray[np.intp]) -> Found:
        """The places and matches of the patches ``rows``."""
        return Found(*(column[rows] for column in self))

    def put(self, rows: NDArray[np.intp], found: Found) -> None:
        """Replaces the places and matches of the patches ``rows``."""
        for column, values in zip(self, found, strict=True):
            column[rows] = values


@dataclass(frozen=True)
class Patches:
    """Patches of N points, n pixels each."""

    rows: Floats
    """(N, 3, n): the patch with mean 0 and norm 1, and the weights of its pixels in an x and in a y step."""
    level: Floats
    """(N,) mean grey level."""
    stiffness: Floats
    """(N, 2, 2), the share of a point's way from its prediction that each iteration takes back."""
    hold: Floats
    """(N,) how much worse the patch matches one pixel off, in the direction in which that is least."""

    @classmethod
    def cut(cls, image: Floats, xy: Floats) -> Patches:
        """Patches of ``image`` (h, w) around points ``xy`` (N, 2) of it."""
        still = np.broadcast_to(np.eye(2, dtype=np.float32), (len(xy), 2, 2))
        around = _spread(still)
        patch = _lookup(image, xy, around)
        level = _mean(patch)
        patch -= level[:, None]
        norm = _norm(patch)
        patch = patch / norm[:, None]
        ahead, behind = (
            [_lookup(image, xy + way * unit, around) for unit in np.eye(2, dtype=np.float32)]
            for way in (1, -1)
        )
        slopes = (np.stack(ahead, axis=1) - np.stack(behind, axis=1)) / 2
        slopes -= np.einsum("pkn->pk", slopes)[..., None] / np.float32(slopes.shape[-1])
        slopes -= np.einsum("pkn,pn->pk", slopes, patch)[..., None] * patch[:, None]
        curvature = np.einsum("pin,pjn->pij", slopes, slopes)
        hold = _least_eigenvalue(curvature) / (norm * norm + np.float32(NOISE_NORM**2))
        hessian = curvature + np.float32(PRIOR) * still
        give = _inverse(hessian)
        steps = np.einsum("pij,pjn->pin", give, slopes) * norm[:, None, None]
        return cls(np.concatenate([patch[:, None], steps], axis=1), level, np.float32(PRIOR) * give, hold)

    def find(self, image: Floats, xy: Floats, warp: Floats) -> Found:
        """Moves points from predictions to where their patches match best.

        Args:
            image: (h, w) of a later frame.
            xy: (N, 2) predictions, pixels of ``image``.
            warp: (N, 2, 2) how each patch has turned and grown since the first frame.

        Returns:
            Points and their match. One that would not match better, or would move far, stays where it
            was predicted.
        """
        around = _spread(warp)
        start, step = self._compare(image, xy, around)
        end = Found(*map(np.copy, start))
        rows, moving, offset = np.arange(len(xy)), self, np.zeros_like(xy)
        for _ in range(ITERATIONS):
            step += np.einsum("pij,pj->pi", moving.stiffness, offset)
            step = step.clip(-LONGEST_STEP_PX, LONGEST_STEP_PX)
            on = np.flatnonzero((np.abs(step) > CONVERGED_PX).any(axis=1))
            if not len(on):
                break
            rows, moving, around, offset = rows[on], moving.take(on), around[:, on], (offset - step)[on]
            place = xy[rows] + np.einsum("pij,pj->pi", warp[rows], offset)
            found, step = moving._compare(image, place, around)
            end.put(rows, found)
        near = np.abs(end.xy - xy).max(axis=1) < LONGEST_MOVE_PX
        return choose(near & (end.match > start.match + np.float32(LEAST_GAIN)), end, start)

    def variance(self, match: Floats) -> Floats:
        """(N,) variance in square pixels of places at which patches match as well as ``match`` (N,) says.

        As in any least squares (Foerstner 1982): the part that does not match over the change by one pixel.
        """
        by_residual, most = SPREAD
        return np.asarray(
            np.float32(by_residual) * (np.float32(most) - match) / (self.hold + np.float32(1e-4))
        )

    def take(self, points: NDArray[np.intp] | slice) -> Patches:
        """Patches of some of the points."""
        return Patches(*(column[points] for column in vars(self).values()))

    def __add__(self, other: Patches) -> Patches:
        """These patches followed by ``other``."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Patches(*(np.concatenate(pair) for pair in pairs))

    def _compare(self, image: Floats, xy: Floats, around: Floats) -> tuple[Found, Floats]:
        """The match at ``xy``, and the (N, 2) step away from the best match, in first-frame axes."""
        pixels = _lookup(image, xy, around)
        level = _mean(pixels)
        pixels -= level[:, None]
        products = np.einsum("pkn,pn->pk", self.rows, pixels) / _norm(pixels)[:, None]
        return Found(xy, products[:, 0], level - self.level), products[:, 1:]


def choose(first: NDArray[np.bool_], one: Found, other: Found) -> Found:
    """``one`` where ``first`` (N,) is true, else ``other``."""
    xy = np.where(first[:, None], one.xy, other.xy)
    match, brighter = (np.where(first, a, b) for a, b in zip(one[1:], other[1:], strict=True))
    return Found(xy, match, brighter)


def _inverse(matrices: Floats) -> Floats:
    """Inverses of ``matrices`` (..., 2, 2), in closed form, as numpy.linalg is slow on many small ones."""
    (a, b), (c, d) = np.moveaxis(matrices, (-2, -1), (0, 1))
    adjugate = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2)
    return np.asarray(adjugate / (a * d - b * c)[..., None, None], np.float32)


def _least_eigenvalue(matrices: Floats) -> Floats:
    """(N,) smaller eigenvalues, at least 0, of symmetric matrices (N, 2, 2)."""
    xx, xy, yy = matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 1]
    root = np.sqrt((xx - yy) ** 2 + 4 * xy * xy)
    return np.asarray(np.maximum(xx + yy - root, 0) / 2, np.float32)


def _sparse_square(radius: int) -> Floats:
    """(2, n) x and y of every third pixel, along diagonals, of a square around a point."""
    side = np.arange(-radius, radius + 1, dtype=np.float32)
    square = np.stack(np.meshgrid(side, side)).reshape(2, -1)
    return square[:, square.sum(axis=0) % 3 == 0]


_PATCH = _sparse_square(RADIUS_PX)


def _spread(warp: Floats) -> Floats:
    """(2, N, n) x and y from each point to the pixels of its patch under each warp (N, 2, 2)."""
    return np.ascontiguousarray(np.swapaxes(warp, 0, 1)) @ _PATCH


def _lookup(image: Floats, xy: Floats, around: Floats) -> Floats:
    """(N, n) grey levels at ``around`` (2, N, n) from each point, bilinear; outside the border's levels."""
    x, y = around + xy.T[..., None]
    return bilinear(image, x, y)


def _mean(values: Floats) -> Floats:
    return np.asarray(np.einsum("pn->p", values) / np.float32(values.shape[1]))


def _norm(values: Floats) -> Floats:
    return np.asarray(np.sqrt(np.einsum("pn,pn->p", values, values)) + np.float32(FLAT))
