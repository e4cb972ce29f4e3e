"""Frames on the device and their feature maps, which the windows of a clip share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amplify_motion_tokenizer.trackers.windows import FrameWindow

ENCODER_FRAMES = 16
"""Most frames in one call of the encoder, whose memory grows with them."""


class ClipFrames:
    """One clip's frames at the model's size, on its device, and their feature maps.

    A frame is sent and resized once, and kept while windows need it.

    Args:
        device: the model's device.
        model_size: (height, width) that the model works at.

    Attributes:
        maps: feature maps by index of the frame in the clip, filled by ``SharedEncoder``.
    """

    def __init__(self, device: torch.device, model_size: tuple[int, int]) -> None:
        self.maps: dict[int, Tensor] = {}
        self._frames: dict[int, Tensor] = {}
        self._device = device
        self._model_size = model_size

    def video(self, windows: Sequence[FrameWindow], indices: Sequence[Sequence[int]]) -> Tensor:
        """Frames ``indices`` (B, T) of the clip, which ``windows`` hold, as (B, T, 3, h, w), 0..255."""
        self._send(
            {
                window.start + step: rgb
                for window in windows
                for step, rgb in enumerate(window.real_frames)
                if window.start + step not in self._frames
            }
        )
        return torch.stack([torch.stack([self._frames[index] for index in row]) for row in indices])

    def forget_before(self, index: int) -> None:
        """Frees the frames before ``index``."""
        for kept in (self._frames, self.maps):
            for old in [old for old in kept if old < index]:
                del kept[old]

    def _send(self, frames: dict[int, NDArray[np.uint8]]) -> None:
        if frames:
            sent = torch.from_numpy(np.stack(list(frames.values()))).to(self._device)
            # As the predictor does it, in 0..255 and not 0..1: the model rescales by itself.
            resized = nn.functional.interpolate(
                sent.permute(0, 3, 1, 2).float(), self._model_size, mode="bilinear", align_corners=True
            )
            self._frames.update(zip(frames, resized, strict=True))


class SharedEncoder(nn.Module):
    """Takes the place of the model's encoder, and runs it only on frames that have no map yet.

    CoTracker's encoder sees each frame by itself (2D convolutions, instance norm), so a frame's map is
    the same in every window.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self._clip: ClipFrames | None = None
        self._indices: Sequence[Sequence[int]] = ()
        self._next = 0

    def expect(self, clip: ClipFrames, indices: Sequence[Sequence[int]]) -> None:
        """Says which frames of which clip the model's next call is about: ``indices`` (B, T)."""
        self._clip, self._indices, self._next = clip, indices, 0

    def forward(self, frames: Tensor) -> Any:
        """(B * t, 3, h, w) -> (B * t, C, h', w') of the next t frames of each window.

        Long windows come in several calls. Frames beyond a window are its last one again, with which
        some models pad.
        """
        assert self._clip is not None
        maps, steps = self._clip.maps, len(frames) // len(self._indices)
        times = range(self._next, self._next + steps)
        self._next += steps
        rows = [window[min(time, len(window) - 1)] for window in self._indices for time in times]
        new = {index: row for row, index in enumerate(rows) if index not in maps}
        for at in range(0, len(new), ENCODER_FRAMES):
            part = list(new)[at : at + ENCODER_FRAMES]
            maps.update(zip(part, self.encoder(frames[[new[index] for index in part]]), strict=True))
        return torch.stack([maps[index] for index in rows])
