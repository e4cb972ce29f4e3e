"""CoTracker with random weights, called as its authors call it: what the adapter is held against.

Not in ``cotracker.py``, as a module of that name would stand in for CoTracker's own package.
"""

from typing import Any

import numpy as np
import torch

from amplify_motion_tokenizer.trackers.windows import FrameWindow


def random_predictor(checkout: str, entry: str) -> Any:
    """With heads of a size at which points move by pixels and scores differ, as trained ones do."""
    torch.manual_seed(0)
    predictor: Any = torch.hub.load(checkout, entry, source="local", pretrained=False).eval()
    former = predictor.model.updateformer
    if entry.startswith("cotracker3"):
        torch.nn.init.normal_(former.flow_head.weight, std=0.02)
        torch.nn.init.normal_(former.vis_conf_head.weight, std=0.02)
    else:
        # With a random head of full size version 2 multiplies rounding by a million, plain calls too.
        former.flow_head.weight.data.mul_(0.1)
    return predictor


@torch.inference_mode()
def plain_call(
    predictor: Any, window: FrameWindow, xy: np.ndarray, device: str, dtype: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Tracks (T, N, 2) as the predictor's authors get them, and its yes or no to being seen (T, N)."""
    video = torch.from_numpy(np.stack(window.frames)).to(device).permute(0, 3, 1, 2)[None].float()
    queries = torch.nn.functional.pad(torch.from_numpy(xy).to(device), (1, 0))[None]
    with torch.autocast(torch.device(device).type, dtype, enabled=dtype is not None):
        if hasattr(predictor, "step"):
            predictor(video, is_first_step=True, queries=queries)
            for start in range(0, video.shape[1] - predictor.step, predictor.step):
                tracks, seen = predictor(video[:, start : start + 2 * predictor.step])
        else:
            tracks, seen = predictor(video, queries=queries)
    return tracks[0].float().cpu().numpy(), seen[0].cpu().numpy()
