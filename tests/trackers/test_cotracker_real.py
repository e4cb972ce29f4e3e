"""The adapter against CoTracker's own code with random weights.

``AMT_COTRACKER_CHECKOUT`` names a local clone; without it these tests are skipped. They take minutes.
"""

import os

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.config import CoTrackerConfig
from amplify_motion_tokenizer.trackers.cotracker import CoTracker
from amplify_motion_tokenizer.trackers.cotracker.tracker import AUTOCAST
from benchmarks.support.plain_cotracker import plain_call, random_predictor
from tests.support.tracked import windows_of

CHECKOUT = os.environ.get("AMT_COTRACKER_CHECKOUT")
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="AMT_COTRACKER_CHECKOUT names no clone of CoTracker")

SIZE = (192, 320)
QUERIES = np.float32([[40, 20], [280, 160], [160, 96]])


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
    predictor = random_predictor(CHECKOUT, entry)
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
        tracks, seen = plain_call(predictor, window, QUERIES, "cpu", AUTOCAST[autocast])
        assert np.abs(result.tracks_xy_px - tracks)[1:].max() <= 0.01
        clear = np.abs(result.visibility - threshold) > 0.01
        assert ((result.visibility > threshold) == seen)[1:][clear[1:]].all()
        assert clear[1:].mean() > 0.5 and result.visibility[1:].std() > 1e-3, "scores that tell something"
        assert (result.tracks_xy_px[0] == QUERIES).all() and (result.visibility[0] == 1).all()
        # Random weights move a point a little, so a wrong axis order or scale would show.
        assert np.abs(result.tracks_xy_px - QUERIES).max() > 0.1
