"""Lost points take the motion of those around them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amplify_motion_tokenizer.data.filling import fill_lost


def slope(side=6, frames=4):
    """(1, T, N, 2): moves that grow across the grid and over time."""
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()
    return torch.arange(frames).view(1, -1, 1, 1) * (place.flip(-1) + 1)


def test_what_is_seen_stays_and_what_is_not_is_not_looked_at():
    moves = slope()
    seen = torch.rand(moves.shape[:3], generator=torch.Generator().manual_seed(0)) < 0.7
    filled = fill_lost(torch.where(seen[..., None], moves, torch.nan), seen)
    assert filled.isfinite().all()
    assert torch.equal(filled[seen], moves[seen])


def test_a_hole_in_a_slope_is_filled_about_right():
    moves = slope()
    seen = torch.ones(moves.shape[:3], dtype=torch.bool)
    seen[:, 2:, 14] = False  # the row 2, the column 2
    torch.testing.assert_close(fill_lost(moves, seen), moves, atol=0.3, rtol=0)


def test_all_seen_is_all_the_same():
    moves = slope()
    assert torch.equal(fill_lost(moves, torch.ones(moves.shape[:3], dtype=torch.bool)), moves)


def test_a_frame_in_which_nothing_is_seen_stays_as_the_one_before():
    moves = slope()
    seen = torch.ones(moves.shape[:3], dtype=torch.bool)
    seen[:, 2:] = False
    filled = fill_lost(moves, seen)
    assert torch.equal(filled[:, 2], moves[:, 1])
    assert torch.equal(filled[:, 3], moves[:, 1])
    seen[:] = False
    assert torch.equal(fill_lost(moves, seen), torch.zeros_like(moves))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_filled_moves_are_within_those_that_are_seen(seed, share):
    random = torch.Generator().manual_seed(seed)
    moves = torch.randn(2, 5, 9, 2, generator=random)
    moves[:, 0] = 0
    seen = torch.rand(2, 5, 9, generator=random) < share
    filled = fill_lost(moves, seen)
    assert filled.abs().max() <= moves.abs().max() + 1e-5
    windows = [fill_lost(moves[i : i + 1], seen[i : i + 1])[0] for i in range(2)]
    torch.testing.assert_close(torch.stack(windows), filled)
