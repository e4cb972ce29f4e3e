"""A WindowDataset in torch's own DataLoader, without a collate function."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import Batch, WindowDataset, make_loader
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.data.sampler import EpochSampler


@pytest.fixture
def data(tmp_path: Path, tiny: Config, write_tracks: Callable[..., Path]) -> WindowDataset:
    """Fifteen windows of three clips, the second of another size, so that batches are read in two parts."""
    for number, size in enumerate([(48, 64), (96, 80), (48, 64)]):
        write_tracks(tmp_path / f"{number}.hdf5", 5, seed=number, size=size)
    return WindowDataset(load_clips(tmp_path, tiny), tiny)


def check_same(found: Batch, expected: Batch) -> None:
    assert isinstance(found, Batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_make_loader(data: WindowDataset, workers: int) -> None:
    plain = list(DataLoader(data, batch_size=8, num_workers=workers))
    own = list(make_loader(data, EpochSampler(len(data), 8, shuffle=False), 0, pin_memory=False))
    assert [len(batch.indices) for batch in plain] == [8, 7]
    for found, expected in zip(plain, own, strict=True):
        check_same(found, expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_shuffled_batches_say_which_windows_they_are(data: WindowDataset, workers: int) -> None:
    generator = torch.Generator().manual_seed(3)
    batches = list(DataLoader(data, batch_size=8, shuffle=True, num_workers=workers, generator=generator))
    order = torch.cat([batch.indices for batch in batches]).tolist()
    assert sorted(order) == list(range(15)) != order
    for batch in batches:
        check_same(batch, data.batch(batch.indices.tolist()))


def test_a_window_has_no_batch_axis(data: WindowDataset) -> None:
    whole = data.batch(range(15))
    assert data[7].inputs.velocities.shape == (5, 9, 2)
    assert torch.equal(data[7].inputs.labels, whole.inputs.labels[7])
    assert data[-1].indices == 14
    assert [int(window.indices) for window in data] == list(range(15))
    for index in (15, -16):
        with pytest.raises(IndexError, match=f"there is no window {index}; the data set has 15 windows"):
            data[index]


def test_parts_and_sums_of_data_sets_work_too(data: WindowDataset) -> None:
    (part,) = DataLoader(Subset(data, [9, 2, 5]), batch_size=8)
    check_same(part, data.batch([9, 2, 5]))
    (both,) = DataLoader(ConcatDataset([data, data]), batch_size=30)
    assert both.indices.tolist() == [*range(15), *range(15)]
    assert torch.equal(both.inputs.velocities[15:], data.batch(range(15)).inputs.velocities)


def test_windows_of_training_stack_as_well(data: WindowDataset) -> None:
    """Without what only metrics need: those tensors are empty."""
    lean = WindowDataset(data.clips, data.config, truth=False)
    (batch,) = DataLoader(lean, batch_size=15, num_workers=1)
    check_same(batch, lean.batch(range(15)))
