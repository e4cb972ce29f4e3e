"""Rendered clips whose motion changes from phase to phase at known frames, with nothing else to see of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amplify_motion_tokenizer.scenes import Scene, background, similarity
from amplify_motion_tokenizer.scenes.layers import Floats
from amplify_motion_tokenizer.scenes.motions import along, handheld, middle, unit
from amplify_motion_tokenizer.scenes.objects import mover

PHASES = ("still", "pan", "zoom", "roll", "handheld")
"""What the camera does in a phase, at one speed: a phase of another direction is another phase."""

FRAMES = (24, 72)
"""Least and most frames of a phase."""


def phased_scene(seed: Sequence[int], size: tuple[int, int], phases: int) -> tuple[Scene, list[int]]:
    """A scene of so many phases, each of another kind than the one before, and where all but the first begin.

    Half of the scenes have two objects that move all the while.
    """
    rng = np.random.default_rng(list(seed))
    paths: list[Floats] = []
    reached, kind, zoomed = np.eye(3), "", 0.0
    lengths = rng.integers(*FRAMES, phases).tolist()
    for length in lengths:
        kind = str(rng.choice([name for name in PHASES if name != kind]))
        times = np.arange(length + 1.0)
        rate = rng.uniform(0.008, 0.02) * (rng.choice([-1, 1]) if zoomed == 0 else -np.sign(zoomed))
        zoomed += rate * length * (kind == "zoom")
        path = _camera(kind, rng, size, times, rate)
        path = path @ np.linalg.inv(path[0]) @ reached
        paths.append(path[:-1])
        reached = path[-1]
    whole = np.concatenate(paths)
    times = np.arange(len(whole) * 1.0)
    movers = [mover(rng, size, whole, times) for _ in range(2 * int(rng.integers(2)))]
    return Scene([background(rng, size, whole), *movers], size), np.cumsum(lengths)[:-1].tolist()


def _camera(kind: str, rng: np.random.Generator, size: tuple[int, int], times: Floats, zoom: float) -> Floats:
    """(M, 3, 3), at one speed; ``zoom`` is the logarithm of the scale a frame."""
    if kind == "handheld":
        return handheld(rng, size, times)
    shift = along(rng.uniform(0, 2 * np.pi), unit(size) * rng.uniform(2, 6) * times)
    angle = rng.choice([-1, 1]) * rng.uniform(0.008, 0.025) * times
    return similarity(
        len(times),
        shift if kind == "pan" else 0.0,
        angle if kind == "roll" else 0.0,
        np.exp(zoom * times) if kind == "zoom" else 1.0,
        middle(size),
    )
