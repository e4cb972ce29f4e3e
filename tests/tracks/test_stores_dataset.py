import dataclasses
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amplify_motion_tokenizer.config import Config, track_settings, velocity_settings
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset, make_loader
from amplify_motion_tokenizer.data.inputs import ViewTracks, from_tracks
from amplify_motion_tokenizer.data.loading import load_clips, split_clips
from amplify_motion_tokenizer.data.sampler import PADDING, EpochSampler
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.tracks.find import find_tracks, is_complete
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile, TrackFileWriter
from amplify_motion_tokenizer.tracks.open_files import MAX_OPEN_FILES
from amplify_motion_tokenizer.tracks.velocity_files import VelocityFilesWriter
from tests.conftest import clip_record_of, random_windows

Write = Callable[..., Path]
SIZE = (48, 64)


def test_track_file_layout_and_round_trip(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    path = write_tracks(tmp_path / "sub" / "clip.hdf5", 5)
    windows = random_windows(tiny, 5, 0, SIZE)
    with h5py.File(path) as file:
        view = file["root/default"]
        assert view["tracks"].shape == (5, 6, 9, 2)
        assert view["tracks"].dtype == np.float32
        assert view["vis"].dtype == np.float32
        assert (view.attrs["height"], view.attrs["width"]) == SIZE
        assert view["start_frame"][:].tolist() == [0, 2, 4, 6, 8]
        np.testing.assert_allclose(view["start_time"][:], [0, 0.2, 0.4, 0.6, 0.8])
        root = file["root"].attrs
        assert (root["fps"], root["source_fps"], root["num_frames"]) == (10.0, 30.0, 14)
        assert root["format_version"] == 1
    track_file = TrackFile(path)
    with track_file.open() as handle:
        [(tracks, visibility)] = track_file.read(handle, [3, 0, 3])
    np.testing.assert_array_equal(tracks[0], windows[3].tracks_xy_px)
    np.testing.assert_array_equal(tracks[1], windows[0].tracks_xy_px)
    np.testing.assert_array_equal(tracks[2], windows[3].tracks_xy_px)
    assert visibility.shape == (3, 6, 9)


def test_interrupted_write_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, tiny: Config) -> None:
    path = tmp_path / "clip.hdf5"
    for attempt in (1, 2):
        with pytest.raises(KeyboardInterrupt), TrackFileWriter(path, clip_record_of(tiny), SIZE) as writer:
            writer.append(random_windows(tiny, 1, 0, SIZE)[0])
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == ([] if attempt == 1 else [path])
        if attempt == 1:
            path.write_bytes(b"old")
    assert path.read_bytes() == b"old"


def test_complete_means_same_settings_and_same_source(tmp_path: Path, tiny: Config) -> None:
    source = tmp_path / "clip.mp4"
    source.write_bytes(b"0123456789")
    record = dataclasses.replace(clip_record_of(tiny), source_bytes=10)
    path = tmp_path / "clip.hdf5"
    assert not is_complete(path, record.settings, source)
    with TrackFileWriter(path, record, SIZE) as writer:
        writer.finish(3, 0)
    assert is_complete(path, record.settings, source)
    assert not is_complete(path, record.settings | {"video.target_fps": 5.0}, source)
    source.write_bytes(b"another video")
    assert not is_complete(path, record.settings, source)
    path.write_bytes(path.read_bytes()[:100])
    assert not is_complete(path, record.settings, source)


@pytest.mark.parametrize(
    "damage",
    ["truncated", "text", "no tracks", "wrong shape", "vis shape", "settings", "height", "root", "flipped"],
)
def test_bad_track_files_are_named(tmp_path: Path, tiny: Config, write_tracks: Write, damage: str) -> None:
    path = write_tracks(tmp_path / "bad.hdf5", 20)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "text":
        path.write_text("not HDF5")
    elif damage == "flipped":
        content = bytearray(path.read_bytes())
        content[512:4608] = bytes(byte ^ 0xFF for byte in content[512:4608])
        path.write_bytes(content)
    elif damage in ("settings", "height", "root"):
        with h5py.File(path, "a") as file:
            if damage == "settings":
                file["root"].attrs["settings"] = "{not json"
            elif damage == "height":
                file["root/default"].attrs["height"] = 0
            else:
                del file["root"]
                file["root"] = np.zeros(3)
    else:
        with h5py.File(path, "a") as file:
            name = "vis" if damage == "vis shape" else "tracks"
            del file[f"root/default/{name}"]
            if damage != "no tracks":
                file[f"root/default/{name}"] = np.zeros((2, 3), np.float32)
    with pytest.raises(TrackFileError, match=r"bad\.hdf5"):
        load_clips(tmp_path, tiny)


def test_track_folder_errors_say_what_was_looked_for(tmp_path: Path, tiny: Config) -> None:
    with pytest.raises(TrackFileError, match=r"does not exist.*preprocess_videos\.py"):
        load_clips(tmp_path / "nowhere", tiny)
    with pytest.raises(TrackFileError, match=r"no track files; looked for \.hdf5 \.h5"):
        load_clips(tmp_path, tiny)


def test_two_files_of_one_clip_are_refused(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    write_tracks(tmp_path / "clip.hdf5", 2)
    write_tracks(tmp_path / "clip.h5", 1)
    with pytest.raises(TrackFileError, match=r"clip\.h5 and clip\.hdf5 are two files of one clip"):
        load_clips(tmp_path, tiny)


def test_windows_of_another_shape_name_the_keys(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    other = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, sequence_length=5, grid_size=4))
    write_tracks(tmp_path / "clip.hdf5", 2, config=other)
    with pytest.raises(TrackFileError, match=r"T = 5 .*N = 16 .*data\.sequence_length\).*data\.grid_size"):
        load_clips(tmp_path, tiny)


def test_files_of_different_settings_are_refused(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    other = dataclasses.replace(tiny, video=dataclasses.replace(tiny.video, target_fps=5.0))
    write_tracks(tmp_path / "a.hdf5", 2)
    write_tracks(tmp_path / "b.hdf5", 2, config=other)
    with pytest.raises(TrackFileError, match=r"different settings \(video\.target_fps"):
        load_clips(tmp_path, tiny)


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
    data = WindowDataset(load_clips(tmp_path, tiny), tiny)
    large, small = data.__getitems__([0, 1, 2]), data.__getitems__([3, 4, 5])
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
    batch = data.__getitems__(order)
    for row, index in enumerate(order):
        assert torch.equal(batch.inputs.velocities[row], data[index].inputs.velocities[0])
    assert batch.indices.tolist() == order
    assert data.locate(7) == ("c", 1)


def test_padding_counts_for_nothing(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    write_tracks(tmp_path / "a.hdf5", 2)
    batch = WindowDataset(load_clips(tmp_path, tiny), tiny).__getitems__([PADDING])
    assert batch.indices.tolist() == [PADDING]
    assert not batch.inputs.mask.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_tracks_give_finite_masked_input(
    tmp_path: Path, tiny: Config, write_tracks: Write, bad: float
) -> None:
    path = write_tracks(tmp_path / "a.hdf5", 2)
    clean = WindowDataset(load_clips(tmp_path, tiny), tiny)[1].inputs
    with h5py.File(path, "a") as file:
        file["root/default/tracks"][1, 3, 4, 0] = bad
    inputs = WindowDataset(load_clips(tmp_path, tiny), tiny)[1].inputs
    assert inputs.velocities.isfinite().all()
    assert inputs.finite[0].tolist() == [i != 4 for i in range(9)]
    assert not inputs.mask[0, :, 4].any()
    others = [i for i in range(9) if i != 4]
    assert torch.equal(inputs.velocities[0, :, others], clean.velocities[0, :, others])


def write_velocities(path: Path, config: Config, count: int) -> None:
    record = dataclasses.replace(
        clip_record_of(config),
        settings=track_settings(config) | velocity_settings(config),
    )

    def velocities(window):  # type: ignore[no-untyped-def]
        tracks, visible = (torch.from_numpy(a)[None] for a in (window.tracks_xy_px, window.visibility))
        return from_tracks([ViewTracks(tracks, visible, SIZE)], config).velocities[0]

    with VelocityFilesWriter(path, record, velocities) as writer:
        for window in random_windows(config, count, 0, SIZE):
            writer.append(window)
        writer.finish(10, 0)


def test_both_layouts_give_the_same_input(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    write_tracks(tmp_path / "h" / "sub" / "clip.hdf5", 4)
    write_velocities(tmp_path / "p" / "sub" / "clip.windows.json", tiny, 4)
    names = sorted(path.name for path in (tmp_path / "p" / "sub").iterdir())
    assert names[:2] == ["clip.windows.json", "clip_start000000.pt"]
    assert torch.load(tmp_path / "p/sub/clip_start000006.pt", weights_only=True).shape == (5, 9, 2)
    from_h5, from_pt = (WindowDataset(load_clips(tmp_path / d, tiny), tiny) for d in "hp")
    assert list(from_h5.clips) == list(from_pt.clips) == ["sub/clip"]
    tracks, velocities = (data.__getitems__(range(4)).inputs._asdict() for data in (from_h5, from_pt))
    for name in ("velocities", "labels", "mask", "visibility", "finite"):
        assert torch.equal(tracks[name], velocities[name])
    # Velocities do not say where the points are.
    assert velocities["tracks_rc_norm"].isnan().all()


def test_velocity_files_of_another_reference_or_window_are_refused(tmp_path: Path, tiny: Config) -> None:
    write_velocities(tmp_path / "clip.windows.json", tiny, 2)
    other = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, decoder_window_size=9))
    with pytest.raises(TrackFileError, match=r"model\.decoder_window_size 7 -> 9"):
        load_clips(tmp_path, other)


def test_a_changed_run_leaves_no_windows_of_the_old_one(tmp_path: Path, tiny: Config) -> None:
    write_velocities(tmp_path / "clip.windows.json", tiny, 5)
    write_velocities(tmp_path / "clip.windows.json", tiny, 2)
    assert len(list(tmp_path.glob("*.pt"))) == 2


def test_both_layouts_in_one_folder_are_refused(tmp_path: Path, tiny: Config, write_tracks: Write) -> None:
    write_tracks(tmp_path / "clip.hdf5", 1)
    write_velocities(tmp_path / "clip.windows.json", tiny, 1)
    with pytest.raises(TrackFileError, match="both"):
        find_tracks(tmp_path)


def test_split_is_by_clip_fixed_by_the_seed_and_never_empty(
    tmp_path: Path, tiny: Config, write_tracks: Write, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(8):
        write_tracks(tmp_path / f"{number}.hdf5", 2, seed=number)
    clips = load_clips(tmp_path, tiny)
    training, validation = split_clips(clips, 0.25, seed=3)
    assert len(validation) == 2
    assert training.keys() | validation.keys() == clips.keys()
    assert not training.keys() & validation.keys()
    assert split_clips(clips, 0.25, seed=3)[1].keys() == validation.keys()
    assert len({frozenset(split_clips(clips, 0.25, seed=seed)[1]) for seed in range(8)}) > 1
    assert len(split_clips(clips, 0.01, seed=0)[1]) == 1
    assert len(split_clips(clips, 0.99, seed=0)[0]) == 1
    assert not split_clips(clips, 0.0, seed=0)[1]
    one = {"only": clips["0"]}
    assert split_clips(one, 0.5, seed=0) == (one, {})
    assert "one clip" in caplog.text


@given(
    windows=st.integers(1, 60),
    batch=st.integers(1, 5),
    accumulation=st.integers(1, 3),
    processes=st.integers(1, 3),
    epoch=st.integers(0, 3),
)
def test_every_window_once_per_epoch_and_steps_alike_on_any_number_of_processes(
    windows: int, batch: int, accumulation: int, processes: int, epoch: int
) -> None:
    def micro_batches(batch: int, accumulation: int, processes: int) -> list[list[list[int]]]:
        samplers = [
            EpochSampler(windows, batch, accumulation=accumulation, rank=rank, processes=processes, seed=5)
            for rank in range(processes)
        ]
        for sampler in samplers:
            sampler.set_position(epoch)
        assert len({len(list(sampler)) for sampler in samplers}) == 1
        return [list(sampler) for sampler in samplers]

    def steps(batch: int, accumulation: int, processes: int) -> list[set[int]]:
        shares = micro_batches(batch, accumulation, processes)
        count = len(shares[0]) // accumulation
        return [
            {
                index
                for share in shares
                for micro in share[step * accumulation : (step + 1) * accumulation]
                for index in micro
                if index != PADDING
            }
            for step in range(count)
        ]

    seen = [i for share in micro_batches(batch, accumulation, processes) for m in share for i in m]
    real = [index for index in seen if index != PADDING]
    assert sorted(real) == list(range(windows))
    assert steps(batch, accumulation, processes) == steps(batch * accumulation * processes, 1, 1)


def test_sampler_goes_on_from_a_step_and_shuffles_by_epoch() -> None:
    sampler = EpochSampler(20, 3, accumulation=2, seed=1)
    whole = list(sampler)
    sampler.set_position(0, first_step=2)
    assert list(sampler) == whole[4:]
    assert len(sampler) == len(whole) - 4
    sampler.set_position(1)
    assert list(sampler) != whole


def test_loader_workers_give_the_same_batches_and_leave_the_random_state_alone(
    tmp_path: Path, tiny: Config, write_tracks: Write
) -> None:
    for number in range(3):
        write_tracks(tmp_path / f"{number}.hdf5", 5, seed=number)
    data = WindowDataset(load_clips(tmp_path, tiny), tiny)
    data.__getitems__([0])  # an open file in the parent must not break the workers
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
    full, lean = (WindowDataset(clips, config, truth=truth)[2].inputs for truth in (True, False))
    left_out = {"visibility", "tracks_rc_norm"}
    for name in full._fields:
        wanted, found = getattr(full, name), getattr(lean, name)
        if name in left_out:
            assert found.shape[wanted.ndim - (3 if name == "tracks_rc_norm" else 2)] == 0 < wanted.numel()
            assert found.untyped_storage().nbytes() == 0, "workers send storages whole"
        else:
            assert torch.equal(wanted, found), name


@pytest.mark.parametrize(("allowed", "most"), [(1024, MAX_OPEN_FILES), (-1, MAX_OPEN_FILES), (256, 32)])
def test_open_files_are_bounded(
    tmp_path: Path,
    tiny: Config,
    write_tracks: Write,
    monkeypatch: pytest.MonkeyPatch,
    allowed: int,
    most: int,
) -> None:
    """Below what the system allows, or a good file seems damaged when no more can be opened."""
    monkeypatch.setattr("os.sysconf", {"SC_OPEN_MAX": allowed}.__getitem__)
    path = write_tracks(tmp_path / "0.hdf5", 1)
    for number in range(1, most + 10):
        (tmp_path / f"{number}.hdf5").write_bytes(path.read_bytes())
    data = WindowDataset(load_clips(tmp_path, tiny), tiny)
    for index in range(len(data)):
        data.__getitems__([index])
    opened = [reader for reader in data._readers._readers.values() if reader._descriptor is not None]
    assert len(opened) == most
    assert data.__getitems__([0]).indices.tolist() == [0]
