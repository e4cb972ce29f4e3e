"""How a stored picture is turned, mirrored and stretched to be seen the right way."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from amplify_motion_tokenizer.video.clips import RGB

_MOST_ASPECT = 8
"""Pixels longer than this are taken for a mistake of the header, and for square."""


class Orientation(NamedTuple):
    """One of the eight ways in which a picture can lie: first transposed or not, then flipped."""

    transposed: bool = False
    """Whether rows become columns."""
    flip_rows: bool = False
    """Whether top and bottom then change."""
    flip_columns: bool = False
    """Whether left and right then change."""
    off_degrees: float = 0.0
    """What the wanted turn differs from this one by."""

    def apply(self, rgb: RGB) -> RGB:
        """``rgb`` (H, W, 3) the right way up, C-contiguous."""
        turned = rgb.transpose(1, 0, 2) if self.transposed else rgb
        return np.ascontiguousarray(turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1])

    @property
    def matrix(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """(2, 2): stored (x, y), y down, to displayed (x, y)."""
        plain = np.eye(2)[::-1] if self.transposed else np.eye(2)
        return np.diag([-1.0 if self.flip_columns else 1.0, -1.0 if self.flip_rows else 1.0]) @ plain


_ALL = [Orientation(*flags) for flags in itertools.product((False, True), repeat=3)]


def orientation(display_matrix: bytes) -> Orientation:
    """The right-angled orientation nearest to a container's display matrix.

    Args:
        display_matrix: nine native int32, row by row (a b u, c d v, x y w); a stored (p, q) is shown at
            (a p + c q + x, b p + d q + y). One that maps to a line or a point counts as none.
    """
    a, b, _, c, d, *_ = np.frombuffer(display_matrix, np.int32, 9).astype(float)
    lengths = math.hypot(a, b), math.hypot(c, d)
    if min(lengths) == 0:
        return Orientation()
    wanted = np.array([[a, c], [b, d]]) / lengths
    best = max(_ALL, key=lambda each: float((each.matrix * wanted).sum()))
    cosine = float((best.matrix * wanted).sum()) / 2
    return best._replace(off_degrees=math.degrees(math.acos(min(1.0, max(-1.0, cosine)))))


def pixel_aspect(stated: Fraction | None) -> float:
    """Width over height of a pixel; 1 where it is not stated or cannot be meant."""
    if not stated or not 1 / _MOST_ASPECT <= stated <= _MOST_ASPECT:
        return 1.0
    return float(stated)


def square_size(size: tuple[int, int], aspect: float) -> tuple[int, int]:
    """(height, width) of a picture of ``size`` in square pixels, its shorter way stretched."""
    height, width = size
    return (height, round(width * aspect)) if aspect >= 1 else (round(height / aspect), width)
