"""Tracks are rounded once, by less than any tracker knows, and stay on their side of thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplify_motion_tokenizer.trackers.rounding import rounded, step_px
from amplify_motion_tokenizer.trackers.windows import WindowTracks


def window_of(reach: float, seed: int, side: float = 8192.0) -> WindowTracks:
    """A window of frames of up to ``side`` pixels whose points move up to ``reach`` pixels."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(-50, side + 50, (1, 12, 2))
    moves = rng.uniform(-reach, reach, (6, 12, 2))
    moves[0] = 0
    return WindowTracks(0, 0.0, (first + moves).astype(np.float32), rng.random((6, 12), np.float32))


@given(reach=st.floats(0, 1023), seed=st.integers(0, 2**32 - 1))
def test_no_position_moves_by_more_than_a_64th_of_a_pixel(reach: float, seed: int) -> None:
    window = window_of(reach, seed)
    found = rounded(window)
    off = np.abs(found.tracks_xy_px.astype(np.float64) - window.tracks_xy_px)
    largest = np.abs(window.tracks_xy_px - window.tracks_xy_px[:1]).max()
    allowed = 1 / 512 if largest < 128 else 1 / 256 if largest < 256 else 1 / 128 if largest < 512 else 1 / 64
    assert off.max() <= allowed + 2**-10  # of float32 at 8192
    assert (found.tracks_xy_px[0] == window.tracks_xy_px[0]).all()
    assert found.tracks_xy_px.dtype == found.visibility.dtype == np.float32
    again = rounded(found)
    assert (again.tracks_xy_px == found.tracks_xy_px).all()
    assert (again.visibility == found.visibility).all()


def test_windows_that_move_further_stay_as_they_are() -> None:
    window = window_of(3000, 0)
    assert step_px(window.tracks_xy_px - window.tracks_xy_px[:1]) is None
    assert (rounded(window).tracks_xy_px == window.tracks_xy_px).all()


@pytest.mark.parametrize(("value", "place"), [(np.nan, (3, 2)), (np.inf, (3, 2)), (np.nan, (0, 2))])
def test_what_is_no_position_stays_none(value: float, place: tuple[int, int]) -> None:
    window = window_of(20, 1)
    window.tracks_xy_px[place] = value
    found = rounded(window).tracks_xy_px
    np.testing.assert_array_equal(found[place], window.tracks_xy_px[place])
    assert np.isfinite(found).sum() == np.isfinite(window.tracks_xy_px).sum()


def test_confidences_stay_on_their_side_of_thresholds() -> None:
    thresholds = np.arange(201, dtype=np.float32) / np.float32(200)
    seen = np.concatenate([thresholds, np.nextafter(thresholds, 0), np.random.default_rng(0).random(400)])
    seen = np.concatenate([seen.clip(0, 1).astype(np.float32), np.float32([-0.5, 1.5, np.nan, 0.3])])
    tracks = np.zeros((1, len(seen), 2), np.float32)
    found = rounded(WindowTracks(0, 0.0, tracks, seen[None])).visibility[0]
    inside = slice(0, -4)
    for threshold in (0.25, 0.5, 0.6, 0.9):
        assert ((found >= threshold) == (seen >= threshold))[inside].all()
    assert ((seen - found)[inside] >= 0).all() and (seen - found)[inside].max() < 0.005 + 1e-6
    assert found[-4:-2].tolist() == [0, 1] and np.isnan(found[-2])
