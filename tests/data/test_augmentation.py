"""Augmentation: what each change does to tracks and labels, and on what its random numbers depend."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amplify_motion_tokenizer.config import AugmentationConfig, Config
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.augmentation import (
    Changes,
    changed_view,
    draw_changes,
    drop_points,
    move_points,
)
from amplify_motion_tokenizer.data.inputs import ModelInput, from_tracks
from amplify_motion_tokenizer.data.views import ViewTracks, take_frames
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.geometry import query_grid
from tests.support.run_scripts import TINY

HEIGHT, WIDTH = SIZE = 48, 64
GRID = 3
ORDERS = st.sampled_from(["row_major", "uniform"])

property_of = settings(max_examples=30, deadline=None)


def augmented_input(views: Sequence[ViewTracks], changes: Changes, config: Config) -> ModelInput:
    """What the data set makes of changed windows."""
    changed = [changed_view(view, changes, config) for view in views]
    return drop_points(from_tracks(changed, config), changes.kept)


def config_of(base: Config | None = None, data: dict[str, Any] | None = None, **augmentation: Any) -> Config:
    """A base config, checked with ``data.augmentation`` and other keys of data."""
    base = base or keypoint()
    changed = {**(data or {}), "augmentation": AugmentationConfig(**augmentation)}
    return validate(dataclasses.replace(base, data=dataclasses.replace(base.data, **changed)))


@cache
def keypoint() -> Config:
    return config_from_dict(TINY, "in the tests")


@cache
def amplify(encoder: str | None = None) -> Config:
    tree = {
        **TINY,
        "tracking": {**TINY["tracking"], "first_frames": 64},
        "data": {**TINY["data"], "reference_size": [HEIGHT, WIDTH], "static_filter": {"enable": False}},
        "model": {
            **TINY["model"],
            "name": "amplify",
            "num_layers": 2,
            "amplify": {"vision": {"encoder": encoder}},
        },
    }
    return config_from_dict(tree, "in the tests")


def windows_of(seed: int, count: int = 2, frames: int = 6, order: str = "row_major") -> ViewTracks:
    """Points that move whole pixels inside the frame from the grid on: no label is a matter of rounding."""
    rng = np.random.default_rng(seed)
    moves = rng.integers(-1, 2, (count, frames, GRID**2, 2)).cumsum(axis=1)
    moves -= moves[:, :1]
    tracks = (query_grid(order, GRID, SIZE) + moves).astype(np.float32)
    visibility = rng.random((count, frames, GRID**2)).astype(np.float32)
    return ViewTracks(torch.from_numpy(tracks), torch.from_numpy(visibility), SIZE)


def mirrored(view: ViewTracks, across: bool, down: bool, order: str = "row_major") -> ViewTracks:
    count = len(view.tracks_xy_px)
    return move_points(view, torch.tensor([[across, down]] * count), torch.ones(count), order, GRID)


@property_of
@given(seed=st.integers(0, 99), order=ORDERS, across=st.booleans(), down=st.booleans())
def test_a_mirror_shows_every_track_from_the_other_side(
    seed: int, order: str, across: bool, down: bool
) -> None:
    view = windows_of(seed, order=order)
    found = mirrored(view, across, down, order)
    assert torch.equal(found.tracks_xy_px[:, 0], view.tracks_xy_px[:, 0])
    # Each track of the mirror image, wherever it stands in the file, by where it starts.
    image = view.tracks_xy_px.clone()
    if across:
        image[..., 0] = WIDTH - image[..., 0]
    if down:
        image[..., 1] = HEIGHT - image[..., 1]
    for row in range(len(image)):
        nearest = torch.cdist(found.tracks_xy_px[row, 0], image[row, 0]).argmin(dim=1)
        assert sorted(nearest.tolist()) == list(range(GRID**2))
        torch.testing.assert_close(found.tracks_xy_px[row], image[row][:, nearest], atol=1e-4, rtol=0)
        assert torch.equal(found.visibility[row], view.visibility[row][:, nearest])
    again = mirrored(found, across, down, order)
    torch.testing.assert_close(again.tracks_xy_px, view.tracks_xy_px, atol=1e-4, rtol=0)
    assert torch.equal(again.visibility, view.visibility)


@property_of
@given(
    seed=st.integers(0, 99),
    across=st.booleans(),
    down=st.booleans(),
    base=st.sampled_from([keypoint, amplify]),
)
def test_labels_of_a_mirrored_window_are_mirrored_labels(
    seed: int, across: bool, down: bool, base: Callable[[], Config]
) -> None:
    config = base()
    view = windows_of(seed)
    before, after = from_tracks([view], config), from_tracks([mirrored(view, across, down)], config)
    rows, cols = config.class_grid
    # Classes and points of the row-major grid are rows of cells: turn both axes of each.
    cells = before.labels.unflatten(-1, (GRID, GRID))
    y, x = cells.div(cols, rounding_mode="floor"), cells % cols
    if across:
        y, x = y.flip(-1), cols - 1 - x.flip(-1)
    if down:
        y, x = rows - 1 - y.flip(-2), x.flip(-2)
    assert torch.equal(after.labels, (y * cols + x).flatten(-2))
    turned = [axis for axis, wanted in ((-1, across), (-2, down)) if wanted]
    assert torch.equal(
        after.mask.unflatten(-1, (GRID, GRID)), before.mask.unflatten(-1, (GRID, GRID)).flip(turned)
    )


def test_first_frames_are_mirrored_with_the_tracks() -> None:
    frames = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3)
    view = windows_of(0)._replace(first_frames=frames)
    mirror = torch.tensor([[True, False], [True, True]])
    found = move_points(view, mirror, torch.ones(2), "row_major", GRID).first_frames
    assert found is not None
    assert torch.equal(found[0], frames[0].flip(1))
    assert torch.equal(found[1], frames[1].flip(0, 1))


@property_of
@given(seed=st.integers(0, 99), speed=st.floats(0.25, 6))
def test_speed_is_a_factor_of_velocities_up_to_the_clamp(seed: int, speed: float) -> None:
    config, view = config_of(), windows_of(seed)
    still = torch.zeros(2, 2, dtype=torch.bool)
    faster = move_points(view, still, torch.full((2,), speed), "row_major", GRID)
    assert torch.equal(faster.tracks_xy_px[:, 0], view.tracks_xy_px[:, 0])
    expected = (from_tracks([view], config).velocities * speed).clamp(-1, 1)
    torch.testing.assert_close(from_tracks([faster], config).velocities, expected, atol=1e-4, rtol=0)


@property_of
@given(seed=st.integers(0, 99))
def test_reversal_turns_velocities_round_and_twice_is_nothing(seed: int) -> None:
    config, view = config_of(), windows_of(seed)
    backwards = torch.arange(5, -1, -1).expand(2, -1)
    found = take_frames(view, backwards)
    velocities = from_tracks([view], config).velocities
    assert torch.equal(from_tracks([found], config).velocities, -velocities.flip(1))
    assert torch.equal(found.visibility, view.visibility.flip(1))
    assert all(map(torch.equal, take_frames(found, backwards)[:2], view[:2]))


@property_of
@given(seed=st.integers(0, 99), epoch=st.integers(0, 5), reverse=st.sampled_from([0.0, 1.0]))
def test_strides_and_starts_fit_the_tracked_window(seed: int, epoch: int, reverse: float) -> None:
    config = config_of(data={"true_horizon": 17}, temporal_stride=(2, 3), reverse=reverse)
    frames = draw_changes(range(64), epoch + 100 * seed, config).frames
    if reverse:
        frames = frames.flip(1)
    assert frames.shape == (64, 6) and frames.min() >= 0 and frames.max() <= 16
    strides = frames.diff(dim=1)
    assert torch.equal(strides, strides[:, :1].expand(-1, 5))
    assert set(strides[:, 0].tolist()) == {2, 3}
    starts = {stride: set(frames[strides[:, 0] == stride, 0].tolist()) for stride in (2, 3)}
    assert starts[2] <= set(range(7)) and starts[3] <= {0, 1} and len(starts[2]) > 2


def test_every_start_and_both_ends_of_the_scale_are_drawn() -> None:
    config = config_of(data={"true_horizon": 17}, temporal_stride=(2, 3), scale=(0.5, 2))
    changes = draw_changes(range(1000), 0, config)
    fast = changes.frames[:, 1] - changes.frames[:, 0] == 3
    assert set(changes.frames[~fast, 0].tolist()) == set(range(7))
    assert set(changes.frames[fast, 0].tolist()) == {0, 1}
    assert fast.float().mean() == pytest.approx(0.5, abs=0.06)
    assert changes.speed.min() >= 0.5 and changes.speed.max() <= 2
    assert (changes.speed < 1).float().mean() == pytest.approx(0.5, abs=0.06)


def test_a_stride_takes_frames_instead_of_interpolating() -> None:
    config = config_of(data={"true_horizon": 11}, temporal_stride=(2, 2))
    view = windows_of(3, frames=11)
    changes = draw_changes([0, 1], 0, config)
    found = augmented_input([view], changes, config)
    starts = changes.frames[:, 0].tolist()
    taken = torch.stack([view.tracks_xy_px[i, s : s + 11 : 2] for i, s in enumerate(starts)])
    assert torch.equal(found.velocities, (taken.diff(dim=1) / 3).clamp(-1, 1))
    assert found.labels.shape == (2, 5, 9)


@property_of
@given(share=st.floats(0.05, 0.95))
def test_dropped_points_neither_move_nor_count(share: float) -> None:
    config = config_of(point_dropout=share)
    changes = draw_changes(range(300), 0, config)
    assert 1 - changes.kept.float().mean() == pytest.approx(share, abs=0.05)
    view, kept = windows_of(0), changes.kept[:2]
    plain = from_tracks([view], config)
    found = drop_points(plain, kept)
    steps = kept.expand(-1, 5, -1)
    assert not found.velocities[~steps].any() and not found.mask[~steps].any()
    assert torch.equal(found.velocities[steps], plain.velocities[steps])
    assert torch.equal(found.mask[steps], plain.mask[steps])
    assert torch.equal(found.finite, plain.finite), "a dropped point is no lost one"


ALL = {
    "flip_horizontal": 0.5,
    "flip_vertical": 0.4,
    "scale": (0.5, 2.0),
    "reverse": 0.3,
    "point_dropout": 0.2,
}


@property_of
@given(batch=st.permutations(list(range(12))), epoch=st.integers(0, 3))
def test_changes_are_of_the_window_and_epoch_alone(batch: list[int], epoch: int) -> None:
    config = config_of(**ALL)
    whole = draw_changes(range(12), epoch, config)
    for together, alone in zip(whole, draw_changes(batch, epoch, config), strict=True):
        assert torch.equal(together[batch], alone)


def test_changes_differ_between_epochs_and_seeds_but_not_with_other_changes() -> None:
    config = config_of(**ALL)
    first = draw_changes(range(200), 0, config)
    other_seed = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=1))
    for other in (draw_changes(range(200), 1, config), draw_changes(range(200), 0, other_seed)):
        assert all(not torch.equal(mine, theirs) for mine, theirs in zip(first, other, strict=True))
        assert (first.mirror_xy == other.mirror_xy).float().mean() == pytest.approx(0.5, abs=0.1)
    shares = first.mirror_xy.float().mean(dim=0)
    assert shares.tolist() == pytest.approx([0.5, 0.4], abs=0.1)
    assert (first.frames[:, 0] == 5).float().mean() == pytest.approx(0.3, abs=0.1)
    for name, column in (("flip_horizontal", 0), ("flip_vertical", 1)):
        alone = draw_changes(range(200), 0, config_of(**{name: ALL[name]}))
        assert torch.equal(alone.mirror_xy[:, column], first.mirror_xy[:, column])
        assert not alone.mirror_xy[:, 1 - column].any()


def test_views_are_mirrored_together_and_lose_points_each() -> None:
    config = config_of(
        amplify(), {"views": ("front", "wrist")}, **{**ALL, "scale": (1.0, 1.0), "reverse": 0.0}
    )
    front, wrist = windows_of(0, count=20), windows_of(1, count=20)
    changes = draw_changes(range(20), 0, config)
    assert changes.kept.shape == (20, 2, 9) and not torch.equal(changes.kept[:, 0], changes.kept[:, 1])
    found = augmented_input([front, wrist], changes, config)
    for number, view in enumerate((front, wrist)):
        moved = move_points(view, changes.mirror_xy, changes.speed, "row_major", GRID)
        alone = from_tracks([moved, moved], config)
        kept = changes.kept[:, number, None].expand(-1, 5, -1)
        assert torch.equal(found.velocities[:, number][kept], alone.velocities[:, number][kept])
        assert torch.equal(found.labels[:, number], alone.labels[:, number])


def test_nothing_drawn_is_nothing_changed() -> None:
    config = config_of(flip_horizontal=0.5)
    view = windows_of(0)
    nothing = Changes(
        torch.zeros(2, 2, dtype=torch.bool),
        torch.ones(2),
        torch.arange(6).expand(2, -1),
        torch.ones(2, 1, 9, dtype=torch.bool),
    )
    found, plain = augmented_input([view], nothing, config), from_tracks([view], config)
    for name in ModelInput._fields:
        torch.testing.assert_close(
            getattr(found, name), getattr(plain, name), atol=1e-5, rtol=0, equal_nan=True
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config_of(flip_vertical=1.5), r"flip_vertical = 1\.5 .* 0 to 1"),
        (lambda: config_of(reverse=-0.1), r"reverse = -0\.1"),
        (lambda: config_of(scale=(2.0, 0.5)), r"scale = \[2\.0, 0\.5\] .* the lower first"),
        (lambda: config_of(scale=(0.0, 0.5)), "scale"),
        (lambda: config_of(point_dropout=1.0), r"point_dropout = 1\.0"),
        (
            lambda: config_of(temporal_stride=(1, 2)),
            r"temporal_stride = \[1, 2\] .* from 1 to 1, .* 6 frames",
        ),
        (lambda: config_of(data={"true_horizon": 16}, temporal_stride=(2, 4)), "from 1 to 3"),
        (lambda: config_of(amplify("resnet18"), reverse=0.5), "reverse = 0.5 .* 0 with model.amplify.vision"),
        (
            lambda: config_of(amplify("resnet18"), {"true_horizon": 11}, temporal_stride=(1, 2)),
            "temporal_stride .* null with model.amplify.vision",
        ),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], Config], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
    assert config_of(amplify("resnet18"), flip_horizontal=0.5).data.augmentation.enabled
    assert not config_of().data.augmentation.enabled
