"""Augmented windows in a data set: which are changed, alike in every worker, process and resumed run."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.config import AugmentationConfig, Config
from amplify_motion_tokenizer.data.dataset import Batch, WindowDataset, make_loader
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.data.sampler import EpochSampler, EpochWindows
from amplify_motion_tokenizer.errors import CheckpointError, TrackFileError
from amplify_motion_tokenizer.files import write_torch
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.training import run as training_module
from amplify_motion_tokenizer.training.run import train
from tests.support.tracked import clip_record_of, random_windows

Write = Callable[..., Path]

ALL = AugmentationConfig(
    flip_horizontal=0.5, flip_vertical=0.5, scale=(0.5, 2.0), reverse=0.5, point_dropout=0.2
)


def with_augmentation(config: Config, augmentation: AugmentationConfig = ALL, **data: Any) -> Config:
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, augmentation=augmentation, **data)
    )


@pytest.fixture
def config(tmp_path: Path, tiny: Config, write_tracks: Write) -> Config:
    """Four clips, of two sizes, so that windows of a batch become input in two groups."""
    for number in range(4):
        size = (48, 64) if number % 2 else (96, 80)
        write_tracks(tmp_path / "tracks" / f"{number}.hdf5", 5, seed=number, size=size)
    return with_augmentation(tiny)


def data_of(tracks: Path, config: Config, augment: bool = True) -> WindowDataset:
    return WindowDataset(load_clips(tracks, config), config, augment)


def same(first: Batch, second: Batch) -> bool:
    pairs = zip(first.inputs, second.inputs, strict=True)
    return all(torch.equal(a.nan_to_num(-9.0), b.nan_to_num(-9.0)) for a, b in pairs)


def test_windows_that_an_epoch_takes_are_changed_and_no_others(config: Config, tmp_path: Path) -> None:
    plain, augmented = (
        data_of(tmp_path / "tracks", config, augment=False),
        data_of(tmp_path / "tracks", config),
    )
    indices = [7, 0, 12, 3, 19]
    assert same(augmented.batch(indices), plain.batch(indices))
    assert same(plain.batch(EpochWindows(indices, 0)), plain.batch(indices))
    first, second = (augmented.batch(EpochWindows(indices, epoch)) for epoch in (0, 1))
    assert first.indices.tolist() == indices
    assert not same(first, plain.batch(indices)) and not same(first, second)
    for row, index in enumerate(indices):
        alone = augmented.batch(EpochWindows([index], 0))
        assert torch.equal(alone.inputs.velocities[0], first.inputs.velocities[row])


def test_without_augmentation_every_bit_is_as_before(config: Config, tmp_path: Path) -> None:
    off = with_augmentation(config, AugmentationConfig())
    indices = EpochWindows(range(20), 3)
    assert same(
        data_of(tmp_path / "tracks", off).batch(indices),
        data_of(tmp_path / "tracks", off, augment=False).batch(indices),
    )


def batches_of(tracks: Path, config: Config, workers: int, start: tuple[int, int] = (0, 0)) -> list[Batch]:
    """Of two epochs, from (epoch, step) on."""
    data = data_of(tracks, config)
    sampler = EpochSampler(len(data), 3, seed=config.training.seed)
    loader = make_loader(data, sampler, workers, pin_memory=False)
    found = []
    for epoch in range(start[0], 2):
        sampler.set_position(epoch, start[1] if epoch == start[0] else 0)
        found += list(loader)
    return found


def test_any_worker_and_any_start_gives_the_same_windows(config: Config, tmp_path: Path) -> None:
    tracks = tmp_path / "tracks"
    whole = batches_of(tracks, config, workers=0)
    assert len(whole) == 14
    for found, expected in (
        (batches_of(tracks, config, 2), whole),
        (batches_of(tracks, config, 2, (1, 3)), whole[10:]),
    ):
        assert len(found) == len(expected)
        assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_any_number_of_processes_gives_the_same_windows(config: Config, tmp_path: Path) -> None:
    data = data_of(tmp_path / "tracks", config)

    def windows(batch_size: int, processes: int) -> dict[int, torch.Tensor]:
        found = {}
        for rank in range(processes):
            for indices in EpochSampler(len(data), batch_size, rank=rank, processes=processes):
                batch = data.batch(indices)
                found |= dict(zip(batch.indices.tolist(), batch.inputs.velocities, strict=True))
        return found

    one, two = windows(6, 1), windows(3, 2)
    assert all(torch.equal(one[index], two[index]) for index in range(20))


def test_only_training_windows_are_augmented(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SeenError(Exception):
        pass

    def trainer(
        _config: Config, _accelerator: object, training: Any, validation: Any, *_rest: object
    ) -> None:
        for data, changed in ((training, True), (validation, False)):
            batches = [data.batch(indices) for indices in (EpochWindows(range(5), 0), range(5))]
            assert same(*batches) is not changed
        raise SeenError

    monkeypatch.setattr(training_module, "Trainer", trainer)
    with pytest.raises(SeenError):
        train(config, tmp_path / "tracks", tmp_path / "run")


def test_a_resumed_run_ends_as_one_that_was_not(config: Config, tmp_path: Path) -> None:
    def run(folder: str, max_steps: int, **augmentation: float) -> Path:
        values = {"max_steps": max_steps, "pictures": 0}
        changed = with_augmentation(config, dataclasses.replace(ALL, **augmentation))
        train(
            dataclasses.replace(changed, training=dataclasses.replace(config.training, **values)),
            tmp_path / "tracks",
            tmp_path / folder,
            resume="auto",
        )
        return tmp_path / folder / "last.pth"

    whole = load_checkpoint(run("whole", 7)).model
    run("parts", 2)
    with pytest.raises(CheckpointError, match=r"data\.augmentation\.reverse 0\.5 -> 0\.0"):
        run("parts", 7, reverse=0.0)
    resumed = load_checkpoint(run("parts", 7)).model
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_velocity_files_are_refused(tiny: Config, tmp_path: Path) -> None:
    write_torch(tmp_path / "clip_start000000.pt", torch.zeros(5, 9, 2))
    config = with_augmentation(tiny)
    with pytest.raises(TrackFileError, match=r"clip_start000000\.pt: data\.augmentation needs positions"):
        data_of(tmp_path, config)
    data_of(tmp_path, config, augment=False)


def test_flips_want_the_order_that_was_tracked(tiny: Config, tmp_path: Path) -> None:
    tracking = dataclasses.replace(tiny.tracking, query_order="uniform")
    with TrackFileWriter(tmp_path / "a.hdf5", clip_record_of(tiny), (48, 64)) as writer:
        for window in random_windows(dataclasses.replace(tiny, tracking=tracking), 3, 0, (48, 64)):
            writer.append(window)
        writer.finish(10, 0)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["root/default/tracks"][0, 0, 4] = np.nan
    config = with_augmentation(tiny)
    with pytest.raises(TrackFileError, match=r"a\.hdf5: its points .* tracking\.query_order = row_major"):
        data_of(tmp_path, config)
    data_of(tmp_path, dataclasses.replace(config, tracking=tracking))
    data_of(tmp_path, with_augmentation(config, AugmentationConfig(scale=(0.5, 2.0))))
