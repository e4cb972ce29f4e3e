"""Windows of a data set as the model takes them, alone, in batches and from loaders."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset, make_loader
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.data.made_up import MadeUpWindows
from amplify_motion_tokenizer.data.sampler import PADDING, EpochSampler, EpochWindows
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from tests.support.run_scripts import TINY
from tests.support.tracked import clip_record_of, random_windows, write_velocities

Write = Callable[..., Path]


def test_sizes_are_remapped_so_that_equal_motion_gives_equal_labels(
    tmp_path: Path, tiny: Config, write_tracks: Write
) -> None:
    windows = random_windows(tiny, 3, 0, (48, 64))
    for name, scale in [("small", 1), ("large", 2)]:
        with TrackFileWriter(
            tmp_path / f"{name}.hdf5", clip_record_of(tiny), (48 * scale, 64 * scale)
        ) as writer:
            for window in windows:
                writer.append(dataclasses.replace(window, tracks_xy_px=window.tracks_xy_px * scale))
            writer.finish(10, 0)
    data = WindowDataset(load_clips(str(tmp_path), tiny), tiny)
    large, small = data.batch([0, 1, 2]), data.batch([3, 4, 5])
    torch.testing.assert_close(large.inputs.velocities, small.inputs.velocities, atol=1e-5, rtol=0)
    assert (small.inputs.velocities.abs() > 0.2).any()


def test_batches_keep_the_order_asked_for_across_clips(
    tmp_path: Path, tiny: Config, write_tracks: Write
) -> None:
    for seed, name in enumerate("abc"):
        write_tracks(tmp_path / f"{name}.hdf5", 3, seed=seed)
    data = WindowDataset(load_clips(tmp_path, tiny), tiny)
    assert len(data) == 9
    order = [7, 0, 4, 8, 0]
    batch = data.batch(order)
    for row, index in enumerate(order):
        assert torch.equal(batch.inputs.velocities[row], data[index].inputs.velocities)
    assert batch.indices.tolist() == order
    assert data.locate(7) == ("c", 1)


def test_padding_counts_for_nothing(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    write_tracks(tmp_path / "a.hdf5", 2)
    batch = WindowDataset(load_clips(tmp_path, tiny), tiny).batch([PADDING])
    assert batch.indices.tolist() == [PADDING]
    assert not batch.inputs.mask.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_tracks_give_finite_masked_input(
    tmp_path: Path, tiny: Config, write_tracks: Write, bad: float
) -> None:
    path = write_tracks(tmp_path / "a.hdf5", 2)
    clean = WindowDataset(load_clips(tmp_path, tiny), tiny).batch([1]).inputs
    with h5py.File(path, "a") as file:
        file["root/default/tracks"][1, 3, 4, 0] = bad
    inputs = WindowDataset(load_clips(tmp_path, tiny), tiny).batch([1]).inputs
    assert inputs.velocities.isfinite().all()
    assert inputs.finite[0].tolist() == [i != 4 for i in range(9)]
    assert not inputs.mask[0, :, 4].any()
    others = [i for i in range(9) if i != 4]
    assert torch.equal(inputs.velocities[0, :, others], clean.velocities[0, :, others])


def test_both_layouts_give_the_same_input(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    write_tracks(tmp_path / "h" / "sub" / "clip.hdf5", 4)
    write_velocities(tmp_path / "p" / "sub" / "clip.windows.json", tiny, 4)
    names = sorted(path.name for path in (tmp_path / "p" / "sub").iterdir())
    assert names[:2] == ["clip.windows.json", "clip_start000000.pt"]
    assert torch.load(tmp_path / "p/sub/clip_start000006.pt", weights_only=True).shape == (5, 9, 2)
    from_h5, from_pt = (WindowDataset(load_clips(tmp_path / d, tiny), tiny) for d in "hp")
    assert list(from_h5.clips) == list(from_pt.clips) == ["sub/clip"]
    tracks, velocities = (data.batch(range(4)).inputs._asdict() for data in (from_h5, from_pt))
    for name in ("velocities", "labels", "mask", "visibility", "finite"):
        assert torch.equal(tracks[name], velocities[name])
    # Velocities do not say where the points are.
    assert velocities["tracks_rc_norm"].isnan().all()


def test_loader_workers_give_the_same_batches_and_leave_the_random_state_alone(
    tmp_path: Path, tiny: Config, write_tracks: Write
) -> None:
    for number in range(3):
        write_tracks(tmp_path / f"{number}.hdf5", 5, seed=number)
    data = WindowDataset(load_clips(tmp_path, tiny), tiny)
    data.batch([0])  # an open file in the parent must not break the workers
    before = torch.get_rng_state()
    runs = []
    for workers in (0, 2):
        sampler = EpochSampler(len(data), 4, seed=2)
        loader = make_loader(data, sampler, workers, pin_memory=False)
        batches = []
        for epoch in range(2):
            sampler.set_position(epoch)
            batches += list(loader)
        runs.append(batches)
    assert torch.equal(before, torch.get_rng_state())
    assert len(runs[0]) == 8
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.inputs.velocities, b.inputs.velocities)


@pytest.mark.parametrize("model", ["keypoint", "amplify"])
def test_a_training_batch_is_the_same_without_the_truth(tmp_path: Path, model: str) -> None:
    config = config_from_dict(
        {
            "data": {
                "sequence_length": 5, "grid_size": 3, "reference_size": [24, 32],
                "static_filter": {"min_keep": 2},
            },
            "model": {"name": model, "decoder_window_size": 7},
        },
        "test",
    )  # fmt: skip
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["root/default/tracks"] = np.random.default_rng(0).uniform(0, 24, (4, 5, 9, 2)).astype(np.float32)
    clips = load_clips(tmp_path, config)
    full, lean = (WindowDataset(clips, config, truth=truth).batch([2]).inputs for truth in (True, False))
    left_out = {"visibility", "tracks_rc_norm"}
    for name in full._fields:
        wanted, found = getattr(full, name), getattr(lean, name)
        if name in left_out:
            assert found.shape[wanted.ndim - (3 if name == "tracks_rc_norm" else 2)] == 0 < wanted.numel()
            assert found.untyped_storage().nbytes() == 0, "workers send storages whole"
        else:
            assert torch.equal(wanted, found), name


@pytest.mark.parametrize("model", ["keypoint", "amplify"])
@pytest.mark.parametrize("truth", [True, False])
def test_no_tensor_of_a_batch_shares_memory_within_itself(
    tmp_path: Path, write_tracks: Write, model: str, truth: bool
) -> None:
    """Pinning a batch for a GPU writes into a copy of the same strides, which torch refuses."""
    tree = {**TINY, "data": {**TINY["data"], "reference_size": [48, 64]}}
    config = config_from_dict({**tree, "model": {**TINY["model"], "name": model}}, "test")
    write_tracks(tmp_path / "a.hdf5", 5)
    made = WindowDataset({}, config, truth=truth, made_up=MadeUpWindows(config, 8))
    tracked = WindowDataset(load_clips(tmp_path, config), config, truth=truth)
    for data, rows in ((tracked, [0, 3, 1]), (made, EpochWindows([3, 5, 4], epoch=0))):
        for name, tensor in data.batch(rows).inputs._asdict().items():
            if tensor is not None and tensor.numel():
                shared = [n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if not stride]
                assert all(n == 1 for n in shared), name
