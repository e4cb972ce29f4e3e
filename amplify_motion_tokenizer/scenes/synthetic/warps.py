"""Smooth motion of all that is seen: cloth, limbs, water, a scene whose depth no plane describes.

Lengths are in rows of a frame of 240. Letters: B windows, T frames, N points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from amplify_motion_tokenizer.scenes.synthetic.draws import Draws
from amplify_motion_tokenizer.scenes.synthetic.paths import SLOWEST, profiles, summed

_FIELDS, _WAVES = 3, 8
"""Fields of a window, each with its own course over time, and waves of a field."""

_FASTEST = 12.0
"""Highest typical speed of a field, in rows a frame."""


def warps(draws: Draws, seconds: Tensor, x: Tensor, y: Tensor, frames: int) -> Tensor:
    """(B, T, N, 2): how far points are off where they would be, 0 in frame 0; in four of ten windows nothing.

    A field is a sum of waves of the place, the longer ones higher.

    Args:
        draws: of B windows.
        seconds: (B,) between two frames.
        x: (B, N), places in frame 0.
        y: the same.
        frames: T.
    """
    shape = (_FIELDS, _WAVES)
    length = draws.log_uniform(40, 700, *shape)
    number = draws.direction(*shape) * (2 * math.pi / length)[..., None]
    height = draws.direction(*shape) * (length ** draws.uniform(0.3, 2.0, 1, 1))[..., None]
    height = height / height.square().sum(dim=(2, 3), keepdim=True).sqrt()
    phase = draws.uniform(0, 2 * math.pi, *shape)
    there = draws.happens(0.6, 1) & (draws.uniform(0, 1, _FIELDS) < torch.tensor([1.0, 0.5, 0.3]))
    speed = draws.log_uniform(SLOWEST, _FASTEST, _FIELDS) * there
    course = summed(profiles(draws, seconds, frames - 1, _FIELDS)) * speed[..., None]
    place = number[..., :1] * x[:, None, None] + number[..., 1:] * y[:, None, None] + phase[..., None]
    fields = torch.einsum("bfwn,bfwa->bfna", place.cos_(), height)
    return torch.einsum("bft,bfna->btna", course, fields)
