"""BootsTAPIR (Doersch et al. 2024) from a clone of google-deepmind/tapnet; all of it is Apache 2.0."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import nn

from amplify_motion_tokenizer.config import BootsTapirConfig
from amplify_motion_tokenizer.geometry import px_from_raster, raster_from_px
from amplify_motion_tokenizer.trackers.batches import Floats, ResizedFrames, frame_size
from amplify_motion_tokenizer.trackers.checkouts import CheckoutTracker
from amplify_motion_tokenizer.trackers.windows import FrameWindow


class BootsTapir(CheckoutTracker):
    """TAPIR with BootsTAP's weights, which sees whole windows.

    Its conventions: frames (B, T, h, w, 3) in [-1, 1]; queries (t, y, x) and tracks (x, y) on the raster of
    those frames; outputs (B, N, T). Visibility is the chance that a point is neither hidden nor far from
    where it is said to be, which its authors call visible above 0.5.
    """

    title = "BootsTAPIR"
    section = "bootstapir"
    weights_urls = {
        "bootstapir": "https://storage.googleapis.com/dm-tapnet/bootstap/bootstapir_checkpoint_v2.pt"
    }
    repository = "https://github.com/google-deepmind/tapnet"
    module = "tapnet.torch.tapir_model"
    packages = ("tapnet",)
    needs = "einshape dm-tree"

    def __init__(self, name: str, settings: BootsTapirConfig, device: str = "auto") -> None:
        super().__init__(name, settings, device)
        self._size = (settings.resolution, settings.resolution)

    def build(self, code: ModuleType) -> nn.Module:
        """The model with the arguments that BootsTAPIR's weights were made with."""
        model: nn.Module = code.TAPIR(pyramid_level=1)
        return model

    @torch.inference_mode()
    def predict(
        self, frames: ResizedFrames, batch: list[FrameWindow], queries_xy_px: Floats
    ) -> tuple[Floats, Floats]:
        """See ``CheckoutTracker``."""
        steps, points, size = len(batch[0].frames), len(queries_xy_px), frame_size(batch[0])
        video = frames.of(batch, self._size, steps).to(self._device).float() / 255 * 2 - 1
        yx = torch.from_numpy(raster_from_px(queries_xy_px, size, self._size)[:, ::-1].copy())
        queries = nn.functional.pad(yx, (1, 0)).to(self._device)  # (frame 0, y, x)
        # It shuffles the queries, which must neither depend on random numbers of others nor use them up.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found: dict[str, Any] = self._model(video, queries.repeat(len(batch), 1, 1))
        seen = (1 - found["occlusion"].sigmoid()) * (1 - found["expected_dist"].sigmoid())
        tracks, seen = found["tracks"].transpose(1, 2), seen.transpose(1, 2)
        self.expect_shapes(tracks, seen, (len(batch), steps, points))
        return px_from_raster(tracks.float().cpu().numpy(), size, self._size), seen.float().cpu().numpy()
