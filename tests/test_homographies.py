"""Projective maps: applied to points, and made of where four points go."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.homographies import corner_points, map_of_corners, projected

SIZE = (240, 320)
GRID = query_grid("row_major", 20, SIZE)


def drawn_map(seed: int) -> NDArray[np.float64]:
    """A map that turns, zooms, shifts and tilts a frame of SIZE about its middle."""
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-0.6, 0.6), np.exp(rng.uniform(-0.3, 0.3))
    to, back = np.eye(3), np.eye(3)
    to[:2, 2], back[:2, 2] = (-159.5, -119.5), (159.5, 119.5) + rng.uniform(-40, 40, 2)
    turn = np.eye(3)
    turn[:2, :2] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn[2, :2] = rng.uniform(-5e-4, 5e-4, 2)
    return back @ turn @ to


def by_hand(matrix: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.float64]:
    moved = np.array([matrix @ (x, y, 1) for x, y in points])
    return moved[:, :2] / moved[:, 2:]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_four_corners_tell_the_map(seed: int) -> None:
    matrix = drawn_map(seed)
    moved = by_hand(matrix, GRID)
    assert np.allclose(projected(torch.from_numpy(matrix), torch.from_numpy(GRID)), moved)
    corners = corner_points(torch.from_numpy(GRID))
    assert corners.tolist() == [[8, 6], [312, 6], [8, 234], [312, 234]]
    found = map_of_corners(corners, torch.from_numpy(moved[[0, 19, 380, 399]]))
    assert np.allclose(by_hand(found.numpy(), GRID), moved, atol=1e-6)


def test_what_no_map_does_is_not_known() -> None:
    corners = corner_points(torch.from_numpy(GRID))
    line = torch.tensor([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    lost = corners.clone()
    lost[2, 1] = torch.nan
    found = map_of_corners(torch.stack([corners, corners, line]), torch.stack([corners, lost, corners]))
    assert torch.allclose(found[0], torch.eye(3, dtype=torch.float64))
    assert found[1].isnan().all() and found[2].isnan().all()


def test_corner_points_of_columns_are_the_same_places_in_the_grids_order() -> None:
    grid = torch.from_numpy(query_grid("uniform", 3, (6, 12)))
    assert corner_points(grid).tolist() == [[2, 1], [2, 5], [10, 1], [10, 5]]
