"""Which FSQ levels have codes that can all be reached, and ids that are exact."""

from __future__ import annotations

import math
from collections.abc import Sequence

LARGEST_LEVEL = 1000
"""FSQ levels of a digit, at most: its bound reaches a thousandth beyond them, so half a level at most."""

MAX_CODES = 2**31
"""Codes of the largest codebook whose ids are counted and stored as whole numbers."""

ALLOWED_LEVELS = (
    f"one or more whole numbers of at least 3 and at most {LARGEST_LEVEL}, whose product, the number of "
    f"codes, is at most {MAX_CODES}"
)
"""What ``levels_allowed`` asks for, in words."""


def levels_allowed(levels: Sequence[int]) -> bool:
    """Whether every code of these FSQ levels can be reached and has an exact id."""
    each = bool(levels) and all(3 <= level <= LARGEST_LEVEL for level in levels)
    return each and math.prod(levels) <= MAX_CODES
