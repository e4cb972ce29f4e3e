"""Coordinates: golden values, and hand-computed corners of a non-square frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from amplify_motion_tokenizer.geometry import (
    center_label,
    finite_points,
    integrate_velocities,
    labels_from_rc_norm,
    labels_from_wnorm,
    px_from_labels,
    query_grid,
    rc_norm_from_labels,
    rc_norm_from_px,
    rc_px_from_labels,
    reference_scale,
    remap,
    tracks_to_velocities,
)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(Path(__file__).parent / "golden" / "amplify_geometry.safetensors")


def random(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_uniform_grid_is_amplifys(golden: dict[str, Tensor]) -> None:
    grid_xy_px = torch.from_numpy(query_grid("uniform", 3, (128, 128)))
    torch.testing.assert_close(grid_xy_px, golden["out.grid_3x3_cotracker_txy_img128"][0, :, 1:])
    standard_rc = rc_norm_from_px(grid_xy_px.flip(-1), (128, 128))
    torch.testing.assert_close(standard_rc, golden["out.grid_3x3_standard_rc"][0], atol=1e-6, rtol=0)


def test_grid_orders_by_hand_in_a_non_square_frame() -> None:
    # g = 2 in 100 x 40 (width x height): columns at 25 and 75, rows at 10 and 30.
    row_major = query_grid("row_major", 2, (40, 100))
    uniform = query_grid("uniform", 2, (40, 100))
    assert row_major.tolist() == [[25, 10], [75, 10], [25, 30], [75, 30]]
    assert uniform.tolist() == [[25, 10], [25, 30], [75, 10], [75, 30]]
    assert row_major.dtype == uniform.dtype == np.float32


def test_grid_refuses_bad_arguments() -> None:
    with pytest.raises(ValueError, match="'row_major' or 'uniform'"):
        query_grid("columns", 2, (4, 4))
    with pytest.raises(ValueError, match="at least 1"):
        query_grid("uniform", 0, (4, 4))


def test_reference_scale_by_hand() -> None:
    # Tracked 240 high and 320 wide.
    assert reference_scale((240, 320), (480, 480)) == (1.5, 2.0)
    assert reference_scale((240, 320), {"shorter": 480}) == (2.0, 2.0)
    assert reference_scale((320, 240), {"shorter": 480}) == (2.0, 2.0)


def test_remap_corners_of_a_non_square_frame() -> None:
    corners = torch.tensor([[0.0, 0.0], [320.0, 0.0], [0.0, 240.0], [320.0, 240.0]])
    moved = remap(corners, (240, 320), (120, 640))
    assert moved.tolist() == [[0, 0], [640, 0], [0, 120], [640, 120]]


@pytest.mark.parametrize(
    ("size", "reference"),
    [((0, 4), (4, 4)), ((4, 4), (4, 0)), ((4, 4), {"shorter": 0}), ((4, 4), {"longer": 9})],
)
def test_remap_refuses_impossible_sizes(
    size: Sequence[int], reference: Sequence[int] | dict[str, int]
) -> None:
    with pytest.raises(ValueError, match="reference_size"):
        remap(torch.zeros(2), size, reference)


def test_velocities_by_hand() -> None:
    # (T = 3, N = 1), 240 x 320 to 480 x 960: x counts three times, y twice; W = 15 divides by 7.
    tracks = torch.tensor([[[10.0, 20.0]], [[11.0, 19.0]], [[11.0, 40.0]]], dtype=torch.float64)
    velocities = tracks_to_velocities(tracks, (240, 320), (480, 960), 15)
    assert velocities.dtype == torch.float32
    torch.testing.assert_close(velocities, torch.tensor([[[3 / 7, -2 / 7]], [[0.0, 1.0]]]))
    unmapped = tracks_to_velocities(tracks, None, (480, 960), 15)
    torch.testing.assert_close(unmapped, torch.tensor([[[1 / 7, -1 / 7]], [[0.0, 1.0]]]))


def test_positions_that_are_not_finite() -> None:
    tracks = random(0, 2, 4, 3, 2)
    tracks[0, 1, 0, 0] = float("nan")
    tracks[1, 3, 2, 1] = float("-inf")
    assert finite_points(tracks).tolist() == [[False, True, True], [True, True, False]]
    velocities = tracks_to_velocities(tracks, (64, 48), {"shorter": 96}, 15)
    assert velocities.isfinite().all()
    zero = (velocities == 0).all(dim=-1)
    assert zero.nonzero().tolist() == [[0, 0, 0], [0, 1, 0], [1, 2, 2]]


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 3), (1, 3, 2)])
def test_wrong_track_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(\.\.\., T, N, 2\)"):
        tracks_to_velocities(torch.zeros(shape), None, (8, 8), 15)


def test_labels_at_the_corners_of_the_square() -> None:
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [9.0, -9.0]])
    assert labels_from_wnorm(corners, 15).tolist() == [0, 14, 210, 224, 112, 14]
    assert center_label((15, 15)) == 112
    assert center_label((3, 5)) == 7
    assert px_from_labels(torch.tensor([0, 14, 210, 112, 113]), 15).tolist() == [
        [-7, -7],
        [7, -7],
        [-7, 7],
        [0, 0],
        [1, 0],
    ]


def test_labels_round_half_to_even() -> None:
    # W = 5: cells 0.5, 1.5, 2.5 and 3.5 on x.
    halves = torch.tensor([[-0.75, 0.0], [-0.25, 0.0], [0.25, 0.0], [0.75, 0.0]])
    assert (labels_from_wnorm(halves, 5) - 2 * 5).tolist() == [0, 2, 2, 4]


def test_rc_norm_is_amplifys(golden: dict[str, Tensor]) -> None:
    normalised = rc_norm_from_px(golden["in.tracks_rc_px"], (128, 160))
    torch.testing.assert_close(normalised, golden["out.normalized_128x160"], atol=1e-6, rtol=0)


def test_rc_norm_corners_of_a_non_square_frame() -> None:
    corners = torch.tensor([[0.0, 0.0], [40.0, 0.0], [0.0, 100.0], [40.0, 100.0], [20.0, 25.0], [60.0, -9.0]])
    normalised = rc_norm_from_px(corners, (40, 100))
    assert normalised.tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1], [0, -0.5], [1, -1]]


@pytest.fixture(
    scope="module",
    params=["amplify_two_views_joint", "amplify_two_views_per_view", "amplify_nonsquare_three_views_full"],
)
def whole_model(request: pytest.FixtureRequest) -> tuple[dict[str, Tensor], list[int], list[int]]:
    with safe_open(Path(__file__).parent / "golden" / f"{request.param}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        wanted = [key for key in file.keys() if key.startswith(("in.", "out."))]  # noqa: SIM118
        tensors = {key: file.get_tensor(key) for key in wanted}
    return tensors, config["img_shape"], config["loss"]["rel_cls_img_size"]


def test_amplify_labels_are_the_sources(whole_model: tuple[dict[str, Tensor], list[int], list[int]]) -> None:
    golden, size, grid = whole_model
    labels = labels_from_rc_norm(golden["in.traj"], size, grid)
    assert torch.equal(labels, golden["out.labels"])
    assert torch.equal(golden["in.traj"].diff(dim=2), golden["out.velocities"])


def test_amplify_reconstruction_is_the_sources(
    whole_model: tuple[dict[str, Tensor], list[int], list[int]],
) -> None:
    golden, size, grid = whole_model
    expected = golden["out.velocity_recon"]
    logits = golden["out.logits"].reshape(*golden["out.labels"].shape, -1)
    best = logits.topk(2, dim=-1).values
    sure = (best[..., 0] - best[..., 1]) > 1e-4
    assert sure.float().mean() > 0.9
    velocities = rc_norm_from_labels(logits.argmax(dim=-1), size, grid)
    torch.testing.assert_close(velocities[sure], expected[sure], atol=1e-6, rtol=0)
    points = integrate_velocities(golden["in.traj"][:, :, 0], velocities)
    # A point's later positions hang on all its steps.
    steady = torch.cat([torch.ones_like(sure[:, :, :1]), sure.cumprod(dim=2).bool()], dim=2)
    torch.testing.assert_close(points[steady], golden["out.points_recon"][steady], atol=1e-5, rtol=0)


def test_amplify_labels_by_hand_in_a_non_square_frame() -> None:
    # 40 x 100 (rows x cols) with a window of 3 x 5; centre 1 * 5 + 2 = 7.
    rows_cols_px = torch.tensor(
        [
            [[10.0, 10.0], [39.0, 99.0], [20.5, 5.0]],
            [[11.0, 8.0], [40.0, 100.0], [21.5, 5.0]],  # beyond the last pixel is the last pixel
            [[5.0, 90.0], [38.6, 98.4], [22.5, 5.5]],
        ]
    )
    tracks = rows_cols_px / torch.tensor([20.0, 50.0]) - 1
    labels = labels_from_rc_norm(tracks, (40, 100), (3, 5))
    assert labels.dtype == torch.int64
    # (1, -2); (0, 0) and (2, 0) clamped to (1, 0), as 20.5 -> 20 and 21.5 -> 22.
    # (-6, 82) clamped to (-1, 2); (0, -1); (0, 1), as 22.5 -> 22 and 5.5 -> 6.
    assert labels.tolist() == [[10, 7, 12], [4, 6, 8]]
    assert rc_px_from_labels(labels, (3, 5)).tolist() == [
        [[1, -2], [0, 0], [1, 0]],
        [[-1, 2], [0, -1], [0, 1]],
    ]
    torch.testing.assert_close(
        rc_norm_from_labels(labels[0], (40, 100), (3, 5)),
        torch.tensor([[1 / 20, -2 / 50], [0, 0], [1 / 20, 0]]),
    )


def test_integration_starts_at_the_true_frame_and_is_not_clamped() -> None:
    first = torch.tensor([[0.9, -0.9]])
    points = integrate_velocities(first, torch.tensor([[[0.5, -0.25]], [[0.5, 0.25]]]))
    torch.testing.assert_close(points, torch.tensor([[[0.9, -0.9]], [[1.4, -1.15]], [[1.9, -0.9]]]))


def test_amplify_labels_refuse_bad_arguments() -> None:
    with pytest.raises(ValueError, match="16 x 15; expected odd sides"):
        labels_from_rc_norm(torch.zeros(2, 1, 2), (8, 8), (16, 15))
    with pytest.raises(ValueError, match="15 x 4; expected odd sides"):
        rc_px_from_labels(torch.tensor(0), (15, 4))
    with pytest.raises(ValueError, match="T >= 2"):
        labels_from_rc_norm(torch.zeros(1, 1, 2), (8, 8), (15, 15))
