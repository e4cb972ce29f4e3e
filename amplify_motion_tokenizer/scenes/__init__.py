"""Small rendered clips with exact ground-truth tracks, for tests, benchmarks and trying the scripts out.

``python -m amplify_motion_tokenizer scenes --output DIR`` writes some. The way of a clip: a path of
the camera and of each object (``motions``) and a texture for each (``textures``) make layers
(``objects``); layers make a scene (``layers``), which renders frames and knows where each surface point
is; frames go through the effects of a camera (``effects``) to a file (``writing``). ``kinds`` is the
table of what there is.
"""

from amplify_motion_tokenizer.scenes.effects import Effects
from amplify_motion_tokenizer.scenes.kinds import (
    KINDS,
    MOTION_CLASSES,
    MOVING,
    Kind,
    make_scene,
    render_clip,
)
from amplify_motion_tokenizer.scenes.layers import Layer, Scene
from amplify_motion_tokenizer.scenes.motions import similarity
from amplify_motion_tokenizer.scenes.objects import background
from amplify_motion_tokenizer.scenes.writing import TruthWindows, write_clip, write_clips, write_truth

__all__ = [
    "KINDS",
    "MOTION_CLASSES",
    "MOVING",
    "Effects",
    "Kind",
    "Layer",
    "Scene",
    "TruthWindows",
    "background",
    "make_scene",
    "render_clip",
    "similarity",
    "write_clip",
    "write_clips",
    "write_truth",
]
