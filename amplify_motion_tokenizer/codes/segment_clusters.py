"""Which segments show the same kind of motion: clusters of what their codes decode to.

Letters: S windows of a clip, M segments, K numbers of a window's vector.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.segmentation import Segment
from amplify_motion_tokenizer.errors import UsageError

SEED = 0


def check_scipy() -> None:
    """Raises UsageError where scipy is not installed; says how to."""
    if importlib.util.find_spec("scipy") is None:
        raise UsageError(
            "--clusters needs scipy, which is not installed; pip install 'scipy>=1.15' (or this package with "
            "the extra segment)"
        )


def clusters_of(
    codes: Mapping[str, MotionCodes],
    vectors: Mapping[str, NDArray[np.float32]],
    segments: Mapping[str, Sequence[Segment]],
    count: int,
) -> dict[str, list[int]]:
    """A number of 0 to ``count`` - 1 for each segment; segments of one number move alike.

    k-means (k-means++ with a fixed seed) on the mean vector of a segment's windows, the ones whose middle
    lies in it, or the nearest. Numbers are in the order in which clusters appear.

    Args:
        codes: of all clips, by name.
        vectors: ``motion_vectors`` (S, K) of each.
        segments: of each.
        count: how many clusters.

    Raises:
        UsageError: there are fewer segments than clusters, or scipy is missing.
    """
    check_scipy()
    from scipy.cluster.vq import kmeans2

    means = [
        _mean(codes[name], vectors[name], segment) for name, each in segments.items() for segment in each
    ]
    if len(means) < count:
        raise UsageError(f"--clusters is {count}, and there are {len(means)} segments; give at most as many")
    found = kmeans2(np.array(means, np.float64), count, minit="++", rng=SEED, iter=100)[1].tolist()
    names = {cluster: number for number, cluster in enumerate(dict.fromkeys(found))}
    numbers = iter(names[cluster] for cluster in found)
    return {name: [next(numbers) for _ in each] for name, each in segments.items()}


def _mean(codes: MotionCodes, vectors: NDArray[np.float32], segment: Segment) -> NDArray[np.float32]:
    middles = codes.seconds.numpy().mean(axis=1)
    inside = (middles >= segment.start_s) & (middles <= segment.end_s)
    if not inside.any():
        inside = np.arange(len(middles)) == np.abs(middles - (segment.start_s + segment.end_s) / 2).argmin()
    return np.asarray(vectors[inside].mean(axis=0))
