"""TAP-Vid's metrics: by hand, against a plain reference, and what must hold for all tracks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amplify_motion_tokenizer.evaluation import reconstruction
from amplify_motion_tokenizer.evaluation.tapvid import THRESHOLDS_PX, count_tracks, mean_metrics, no_motion

SIZE = (256, 256)


def metrics(predicted, seen, true, visible, size=SIZE):
    return count_tracks(predicted, seen, true, visible, size).metrics()


def reference(predicted, seen, true, visible, size):
    """The paper's definitions, position by position."""
    judged, sighted, agree = 0, 0, 0
    right = dict.fromkeys(THRESHOLDS_PX, 0)
    tp, fp, fn = (dict.fromkeys(THRESHOLDS_PX, 0) for _ in range(3))
    windows, frames, points = visible.shape
    for window in range(windows):
        for frame in range(1, frames):
            for point in range(points):
                at = (window, frame, point)
                dx = (predicted[at][0] - true[at][0]) * 256 / size[1]
                dy = (predicted[at][1] - true[at][1]) * 256 / size[0]
                judged += 1
                agree += seen[at] == visible[at]
                sighted += visible[at]
                for px in THRESHOLDS_PX:
                    near = math.hypot(dx, dy) < px
                    hit = seen[at] and visible[at] and near
                    right[px] += visible[at] and near
                    tp[px] += hit
                    fp[px] += seen[at] and not hit
                    fn[px] += visible[at] and not hit
    result = {"occlusion_accuracy": agree / judged}
    for px in THRESHOLDS_PX:
        result[f"pts_within_{px}"] = right[px] / sighted
        # A position that is seen too far off is a false positive and a false negative at once.
        result[f"jaccard_{px}"] = tp[px] / (tp[px] + fp[px] + fn[px])
    result["delta_avg"] = sum(result[f"pts_within_{px}"] for px in THRESHOLDS_PX) / 5
    result["average_jaccard"] = sum(result[f"jaccard_{px}"] for px in THRESHOLDS_PX) / 5
    return result


def random_tracks(seed, shape=(3, 4, 5), spread_px=6.0):
    rng = np.random.default_rng(seed)
    true = rng.uniform(0, 256, (*shape, 2)).astype(np.float32)
    predicted = (true + rng.normal(0, spread_px, true.shape)).astype(np.float32)
    seen, visible = rng.random(shape) < 0.7, rng.random(shape) < 0.7
    visible[0, 1, 0] = True
    return predicted, seen, true, visible


def test_by_hand():
    # Two points, frames 1 and 2. Point 0: 0 px off, then 3 px; point 1: 10 px off, then hidden.
    true = np.zeros((1, 3, 2, 2))
    off = np.array([[[90, 90], [90, 90]], [[0, 0], [6, 8]], [[0, 3], [100, 0]]], float)[None]
    visible = np.array([[[1, 1], [1, 1], [1, 0]]], bool)
    seen = np.array([[[0, 0], [1, 0], [1, 1]]], bool)
    result = metrics(true + off, seen, true, visible)
    within = [1 / 3, 1 / 3, 2 / 3, 2 / 3, 3 / 3]
    assert [result[f"pts_within_{px}"] for px in THRESHOLDS_PX] == pytest.approx(within)
    assert result["delta_avg"] == pytest.approx(3 / 5)
    assert result["occlusion_accuracy"] == 2 / 4, "frame 0 does not count"
    # Three are visible. Below 4 px: one right, two seen wrongly (3 px off; hidden). From 4 px on: two right.
    jaccard = [1 / 5, 1 / 5, 2 / 4, 2 / 4, 2 / 4]
    assert [result[f"jaccard_{px}"] for px in THRESHOLDS_PX] == pytest.approx(jaccard)
    assert result["average_jaccard"] == pytest.approx(sum(jaccard) / 5)
    assert result["mean_error_px"] == pytest.approx((0 + 3 + 10) / 3)


def test_a_distance_that_ties_is_outside():
    true = np.zeros((1, 6, 1, 2), np.float32)
    predicted = true.copy()
    predicted[0, 1:, 0, 0] = THRESHOLDS_PX
    everywhere = np.ones(true.shape[:3], bool)
    result = metrics(predicted, everywhere, true, everywhere)
    assert [result[f"pts_within_{px}"] for px in THRESHOLDS_PX] == [0, 0.2, 0.4, 0.6, 0.8]


@pytest.mark.parametrize("size", [(256, 256), (480, 640), (100, 50)])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_a_plain_reference(seed, size):
    tracks = random_tracks(seed)
    result = metrics(*tracks, size)
    expected = reference(*tracks, size)
    assert {name: result[name] for name in expected} == pytest.approx(expected)


def test_delta_avg_is_that_of_training():
    predicted, seen, true, visible = random_tracks(7, (1, 8, 40))
    size = (120, 160)

    def rc_norm(xy):
        return torch.from_numpy(xy[0]).flip(-1) / torch.tensor(size) * 2 - 1

    ours = reconstruction.delta_avg(rc_norm(predicted), rc_norm(true), torch.from_numpy(visible[0]))
    assert metrics(predicted, seen, true, visible, size)["delta_avg"] == pytest.approx(float(ours), abs=1e-6)


def test_perfect_tracks():
    _, _, true, visible = random_tracks(1)
    true[~visible] = np.nan
    result = metrics(np.nan_to_num(true), visible, true, visible)
    assert result.pop("mean_error_px") == 0
    assert set(result.values()) == {1.0}


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), scale=st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_the_size_of_the_frame_does_not_count(seed, scale):
    predicted, seen, true, visible = random_tracks(seed)
    before = metrics(predicted, seen, true, visible)
    after = metrics(predicted * scale, seen, true * scale, visible, (256 * scale, 256 * scale))
    assert after.pop("mean_error_px") == pytest.approx(before.pop("mean_error_px") * scale)
    assert after == before


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), data=st.data())
def test_the_order_of_points_and_windows_does_not_count(seed, data):
    tracks = random_tracks(seed)
    points, windows = (data.draw(st.permutations(range(count))) for count in (5, 3))
    again = [array[windows][:, :, points] for array in tracks]
    assert metrics(*again) == pytest.approx(metrics(*tracks))


def test_counts_of_parts_add_up():
    tracks = random_tracks(3)
    parts = [count_tracks(*(array[rows] for array in tracks), SIZE) for rows in (slice(1), slice(1, 3))]
    assert (parts[0] + parts[1]).metrics() == pytest.approx(metrics(*tracks))


def test_nothing_visible_has_no_accuracy_of_positions():
    predicted, seen, true, visible = random_tracks(2)
    result = metrics(predicted, seen, true, np.zeros_like(visible))
    assert math.isnan(result["delta_avg"]) and math.isnan(result["mean_error_px"])
    assert result["average_jaccard"] == 0, "every point that is said to be seen is wrong"
    assert 0 < result["occlusion_accuracy"] < 1


def test_a_position_that_is_not_finite_is_wrong():
    _, _, true, visible = random_tracks(4)
    predicted = true.copy()
    predicted[0, 1, 0] = np.nan
    result = metrics(predicted, visible, true, visible)
    count = visible[:, 1:].sum()
    assert result["pts_within_16"] == pytest.approx((count - 1) / count)
    assert result["jaccard_16"] == pytest.approx((count - 1) / (count + 1))
    assert math.isnan(result["mean_error_px"])


def test_no_motion_is_the_first_frame_in_sight():
    _, _, true, visible = random_tracks(5)
    still, seen = no_motion(true)
    assert still.shape == true.shape and seen.all()
    assert (still == true[:, :1]).all()
    true[:] = true[:, :1]
    assert metrics(still, seen, true, np.ones_like(visible))["average_jaccard"] == 1


def test_videos_count_alike_and_those_without_a_number_not():
    videos = [
        {"delta_avg": 0.2, "x": math.nan},
        {"delta_avg": 0.8, "x": 3.0},
        {"delta_avg": math.nan, "x": 5.0},
    ]
    assert mean_metrics(videos) == pytest.approx({"delta_avg": 0.5, "x": 4.0})
    assert math.isnan(mean_metrics(videos[:1])["x"])


def test_shapes_are_checked():
    predicted, seen, true, visible = random_tracks(0)
    with pytest.raises(ValueError, match=r"expected \(S, T, N, 2\)"):
        count_tracks(predicted[:, :2], seen, true, visible, SIZE)
