"""Clips of two views whose track files hold first frames."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.config import Config, flatten
from amplify_motion_tokenizer.config.loading import Given, build
from amplify_motion_tokenizer.trackers import make_tracker
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.video.clips import Clip
from tests.support.run_scripts import TINY, render

SIDE = 64
"""Of images in these tests: a ResNet-18 on 224 x 224 takes 12 times as long."""


def config_of(side: int | None = SIDE, views: tuple[str, ...] = ("default",), **own: Any) -> Config:
    """A tiny amplify model on images; ``own`` are keys of model.amplify.vision."""
    files = {view: f"{{clip}}/{view}.mp4" for view in views} if len(views) > 1 else {}
    tree = {
        **TINY,
        "tracking": {**TINY["tracking"], "first_frames": side, "view_files": files},
        "data": {
            **TINY["data"],
            "views": list(views),
            "reference_size": [48, 64],
            "static_filter": {"enable": False},
        },
        "model": {
            **TINY["model"],
            "name": "amplify",
            "num_layers": 2,
            "fsq_levels": [8, 8],
            "amplify": {"mlp_dim": 12, "vision": {"encoder": "resnet18", **own}},
        },
    }
    return build(Config(), {key: Given(value, "") for key, value in flatten(tree).items()})


def unconditioned(config: Config) -> Config:
    amplify = dataclasses.replace(config.model.amplify, vision=type(config.model.amplify.vision)())
    return dataclasses.replace(config, model=dataclasses.replace(config.model, amplify=amplify))


def render_views(folder: Path) -> Path:
    """Clips of two views, 12 frames at 10 fps: four windows each."""
    for seed in range(3):
        for view, kind in (("front", "pan"), ("wrist", "zoom")):
            render(folder / f"clip{seed}/{view}.mp4", kind, seed, frames=24)
    return folder


def tracked(clip: Clip, config: Config) -> TrackedClip:
    return TrackedClip(clip, config, make_tracker(config))
