"""Track metrics: the source's numbers on golden tracks, and hand-worked ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from amplify_motion_tokenizer.evaluation.metrics import amplify_code_usage
from amplify_motion_tokenizer.evaluation.reconstruction import (
    amplify_track_metrics,
    delta_avg,
    point_error_px,
    zero_motion,
)

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ["amplify_two_views_joint", "amplify_two_views_per_view", "amplify_nonsquare_three_views_full"]


@pytest.mark.parametrize("name", NAMES)
def test_golden_metrics(name: str) -> None:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        expected, config = (json.loads(file.metadata()[key]) for key in ("metrics", "config"))
        perplexity, normalized = (float(file.metadata()[f"{key}perplexity"]) for key in ("", "normalized_"))
        predicted, target = file.get_tensor("out.points_recon"), file.get_tensor("in.traj")
        indices = file.get_tensor("out.indices")
    metrics = amplify_track_metrics(predicted, target, config["img_shape"][0])
    assert metrics.keys() == expected.keys()
    for key, value in expected.items():
        # Counts are equal, whatever the thresholds tie with.
        assert metrics[key] == pytest.approx(value, abs=1e-6), key
    nominal = config["codebook_size"]
    usage = amplify_code_usage(torch.bincount(indices.flatten(), minlength=nominal), nominal)
    assert list(usage.values()) == pytest.approx([perplexity, normalized], rel=1e-5)


def test_amplify_metrics_by_hand() -> None:
    # One point, three frames, 20 x 20: a pixel is 0.1. Its moves are right, wrong, in (row, col).
    target = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.1, 0.0]]).reshape(1, 1, 3, 1, 2)
    predicted = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.1, 0.24]]).reshape(1, 1, 3, 1, 2)
    metrics = amplify_track_metrics(predicted, target, 20)
    assert metrics["mse"] == pytest.approx(0.24**2 / 6)
    assert metrics["l1"] == pytest.approx(0.24 / 6)
    assert metrics["cross_track_l2"] == pytest.approx(0.24 / 3)
    assert metrics["normalized_accuracy"] == metrics["pixel_accuracy_2"] == pytest.approx(5 / 6)
    assert metrics["pixel_accuracy_3"] == metrics["pixel_accuracy_10"] == 1
    assert metrics["delta_auc"] == pytest.approx((2 * 5 / 6 + 8) / 10)
    # Four components: predicted moves 1 and 0, 0 and 1; true moves 1 and 0, 0 and 0.
    assert metrics["nonzero_pred_percent"] == 0.5
    assert metrics["nonzero_gt_percent"] == 0.25
    assert metrics["nonzero_pred_accuracy"] == 0.75
    assert metrics["nonzero_pred_f1"] == pytest.approx(2 / 3)


def test_a_tie_with_the_threshold_is_outside() -> None:
    # 2 / 16 is exact in binary: one pixel off is not within one pixel.
    target = torch.zeros(1, 1, 2, 1, 2)
    predicted = target.clone()
    predicted[..., 1, 0, 0] = 0.125
    metrics = amplify_track_metrics(predicted, target, 16)
    assert (metrics["pixel_accuracy_1"], metrics["pixel_accuracy_2"]) == (0.75, 1)


def test_cross_track_looks_at_all_times_of_the_same_point() -> None:
    # Point 0 is predicted a frame late; point 1 is where point 0 was, which does not count.
    target = torch.tensor([[[0.0, 0.0], [0.8, 0.0]], [[0.4, 0.0], [0.8, 0.0]]])[None, None]
    predicted = torch.tensor([[[0.0, 0.0], [0.8, 0.0]], [[0.0, 0.0], [0.4, 0.0]]])[None, None]
    metrics = amplify_track_metrics(predicted, target, 10)
    assert metrics["cross_track_l2"] == pytest.approx(0.4 / 4)
    assert metrics["l1"] == pytest.approx(0.8 / 8)


def test_no_motion_at_all_has_no_f1() -> None:
    still = torch.zeros(1, 1, 3, 2, 2)
    metrics = amplify_track_metrics(still, still, 10)
    assert math.isnan(metrics["nonzero_pred_f1"])
    assert metrics["nonzero_pred_accuracy"] == 1


def test_point_error_counts_each_axis_by_its_own_side() -> None:
    # 40 x 100: 3 rows are 3 / 20, 4 columns 4 / 50. Frames 1 and 2 are 5 px and 0 px off.
    target = torch.zeros(3, 1, 2)
    predicted = target.clone()
    predicted[1, 0] = torch.tensor([3 / 20, 4 / 50])
    predicted[0, 0] = 1.0  # the first frame does not count
    assert float(point_error_px(predicted, target, (40, 100))) == pytest.approx(2.5)
    visible = torch.tensor([[True], [True], [False]])
    assert float(point_error_px(predicted, target, (40, 100), visible)) == pytest.approx(5)
    nothing = point_error_px(predicted, target, (40, 100), torch.zeros_like(visible))
    assert math.isnan(float(nothing))


def test_delta_avg_by_hand() -> None:
    # 256 x 256: a pixel is 1 / 128. Frame 1: 0 px, 3 px and 100 px off; frame 2: 1 px, tied, hence not
    # within 1, and two that are not visible. Within 1, 2, 4, 8, 16: 1, 2, 3, 3, 3 of 4.
    target = torch.zeros(3, 3, 2)
    off_px = torch.tensor([[[9.0, 9], [9, 9], [9, 9]], [[0, 0], [3, 0], [60, 80]], [[0, 1], [0, 0], [0, 0]]])
    visible = torch.tensor([[True, True, True], [True, True, True], [True, False, False]])
    result = delta_avg(target + off_px / 128, target, visible)
    assert float(result) == pytest.approx((1 + 2 + 3 + 3 + 3) / 4 / 5)


def test_positions_that_are_not_visible_may_be_anything() -> None:
    target = torch.zeros(2, 3, 2, 2)
    visible = torch.ones(2, 3, 2, dtype=torch.bool)
    visible[0, 1, 0] = False
    target[0, 1, 0] = float("nan")
    visible[1] = False
    results = delta_avg(torch.zeros_like(target), target, visible)
    assert results.shape == (2,)
    assert float(results[0]) == 1
    assert math.isnan(float(results[1]))
    assert float(point_error_px(torch.zeros_like(target), target, (8, 8), visible)[0]) == 0


def test_zero_motion_is_the_first_frame() -> None:
    target = torch.rand(2, 4, 3, 2)
    still = zero_motion(target)
    assert still.shape == target.shape
    assert all(torch.equal(still[:, frame], target[:, 0]) for frame in range(4))
    moves_px = torch.tensor([0.0, 6.0, 8.0])
    line = torch.zeros(3, 1, 2)
    line[:, 0, 1] = moves_px / 50
    assert float(point_error_px(zero_motion(line), line, (40, 100))) == pytest.approx(7)


def test_shapes_are_checked() -> None:
    tracks = torch.zeros(2, 3, 4, 2)
    with pytest.raises(ValueError, match="expected the same"):
        delta_avg(tracks, tracks[:1])
    with pytest.raises(ValueError, match=r"visible is torch.float32"):
        delta_avg(tracks, tracks, torch.ones(2, 3, 4))
    with pytest.raises(ValueError, match=r"expected \(B, V, T, N, 2\)"):
        amplify_track_metrics(tracks, tracks, 8)
