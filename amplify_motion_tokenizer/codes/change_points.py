"""Where the digits of a clip's codes become others: change points, by ruptures.

Letters: S windows of a clip, d ids of a window, K digits of an id, L levels of a digit.
"""

from __future__ import annotations

import importlib.util
import math

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.segmentation import Change, Points, Rules
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer
from amplify_motion_tokenizer.errors import UsageError

Floats = NDArray[np.float64]

PENALTY = 1.5
"""What a change point must explain, in windows whose digits are all others: the default of ``--change`` for
this method, chosen on other clips than docs/measured/segmentation.md measures on."""


def check_ruptures() -> None:
    """Raises UsageError where ruptures is not installed; says how to."""
    if importlib.util.find_spec("ruptures") is None:
        raise UsageError(
            "--method histograms needs ruptures, which is not installed; pip install 'ruptures>=1.1.9' (or "
            "this package with the extra segment)"
        )


def histograms(codes: MotionCodes, tokenizer: Tokenizer) -> Floats:
    """(S, d K L) of each window the levels that its digits have: one of L is not 0 for each digit.

    Means of rows are histograms. Rows have the length 1 by the Euclidean norm; two with no digit in common
    are sqrt(2) apart.
    """
    digits = tokenizer.digits(codes.ids).numpy()
    columns = [
        digits[..., place, None] == np.arange(levels)
        for place, levels in enumerate(tokenizer.config.model.fsq_levels)
    ]
    rows = np.concatenate(
        [column.reshape(len(codes), math.prod(column.shape[1:])) for column in columns], axis=1
    )
    return np.asarray(rows / math.sqrt(math.prod(digits.shape[1:])), np.float64)


def change_points(codes: MotionCodes, rows: Floats, rules: Rules) -> Points:
    """Finds the changes of a clip's histograms, for ``segments_of``.

    Of all ways to cut a part, the one with the least sum of squared distances of windows to the mean of
    their segment (a linear kernel, exactly, by PELT), plus ``least_change`` for each cut.

    Args:
        codes: of a clip, whose seconds are known.
        rows: its ``histograms``, or other vectors of its windows (S, any).
        rules: ``least_change`` is the price of a cut; ``shortest_s`` holds.

    Raises:
        UsageError: ruptures is missing.
    """
    check_ruptures()
    middles = codes.seconds.numpy().mean(axis=1)

    def points(first: int, end: int) -> list[float]:
        import ruptures

        stride_s = float(np.median(np.diff(middles[first:end]))) if end - first > 1 else 1.0
        least = max(1, round(rules.shortest_s / stride_s))
        if end - first < 2 * least:
            return []
        found = ruptures.KernelCPD(kernel="linear", min_size=least).fit(rows[first:end])
        cuts = found.predict(pen=rules.least_change)[:-1]
        return [float(middles[first + cut - 1] + middles[first + cut]) / 2 for cut in cuts]

    return points


def change_of_histograms(codes: MotionCodes, rows: Floats, around: int = 4) -> Change:
    """How far the means of the ``around`` windows before and after each place between two windows are apart.

    From 0, the same histograms, to 1.4, no digit in common.

    Args:
        codes: of a clip, whose seconds are known.
        rows: its ``histograms``.
        around: windows.
    """
    middles = codes.seconds.numpy().mean(axis=1)
    apart = [
        np.linalg.norm(rows[at : at + around].mean(axis=0) - rows[max(0, at - around) : at].mean(axis=0))
        for at in range(1, len(rows))
    ]
    return Change((middles[1:] + middles[:-1]) / 2, np.array(apart, np.float64))
