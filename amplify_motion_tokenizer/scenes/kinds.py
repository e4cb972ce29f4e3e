"""The kinds of rendered clips. A new kind is a line in ``KINDS``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.scenes import motions
from amplify_motion_tokenizer.scenes.effects import Effects
from amplify_motion_tokenizer.scenes.layers import Floats, Image, Layer, Scene, Size
from amplify_motion_tokenizer.scenes.motions import Camera
from amplify_motion_tokenizer.scenes.objects import Texture, arm, background, mover, passer, post, speck
from amplify_motion_tokenizer.scenes.textures import leaves, wall

Seed = int | Sequence[int]

MOTION_CLASSES = (
    "still", "pan", "zoom", "roll", "tilt", "handheld", "movers", "articulated", "entering", "mixed",
)  # fmt: skip
"""What moves in a clip: nothing, the camera in one of five ways, objects in one of three, or both."""

MOVING = dict.fromkeys(("pan", "zoom", "roll", "tilt", "handheld"), "camera") | dict.fromkeys(
    ("movers", "articulated", "entering"), "objects"
)
"""What moves in clips of a motion class; in the other classes it is nothing, or both."""

_SHUTTER = 0.5
"""Share of the time between two frames in which a blurred frame is exposed."""


@dataclass(frozen=True)
class Kind:
    """How clips of one kind are made."""

    label: str
    """Their motion class, one of ``MOTION_CLASSES``."""
    layers: Callable[[np.random.Generator, Size, Floats], list[Layer]]
    """A function from (rng, size, times) to the scene's layers, from the background up."""
    effects: Effects = Effects()
    """Effects of the camera and its file on the frames."""
    exposures: int = 1
    """As in ``Scene``; above 1 the frames have motion blur."""


def _view(
    rng: np.random.Generator,
    size: Size,
    times: Floats,
    camera: Camera,
    texture: Texture = leaves,
    movers: int = 0,
) -> list[Layer]:
    """A background under a camera, with movers over it."""
    path = camera(rng, size, times)
    return [
        background(rng, size, path, texture),
        *(mover(rng, size, path, times) for _ in range(movers)),
    ]


def _arms(rng: np.random.Generator, size: Size, times: Floats) -> list[Layer]:
    still = motions.fixed(rng, size, times)
    return [background(rng, size, still), *(part for _ in range(2) for part in arm(rng, size, still, times))]


def _passers(rng: np.random.Generator, size: Size, times: Floats) -> list[Layer]:
    still = motions.fixed(rng, size, times)
    return [background(rng, size, still), *(passer(rng, size, still, times) for _ in range(6))]


def _specks(rng: np.random.Generator, size: Size, times: Floats) -> list[Layer]:
    still = motions.fixed(rng, size, times)
    return [background(rng, size, still), *(speck(rng, size, still, times) for _ in range(30))]


def _behind_posts(rng: np.random.Generator, size: Size, times: Floats) -> list[Layer]:
    """Movers between a background and posts; a slow pan shifts the posts, which are nearer, by more."""
    pan = motions.pan_at(0.5, 2)(rng, size, times)
    nearer = motions.similarity(len(times), 1.8 * pan[:, :2, 2])
    places = (np.arange(3) + rng.uniform(0.2, 0.8, 3)) / 3
    return [
        background(rng, size, pan),
        *(mover(rng, size, pan, times) for _ in range(3)),
        *(post(rng, size, nearer, at) for at in places),
    ]


def _everything(rng: np.random.Generator, size: Size, times: Floats) -> list[Layer]:
    camera = motions.free(rng, size, times)
    return [
        background(rng, size, camera),
        *(mover(rng, size, camera, times) for _ in range(3)),
        *arm(rng, size, camera, times),
    ]


KINDS: dict[str, Kind] = {
    "pan": Kind("pan", partial(_view, camera=motions.pan_at(1, 8))),
    "zoom": Kind("zoom", partial(_view, camera=motions.zoom)),
    "roll": Kind("roll", partial(_view, camera=motions.roll)),
    "tilt": Kind("tilt", partial(_view, camera=motions.tilt)),
    "handheld": Kind("handheld", partial(_view, camera=motions.handheld)),
    "movers": Kind("movers", partial(_view, camera=motions.fixed, movers=4)),
    "articulated": Kind("articulated", _arms),
    "occluders": Kind("mixed", _behind_posts),
    "entering": Kind("entering", _passers),
    "mixed": Kind("mixed", _everything),
    "low_texture": Kind("pan", partial(_view, camera=motions.pan_at(1, 4), texture=wall)),
    "lighting": Kind(
        "movers", partial(_view, camera=motions.fixed, movers=3), Effects(light=1.0, shadow=0.45)
    ),
    "blur": Kind("pan", partial(_view, camera=motions.pan_at(8, 21)), Effects(defocus=1.5), exposures=9),
    "noise": Kind("handheld", partial(_view, camera=motions.handheld), Effects(noise=9.0, jpeg=40)),
    "compressed": Kind("mixed", _everything, Effects(jpeg=15)),
    "still": Kind("still", partial(_view, camera=motions.fixed)),
    "still_noisy": Kind(
        "still", partial(_view, camera=motions.fixed), Effects(light=0.3, noise=5.0, jpeg=50)
    ),
    "fast_roll": Kind("roll", partial(_view, camera=motions.fast_roll)),
    "fast_zoom": Kind("zoom", partial(_view, camera=motions.fast_zoom)),
    "specks": Kind("movers", _specks),
    "light_bands": Kind("still", partial(_view, camera=motions.fixed), Effects(bands=0.5)),
}
"""All kinds by name. Those without effects and with one exposure have perfect frames, so that a tracker's
errors on them are the motion's. Kinds that differ in effects alone show the same scene for the same seed."""


def make_scene(kind: str, seed: Seed, size: Size, frames: int) -> Scene:
    """The scene of that kind (a key of ``KINDS``), the same one for the same arguments.

    ``size`` is (height, width). Speeds are mostly 1 to 8 and at most some 21 pixels a frame at 480 x 640,
    and in proportion at other sizes; the speeds of ``fast_roll`` and ``fast_zoom`` are up to 56 and 24.

    Raises:
        UsageError: there is no such kind.
    """
    chosen = _kind(kind)
    rng, _ = _generators(seed)
    shutter = _SHUTTER * (np.arange(chosen.exposures) - chosen.exposures // 2) / chosen.exposures
    times = (np.arange(frames)[:, None] + shutter).ravel()
    return Scene(chosen.layers(rng, size, times), size, chosen.exposures)


def render_clip(kind: str, seed: Seed, size: Size, frames: int) -> tuple[Image, Scene]:
    """Frames (F, H, W, 3) RGB of the scene after its kind's effects, and the scene, which knows the tracks.

    Raises:
        UsageError: there is no such kind.
    """
    scene = make_scene(kind, seed, size, frames)
    _, rng = _generators(seed)
    return _kind(kind).effects.apply(scene.render(), rng), scene


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise UsageError(f"there is no kind of scene {name!r}; allowed: {', '.join(KINDS)}")
    return KINDS[name]


def _generators(seed: Seed) -> tuple[np.random.Generator, np.random.Generator]:
    """Two random generators: one for the scene, one for the effects."""
    scene, effects = np.random.SeedSequence(seed).spawn(2)
    return np.random.default_rng(scene), np.random.default_rng(effects)
