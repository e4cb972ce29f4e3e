"""Rendered scenes whose camera is known, with objects before it that cover more or less of the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.scenes import Scene, background, similarity
from amplify_motion_tokenizer.scenes.layers import Floats, Layer, Size
from amplify_motion_tokenizer.scenes.motions import (
    Camera,
    along,
    fast_roll,
    fixed,
    free,
    handheld,
    middle,
    pan_at,
    roll,
    sweep,
    tilt,
    unit,
    wave,
    zoom,
)
from amplify_motion_tokenizer.scenes.objects import cut_out
from amplify_motion_tokenizer.scenes.textures import bar, bar_joint, blob

Video = NDArray[np.uint8]

SHAKE_PX = 30
"""Pixels a frame, at 480 rows, that a shaking head moves the picture by at most."""

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""How much of the picture things before the background cover."""


def shake(rng: np.random.Generator, size: Size, times: Floats) -> Floats:
    """A shaking head: up to ``SHAKE_PX`` a frame, to and fro in less than a second, and a little roll."""
    across = wave(rng, times, SHAKE_PX, (10, 16))
    down = wave(rng, times, SHAKE_PX / 3, (10, 16))
    shift = unit(size) * np.stack([across, down], axis=-1)
    return similarity(len(times), shift, wave(rng, times, 0.006, (10, 16)), centre=middle(size))


def _blob(rng: np.random.Generator, share: float, size: Size, poses: Floats) -> Layer:
    """A rounded thing about the poses' (0, 0) that covers some ``share`` of a frame."""
    alpha = blob(rng, np.sqrt(share * size[0] * size[1] / np.pi) / 0.75)
    centre = (alpha.shape[0] - 1) / 2
    return cut_out(rng, alpha, (centre, centre), poses)


def _wander(rng: np.random.Generator, size: Size, times: Floats, at: Floats) -> Floats:
    """Poses that go to and fro at 1 to 5 pixels a frame, and turn a little, about the place ``at``."""
    speed, heading = unit(size) * rng.uniform(1, 5), rng.uniform(0, 2 * np.pi)
    path = at + along(heading, sweep(rng, times, speed, speed * rng.uniform(8, 16)))
    return similarity(len(times), path, rng.uniform(0, 6) + wave(rng, times, 0.02))


def view_of(rng: np.random.Generator, size: Size, times: Floats, camera: Camera) -> list[Layer]:
    """A background alone."""
    return [background(rng, size, camera(rng, size, times))]


def one_before(
    rng: np.random.Generator, size: Size, times: Floats, camera: Camera, share: float
) -> list[Layer]:
    """One rigid thing that moves in the middle."""
    path = camera(rng, size, times)
    own = _wander(rng, size, times, np.array(middle(size)))
    return [background(rng, size, path), _blob(rng, share, size, path @ own)]


def many_before(
    rng: np.random.Generator, size: Size, times: Floats, camera: Camera, share: float
) -> list[Layer]:
    """Six things in two rows, each of which moves by itself."""
    path = camera(rng, size, times)
    places = [np.array([x, y]) * size[::-1] for y in (0.27, 0.73) for x in (0.18, 0.5, 0.82)]
    poses = [path @ _wander(rng, size, times, place) for place in places]
    return [background(rng, size, path), *(_blob(rng, share / 6, size, pose) for pose in poses)]


def nearer(rng: np.random.Generator, size: Size, times: Floats, share: float) -> list[Layer]:
    """Posts that stand twice as near as the background, before a camera that travels sideways."""
    path = pan_at(2, 6)(rng, size, times)
    near = similarity(len(times), 2 * path[:, :2, 2])
    places, thickness = (np.arange(4) + 0.5) / 4, share * size[1] / 4
    joint = float(bar_joint(thickness))
    posts = []
    for place in places:
        upright = similarity(1, np.array([place * size[1], -0.25 * size[0]]), np.pi / 2)
        posts.append(cut_out(rng, bar(1.5 * size[0], thickness), (joint, joint), near @ upright))
    return [background(rng, size, path), *posts]


def wrist(rng: np.random.Generator, size: Size, times: Floats, share: float) -> list[Layer]:
    """A camera on a wrist that turns by 5 to 8 degrees a frame, with a gripper that stays in the picture."""
    path = fast_roll(rng, size, times)
    width = share * size[1] / 2
    joint = float(bar_joint(width))
    fingers = []
    for side in (-1, 1):
        at = np.array([(0.5 + 0.28 * side) * size[1], 0.0])
        pose = similarity(len(times), at, np.pi / 2)
        fingers.append(cut_out(rng, bar(size[0], width), (joint, joint), pose))
    return [background(rng, size, path), *fingers]


class Case(NamedTuple):
    """Scenes of one sort."""

    layers: Callable[[np.random.Generator, Size, Floats], list[Layer]]
    exposures: int = 1


CASES: dict[str, Case] = {
    "still": Case(partial(view_of, camera=fixed)),
    "pan": Case(partial(view_of, camera=pan_at(1, 8))),
    "zoom": Case(partial(view_of, camera=zoom)),
    "roll": Case(partial(view_of, camera=roll)),
    "tilt": Case(partial(view_of, camera=tilt)),
    "hand": Case(partial(view_of, camera=handheld)),
    "shake": Case(partial(view_of, camera=shake)),
    "shake, blurred": Case(partial(view_of, camera=shake), exposures=9),
    **{f"one, {s:.0%}": Case(partial(one_before, camera=free, share=s)) for s in SHARES},
    **{f"six, {s:.0%}": Case(partial(many_before, camera=free, share=s)) for s in SHARES},
    **{f"nearer, {s:.0%}": Case(partial(nearer, share=s)) for s in (0.2, 0.4, 0.6)},
    **{f"wrist, {s:.0%}": Case(partial(wrist, share=s), exposures=9) for s in (0.1, 0.25, 0.4)},
}
"""Cases by name, with the share of the picture that is no background."""

SHAKEN = {
    "hand": CASES["hand"],
    "shake": CASES["shake"],
    "shake, six 30%": Case(partial(many_before, camera=shake, share=0.3)),
    "shake, one 30%": Case(partial(one_before, camera=shake, share=0.3)),
}
"""Cases of cameras that no tripod holds."""

CASES.update(SHAKEN)


def camera_scene(case: str, seed: Sequence[int], size: Size, frames: int) -> Scene:
    """The scene of a case of ``CASES``, the same for the same arguments."""
    made, rng = CASES[case], np.random.default_rng(list(seed))
    shutter = 0.5 * (np.arange(made.exposures) - made.exposures // 2) / made.exposures
    times = (np.arange(frames)[:, None] + shutter).ravel()
    return Scene(made.layers(rng, size, times), size, made.exposures)
