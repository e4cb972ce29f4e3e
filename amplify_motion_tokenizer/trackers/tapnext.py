"""TAPNext (Zholus et al. 2025), TAPNext++ from a clone of google-deepmind/tapnet; all of it is Apache 2.0."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from amplify_motion_tokenizer.config import TapNextConfig
from amplify_motion_tokenizer.geometry import px_from_raster, raster_from_px
from amplify_motion_tokenizer.trackers.batches import Floats, ResizedFrames, frame_size
from amplify_motion_tokenizer.trackers.checkouts import CheckoutTracker
from amplify_motion_tokenizer.trackers.windows import FrameWindow

RASTER = (256, 256)
"""(height, width) of the raster that queries and tracks are on, whatever the size of the frames given."""

PREFIX = "tapnext."
"""What the names of weights in TAPNext++'s training checkpoints begin with."""


class TapNext(CheckoutTracker):
    """TAPNext, which goes through a window frame by frame and carries a state along.

    Its conventions: frames (B, 1, h, w, 3) in [-1, 1]; queries (t, y, x) and tracks (y, x), both on a raster
    of 256 x 256; visibility as a logit, which its authors call visible above 0.
    """

    title = "TAPNext"
    section = "tapnext"
    weights_urls = {
        "tapnext": "https://storage.googleapis.com/dm-tapnet/tapnext/bootstapnext_ckpt.npz",
        "tapnextpp": "https://storage.googleapis.com/dm-tapnet/tapnextpp/tapnextpp_ckpt.pt",
    }
    repository = "https://github.com/google-deepmind/tapnet"
    module = "tapnet.tapnext.tapnext_torch"
    packages = ("tapnet",)
    needs = "einops torchvision"

    def __init__(self, name: str, settings: TapNextConfig, device: str = "auto") -> None:
        super().__init__(name, settings, device)
        self._size = (settings.resolution, settings.resolution)

    def build(self, code: ModuleType) -> nn.Module:
        """The model, which is of one size for all weights."""
        model: nn.Module = code.TAPNext(image_size=RASTER)
        return model

    def read_weights(self, model: nn.Module, path: Path) -> None:
        """Fills the model from TAPNext's file of arrays (npz) or TAPNext++'s state dict."""
        if path.suffix == ".npz":
            restoring = self.imported("tapnet.tapnext.tapnext_torch_utils")
            restoring.restore_model_from_jax_checkpoint(model, str(path))
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        model.load_state_dict({key.removeprefix(PREFIX): value for key, value in state.items()})

    @torch.inference_mode()
    def predict(
        self, frames: ResizedFrames, batch: list[FrameWindow], queries_xy_px: Floats
    ) -> tuple[Floats, Floats]:
        """See ``CheckoutTracker``."""
        steps, points, size = len(batch[0].frames), len(queries_xy_px), frame_size(batch[0])
        video = frames.of(batch, self._size, steps)
        yx = torch.from_numpy(raster_from_px(queries_xy_px, size, RASTER)[:, ::-1].copy())
        queries = nn.functional.pad(yx, (1, 0)).to(self._device).repeat(len(batch), 1, 1)  # (frame 0, y, x)
        tracks, seen, state = [], [], None
        for step in range(steps):
            frame = video[:, step : step + 1].to(self._device).float() / 255 * 2 - 1
            at, _, visible, state = self._model(
                video=frame, query_points=queries if state is None else None, state=state
            )
            tracks.append(at.flip(-1))
            seen.append(visible.squeeze(-1).sigmoid())
        xy, visibility = torch.cat(tracks, 1), torch.cat(seen, 1)
        self.expect_shapes(xy, visibility, (len(batch), steps, points))
        return px_from_raster(xy.float().cpu().numpy(), size, RASTER), visibility.float().cpu().numpy()
