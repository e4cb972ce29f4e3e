"""The camera's motion apart: found in tracks whose camera is known, taken out, kept, and put back."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.camera import (
    camera_alone,
    camera_moves,
    cameras_of,
    with_camera,
    without_camera,
)
from amplify_motion_tokenizer.data.inputs import encoder_input, from_tracks
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.geometry import query_grid
from tests.support.run_scripts import TINY
from tests.test_homographies import GRID, SIZE, by_hand, drawn_map

LENGTH = 5
ALL_SEEN = torch.ones(1, LENGTH, len(GRID))
EYE = np.eye(3)


def cameras(seed: int) -> list[NDArray[np.float64]]:
    return [EYE, *(drawn_map(seed * LENGTH + frame) for frame in range(1, LENGTH))]


def seen_by(maps: list[NDArray[np.float64]], world: NDArray[np.floating]) -> Tensor:
    """(1, T, N, 2) tracks of places ``world`` (T, N, 2) of a camera at rest."""
    tracks = np.stack([by_hand(matrix, places) for matrix, places in zip(maps, world, strict=True)])
    return torch.from_numpy(tracks[None]).float()


def resting() -> NDArray[np.float64]:
    return np.stack([GRID] * LENGTH).astype(np.float64)


def with_movers(seed: int, share: float) -> NDArray[np.float64]:
    """A world at rest in which one rigid thing and some lone points go their ways, together ``share``."""
    rng = np.random.default_rng(seed)
    world = resting()
    middle = rng.uniform((100, 80), (220, 160))
    nearest = np.argsort(np.linalg.norm(GRID - middle, axis=1))
    count = int(share * len(GRID))
    rigid, lone = nearest[: count * 2 // 3], rng.choice(nearest[count:], count // 3, replace=False)
    steps = np.arange(LENGTH)[:, None, None]
    world[:, rigid] += steps * rng.uniform(2, 6, 2) * rng.choice([-1, 1], 2)
    world[:, lone] += steps * rng.uniform(-6, 6, (len(lone), 2))
    return world


def config_of(camera: str, **data: Any) -> Config:
    own = {**TINY["data"], "sequence_length": LENGTH, "grid_size": 20, "camera": camera, **data}
    return config_from_dict({**TINY, "data": own}, "in the test")


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**5))
def test_of_a_camera_alone_nothing_is_left(seed: int) -> None:
    maps = cameras(seed)
    apart = without_camera(ViewTracks(seen_by(maps, resting()), ALL_SEEN, SIZE))
    assert apart.camera is not None
    for found, true in zip(apart.camera[0].numpy(), maps, strict=True):
        assert np.abs(by_hand(found, GRID) - by_hand(true, GRID)).max() < 0.01
    assert (apart.tracks_xy_px - torch.from_numpy(GRID)).abs().max() < 0.02
    assert (apart.visibility == 1).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**5), st.floats(0.02, 0.38))
def test_before_a_camera_at_rest_things_move_as_they_did(seed: int, share: float) -> None:
    tracks = torch.from_numpy(with_movers(seed, share)[None]).float()
    apart = without_camera(ViewTracks(tracks, ALL_SEEN, SIZE))
    assert torch.equal(apart.tracks_xy_px, tracks)
    assert apart.camera is not None
    assert torch.equal(apart.camera, torch.eye(3, dtype=torch.float64).expand(1, LENGTH, 3, 3))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**5))
def test_things_move_alike_whatever_the_camera_does(seed: int) -> None:
    world = with_movers(seed, 0.25)
    apart = without_camera(ViewTracks(seen_by(cameras(seed), world), ALL_SEEN, SIZE))
    assert np.abs(apart.tracks_xy_px[0].numpy() - world).max() < 0.05


def middle_of(share: float) -> NDArray[np.bool_]:
    """(N,) the points nearest to the middle of the picture."""
    off = np.linalg.norm((GRID - np.array([160, 120])) / (320, 240), axis=1)
    return off <= np.sort(off)[int(share * len(GRID))]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_surrounds_is_the_background_though_it_has_fewer_points(seed: int) -> None:
    world = resting()
    world[1:, middle_of(0.55)] += (9, -5)
    maps = cameras(seed)
    for found, true in zip(cameras_of(seen_by(maps, world), ALL_SEEN)[0].numpy(), maps, strict=True):
        assert np.abs(by_hand(found, GRID) - by_hand(true, GRID)).max() < 0.05


@pytest.mark.parametrize("way", [(15.0, 6.0), (1.5, 0.5), (0.8, -0.6)])
def test_things_that_are_back_in_one_frame_are_no_background_in_others(way: tuple[float, float]) -> None:
    world = resting()
    world[[1, 3, 4], :] += np.where(middle_of(0.35)[:, None], way, 0.0)
    maps = cameras(4)
    for found, true in zip(cameras_of(seen_by(maps, world), ALL_SEEN)[0].numpy(), maps, strict=True):
        assert np.abs(by_hand(found, GRID) - by_hand(true, GRID)).max() < 0.05


def test_a_trackers_noise_moves_the_camera_by_little() -> None:
    rng = np.random.default_rng(0)
    maps, world = cameras(3), with_movers(3, 0.3)
    tracks = seen_by(maps, world) + torch.from_numpy(rng.normal(0, 0.1, (1, LENGTH, 400, 2))).float()
    for found, true in zip(cameras_of(tracks, ALL_SEEN)[0].numpy()[1:], maps[1:], strict=True):
        assert np.linalg.norm(by_hand(found, GRID) - by_hand(true, GRID), axis=1).mean() < 0.05


def test_one_window_is_found_as_it_is_among_others_and_again() -> None:
    tracks = torch.cat([seen_by(cameras(seed), with_movers(seed, 0.3)) for seed in range(3)])
    tracks += torch.from_numpy(np.random.default_rng(1).normal(0, 0.1, tracks.shape)).float()
    together = cameras_of(tracks, ALL_SEEN.expand(3, -1, -1))
    for place in (2, 0, 1):
        assert torch.equal(cameras_of(tracks[place : place + 1], ALL_SEEN)[0], together[place])


def _few() -> tuple[Tensor, Tensor]:
    seen = ALL_SEEN.clone()
    seen[:, 2, 7:] = 0
    return seen_by(cameras(1), resting()), seen


def _on_a_line() -> tuple[Tensor, Tensor]:
    seen = ALL_SEEN.clone()
    seen[:, 2, 20:] = 0  # the grid's first row alone
    return seen_by(cameras(1), resting()), seen


def _lost() -> tuple[Tensor, Tensor]:
    tracks = seen_by(cameras(1), resting())
    tracks[:, 2, 5:] = torch.nan
    return tracks, ALL_SEEN


def _halves() -> tuple[Tensor, Tensor]:
    """Left and right go different ways, and nothing says which is the world."""
    world = resting()
    world[2, (np.arange(400) % 20) < 10] += (20, 8)
    return seen_by([EYE, cameras(1)[1], cameras(1)[2], *cameras(1)[3:]], world), ALL_SEEN


def _scattered() -> tuple[Tensor, Tensor]:
    tracks = seen_by(cameras(1), resting())
    tracks[0, 2] += torch.from_numpy(np.random.default_rng(0).uniform(-60, 60, (400, 2))).float()
    return tracks, ALL_SEEN


def _riding() -> tuple[Tensor, Tensor]:
    """The world is lost while it moves, and a gripper stays where it is in the picture."""
    tracks, seen = seen_by(cameras(1), resting()), ALL_SEEN.clone()
    tracks[0, 2, :150] = torch.from_numpy(GRID[:150])
    seen[:, 2, 150:] = 0
    return tracks, seen


def _collapsed() -> tuple[Tensor, Tensor]:
    tracks = seen_by(cameras(1), resting())
    tracks[0, 2] = torch.tensor([160.0, 120.0])
    return tracks, ALL_SEEN


def _mirrored() -> tuple[Tensor, Tensor]:
    tracks = seen_by(cameras(1), resting())
    tracks[0, 2] = torch.from_numpy(GRID) * torch.tensor([-1.0, 1.0]) + torch.tensor([320.0, 0.0])
    return tracks, ALL_SEEN


IMPOSSIBLE = [_few, _on_a_line, _lost, _halves, _scattered, _riding, _collapsed, _mirrored]


@pytest.mark.parametrize("made", IMPOSSIBLE)
def test_where_the_camera_is_not_known_points_rest_unseen(made: Any) -> None:
    tracks, seen = made()
    view = without_camera(ViewTracks(tracks, seen, SIZE))
    assert view.camera is not None
    known = view.camera[0, :, 2, 2].isfinite()
    assert known.tolist() == [True, True, False, True, True]
    assert torch.equal(view.tracks_xy_px[0, 2], view.tracks_xy_px[0, 1])
    assert (view.visibility[0, 2] == 0).all()
    assert (view.tracks_xy_px[0, [1, 3, 4]] - torch.from_numpy(GRID)).abs().max() < 0.05
    alone = camera_alone(view)
    assert (alone.visibility[0].amin(dim=1) == known.float()).all()
    assert torch.equal(alone.tracks_xy_px[0, 2], alone.tracks_xy_px[0, 1])
    moves = camera_moves([view], config_of("remove"))
    assert moves[0, 0, 1].isnan().all() and moves[0, 0, [0, 2, 3]].isfinite().all()
    whole = with_camera(view.tracks_xy_px, moves[:, 0], 240, (1, 1))
    assert whole[0, 2].isnan().all() and whole[0, [0, 1, 3, 4]].isfinite().all()


def test_a_frame_that_no_camera_sees_so_is_not_known_whatever_the_others_tell() -> None:
    for made in (_mirrored, _collapsed):
        tracks, seen = made()
        tracks[0, 2], tracks[0, 4] = tracks[0, 4].clone(), tracks[0, 2].clone()
        assert cameras_of(tracks, seen)[0, :, 2, 2].isfinite().tolist() == [True] * 4 + [False]


def test_a_few_points_of_the_background_among_many_others_tell_nothing() -> None:
    world, seen = resting(), ALL_SEEN.clone()
    away = middle_of(0.4)
    world[1:, away] += np.random.default_rng(0).uniform(-40, 40, (4, int(away.sum()), 2))
    kept = np.flatnonzero(~away)[::9]  # 27 of the background, 160 others
    seen[0, 4] = torch.from_numpy(away | np.isin(np.arange(400), kept)).float()
    found = cameras_of(seen_by(cameras(2), world), seen)[0, :, 2, 2]
    assert found.isfinite().tolist() == [True] * 4 + [False]


def test_a_grid_whose_corner_is_lost_tells_of_no_camera() -> None:
    tracks = seen_by(cameras(1), resting())
    tracks[0, 0, 19] = torch.nan
    view = without_camera(ViewTracks(tracks, ALL_SEEN, SIZE))
    assert view.camera is not None and view.camera.isnan().all()
    assert (view.visibility == 0).all()


def test_what_is_kept_of_the_camera_gives_the_whole_motion_back() -> None:
    maps, world = cameras(7), with_movers(7, 0.25)
    tracks = seen_by(maps, world)
    apart = without_camera(ViewTracks(tracks, ALL_SEEN, SIZE))
    moves = camera_moves([apart], config_of("remove"))
    assert (moves.shape, moves.dtype) == ((1, 1, LENGTH - 1, 4, 2), torch.float32)
    corners = GRID[[0, 19, 380, 399]]
    expected = np.stack([by_hand(matrix, corners) - corners for matrix in maps[1:]]) / 240
    assert np.abs(moves[0, 0].numpy() - expected).max() < 1e-4
    assert (with_camera(apart.tracks_xy_px, moves[:, 0], 240, (1, 1)) - tracks).abs().max() < 0.01
    # In frames of another size all lies where it does in the tracked ones.
    scale = torch.tensor([2.0, 0.5])
    shown = with_camera(apart.tracks_xy_px * scale, moves[:, 0], 240, (2.0, 0.5))
    assert (shown - tracks * scale).abs().max() < 0.02


def test_letterbox_pads_and_views_of_several_sizes_change_nothing() -> None:
    tracks = seen_by(cameras(7), with_movers(7, 0.25))
    wanted = camera_moves([without_camera(ViewTracks(tracks, ALL_SEEN, SIZE))], config_of("remove"))
    padded = ViewTracks(tracks + torch.tensor([0.0, 40.0]), ALL_SEEN, (320, 320))
    found = camera_moves([without_camera(padded)], config_of("remove"))
    assert (found - wanted).abs().max() < 1e-3


def test_input_is_of_what_is_left_and_of_all_where_the_camera_is_kept() -> None:
    view = ViewTracks(seen_by(cameras(2), with_movers(2, 0.25)), ALL_SEEN, SIZE)
    world = torch.from_numpy(with_movers(2, 0.25)[None]).float()
    keep, remove, both = (config_of(camera) for camera in ("keep", "remove", "both"))
    still = from_tracks([view._replace(tracks_xy_px=world)], keep)
    for config in (remove, both):
        found = from_tracks([view], config)
        assert (found.velocities - still.velocities).abs().max() < 0.02
        assert torch.equal(encoder_input([view], config).velocities, found.velocities)
    assert from_tracks([view], keep).velocities.abs().mean() > 2 * still.velocities.abs().mean()


def test_frames_after_the_last_real_one_tell_of_no_camera() -> None:
    tracks = seen_by(cameras(2), resting())
    tracks[:, 3:] = torch.from_numpy(np.random.default_rng(0).uniform(0, 300, (1, 2, 400, 2))).float()
    view = without_camera(ViewTracks(tracks, ALL_SEEN, SIZE, valid_steps=torch.tensor([2])))
    moves = camera_moves([view], config_of("remove"))
    assert torch.equal(moves[0, 0, 1], moves[0, 0, 2]) and torch.equal(moves[0, 0, 1], moves[0, 0, 3])
    velocities = from_tracks([view], config_of("remove")).velocities
    assert (velocities[0, 2:] == 0).all() and velocities.abs().max() < 0.02


def test_windows_are_resampled_in_time_after_the_camera_is_taken_out() -> None:
    config = config_of("remove", sequence_length=3, true_horizon=LENGTH)
    maps = cameras(4)
    view = without_camera(ViewTracks(seen_by(maps, resting()), ALL_SEEN, SIZE))
    moves = camera_moves([view], config)
    corners = GRID[[0, 19, 380, 399]]
    expected = np.stack([by_hand(maps[frame], corners) - corners for frame in (2, 4)]) / 240
    assert np.abs(moves[0, 0].numpy() - expected).max() < 1e-3


def test_no_windows_have_no_cameras() -> None:
    view = ViewTracks(torch.empty(0, LENGTH, 400, 2), torch.empty(0, LENGTH, 400), SIZE)
    assert camera_moves([without_camera(view)], config_of("remove")).shape == (0, 1, LENGTH - 1, 4, 2)


def test_grids_of_too_few_points_are_refused() -> None:
    with pytest.raises(ConfigError, match=r'data.camera = "remove".*keep with data.grid_size: 2'):
        config_of("remove", grid_size=2, static_filter={"min_keep": 2})


def test_columns_first_grids_serve_too() -> None:
    grid = query_grid("uniform", 20, SIZE)
    maps = cameras(5)
    tracks = torch.from_numpy(np.stack([by_hand(matrix, grid) for matrix in maps])[None]).float()
    apart = without_camera(ViewTracks(tracks, ALL_SEEN, SIZE))
    moves = camera_moves([apart], config_of("remove"))
    assert (with_camera(apart.tracks_xy_px, moves[:, 0], 240, (1, 1)) - tracks).abs().max() < 0.01
