"""Windows made up without pixels: the same for the same index, in range, and as varied as they claim."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes.synthetic import synthetic_windows


def rows_of_240(windows):
    """(B, T, N, 2) displacements since frame 0 in rows of a frame of 240."""
    tracks = windows.tracks_xy_px * (240 / windows.sizes[:, 0].float())[:, None, None, None]
    return tracks - tracks[:, :1]


@pytest.fixture(scope="module")
def exact():
    return synthetic_windows(400, seed=3, grid_size=10, noise=False)


@pytest.fixture(scope="module")
def noisy():
    return synthetic_windows(400, seed=3, grid_size=10)


def test_a_window_is_the_same_whatever_is_made_around_it():
    many = synthetic_windows(70, seed=5, first_index=10, grid_size=6)
    alone = synthetic_windows(1, seed=5, first_index=75, grid_size=6)
    assert all(torch.equal(one[0], several[65]) for one, several in zip(alone, many, strict=True))
    other = synthetic_windows(1, seed=6, first_index=75, grid_size=6)
    assert not torch.equal(alone.sizes, other.sizes)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(1, 7), st.integers(2, 20), st.booleans())
def test_any_window_is_finite_starts_on_the_grid_and_is_seen_there(seed, index, grid, frames, noise):
    made = synthetic_windows(2, seed, index, grid, frames, noise)
    assert made.tracks_xy_px.shape == (2, frames, grid**2, 2)
    assert made.visibility.shape == (2, frames, grid**2)
    assert made.tracks_xy_px.isfinite().all()
    assert ((made.visibility == 0) | (made.visibility == 1)).all()
    assert (made.visibility[:, 0] == 1).all()
    assert ((made.seconds > 1 / 31) & (made.seconds < 1 / 4.9)).all()
    for tracks, size in zip(made.tracks_xy_px, made.sizes, strict=True):
        grid_xy = torch.from_numpy(query_grid("row_major", grid, size.tolist()))
        torch.testing.assert_close(tracks[0], grid_xy, atol=1e-2, rtol=1e-4)


def test_a_seen_point_is_in_the_frame(exact):
    limits = exact.sizes.flip(-1)[:, None, None]
    inside = ((exact.tracks_xy_px > -0.5) & (exact.tracks_xy_px < limits + 0.5)).all(dim=-1)
    assert inside[exact.visibility == 1].all()


def test_speeds_go_from_still_to_fast(exact):
    step = rows_of_240(exact).diff(dim=1).norm(dim=-1)
    fastest = torch.stack([window[window < 1e9].quantile(0.9) for window in step.flatten(1)])
    shares = [(fastest < 0.1).float().mean(), (fastest > 10).float().mean()]
    assert 0.1 < shares[0] < 0.5
    assert 0.03 < shares[1] < 0.3


def test_frames_have_all_shapes(exact):
    shape = exact.sizes[:, 1] / exact.sizes[:, 0]
    assert (shape < 0.7).float().mean() > 0.05
    assert (shape > 1.5).float().mean() > 0.2
    assert ((shape > 0.95) & (shape < 1.05)).float().mean() > 0.05


def test_points_are_lost_at_borders_and_behind_others(exact):
    limits = exact.sizes.flip(-1)[:, None, None]
    inside = ((exact.tracks_xy_px > 0) & (exact.tracks_xy_px < limits)).all(dim=-1)
    hidden = exact.visibility == 0
    assert (hidden & ~inside).float().mean() > 0.01
    assert (hidden & inside).float().mean() > 0.005
    back = hidden[:, 1:-1] & ~hidden[:, 2:]
    assert back.any()


def test_things_move_apart_from_each_other_and_bend(exact):
    """The moves of a plane under a moving camera are a homography of the places; layers are not."""
    moved = rows_of_240(exact)[:, -1]
    grid = torch.stack(
        torch.meshgrid(torch.linspace(-1, 1, 10), torch.linspace(-1, 1, 10), indexing="ij"), -1
    )
    place = grid.flatten(0, 1)
    terms = torch.cat([torch.ones(100, 1), place, place.square(), place.prod(1, keepdim=True)], dim=1)
    fit = terms @ torch.linalg.lstsq(terms.expand(len(moved), -1, -1), moved).solution
    rest = (moved - fit).norm(dim=-1).mean(dim=1) / moved.norm(dim=-1).mean(dim=1).clamp(min=0.1)
    assert (rest > 0.2).float().mean() > 0.3
    assert (rest < 0.05).float().mean() > 0.1


def test_a_trackers_errors_are_small_where_it_sees_and_not_the_same_everywhere(exact, noisy):
    error = (rows_of_240(noisy) - rows_of_240(exact)).norm(dim=-1)
    both = (noisy.visibility == 1) & (exact.visibility == 1)
    median, high = error[both].quantile(torch.tensor([0.5, 0.99]))  # 0.1 and 1.5 to 3 of the flow tracker
    assert 0.03 < median < 0.25
    assert 0.3 < high < 4
    assert error[exact.visibility == 0].mean() > 2 * error[both].mean()
    seen, said = exact.visibility == 1, noisy.visibility == 1
    assert 0.003 < (said & ~seen).sum() / (~seen).sum() < 0.3
    assert 0.003 < (~said & seen).sum() / seen.sum() < 0.1


def test_a_wrong_number_is_named():
    with pytest.raises(UsageError, match="frames is 1; expected at least 2"):
        synthetic_windows(1, seed=0, frames=1)
    with pytest.raises(UsageError, match="first_index is -1"):
        synthetic_windows(1, seed=0, first_index=-1)


def test_it_is_made_faster_than_it_could_be_rendered():
    """A tenth of what one idle core makes, 700 a second, so that a busy machine passes too."""
    synthetic_windows(8, seed=0)
    began = time.process_time()
    synthetic_windows(64, seed=0)
    assert 64 / (time.process_time() - began) > 50
