"""Windows of rendered clips as the embedded tracker sees them, each with the motion that it shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes import KINDS, render_clip
from amplify_motion_tokenizer.trackers.flow import FlowTracker
from amplify_motion_tokenizer.trackers.windows import FrameWindow, iter_windows
from amplify_motion_tokenizer.video.clips import Frame

Video = NDArray[np.uint8]

FPS, LENGTH, GRID = 20, 16, 20
"""Frames a second, T, and points on a side of the grid, as the shipped tokenizers take them."""

DIRECTED = ("pan", "tilt", "zoom", "roll")
"""Motion classes that go somewhere, so that going elsewhere is another motion."""


class Tracked(NamedTuple):
    """The windows of one clip."""

    starts: list[int]
    """(S,) first frames."""
    tracks_xy_px: Tensor
    """(S, T, N, 2) float32, (x, y) pixels."""
    visibility: Tensor
    """(S, T, N) float32, 0 to 1."""


class MovingWindows(NamedTuple):
    """Windows of many clips."""

    clips: Tensor
    """(S,) int64, which clip each is of."""
    classes: list[str]
    """(S,) motion classes."""
    directed: list[str]
    """(S,) motion classes, with the direction where they have one: ``pan left``, ``zoom out``."""
    tracks_xy_px: Tensor
    """(S, T, N, 2) float32, (x, y) pixels, of the flow tracker."""
    visibility: Tensor
    """(S, T, N) float32, 0 to 1."""


def tracked(video: Video, stride: int) -> Tracked:
    """The windows of frames (F, H, W, 3), RGB, that start every ``stride`` frames."""
    size = video.shape[1], video.shape[2]
    frames = (Frame(rgb, index / FPS, tick=index) for index, rgb in enumerate(video))
    windows: Iterator[FrameWindow] = iter_windows(frames, LENGTH, stride)
    found = list(FlowTracker(FlowConfig()).track(windows, query_grid("row_major", GRID, size)))
    return Tracked(
        [window.start for window in found],
        torch.stack([torch.as_tensor(window.tracks_xy_px) for window in found]).float(),
        torch.stack([torch.as_tensor(window.visibility) for window in found]).float(),
    )


def moving_windows(
    size: tuple[int, int], seeds: Sequence[int], steps: Sequence[int], frames: int, stride: int
) -> MovingWindows:
    """Windows of a clip of each kind, seed and frame step; at step 2 everything is twice as fast.

    Args:
        size: (height, width) of the frames in pixels.
        seeds: of the scenes.
        steps: of every so many frames one is kept.
        frames: of each clip, after that.
        stride: frames between windows.
    """
    clips, classes, directed, found = [], [], [], []
    places = itertools.product(KINDS, seeds, steps)
    for number, (kind, seed, step) in enumerate(places):
        # A scene of its own for each clip: kinds that differ in effects alone would share theirs.
        video, scene = render_clip(kind, (seed, number), size, frames * step)
        found.append(tracked(video[::step], stride))
        label = KINDS[kind].label
        for start in found[-1].starts:
            truth, _ = scene.truth(query_grid("row_major", GRID, size), start * step, LENGTH * step)
            clips.append(number)
            classes.append(label)
            directed.append(f"{label} {_direction(label, truth)}".strip())
    return MovingWindows(
        torch.tensor(clips),
        classes,
        directed,
        torch.cat([each.tracks_xy_px for each in found]),
        torch.cat([each.visibility for each in found]),
    )


def _direction(label: str, tracks: NDArray[np.float64]) -> str:
    """Where true tracks (T, N, 2) go, of a class in ``DIRECTED``; "" of another."""
    if label not in DIRECTED:
        return ""
    moves, places = tracks[-1] - tracks[0], tracks[0] - tracks[0].mean(axis=0)
    if label == "zoom":
        return "in" if (moves * places).sum() > 0 else "out"
    if label == "roll":
        return "right" if (places[:, 0] * moves[:, 1] - places[:, 1] * moves[:, 0]).sum() > 0 else "left"
    right, down = moves.mean(axis=0)
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"
