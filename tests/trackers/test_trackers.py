"""The embedded tracker against rendered scenes whose tracks are known, and the registry."""

import numpy as np
import pytest

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.config import Config, FlowConfig, TrackingConfig
from amplify_motion_tokenizer.errors import ConfigError, TrackerError
from amplify_motion_tokenizer.trackers import TRACKERS, make_tracker
from amplify_motion_tokenizer.trackers.flow import FlowTracker
from amplify_motion_tokenizer.trackers.flow.pairs import PairFlow, Scale, sample
from amplify_motion_tokenizer.trackers.windows import FrameWindow
from amplify_motion_tokenizer.video.pixels import bilinear
from benchmarks.support.chained import PRESETS, ChainedTracker, OtherFlowTracker, pair_confidence
from tests.support.tracked import windows_of

SIZE = (240, 320)


def grid(size, side=10):
    height, width = size
    x = (np.arange(side) + 0.5) * width / side - 0.5
    y = (np.arange(side) + 0.5) * height / side - 0.5
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32)


def run(video, queries, stride=1, steps=16, tracker=None):
    tracker = tracker or FlowTracker(FlowConfig(), threads=2)
    return list(tracker.track(windows_of(video, stride, steps), queries))


def sideways(size, speed, frames=16):
    """A background that moves by ``speed`` (x, y) pixels a frame."""
    camera = scenes.similarity(frames, shift=np.arange(frames)[:, None] * np.array(speed))
    return scenes.Scene([scenes.background(np.random.default_rng(1), size, camera)], size)


# The embedded tracker


@pytest.mark.parametrize(
    ("kind", "bound"), [("pan", 0.7), ("zoom", 0.9), ("roll", 1.0), ("mixed", 3.0), ("still", 0.001)]
)
def test_flow_follows_the_true_tracks(kind, bound):
    video, scene = scenes.render_clip(kind, 0, SIZE, 16)
    (window,) = run(video, grid(SIZE))
    truth, visible = scene.truth(grid(SIZE), 0)
    errors = np.linalg.norm(window.tracks_xy_px - truth, axis=-1)[1:][visible[1:]]
    assert errors.mean() < bound and np.median(errors) < 0.7
    assert window.tracks_xy_px.dtype == window.visibility.dtype == np.float32
    assert (window.tracks_xy_px[0] == grid(SIZE)).all() and (window.visibility[0] == 1).all()
    assert (window.visibility >= 0).all() and (window.visibility <= 1).all()
    assert (window.visibility[visible] >= 0.5).mean() > 0.9


def test_full_size_flow_is_more_accurate():
    video, scene = scenes.render_clip("zoom", 1, SIZE, 16)
    truth, visible = scene.truth(grid(SIZE), 0)

    def error(tracker):
        (window,) = run(video, grid(SIZE), tracker=tracker)
        return np.linalg.norm(window.tracks_xy_px - truth, axis=-1)[visible].mean()

    fine = error(ChainedTracker(FlowConfig(scale=1.0), "medium", 0))
    assert fine < 0.3 and fine < error(ChainedTracker(FlowConfig()))


@pytest.mark.parametrize("size", [(96, 160), (162, 96), (101, 75)])
@pytest.mark.parametrize("speed", [(2.0, 0.0), (0.0, -1.5)])
def test_axes_and_pixel_centres(size, speed):
    queries = grid(size, 6)
    (window,) = run(sideways(size, speed, 8).render(), queries, steps=8)
    central = (np.abs(queries - np.array(size[::-1]) / 2) < np.array(size[::-1]) / 4).all(-1)
    moved = (window.tracks_xy_px[-1] - queries)[central]
    assert np.abs(moved - 7 * np.array(speed)).mean() < 0.4


def test_sampling_hits_pixel_centres_at_every_scale():
    ramp = np.stack(np.meshgrid(np.arange(16.0), np.arange(12.0)), -1).astype(np.float32)
    queries = np.float32([[10.5, 6.5], [2.5, 8.5], [-9, 100]])  # frames of 32 x 24, twice the field
    scale = Scale((24, 32), (12, 16))
    sampled = sample(ramp, scale.to_image(queries)) / scale.ratio_xy
    assert np.allclose(scale.to_frame(scale.to_image(queries)), queries)
    # Field position (5.25 - 0.25, ...) = (5, 3); its flow there, (5, 3), is 10 x 6 frame pixels.
    assert np.allclose(sampled, [[10, 6], [2, 8], [0, 22]], atol=0.05)


def test_the_threshold_of_sundaram_is_confidence_one_half():
    there = np.float32([[3, 4], [3, 4], [0, 0]])
    back = np.float32([[-3, -4], [-3, -4 + np.sqrt(0.5)], [0, 0]])
    sum_of_squares = 25 + 9 + (4 - np.sqrt(0.5)) ** 2
    confidence = pair_confidence(there, back)
    assert np.allclose(confidence, [1, 1 / (1 + 0.5 / (0.01 * sum_of_squares + 0.5)), 1])
    assert np.isclose(pair_confidence(there[2:], np.float32([[np.sqrt(0.5 / 0.99), 0]])), 0.5)[0]


@pytest.mark.parametrize("refine", [True, False])
def test_points_that_leave_the_frame(refine):
    queries = np.concatenate([grid((64, 96), 8), np.float32([[88, 30], [-4, 30]])])
    camera = np.float64([0, 4, 8, 12, 16, 12, 8, 4, 0])[:, None] * [1.0, 0.0]
    layer = scenes.background(np.random.default_rng(1), (64, 96), scenes.similarity(9, shift=camera))
    video = scenes.Scene([layer], (64, 96)).render()
    (window,) = run(
        video, queries, steps=9, tracker=(FlowTracker if refine else ChainedTracker)(FlowConfig())
    )
    assert np.isfinite(window.tracks_xy_px).all()
    leaver, outsider = (window.visibility[:, -2] >= 0.5).tolist(), window.visibility[:, -1]
    assert leaver[:2] == [True, True] and leaver[2:7] == [False] * 5, "88 + 8 is outside of 96 columns"
    assert leaver[8] == refine, "only a patch finds a point again"
    assert not outsider.any(), "a query outside is never visible"


def test_a_still_clip_does_not_move():
    video, _ = scenes.render_clip("still", 0, (96, 128), 16)
    (window,) = run(video, grid((96, 128)))
    assert np.abs(window.tracks_xy_px - grid((96, 128))).max() < 1e-4
    assert window.visibility.min() > 0.99


def test_stride_does_not_change_a_window():
    video, _ = scenes.render_clip("mixed", 1, (96, 128), 24)
    queries = grid((96, 128))
    every = run(video, queries, stride=1)
    assert [window.start for window in every] == list(range(9))
    for window in run(video, queries, stride=4):
        same = every[window.start]
        assert window.time_s == same.time_s
        assert np.array_equal(window.tracks_xy_px, same.tracks_xy_px)
        assert np.array_equal(window.visibility, same.visibility)


def test_thread_count_does_not_change_a_window():
    video, _ = scenes.render_clip("mixed", 1, SIZE, 8)
    one, two = (
        next(iter(FlowTracker(FlowConfig(), threads).track(windows_of(video, 1, 8), grid(SIZE))))
        for threads in (1, 2)
    )
    assert np.array_equal(one.tracks_xy_px, two.tracks_xy_px)


@pytest.mark.parametrize(("stride", "pairs"), [(1, 31), (4, 31), (16, 30), (24, 15)])
def test_flow_is_computed_once_for_each_pair_that_a_window_needs(monkeypatch, stride, pairs):
    seen: list[int] = []
    compute = PairFlow.pair
    monkeypatch.setattr(
        PairFlow, "pair", lambda self, index, *frames: seen.append(index) or compute(self, index, *frames)
    )
    video, _ = scenes.render_clip("pan", 0, (48, 64), 32)
    run(video, grid((48, 64), 3), stride)
    assert len(seen) == len(set(seen)) == pairs


def test_gaps_between_windows_and_windows_of_one_frame():
    video, _ = scenes.render_clip("pan", 0, (48, 64), 32)
    queries, frames = grid((48, 64), 3), list(video)
    lengths = [(0, 4), (1, 4), (9, 4), (9, 1), (20, 6), (22, 2), (31, 1)]
    windows = [FrameWindow(start, 0.0, frames[start : start + steps]) for start, steps in lengths]
    results = list(FlowTracker(FlowConfig()).track(iter(windows), queries))
    assert [(result.start, len(result.tracks_xy_px)) for result in results] == lengths
    for result, window in zip(results, windows, strict=True):
        (alone,) = FlowTracker(FlowConfig()).track([window], queries)
        assert np.array_equal(result.tracks_xy_px, alone.tracks_xy_px)


@pytest.mark.parametrize("size", [(32, 40), (48, 32), (41, 41), (84, 84), (89, 89)])
def test_small_windows_are_the_same_alone_and_together(size):
    video, _ = scenes.render_clip("movers", 1, size, 12)
    together = run(video, grid(size, 6), 2, 8)
    for window, expected in zip(windows_of(video, 2, 8), together, strict=True):
        (alone,) = FlowTracker(FlowConfig()).track([window], grid(size, 6))
        assert np.abs(alone.tracks_xy_px - expected.tracks_xy_px).max() < 1e-3
        assert np.abs(alone.visibility - expected.visibility).max() < 1e-3


@pytest.mark.parametrize("preset", PRESETS)
def test_flow_of_a_pair_does_not_hang_on_the_pair_before(preset):
    video, _ = scenes.render_clip("movers", 1, (96, 96), 3)
    for side in (16, 32, 40, 48, 60, 80, 88, 96):
        for size in ((side, 40), (40, side), (side, 84), (84, side)):
            before, *pair = video[:, : size[0], : size[1]]
            used, new = (PairFlow(FlowConfig(), size, PRESETS[preset]) for _ in range(2))
            used.pair(0, before, pair[0])
            assert np.array_equal(used.pair(1, *pair).forward, new.pair(1, *pair).forward), size


def test_reads_only_as_far_ahead_as_windows_overlap():
    video, _ = scenes.render_clip("pan", 0, (48, 64), 40)
    pulled = []

    def watched():
        for window in windows_of(video, 1, 8):
            pulled.append(window.start)
            yield window

    for result in FlowTracker(FlowConfig()).track(watched(), grid((48, 64), 2)):
        assert pulled[-1] - result.start <= 8


def test_one_tracker_serves_clips_of_different_sizes_without_carrying_over():
    tracker = FlowTracker(FlowConfig())
    first, _ = scenes.render_clip("pan", 0, (48, 64), 8)
    second, _ = scenes.render_clip("pan", 1, (64, 48), 8)
    fresh = run(second, grid((64, 48)), 1, 4)
    half_used = tracker.track(windows_of(first, 1, 4), grid((48, 64)))
    next(half_used)
    again = list(tracker.track(windows_of(second, 1, 4), grid((64, 48))))
    for one, two in zip(fresh, again, strict=True):
        assert np.array_equal(one.tracks_xy_px, two.tracks_xy_px)


@pytest.mark.parametrize("size", [(24, 32), (16, 16), (17, 300)])
@pytest.mark.parametrize("finest", [0, 1, 4])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_small_frames(size, finest, scale):
    video = sideways(size, (1.0, 0.0), 4).render()
    tracker = OtherFlowTracker(FlowConfig(scale=scale), finest_scale=finest)
    (window,) = run(video, grid(size, 3), 1, 4, tracker)
    assert np.isfinite(window.tracks_xy_px).all()
    assert 1.5 < np.median(window.tracks_xy_px[-1] - grid(size, 3), axis=0)[0] < 4.5


def test_more_points_than_opencv_looks_up_at_once():
    """It takes fewer than 32,767 rows: of all open windows together, or of one alone."""
    video = sideways((48, 64), (1.0, 0.0), 43).render()
    queries = grid((48, 64), 40)
    many, few = run(video, queries, 1, 22), run(video, queries[:50], 1, 22)
    assert len(queries) * 21 > 32767 and len(many) == len(few) == 22
    assert all(np.isfinite(window.tracks_xy_px).all() for window in many)
    image = np.random.default_rng(0).random((9, 7), np.float32)
    row, column = np.mgrid[:9, :7].reshape(2, -1, 1).astype(np.float32)
    found = bilinear(image, np.tile(column, (700, 1)), np.tile(row, (700, 1)))
    assert np.array_equal(found[:, 0], np.tile(image.ravel(), 700))


@pytest.mark.parametrize(
    ("size", "image"), [((480, 640), (240, 320)), ((240, 320), (240, 320)), ((128, 128), (128, 128)),
                        ((320, 480), (240, 360)), ((1080, 1920), (540, 960))]
)  # fmt: skip
def test_flow_is_computed_on_some_240_rows_by_default(size, image):
    assert PairFlow(FlowConfig(), size).scale.image_size == image


def test_frames_that_cannot_be_tracked():
    small = np.zeros((4, 12, 40, 3), np.uint8)
    with pytest.raises(TrackerError, match="40x12 are too small.*raise video.size"):
        run(small, np.zeros((1, 2), np.float32), 1, 4)
    mixed = FrameWindow(0, 0.0, [np.zeros((32, 40, 3), np.uint8), np.zeros((40, 32, 3), np.uint8)])
    with pytest.raises(TrackerError, match="differ in size"):
        list(FlowTracker(FlowConfig()).track([mixed], np.zeros((1, 2), np.float32)))


# The registry


def test_make_tracker():
    assert make_tracker(Config()).name == "flow"
    with pytest.raises(
        ConfigError, match=r"tracking.tracker = 'flo' .*flow, .*cotracker3.*Did you mean flow\?"
    ):
        make_tracker(Config(tracking=TrackingConfig(tracker="flo")))
    for name, meant in {"cotraker3": "cotracker3_offline", "cotraker2": "cotracker2"}.items():
        with pytest.raises(ConfigError, match=rf"Did you mean {meant}\?"):
            make_tracker(Config(tracking=TrackingConfig(tracker=name)))
    assert {"flow", "cotracker3_offline", "cotracker3_online", "cotracker2"} <= set(TRACKERS)
