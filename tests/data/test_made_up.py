"""Made-up windows as training data: what they are, where they stand, and that they are the same anywhere."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.data.made_up import (
    HELD_OUT_SEED,
    MadeUpWindows,
    made_up_training,
    made_up_validation,
)
from amplify_motion_tokenizer.data.sampler import EpochSampler, EpochWindows
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.scenes.synthetic import synthetic_windows
from tests.support.configs import amplify_config
from tests.support.run_scripts import TINY
from tests.support.tracked import write_velocities

Write = Callable[..., Path]


def config_of(model: dict[str, Any] | None = None, **data: Any) -> Config:
    tree = {**TINY, "data": {**TINY["data"], "source": "synthetic", **data}}
    return config_from_dict({**tree, "model": {**TINY["model"], **(model or {})}}, "here")


def made_by(config: Config, count: int = 40, **options: Any) -> WindowDataset:
    return WindowDataset({}, config, made_up=MadeUpWindows(config, count, **options))


def test_windows_are_those_of_the_row_in_pixels_of_the_reference_size() -> None:
    config = config_of(static_filter={"enable": False})
    inputs = made_by(config).batch(EpochWindows([3, 5, 4], epoch=2)).inputs
    made = synthetic_windows(3, seed=0, first_index=2 * 40 + 3, grid_size=3, frames=6)
    rows = [0, 2, 1]
    sizes = made.sizes[rows].double()
    scale = 48 / sizes.min(dim=1).values
    tracks = made.tracks_xy_px[rows].double() * scale[:, None, None, None]
    wanted = (tracks.diff(dim=1) / 3).clamp(-1, 1)  # 3 of W = 7 on each side
    torch.testing.assert_close(inputs.velocities.double(), wanted, atol=2e-4, rtol=0)
    torch.testing.assert_close(inputs.size_px.double(), sizes * scale[:, None], atol=1e-3, rtol=0)
    normal = (tracks.flip(-1) / (sizes * scale[:, None])[:, None, None] * 2 - 1).clamp(-1, 1)
    torch.testing.assert_close(inputs.tracks_rc_norm.double(), normal, atol=1e-4, rtol=0)
    seen = made.visibility[rows] > 0
    both = seen[:, 1:] & seen[:, :-1]
    assert torch.equal(inputs.mask, both & (both.float().mean(dim=(1, 2)) >= 0.1)[:, None, None])


def test_a_reference_of_one_shape_makes_frames_of_that_shape() -> None:
    config = amplify_config(views=2)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, source="synthetic"))
    inputs = made_by(config).batch([0, 1]).inputs
    assert inputs.velocities.shape == (2, 2, 5, 9, 2)
    assert (inputs.size_px == torch.tensor([48.0, 64.0])).all()
    first = inputs.tracks_rc_norm[:, :, 0]
    cells = torch.tensor([-2 / 3, 0, 2 / 3])
    grid = torch.stack([cells.repeat_interleave(3), cells.repeat(3)], dim=-1)  # (row, col), row by row
    torch.testing.assert_close(first, grid.expand_as(first), atol=1e-4, rtol=0)
    assert not torch.equal(inputs.velocities[:, 0], inputs.velocities[:, 1])


def test_both_orders_of_the_grid_hold_the_same_points() -> None:
    config = config_of()
    uniform = dataclasses.replace(
        config, tracking=dataclasses.replace(config.tracking, query_order="uniform")
    )
    ours, theirs = (made_by(each).batch([1, 2]).inputs for each in (config, uniform))
    turned = torch.arange(9).view(3, 3).mT.flatten()
    assert torch.equal(ours.velocities[:, :, turned], theirs.velocities)
    assert torch.equal(ours.visibility[:, :, turned], theirs.visibility)
    assert not torch.equal(ours.velocities, theirs.velocities)


def test_longer_windows_are_resampled_as_tracks_are() -> None:
    config = config_of(true_horizon=11, static_filter={"enable": False})
    inputs = made_by(config).batch([7]).inputs
    made = synthetic_windows(1, seed=0, first_index=7, grid_size=3, frames=11)
    tracks = made.tracks_xy_px[:, ::2] * (48 / made.sizes.min())
    torch.testing.assert_close(inputs.velocities, (tracks.diff(dim=1) / 3).clamp(-1, 1), atol=1e-4, rtol=0)


def test_a_window_is_the_same_in_any_batch_and_process_and_new_in_each_epoch() -> None:
    data = made_by(config_of(), 8)
    whole = data.batch(EpochWindows(range(8), epoch=1)).inputs.velocities
    for rank in range(2):
        sampler = EpochSampler(8, 2, rank=rank, processes=2, seed=5)
        sampler.set_position(1)
        for rows in sampler:
            assert torch.equal(data.batch(rows).inputs.velocities, whole[rows])
    for epoch in (0, 2):
        assert not torch.equal(data.batch(EpochWindows(range(8), epoch)).inputs.velocities, whole)
    # Epochs have nothing in common, and plain indices are of the first.
    first = data.batch(EpochWindows(range(8), 0)).inputs.velocities
    assert torch.equal(data.batch(range(8)).inputs.velocities, first)
    assert not any(torch.equal(one, other) for one in first for other in whole)
    assert torch.equal(data[3].inputs.velocities, first[3])


def test_held_out_windows_are_the_same_for_every_seed_and_epoch_and_of_no_training() -> None:
    config = config_of(val_split=0.25, synthetic_windows=40)
    other = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=9))
    sets = [WindowDataset({}, each, made_up=made_up_validation(each)) for each in (config, other)]
    assert [len(each) for each in sets] == [10, 10]
    ours, theirs = (each.batch(EpochWindows(range(10), 3)).inputs.velocities for each in sets)
    assert torch.equal(ours, theirs)
    training = WindowDataset({}, config, made_up=made_up_training(config, 0))
    assert len(training) == 40
    assert not torch.equal(training.batch(range(10)).inputs.velocities, ours)
    assert HELD_OUT_SEED > 2**31 - 1  # the highest training.seed
    assert made_up_validation(config_of(val_split=0)) is None


def test_beside_tracks_they_are_a_share_of_the_epoch(tmp_path: Path, write_tracks: Write) -> None:
    config = config_of(source="both", synthetic_share=0.4)
    write_tracks(tmp_path / "a.hdf5", 6)
    clips = load_clips(tmp_path, config)
    made = made_up_training(config, 6)
    assert made is not None and len(made) == 4
    data = WindowDataset(clips, config, truth=False, made_up=made)
    assert len(data) == 10
    assert data.contents == "6 windows of 1 clips and 4 made-up windows"
    mixed = data.batch([9, 0, 6, 5])
    alone, tracks = made_by(config, 4), WindowDataset(clips, config)
    assert torch.equal(mixed.inputs.velocities[[0, 2]], alone.batch([3, 0]).inputs.velocities)
    assert torch.equal(mixed.inputs.velocities[[1, 3]], tracks.batch([0, 5]).inputs.velocities)
    assert mixed.indices.tolist() == [9, 0, 6, 5]
    assert data.locate(8) == ("made_up_2", 2)
    assert made_up_validation(config) is None


def test_they_stand_beside_velocity_files_too(tmp_path: Path) -> None:
    config = config_of(source="both", reference_size=[48, 64])
    write_velocities(tmp_path / "a", config, 3)
    made = MadeUpWindows(config, 3)
    data = WindowDataset(load_clips(tmp_path, config), config, truth=False, made_up=made)
    inputs = data.batch([0, 3]).inputs
    assert inputs.velocities.shape == (2, 5, 9, 2)
    assert inputs.tracks_rc_norm.shape == (2, 0, 9, 2)
    assert torch.equal(inputs.velocities[1], made.inputs(np.array([0]), 0, False).velocities[0])


@pytest.mark.parametrize(
    ("data", "model", "said"),
    [
        ({"reference_size": None}, {}, "tracks with data.reference_size: null"),
        ({"augmentation": {"flip_horizontal": 0.5}}, {}, "or both with data.augmentation"),
        ({"synthetic_share": 1.0}, {}, "data.synthetic_share = 1.0 is impossible"),
        ({"synthetic_windows": 0}, {}, "data.synthetic_windows = 0 is impossible"),
        ({"source": "made up"}, {}, "data.source = .* is impossible; allowed: tracks, synthetic, both"),
    ],
)
def test_what_made_up_windows_cannot_do_is_said(
    data: dict[str, Any], model: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        config_of(model, **data)
