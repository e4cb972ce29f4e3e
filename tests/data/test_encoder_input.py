"""What codes depend on, made alone, is what training makes of the same windows, bit for bit."""

from typing import Any

import pytest
import torch

from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.inputs import encoder_input, from_tracks
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.geometry import query_grid

SIZE = (48, 64)

MODELS: dict[str, dict[str, Any]] = {
    "keypoint": {"data": {"reference_size": {"shorter": 96}}},
    "amplify": {"data": {"reference_size": [40, 40]}},
    "transform": {"data": {"reference_size": {"shorter": 240}}},
}


def windows(frames: int, lost: bool) -> ViewTracks:
    generator = torch.Generator().manual_seed(5)
    moves = torch.randn(6, frames, 16, 2, generator=generator).cumsum(dim=1) * 3
    tracks = torch.from_numpy(query_grid("row_major", 4, SIZE)) + moves - moves[:, :1]
    seen = torch.rand(6, frames, 16, generator=generator)
    if lost:
        tracks[1, 3:, 5] = torch.nan
        tracks[2, 2, 7] = torch.inf
    return ViewTracks(tracks, seen, SIZE, valid_steps=torch.tensor([frames - 1, 0, 2, frames - 1, 3, 1]))


@pytest.mark.parametrize("lost", [False, True], ids=["known", "lost"])
@pytest.mark.parametrize("frames", [6, 9], ids=["own_frames", "resampled"])
@pytest.mark.parametrize("model", MODELS)
def test_velocities_and_real_steps_are_those_of_training(model: str, frames: int, lost: bool) -> None:
    config = config_from_dict(
        {
            "model": {"name": model},
            "data": {"sequence_length": 6, "grid_size": 4, **MODELS[model]["data"]},
        },
        "here",
    )
    view = windows(frames, lost)
    alone, whole = encoder_input([view], config), from_tracks([view], config)
    assert torch.equal(alone.velocities, whole.velocities)
    assert torch.equal(alone.window_steps, whole.window_steps)
    assert alone.images is None
    assert float(alone.velocities.abs().max()) > 0


def test_several_views_share_their_real_steps() -> None:
    config = config_from_dict(
        {
            "model": {"name": "amplify"},
            "data": {
                "sequence_length": 6,
                "grid_size": 4,
                "reference_size": [40, 40],
                "views": ["left", "right"],
            },
        },
        "here",
    )
    left = windows(6, lost=False)
    right = left._replace(
        tracks_xy_px=left.tracks_xy_px.flip(0), valid_steps=torch.tensor([4, 1, 5, 5, 2, 1])
    )
    alone, whole = encoder_input([left, right], config), from_tracks([left, right], config)
    assert alone.velocities.shape == (6, 2, 5, 16, 2)
    assert torch.equal(alone.velocities, whole.velocities)
    assert alone.window_steps.tolist() == [4, 0, 2, 5, 2, 1]
