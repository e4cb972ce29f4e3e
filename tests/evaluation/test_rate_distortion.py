"""One evaluation for all coders, and the plain coders that others are held against."""

import math

import pytest
import torch

from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.evaluation.plain_coders import (
    Components,
    PcaCoder,
    global_similarity,
    no_motion,
)
from amplify_motion_tokenizer.evaluation.rate_distortion import Distortion, distortion
from amplify_motion_tokenizer.scenes.synthetic import synthetic_windows


@pytest.fixture(scope="module")
def made():
    return synthetic_windows(96, seed=9, grid_size=8)


def coded(coder, made):
    seen = made.visibility > 0
    return distortion(made.tracks_xy_px, coder(made.tracks_xy_px, seen, made.sizes), seen, made.sizes)


def grid_tracks(motion, size=(240, 320)):
    """(1, T, 16, 2) tracks of a 4 x 4 grid that ``motion`` (T, 2) shifts."""
    x, y = torch.meshgrid(torch.arange(4) * 40.0 + 100, torch.arange(4) * 40.0 + 50, indexing="xy")
    return torch.stack([x, y], dim=-1).view(1, 1, 16, 2) + motion.view(1, -1, 1, 2)


def test_an_error_is_told_at_240_rows_over_what_is_seen():
    true = grid_tracks(torch.tensor([[0.0, 0.0], [6.0, 8.0]]))
    decoded = true.clone()
    decoded[:, 1, 0] += torch.tensor([3.0, 4.0])
    decoded[:, 1, 1] += 1000
    seen = torch.ones(1, 2, 16, dtype=torch.bool)
    seen[:, 1, 1] = False
    found = distortion(true, decoded, seen, torch.tensor([[480, 640]]))
    assert found.error_px == pytest.approx(2.5 / 15)
    assert found.no_motion_px == pytest.approx(5)
    assert found.relative == pytest.approx(1 / 30)
    # One of 15 points is off by 1.5 px across and 2 px down: two of 30 coordinates at 1 px, one at 2 px.
    assert found.delta_auc == pytest.approx((28 / 30 + 29 / 30 + 8) / 10)
    assert list(found.by_speed) == ["fast"]


def test_what_is_not_seen_may_be_nan():
    true = grid_tracks(torch.tensor([[0.0, 0.0], [6.0, 8.0]]))
    true[:, 1, 5] = torch.nan
    seen = true.isfinite().all(dim=-1)
    found = distortion(
        true, no_motion(true, seen, torch.tensor([[240, 320]])), seen, torch.tensor([[240, 320]])
    )
    assert found.error_px == pytest.approx(10)
    assert found.relative == pytest.approx(1)


def test_nothing_seen_or_moved_is_no_number():
    true = grid_tracks(torch.zeros(2, 2))
    size = torch.tensor([[240, 320]])
    still = distortion(true, true, torch.ones(1, 2, 16, dtype=torch.bool), size)
    assert math.isnan(still.relative)
    assert still.delta_avg == 1
    blind = distortion(true, true, torch.zeros(1, 2, 16, dtype=torch.bool), size)
    assert math.isnan(blind.error_px)
    assert math.isnan(blind.delta_avg)


def test_shapes_that_do_not_fit_are_named():
    true = grid_tracks(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"expected the same \(B, T, N, 2\)"):
        distortion(true, true[:, :1], torch.ones(1, 2, 16, dtype=torch.bool), torch.tensor([[1, 1]]))
    with pytest.raises(ValueError, match="visible and sizes"):
        distortion(true, true, torch.ones(1, 2, 15, dtype=torch.bool), torch.tensor([[1, 1]]))


def test_a_similarity_is_found_in_full():
    place = grid_tracks(torch.zeros(1, 2))[0, 0]
    turned = 1.1 * place @ torch.tensor([[0.96, 0.28], [-0.28, 0.96]]) + torch.tensor([5.0, -3.0])
    true = torch.stack([place, turned])[None]
    seen = torch.ones(1, 2, 16, dtype=torch.bool)
    seen[0, 1, 3] = False
    hidden = true.clone()
    hidden[0, 1, 3] = torch.nan
    decoded = global_similarity(hidden, seen, torch.tensor([[240, 320]]))
    torch.testing.assert_close(decoded, true, atol=1e-3, rtol=1e-5)


def test_more_bits_leave_less_error_and_a_similarity_less_than_none(made):
    fit = synthetic_windows(400, seed=10, grid_size=8)
    moves = fill_lost(fit.tracks_xy_px - fit.tracks_xy_px[:, :1], fit.visibility > 0)[:, 1:]
    moves = moves / fit.sizes.amin(dim=1)[:, None, None, None]
    fitted = Components([moves[:100], moves[100:]])
    errors = [coded(coder, made).relative for coder in (no_motion, global_similarity)]
    errors += [coded(PcaCoder(fitted, ids), made).relative for ids in (4, 16)]
    assert errors[0] == pytest.approx(1)
    assert errors[1] < 0.9
    assert errors[3] < errors[2] < 0.7
    assert errors[3] < 0.5


def test_speed_classes_share_out_all_windows(made):
    found = coded(no_motion, made)
    assert sum(part.windows for part in found.by_speed.values()) == found.windows == 96
    errors = [found.by_speed[name].error_px for name in ("slow", "medium", "fast")]
    assert errors == sorted(errors)


def test_distortions_of_parts_add_up_to_the_distortion_of_all(made):
    seen, decoded = made.visibility > 0, 0.9 * made.tracks_xy_px
    whole = distortion(made.tracks_xy_px, decoded, seen, made.sizes)
    total = Distortion()
    for rows in (slice(0, 5), slice(5, 60), slice(60, 96)):
        total = total.plus(distortion(made.tracks_xy_px[rows], decoded[rows], seen[rows], made.sizes[rows]))
    parts = [(whole.by_speed[name], total.by_speed[name]) for name in whole.by_speed]
    for one, other in [(whole, total), *parts]:
        assert one.windows == other.windows
        for figure in ("error_px", "no_motion_px", "delta_avg", "delta_auc"):
            assert getattr(other, figure) == pytest.approx(getattr(one, figure), rel=1e-5)
    assert list(total.by_speed) == list(whole.by_speed)
