"""CoTracker's adapter on a stand-in with the parts of the real code: ``cotracker_double/hubconf.py``."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.config import CoTrackerConfig
from amplify_motion_tokenizer.errors import ConfigError, TrackerError
from amplify_motion_tokenizer.trackers.cotracker import CoTracker
from amplify_motion_tokenizer.trackers.cotracker.features import ENCODER_FRAMES, ClipFrames
from amplify_motion_tokenizer.trackers.windows import FrameWindow
from tests.support.cotracker_double import hubconf
from tests.support.tracked import windows_of

DOUBLE = Path(hubconf.__file__).parent
QUERIES = np.float32([[7.25, 3.5], [29, 19], [40, 0]])


@pytest.fixture
def config(tmp_path):
    """Its code and weights are local."""
    torch.save(hubconf.Model().state_dict(), tmp_path / "weights.pth")
    return CoTrackerConfig(checkout=str(DOUBLE), weights=str(tmp_path / "weights.pth"))


@pytest.fixture
def tracker(config):
    def make(entry="cotracker3_offline", **changes):
        return CoTracker(entry, dataclasses.replace(config, **changes), "cpu")

    return make


def video_of(light, size=(20, 30)):
    """Frames of the brightness given."""
    return [np.full((*size, 3), value, np.uint8) for value in light]


def encoded(tracker):
    """Frames that went through the encoder, in each call."""
    return [len(frames) for frames in tracker._model.fnet.encoder.frames_seen]


# What the model is given


def test_the_model_gets_what_it_expects(tracker):
    offline = tracker(window_batch_size=2)
    video = np.zeros((7, 47, 63, 3), np.uint8)  # a pixel of the model's size is two of these
    video[..., 0] = 255
    video[:, 6, 14] = [10, 20, 30]
    list(offline.track(windows_of(video, 1, 3), QUERIES))
    calls = offline._model.calls
    assert [tuple(frames.shape) for frames, *_ in calls] == [(2, 3, 3, 24, 32)] * 2 + [(1, 3, 3, 24, 32)]
    frames, given, _ = calls[0]
    assert frames.dtype == torch.float32 and frames.max() == 255, "0..255, not 0..1"
    assert frames[1, 2, :, 3, 7].tolist() == pytest.approx([10, 20, 30], abs=1e-2), "(channel, y, x)"
    support = [[0, x, y] for y in (0.5, 23.5) for x in (0.5, 31.5)]
    expected = [[0, 3.625, 1.75], [0, 14.5, 9.5], [0, 20, 0], *support]
    torch.testing.assert_close(given, torch.tensor([expected] * 2), msg="(frame, x, y), at the model's size")


def test_online_models_get_no_support_grid(tracker):
    online = tracker("cotracker3_online")
    list(online.track(windows_of(video_of([0] * 8), 1, 8), QUERIES))
    assert online._model.calls[0][1].shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("entry", "score"), [("cotracker3_offline", 1), ("cotracker3_online", 0.5), ("cotracker2", 1)]
)
def test_tracks_are_scaled_back_and_visibility_is_a_score(tracker, entry, score):
    light = np.linspace(0, 90, 8).astype(np.uint8)
    (result,) = tracker(entry).track(windows_of(video_of(light, (47, 63)), 1, 8), QUERIES)
    assert result.tracks_xy_px.dtype == result.visibility.dtype == np.float32
    assert (result.tracks_xy_px[0] == QUERIES).all()
    assert result.visibility[0].tolist() == [1, 1, 1]
    moved = light[1:, None, None] * np.array([0.4, -0.2])
    assert np.allclose(result.tracks_xy_px[1:], QUERIES + moved, atol=1e-4)
    assert np.allclose(result.visibility[1:], score * light[1:, None] / 255)


def test_a_query_outside_the_frame_is_not_visible(tracker):
    (result,) = tracker().track(windows_of(video_of([0, 9]), 1, 2), QUERIES)
    assert result.visibility[0].tolist() == [1, 1, 0]


@pytest.mark.parametrize("entry", ["cotracker3_online", "cotracker2"])
@pytest.mark.parametrize("steps", [2, 4, 7, 11])
def test_models_that_slide_track_windows_of_any_length(tracker, entry, steps):
    light = np.arange(steps + 3, dtype=np.uint8) * 9
    sliding = tracker(entry, window_batch_size=3)
    results = list(sliding.track(windows_of(video_of(light, (47, 63)), 1, steps), QUERIES))
    assert len(results) == 4
    for result in results:
        moved = np.arange(1, steps)[:, None, None] * 9 * np.array([0.4, -0.2])
        assert np.allclose(result.tracks_xy_px[1:], QUERIES + moved, atol=1e-4)
    assert sum(encoded(sliding)) == len(light), "padding is not encoded"


# What windows share


@pytest.mark.parametrize("stride", [1, 3, 7])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_frame_is_encoded_once(tracker, stride, batch):
    video = np.random.default_rng(0).integers(0, 256, (24, 20, 30, 3), np.uint8)
    shared = tracker(window_batch_size=batch)
    results = list(shared.track(windows_of(video, stride, 5), QUERIES))
    used = {window.start + step for window in windows_of(video, stride, 5) for step in range(5)}
    assert sum(encoded(shared)) == len(used) and max(encoded(shared)) <= ENCODER_FRAMES
    alone = tracker()
    for window, result in zip(windows_of(video, stride, 5), results, strict=True):
        (expected,) = alone.track([window], QUERIES)
        assert result.start == window.start and result.time_s == window.time_s
        assert np.allclose(result.tracks_xy_px, expected.tracks_xy_px, atol=1e-4)
        assert np.allclose(result.visibility, expected.visibility, atol=1e-6)


def test_long_windows_are_encoded_in_parts(tracker):
    offline = tracker()
    list(offline.track(windows_of(video_of(range(40)), 1, 40), QUERIES))
    assert encoded(offline) == [16, 16, 8]


def test_clips_tracked_side_by_side_do_not_mix(tracker):
    both = tracker(window_batch_size=2)
    dark, bright = [list(range(0, 12)), list(range(100, 124, 2))]
    columns = [both.track(windows_of(video_of(light), 1, 4), QUERIES) for light in (dark, bright)]
    for one, other in zip(*columns, strict=True):
        assert np.allclose(2 * (one.tracks_xy_px - QUERIES), other.tracks_xy_px - QUERIES, atol=1e-4)


def test_frames_are_dropped_when_no_window_needs_them():
    clip = ClipFrames(torch.device("cpu"), (4, 6))
    window = FrameWindow(3, 0.0, video_of([1, 2, 3]))
    clip.video([window], [[3, 4, 5]])
    clip.maps = {index: torch.zeros(1) for index in (3, 4, 5)}
    clip.forget_before(5)
    assert list(clip._frames) == list(clip.maps) == [5]


def test_frames_of_two_sizes(tracker):
    windows = [FrameWindow(0, 0.0, video_of([1, 2])), FrameWindow(2, 0.0, video_of([3, 4], (30, 20)))]
    with pytest.raises(TrackerError, match=r"differ in size: \(20, 30\) and \(30, 20\)"):
        list(tracker().track(windows, QUERIES))


def test_batches_hold_windows_of_one_length(tracker):
    frames = video_of([0] * 4)
    windows = [FrameWindow(0, 0.0, frames), FrameWindow(1, 0.0, frames[:2]), FrameWindow(2, 0.0, frames[:2])]
    mixed = tracker(window_batch_size=4)
    assert [len(result.visibility) for result in mixed.track(windows, QUERIES)] == [4, 2, 2]
    assert [len(frames) for frames, *_ in mixed._model.calls] == [1, 2]


# Memory, precision


def test_a_full_gpu_halves_the_batch_for_good(tracker, caplog):
    video = video_of(range(0, 200, 10))
    small, enough = tracker(window_batch_size=7), tracker()
    small._model.full_above = 2
    with caplog.at_level(logging.WARNING):
        results = list(small.track(windows_of(video, 1, 4), QUERIES))
    for result, expected in zip(results, enough.track(windows_of(video, 1, 4), QUERIES), strict=True):
        assert np.allclose(result.tracks_xy_px, expected.tracks_xy_px, atol=1e-4)
    assert [record.args for record in caplog.records] == [(7, 3), (3, 1)]
    tried = len(small._model.calls)
    list(small.track(windows_of(video, 1, 4), QUERIES))
    assert [len(call[0]) for call in small._model.calls[tried:]] == [1] * 17, "the next clip begins with 1"


def test_one_window_that_does_not_fit(tracker):
    full = tracker(window_batch_size=2)
    full._model.full_above = 0
    with pytest.raises(TrackerError, match="one window of 2 frames and 3 points; lower data.grid_size"):
        list(full.track(windows_of(video_of([1, 2, 3]), 1, 2), QUERIES))


def test_autocast_and_compile_reach_the_model(tracker, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    plain, fast = tracker(), tracker(autocast="bf16", compile=True)
    assert compiled == [fast._model.updateformer]
    for each, enabled in ((plain, False), (fast, True)):
        (result,) = each.track(windows_of(video_of([0, 100]), 1, 2), QUERIES)
        assert each._model.calls[0][2] == enabled and result.tracks_xy_px.dtype == np.float32
    assert not torch.is_autocast_enabled("cpu") and not torch.is_inference_mode_enabled()
    with pytest.raises(ConfigError, match=r"cotracker.autocast = fp16 needs a CUDA device; .* no, bf16"):
        tracker(autocast="fp16")


def test_mps_means_cpu_with_one_warning(config, monkeypatch, caplog):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with caplog.at_level(logging.WARNING):
        assert CoTracker("cotracker3_offline", config, "mps")._device.type == "cpu"
    assert len(caplog.records) == 1


# What is not CoTracker


def test_a_model_that_returns_something_else(tracker):
    other = tracker()
    other._model.outputs = lambda tracks, seen: (seen, tracks)
    with pytest.raises(TrackerError, match="checkout to a clone of another"):
        list(other.track(windows_of(video_of([1, 2]), 1, 2), QUERIES))


def test_a_model_that_gives_no_number(tracker):
    broken = tracker()
    broken._model.fnet.encoder.weight.data.fill_(torch.nan)
    with pytest.raises(TrackerError, match="no finite track for the window at frame 0"):
        list(broken.track(windows_of(video_of([1, 2]), 1, 2), QUERIES))
