"""AllTracker (Harley et al. 2025) from a clone of aharley/alltracker, whose code is under the MIT licence."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch
from torch import nn

from amplify_motion_tokenizer.config import AllTrackerConfig
from amplify_motion_tokenizer.geometry import raster_from_px, remap
from amplify_motion_tokenizer.trackers.batches import Floats, ResizedFrames, frame_size
from amplify_motion_tokenizer.trackers.checkouts import CheckoutTracker
from amplify_motion_tokenizer.trackers.windows import FrameWindow

SPAN = 16
"""Frames that the model looks at together; it goes on by half as many."""

ITERATIONS = 4
"""How often the model updates its flow, as its authors do."""

CELL = 8
"""Sides of the frames given are multiples of this, as its authors have them."""

TINY = "alltracker_tiny"


class AllTracker(CheckoutTracker):
    """Dense flow from a window's first frame to all of its frames, read off at the queries.

    Its conventions: frames (B, T, 3, h, w) in 0..255; flow (B, T, 2, h, w), (x, y) in pixels of those
    frames, from each pixel of frame 0; visibility and confidence (B, T, 2, h, w) in [0, 1]. A point moves by
    the flow of the pixel that it lies in: between pixels the edges of what moves would be blurred. Its
    visibility is the product of both, which the authors call visible above 0.6.
    """

    title = "AllTracker"
    section = "alltracker"
    lighter = "lower tracking.alltracker.longer_side, or set tracking.device to cpu"
    weights_urls = {
        "alltracker": "https://huggingface.co/aharley/alltracker/resolve/main/alltracker.pth",
        TINY: "https://huggingface.co/aharley/alltracker/resolve/main/alltracker_tiny.pth",
    }
    repository = "https://github.com/aharley/alltracker"
    module = "nets.alltracker"
    packages = ("nets", "utils")
    needs = "einops torchvision"

    def __init__(self, name: str, settings: AllTrackerConfig, device: str = "auto") -> None:
        super().__init__(name, settings, device)
        self._longer_side = settings.longer_side

    def build(self, code: ModuleType) -> nn.Module:
        """The model with the arguments that its weights were made with."""
        # Without init_weights it would first download those of another network.
        options = (
            {"use_basicencoder": True, "no_split": True} if self.name == TINY else {"init_weights": False}
        )
        model: nn.Module = code.Net(SPAN, **options)
        return model

    @torch.inference_mode()
    def predict(
        self, frames: ResizedFrames, batch: list[FrameWindow], queries_xy_px: Floats
    ) -> tuple[Floats, Floats]:
        """See ``CheckoutTracker``."""
        steps, points, size = len(batch[0].frames), len(queries_xy_px), frame_size(batch[0])
        model_size = given_size(size, self._longer_side)
        video = frames.of(batch, model_size, whole_spans(steps)).to(self._device).float()
        # Its other way, which is not for training, moves frames to the GPU by itself, and so needs one.
        flow, seen, *_ = self._model(video.permute(0, 1, 4, 2, 3), iters=ITERATIONS, is_training=True)
        pixels = np.floor(raster_from_px(queries_xy_px, size, model_size)).astype(np.int64)
        x, y = (pixels.clip(0, np.array(model_size)[::-1] - 1)).T
        moved = flow[:, :steps, :, y, x].transpose(2, 3).float().cpu()
        visibility = seen[:, :steps, :, y, x].prod(2).float().cpu()
        self.expect_shapes(moved, visibility, (len(batch), steps, points))
        tracks = queries_xy_px + remap(moved, model_size, size).numpy()
        return tracks, visibility.numpy()


def given_size(size: tuple[int, int], longer_side: int) -> tuple[int, int]:
    """(height, width) of what the model is given of frames of ``size``, both multiples of 8."""
    scale = longer_side / max(size)
    height, width = (max(CELL, int(side * scale) // CELL * CELL) for side in size)
    return height, width


def whole_spans(steps: int) -> int:
    """The least number of frames, ``steps`` or more, that the model's spans cover without a rest."""
    half = SPAN // 2
    return max(SPAN, -(-steps // half) * half)
