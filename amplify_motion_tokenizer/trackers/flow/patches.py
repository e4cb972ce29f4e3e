"""Every point's patch of the first frame, found again in later frames.

Inverse compositional alignment (Baker and Matthews 2004, "Lucas-Kanade 20 Years On: A Unifying
Framework") of a translation, of patches freed of brightness and contrast: gain and offset are projected
out of the steepest descent images, so each iteration is one image lookup and three inner products.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Grey = NDArray[np.uint8]

RADIUS_PX = 5
"""Patches are 11 x 11 pixels of the image that flow is computed on."""
ITERATIONS = 3
LONGEST_MOVE_PX = 3.0
"""A refined point further than this from its prediction has slipped to something else: not taken."""
LEAST_GAIN = 1e-3
"""A refined point that matches better by less stays where it was predicted, so that still points do not move."""
PRIOR = 25.0
"""Weight of the prediction: grey-level noise (5) over the prediction's error (1 pixel), squared."""
FLAT = 1e-3
"""Contrast below which a patch matches nothing, as the norm of its grey levels."""



def _square(radius: int) -> Floats:
    """(2, n) x and y of the pixels of a square around a point, row by row."""
    side = np.arange(-radius, radius + 1, dtype=np.float32)
    return np.stack(np.meshgrid(side, side)).reshape(2, -1)


_PATCH = _square(RADIUS_PX)
_WIDER = _square(RADIUS_PX + 1)
"""With one more pixel all around, for slopes."""


@dataclass(frozen=True)
class Patches:
    """Patches of N points, n pixels each."""

    rows: Floats
    """(N, 3, n): the patch with mean 0 and norm 1, and what turns pixels into an x and a y step."""
    norm: Floats
    """(N,) contrast of the patch."""
    stiffness: Floats
    """(N, 2, 2) share of an offset from the prediction that the prior takes back in an iteration."""

    @classmethod
    def cut(cls, image: Grey, xy: Floats) -> Patches:
        """Patches of ``image`` (h, w), grey 0..255, around points ``xy`` (N, 2) of it."""
        identity = np.broadcast_to(np.eye(2, dtype=np.float32), (len(xy), 2, 2))
        side = 2 * RADIUS_PX + 3
        wide = _lookup(image, xy, identity, _WIDER).reshape(len(xy), side, side)
        slope_x = (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2
        slope_y = (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]) / 2
        patch = _centred(wide[:, 1:-1, 1:-1].reshape(len(xy), -1))
        norm = _norm(patch)
        patch = patch / norm[:, None]
        slopes = np.stack([_centred(slope.reshape(len(xy), -1)) for slope in (slope_x, slope_y)], 1)
        slopes -= np.einsum("pkn,pn->pk", slopes, patch)[..., None] * patch[:, None]
        hessian = np.einsum("pin,pjn->pij", slopes, slopes) + PRIOR * np.eye(2, dtype=np.float32)
        softness = inverse(hessian)
        steps = np.einsum("pij,pjn->pin", softness, slopes) * norm[:, None, None]
        return cls(np.concatenate([patch[:, None], steps], 1), norm, np.float32(PRIOR) * softness)

    def __getitem__(self, chosen: NDArray[np.intp]) -> Patches:
        return Patches(self.rows[chosen], self.norm[chosen], self.stiffness[chosen])

    def refine(self, image: Grey, xy: Floats, warp: Floats) -> tuple[Floats, Floats]:
        """Moves points from predictions to where their patches match best.

        Args:
            image: (h, w), grey 0..255.
            xy: (N, 2) predictions, pixels of ``image``.
            warp: (N, 2, 2) how each patch has turned and grown since the first frame.

        Returns:
            Points (N, 2), and their match (N,), the correlation of patch and image in -1..1. A point
            that would match worse, or move far, stays where it was predicted.
        """
        offset = np.zeros_like(xy)
        place = xy
        for iteration in range(ITERATIONS + 1):
            place = xy + np.einsum("pij,pj->pi", warp, offset)
            found = _centred(_lookup(image, place, warp, _PATCH))
            product = np.einsum("pkn,pn->pk", self.rows, found) / _norm(found)[:, None]
            match = product[:, 0]
            if iteration == 0:
                first = match
            pull = np.einsum("pij,pj->pi", self.stiffness, offset)
            if iteration < ITERATIONS:
                offset = offset - np.clip(product[:, 1:] + pull, -1, 1)
        taken = (match > first + np.float32(LEAST_GAIN)) & (np.abs(place - xy).max(1) < LONGEST_MOVE_PX)
        return np.where(taken[:, None], place, xy), np.where(taken, match, first)


def _lookup(image: Grey, xy: Floats, warp: Floats, offsets: Floats) -> Floats:
    """(N, n) grey levels at ``xy + warp @ offsets``, bilinear, with the border's beyond the border."""
    x, y = (
        xy[:, axis, None] + warp[:, axis, :1] * offsets[0] + warp[:, axis, 1:] * offsets[1]
        for axis in range(2)
    )
    if not x.size:
        return x  # OpenCV refuses it
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _centred(values: Floats) -> Floats:
    return np.asarray(values - np.einsum("pn->p", values)[:, None] / np.float32(values.shape[1]))


def _norm(values: Floats) -> Floats:
    return np.asarray(np.sqrt(np.einsum("pn,pn->p", values, values)) + np.float32(FLAT))


def inverse(matrices: Floats) -> Floats:
    """Of (..., 2, 2); a closed form, as numpy.linalg is slow on many small ones."""
    (a, b), (c, d) = np.moveaxis(matrices, (-2, -1), (0, 1))
    inverse = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2)
    return np.asarray(inverse / (a * d - b * c)[..., None, None], np.float32)

