"""CoTracker's contract, with a stand-in that records what it is given."""

import dataclasses
import logging
import os
import textwrap
from urllib.error import URLError

import numpy as np
import pytest
import torch
from conftest import windows_of

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.config import Config, CoTrackerConfig, TrackingConfig
from amplify_motion_tokenizer.datatypes import FrameWindow
from amplify_motion_tokenizer.errors import TrackerError
from amplify_motion_tokenizer.trackers import cotracker, make_tracker

HUBCONF = """
import torch

class Predictor(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(2, 1)
        self.calls = []

    def forward(self, video, queries=None):
        assert not torch.is_grad_enabled() and not self.training
        self.calls.append((video.clone(), queries.clone()))
        steps = video.shape[1]
        ramp = torch.arange(steps, dtype=torch.float32)[:, None, None] * torch.tensor([2.0, -1.0])
        brightness = video[:, :, 0].mean((2, 3))[:, :, None].expand(-1, -1, queries.shape[1])
        return queries[:, None, :, 1:] * 1.0001 + ramp, brightness > 100

def cotracker3_offline(*, pretrained=True, **_):
    if pretrained:
        torch.hub.load_state_dict_from_url("https://amt.invalid/weights.pth")
    return Predictor()
"""


@pytest.fixture
def stand_in(tmp_path):
    """A config of a checkout with weights, no network."""
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "hubconf.py").write_text(textwrap.dedent(HUBCONF))
    torch.save(torch.nn.Linear(2, 1).state_dict(), tmp_path / "weights.pth")
    return CoTrackerConfig(checkout=str(tmp_path / "repo"), weights=str(tmp_path / "weights.pth"))


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(request, *_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)


def test_cotracker_gets_what_it_expects(stand_in):
    tracker = make_tracker(
        Config(
            tracking=TrackingConfig(
                tracker="cotracker3_offline",
                device="cpu",
                cotracker=dataclasses.replace(stand_in, window_batch_size=2),
            )
        )
    )
    video = np.zeros((7, 20, 30, 3), np.uint8)
    video[..., 0] = 255
    video[:, 3, 7] = [10, 20, 30]
    video[5, ..., 0] = 50
    queries = np.float32([[7.25, 3.5], [29, 19], [40, 0]])
    results = list(tracker.track(windows_of(video, 1, 3), queries))

    calls = tracker._predictor.calls
    assert [tuple(frames.shape) for frames, _ in calls] == [(2, 3, 3, 20, 30)] * 2 + [(1, 3, 3, 20, 30)]
    frames, given = calls[0]
    assert frames.dtype == torch.float32 and frames.max() == 255
    assert frames[1, 2, :, 3, 7].tolist() == [10, 20, 30], "(channel, y, x)"
    assert given.shape == (2, 3, 3)
    assert given[1].tolist() == [[0, 7.25, 3.5], [0, 29, 19], [0, 40, 0]], "(frame, x, y)"

    assert [result.start for result in results] == list(range(5))
    for result in results:
        assert result.tracks_xy_px.dtype == result.visibility.dtype == np.float32
        assert (result.tracks_xy_px[0] == queries).all()
        assert result.visibility[0].tolist() == [1, 1, 0], "the third query is outside"
        assert np.allclose(result.tracks_xy_px[2], queries * 1.0001 + [4, -2])
    assert results[4].visibility[1].tolist() == [0, 0, 0] and results[4].visibility[2].tolist() == [1, 1, 1]
    assert not torch.is_inference_mode_enabled()


def test_cotracker_batches_hold_windows_of_one_length(stand_in):
    tracker = cotracker.CoTracker(dataclasses.replace(stand_in, window_batch_size=4), "cpu")
    frames = [np.zeros((16, 16, 3), np.uint8)] * 4
    windows = [FrameWindow(0, 0.0, frames), FrameWindow(1, 0.0, frames[:2]), FrameWindow(2, 0.0, frames[:2])]
    lengths = [len(result.visibility) for result in tracker.track(windows, np.zeros((1, 2), np.float32))]
    assert lengths == [4, 2, 2]
    assert [len(frames) for frames, _ in tracker._predictor.calls] == [1, 2]


def test_cotracker_that_returns_something_else(stand_in):
    tracker = cotracker.CoTracker(stand_in, "cpu")
    tracker._predictor.forward = lambda video, queries: (video, queries)
    window = FrameWindow(0, 0.0, [np.zeros((16, 16, 3), np.uint8)] * 2)
    with pytest.raises(TrackerError, match="checkout or hub_repo"):
        list(tracker.track([window], np.zeros((1, 2), np.float32)))


def test_cotracker_out_of_memory_names_the_keys(stand_in):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    tracker = cotracker.CoTracker(stand_in, "cpu")
    tracker._predictor.forward = full
    window = FrameWindow(0, 0.0, [np.zeros((16, 16, 3), np.uint8)] * 2)
    with pytest.raises(TrackerError, match=r"window_batch_size \(now 1\)"):
        list(tracker.track([window], np.zeros((1, 2), np.float32)))


def test_mps_means_cpu_with_one_warning(stand_in, monkeypatch, caplog):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with caplog.at_level(logging.WARNING):
        assert cotracker.CoTracker(stand_in, "mps")._device.type == "cpu"
    assert len(caplog.records) == 1


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("repo", ["facebookresearch/co-tracker", "facebookresearch/co-tracker:main"])
def test_without_network_the_keys_are_named(no_network, repo):
    with pytest.raises(TrackerError) as caught:
        cotracker.CoTracker(CoTrackerConfig(hub_repo=repo), "cpu")
    message = one_line(caught)
    assert "tracking.cotracker.checkout" in message and "tracking.cotracker.weights" in message
    assert "code and weights" in message and "scaled_offline.pth" in message and "git clone" in message


def test_missing_pieces(stand_in, no_network, tmp_path):
    def fails(match, **changes):
        with pytest.raises(TrackerError, match=match) as caught:
            cotracker.CoTracker(dataclasses.replace(stand_in, **changes), "cpu")
        return one_line(caught)

    assert "hubconf.py" in fails("tracking.cotracker.checkout = ", checkout=str(tmp_path))
    fails("no CoTracker weights .*no network.*tracking.cotracker.weights", weights=None)
    fails("tracking.cotracker.weights = .* is not a file", weights=str(tmp_path / "none.pth"))
    fails("hub_repo = 'x' is not owner/name", checkout=None, hub_repo="x")

    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    assert "other" in fails("not a state dict of cotracker3", weights=str(tmp_path / "other.pth"))
    torch.save(torch.zeros(1), tmp_path / "tensor.pth")
    fails("not a state dict of cotracker3", weights=str(tmp_path / "tensor.pth"))
    (tmp_path / "damaged.pth").write_bytes(b"<html>not found</html>")
    fails("not a state dict of cotracker3", weights=str(tmp_path / "damaged.pth"))

    (tmp_path / "repo" / "hubconf.py").write_text("import no_such_package_of_cotracker")
    fails("cannot be imported: .*no_such_package_of_cotracker")


def test_real_cotracker_code(tmp_path):
    checkout = os.environ.get("AMT_COTRACKER_CHECKOUT")
    if not checkout:
        pytest.skip("AMT_COTRACKER_CHECKOUT names no clone of CoTracker")
    predictor = torch.hub.load(checkout, "cotracker3_offline", source="local", pretrained=False)
    torch.nn.init.normal_(predictor.model.updateformer.flow_head.weight, std=0.02)  # so that points move
    torch.save(predictor.model.state_dict(), tmp_path / "random.pth")
    video, _ = scenes.render_clip("pan", 0, (48, 80), 3)
    queries = np.float32([[10, 5], [70, 40], [40, 24]])

    def tracked(batch):
        weights = str(tmp_path / "random.pth")
        config = CoTrackerConfig(checkout=checkout, weights=weights, window_batch_size=batch)
        return list(cotracker.CoTracker(config, "cpu").track(windows_of(video, 1, 2), queries))

    for alone, batched in zip(tracked(1), tracked(2), strict=True):
        assert alone.start == batched.start and alone.tracks_xy_px.shape == (2, 3, 2)
        assert np.abs(alone.tracks_xy_px - batched.tracks_xy_px).max() < 0.01
        assert (batched.tracks_xy_px[0] == queries).all() and (batched.visibility[0] == 1).all()
        # Random weights move a point a little, so a wrong axis order or scale would show.
        assert 0.1 < np.abs(batched.tracks_xy_px - queries).max() < 15
