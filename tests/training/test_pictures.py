"""Pictures of reconstructions: what is drawn, and that TensorBoard gets it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.training.launch import make_accelerator
from amplify_motion_tokenizer.training.pictures import HEADER, LONGER_SIDE, Pictures, draw_window
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import with_training
from tests.support.tracked import write_velocities
from tests.support.training_runs import make_trainer, next_second

Write = Callable[..., Path]
Image = NDArray[np.uint8]
SIZE = torch.tensor([64.0, 128.0])
"""Of the frame; panels are 128 x 256 then."""


def line_of(start: tuple[float, float], end: tuple[float, float], steps: int = 5) -> Tensor:
    """One point's way (T, 1, 2), rc_norm."""
    share = torch.linspace(0, 1, steps)[:, None, None]
    return torch.tensor(start) * (1 - share) + torch.tensor(end) * share


def halves(image: Image) -> tuple[Image, Image]:
    """The true and the predicted panel of one view."""
    width = image.shape[1] // 2
    return image[HEADER:, :width], image[HEADER:, width:]


def box_of(panel: Image) -> list[int]:
    """First and last lit row, first and last lit column."""
    rows, cols = (np.flatnonzero(panel.max(axis=(axis, 2)) > 40) for axis in (1, 0))
    return [int(rows[0]), int(rows[-1]), int(cols[0]), int(cols[-1])]


def test_a_perfect_prediction_draws_the_same_twice() -> None:
    tracks = torch.rand(6, 9, 2) * 2 - 1
    true, predicted = halves(draw_window(tracks, tracks.clone(), SIZE, None))
    assert true.shape == (LONGER_SIDE // 2, LONGER_SIDE, 3)
    assert true.any()
    np.testing.assert_array_equal(true, predicted)
    other = halves(draw_window(tracks, tracks[:1].expand(6, -1, -1), SIZE, None))
    np.testing.assert_array_equal(other[0], true)
    assert (other[1] != true).any()


def test_points_are_drawn_where_they_are() -> None:
    right, down = line_of((0.0, -0.5), (0.0, 0.5)), line_of((-0.5, 0.0), (0.5, 0.0))
    true, predicted = halves(draw_window(right, down, SIZE, None))
    # Rows and columns of a panel of 128 x 256: n = 0 is row 64 and column 128.
    assert box_of(true) == pytest.approx([64, 64, 64, 192], abs=3)
    assert box_of(predicted) == pytest.approx([32, 96, 128, 128], abs=3)
    # The end is the brighter one, and bears the dot.
    assert true[64, 192].max() > true[64, 80].max() > 0
    off = line_of((0.0, 0.0), (0.0, 1e9))
    assert box_of(halves(draw_window(off, off, SIZE, None))[0])[2:] == pytest.approx([128, 255], abs=3)


def test_colours_tell_where_points_begin() -> None:
    tracks = torch.tensor([[[-0.9, -0.9], [-0.9, 0.9], [0.9, -0.9], [0.9, 0.9]]]).expand(2, -1, -1)
    true, _ = halves(draw_window(tracks, tracks, SIZE, None))
    left, right, low_left, low_right = (
        true[row, col].astype(int) for row, col in ((6, 13), (6, 243), (122, 13), (122, 243))
    )
    # A rainbow down the frame, from red: points of one row share a colour.
    assert left[0] > 200 > left[1] and np.array_equal(left, right)
    assert low_left[2] > 200 > low_left[1] and np.array_equal(low_left, low_right)


def test_large_grids_are_thinned_to_an_even_grid() -> None:
    side = torch.linspace(-0.95, 0.95, 20)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).reshape(1, 400, 2).expand(2, -1, -1)
    true, _ = halves(draw_window(grid, grid, torch.tensor([100.0, 100.0]), None))
    lit = (true.max(axis=2) > 40).astype(np.uint8)
    assert cv2.connectedComponents(lit)[0] - 1 == 100


def test_views_are_rows_over_their_frames() -> None:
    tracks = torch.rand(2, 6, 9, 2) * 0.2
    sizes = torch.stack([SIZE, torch.tensor([100.0, 100.0])])
    frames = [np.full((32, 32, 3), level, np.uint8) for level in (100, 200)]
    image = draw_window(tracks, tracks, sizes, frames)
    assert image.shape == (HEADER + 128 + HEADER + 256, 2 * LONGER_SIDE, 3)
    assert image[HEADER, 0].tolist() == [50, 50, 50]
    assert image[-1, 0].tolist() == [100, 100, 100]
    # Without frames the header says so.
    plain = draw_window(tracks, tracks, sizes, None)
    assert (plain[:HEADER] != image[:HEADER]).any()


def images_of(run: Path) -> dict[str, list[tuple[int, Image]]]:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    return {
        tag: [
            (e.step, cv2.imdecode(np.frombuffer(e.encoded_image_string, np.uint8), cv2.IMREAD_COLOR_RGB))
            for e in events.Images(tag)
        ]
        for tag in events.Tags()["images"]
    }


@pytest.fixture
def run_config(tmp_path: Path, tiny: Config, write_tracks: Write) -> Config:
    for number in range(4):
        write_tracks(tmp_path / "tracks" / f"{number}.hdf5", 3, seed=number)
    data = dataclasses.replace(tiny.data, val_split=0.5)
    return with_training(dataclasses.replace(tiny, data=data))


def test_every_validation_shows_the_same_windows(run_config: Config, tmp_path: Path) -> None:
    train(run_config, tmp_path / "tracks", tmp_path / "run")
    first = images_of(tmp_path / "run")
    assert len(first) == 2
    again = with_training(run_config, pictures=1, learning_rate=1e-2)
    next_second()
    train(again, tmp_path / "tracks", tmp_path / "again")
    ((tag, shown),) = images_of(tmp_path / "again").items()
    assert tag == min(first)
    assert tag.startswith("val_tracks/")
    assert [step for step, _ in shown] == [step for step, _ in first[tag]] == [2, 4]
    truth = {halves(image)[0].tobytes() for _, image in [*shown, *first[tag]]}
    assert len(truth) == 1
    next_second()
    train(with_training(run_config, pictures=0), tmp_path / "tracks", tmp_path / "none")
    assert images_of(tmp_path / "none") == {}


def test_drawing_leaves_the_model_as_it_was(run_config: Config, tmp_path: Path) -> None:
    trainer = make_trainer(run_config, tmp_path)
    trainer.accelerator.init_trackers("tensorboard")
    data = WindowDataset(load_clips(tmp_path / "tracks", run_config), run_config)
    pictures = Pictures(data, trainer.accelerator)
    trainer.learner.model.train()
    state = torch.get_rng_state()
    pictures.log(trainer.learner.model, 1)
    assert trainer.learner.model.training
    assert torch.equal(state, torch.get_rng_state())
    trainer.accelerator.end_training()


def test_velocity_files_cannot_be_drawn_which_is_said(
    tmp_path: Path, tiny: Config, caplog: pytest.LogCaptureFixture
) -> None:
    write_velocities(tmp_path / "clip.windows.json", tiny, 2)
    data = WindowDataset(load_clips(tmp_path, tiny), tiny)
    with caplog.at_level(logging.WARNING):
        Pictures(data, make_accelerator(tiny, tmp_path))
    assert "shows 0 pictures of tracks instead of 1" in caplog.text
