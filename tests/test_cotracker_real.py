"""The adapter against CoTracker's own code with random weights.

``AMT_COTRACKER_CHECKOUT`` names a local clone; without it these tests are skipped. They take minutes.
"""

import os

import numpy as np
import pytest
import torch
from conftest import windows_of

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.config import CoTrackerConfig
from amplify_motion_tokenizer.trackers.cotracker import CoTracker

CHECKOUT = os.environ.get("AMT_COTRACKER_CHECKOUT")
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="AMT_COTRACKER_CHECKOUT names no clone of CoTracker")

SIZE = (192, 320)
QUERIES = np.float32([[40, 20], [280, 160], [160, 96]])


def random_predictor(entry):
    """With heads of a size at which points move by pixels and scores differ."""
    torch.manual_seed(0)
    predictor = torch.hub.load(CHECKOUT, entry, source="local", pretrained=False).eval()
    model = predictor.model
    if entry.startswith("cotracker3"):
        torch.nn.init.normal_(model.updateformer.flow_head.weight, std=0.02)
        torch.nn.init.normal_(model.updateformer.vis_conf_head.weight, std=0.02)
    else:
        # With a random head of full size version 2 multiplies rounding by a million, plain calls too.
        model.updateformer.flow_head.weight.data.mul_(0.1)
    return predictor


def plain_call(predictor, frames, autocast):
    """The predictor as its authors call it: tracks (T, N, 2) and its yes or no (T, N)."""
    video = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float()
    queries = torch.nn.functional.pad(torch.from_numpy(QUERIES), (1, 0))[None]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast == "bf16"):
        if hasattr(predictor, "step"):
            predictor(video, is_first_step=True, queries=queries)
            for start in range(0, len(frames) - predictor.step, predictor.step):
                tracks, seen = predictor(video[:, start : start + 2 * predictor.step])
        else:
            tracks, seen = predictor(video, queries=queries)
    return tracks[0].float().numpy(), seen[0].numpy()


@pytest.mark.parametrize(
    ("entry", "steps", "windows", "batch", "autocast"),
    [
        ("cotracker3_offline", 4, 2, 1, "no"),
        ("cotracker3_offline", 4, 2, 2, "no"),
        ("cotracker3_offline", 4, 2, 2, "bf16"),
        ("cotracker3_online", 18, 1, 1, "no"),
        ("cotracker2", 6, 2, 1, "bf16"),
        ("cotracker2", 10, 2, 2, "no"),
    ],
)
def test_shared_and_batched_tracks_equal_plain_calls(tmp_path, entry, steps, windows, batch, autocast):
    predictor = random_predictor(entry)
    torch.save(predictor.model.state_dict(), tmp_path / "random.pth")
    config = CoTrackerConfig(
        checkout=CHECKOUT,
        weights=str(tmp_path / "random.pth"),
        window_batch_size=batch,
        autocast=autocast,
    )
    video, _ = scenes.render_clip("pan", 0, SIZE, steps + windows - 1)
    results = list(CoTracker(entry, config, "cpu").track(windows_of(video, 1, steps), QUERIES))
    threshold = 0.6 if hasattr(predictor, "step") else 0.9
    for window, result in zip(windows_of(video, 1, steps), results, strict=True):
        tracks, seen = plain_call(predictor, window.frames, autocast)
        assert np.abs(result.tracks_xy_px - tracks)[1:].max() <= 0.01
        clear = np.abs(result.visibility - threshold) > 0.01
        assert ((result.visibility > threshold) == seen)[1:][clear[1:]].all()
        assert clear[1:].mean() > 0.5 and result.visibility[1:].std() > 1e-3, "scores that tell something"
        assert (result.tracks_xy_px[0] == QUERIES).all() and (result.visibility[0] == 1).all()
        # Random weights move a point a little, so a wrong axis order or scale would show.
        assert np.abs(result.tracks_xy_px - QUERIES).max() > 0.1
