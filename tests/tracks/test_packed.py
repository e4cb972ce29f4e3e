"""A pack holds what the track files hold, to the stated fraction of a pixel."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amplify_motion_tokenizer.commands.pack import main as pack_main
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation.against_truth import evaluate_tracks
from amplify_motion_tokenizer.evaluation.draw import draw_tracked
from amplify_motion_tokenizer.evaluation.drawn_view import Style
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.tracks.pack_writing import write_pack
from amplify_motion_tokenizer.tracks.packs import LOST, UNSEEN, PackedClip, read_pack
from tests.support.run_scripts import run_process

LENGTH, GRID = 5, 3


def write_tracks(
    path: Path, windows: int, seed: int, views: tuple[str, ...] = ("default",), span: float = 40.0
) -> None:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for view in views:
            group = file.create_group(f"root/{view}")
            group.attrs.update(height=48, width=64)
            start = rng.uniform(0, 48, (windows, 1, GRID**2, 2))
            tracks = start + rng.uniform(-span, span, (windows, LENGTH, GRID**2, 2))
            group["tracks"] = tracks.astype(np.float32)
            group["vis"] = rng.random((windows, LENGTH, GRID**2), np.float32)
            group["first_frames"] = rng.integers(0, 256, (windows, 4, 6, 3), np.uint8)


def read_all(clip: TrackFile | PackedClip) -> list[tuple[np.ndarray, np.ndarray]]:
    with closing(clip.open()) as file:
        return clip.read(file, range(clip.num_windows))


def pack(folder: Path, output: Path) -> dict[str, object]:
    clips = {
        name: clip for name, clip in find_tracks(folder, views=None).items() if isinstance(clip, TrackFile)
    }
    return write_pack(clips, output)


def small_config(model: str = "keypoint", **masks: float) -> Config:
    data = {
        "sequence_length": LENGTH, "grid_size": GRID, "reference_size": [48, 64],
        "static_filter": {"min_keep": 2}, **masks,
    }  # fmt: skip
    return config_from_dict({"data": data, "model": {"name": model, "decoder_window_size": 7}}, "test")


def test_tracks_visibility_and_frames_come_back(tmp_path: Path) -> None:
    views = ("left", "right")
    write_tracks(tmp_path / "in/a.hdf5", 3, 0, views)
    write_tracks(tmp_path / "in/sub/b.hdf5", 2, 1, views, span=100.0)
    index = pack(tmp_path / "in", tmp_path / "out")
    # 80 and 200 px in 16 bits.
    assert [clip["max_error_px"] for clip in index["clips"]] == [0.5 / 256, 0.5 / 128]
    assert index["max_error_px"] == 0.5 / 128
    packed = read_pack(tmp_path / "out", ("right", "left"))
    assert list(packed) == ["a", "sub/b"] and [clip.num_windows for clip in packed.values()] == [3, 2]
    for name, clip in packed.items():
        source = TrackFile(tmp_path / f"in/{name}.hdf5", ("right", "left"))
        assert clip.sizes == source.sizes == [(48, 64)] * 2
        rows = list(range(clip.num_windows))[::-1]
        with source.open() as file:
            expected, frames = source.read(file, rows), source.read_first_frames(file, rows)
        found = clip.read(clip.open(), rows)
        for (tracks, seen), (true_tracks, true_seen) in zip(found, expected, strict=True):
            assert np.abs(tracks - true_tracks).max() <= 0.5 / 128 + 1e-4
            assert (seen <= true_seen).all() and (true_seen - seen).max() < 1 / 200
            assert np.array_equal(tracks[:, 0], true_tracks[:, 0])
        for mine, theirs in zip(clip.read_first_frames(clip.open(), rows), frames, strict=True):
            assert np.array_equal(mine, theirs)


def test_a_pack_says_when_the_frames_of_its_windows_are(tmp_path: Path) -> None:
    for name, windows, views in (("a", 3, ("left", "right")), ("b", 2, ("left", "right"))):
        write_tracks(tmp_path / f"in/{name}.hdf5", windows, windows, views)
    frames = np.arange(3 * LENGTH).reshape(3, LENGTH)
    with h5py.File(tmp_path / "in/a.hdf5", "a") as file:
        for shift, view in enumerate(("left", "right")):
            file[f"root/{view}/source_frame"] = 100 * shift + frames
            file[f"root/{view}/step_seconds"] = [0.1, 0.2, np.nan]
    assert pack(tmp_path / "in", tmp_path / "out")["timed"] is True
    first, second = read_pack(tmp_path / "out", ("right", "left")).values()
    times = first.times(first.open())
    assert times.source_frame[:, 0].tolist() == (100 + frames).tolist()
    assert times.source_frame[:, 1].tolist() == frames.tolist()
    np.testing.assert_array_equal(times.step_seconds, np.repeat([[0.1], [0.2], [np.nan]], 2, axis=1))
    nothing = second.times(second.open())
    assert (nothing.source_frame == -1).all() and nothing.source_frame.shape == (2, 2, LENGTH)
    assert np.isnan(nothing.step_seconds).all()
    np.save(tmp_path / "out/source_frame.npy", np.zeros((5, 2, LENGTH), np.int32))
    with pytest.raises(TrackFileError, match=r"source_frame\.npy: is int32 .*, expected int64 .*pack the"):
        read_pack(tmp_path / "out", None)


def test_packs_of_before_do_not_say_it(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 3, 0)
    assert pack(tmp_path / "in", tmp_path / "out")["timed"] is False
    assert not (tmp_path / "out/source_frame.npy").exists()
    index = json.loads((tmp_path / "out/pack.json").read_text())
    del index["timed"]
    (tmp_path / "out/pack.json").write_text(json.dumps(index))
    (clip,) = read_pack(tmp_path / "out", None).values()
    assert (clip.times(clip.open()).source_frame == -1).all()
    with h5py.File(tmp_path / "in/a.hdf5", "a") as file:
        file["root/default/step_seconds"] = np.zeros(4)
    with pytest.raises(
        TrackFileError, match=r"a\.hdf5: .*step_seconds is float64 \(4,\), expected float64 \(3,\)"
    ):
        pack(tmp_path / "in", tmp_path / "again")


@settings(max_examples=25, deadline=None)
@given(span=st.floats(0.0, 4000.0), seed=st.integers(0, 1000))
def test_no_displacement_is_further_off_than_stated(
    tmp_path_factory: pytest.TempPathFactory, span: float, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("pack")
    write_tracks(folder / "in/a.hdf5", 2, seed, span=span)
    index = pack(folder / "in", folder / "out")
    (clip,) = read_pack(folder / "out", ("default",)).values()
    source = TrackFile(folder / "in/a.hdf5")
    moved = [tracks - tracks[:, :1] for tracks, _ in (clip.read(clip.open(), [0, 1])[0], read_all(source)[0])]
    assert np.abs(moved[0] - moved[1]).max() <= index["max_error_px"] + 1e-3


def test_a_stray_point_spoils_its_own_track_alone_and_its_clip_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_tracks(tmp_path / "in/good.hdf5", 2, 0)
    write_tracks(tmp_path / "in/stray.hdf5", 3, 1)
    with h5py.File(tmp_path / "in/stray.hdf5", "r+") as file:
        file["root/default/tracks"][1, 3, 4, 0] = 1e6
    with caplog.at_level(logging.WARNING):
        index = pack(tmp_path / "in", tmp_path / "out")
    (message,) = caplog.messages
    assert "1 of 2 clips" in message and "stray (up to 16 px)" in message and "good" not in message
    assert {clip["name"]: clip["max_error_px"] for clip in index["clips"]} == {"good": 0.5 / 256, "stray": 16}
    assert index["max_error_px"] == 16
    packed = read_pack(tmp_path / "out", ("default",))
    for name, clip in packed.items():
        off = np.abs(read_all(clip)[0][0] - read_all(TrackFile(tmp_path / f"in/{name}.hdf5"))[0][0])
        if name == "stray":
            assert off[1, :, 4].max() <= 16.1  # float32 holds 1e6 to 0.06
            off[1, :, 4] = 0
        assert off.max() <= 0.5 / 256 + 1e-5


@pytest.mark.filterwarnings("error")
def test_lost_positions_are_lost(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 3, 0)
    with h5py.File(tmp_path / "in/a.hdf5", "r+") as file:
        tracks = file["root/default/tracks"][:]
        tracks[0, 0, 2] = tracks[0, 2, 4] = tracks[0, -1, 5] = np.nan
        tracks[1, 0, 5, 0], tracks[1, 1, 5, 0], tracks[1, 3, 6, 1] = np.inf, -np.inf, 3e38
        tracks[2, :, 0] = np.nan
        file["root/default/tracks"][:] = tracks
    index = pack(tmp_path / "in", tmp_path / "out")
    (clip,) = read_pack(tmp_path / "out", ("default",)).values()
    found, _ = read_all(clip)[0]
    tracks[~np.isfinite(tracks) | (tracks == np.float32(3e38))] = np.nan
    np.testing.assert_allclose(found, tracks, rtol=0, atol=index["max_error_px"] + 1e-4, equal_nan=True)
    lost = np.load(tmp_path / "out/displacements.npy")[:, 0] == LOST
    assert np.array_equal(lost, np.isnan(tracks))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model", ["keypoint", "amplify"])
@pytest.mark.parametrize("min_visibility", [0.0, 0.6])
def test_training_knows_the_same_of_lost_points_from_a_pack(
    tmp_path: Path, model: str, min_visibility: float
) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 4, 0)
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "in/a.hdf5", "r+") as file:
        # Whole units, which come back exactly: what differs then does so for the lost points.
        tracks = np.round(file["root/default/tracks"][:] * 256) / 256
        for window, frame in enumerate((0, LENGTH // 2, LENGTH - 1)):
            tracks[window, frame, [1, 5]] = np.nan
            tracks[window, frame, 7, 1] = np.inf
        file["root/default/tracks"][:] = tracks
        seen = rng.uniform(0.5, 1.0, file["root/default/vis"].shape)
        seen[:, 1, 3], seen[:, 2, 2], seen[:, 0, 6], seen[:, 3, 8] = np.nan, np.inf, -np.inf, -0.25
        file["root/default/vis"][:] = seen
    config = small_config(model, min_visibility=min_visibility, min_visible_share=0.0)
    pack(tmp_path / "in", tmp_path / "out")
    expected, found = (
        WindowDataset(load_clips(tmp_path / part, config), config).batch(range(4)).inputs
        for part in ("in", "out")
    )
    assert not expected.finite.all() and expected.mask.any() and not expected.mask.all()
    for fact in ("finite", "mask", "labels", "velocities"):
        assert torch.equal(getattr(found, fact), getattr(expected, fact)), fact
    truths = (inputs.tracks_rc_norm.movedim(-3, -2)[expected.finite] for inputs in (found, expected))
    assert torch.equal(*truths)


@pytest.mark.filterwarnings("error")
def test_confidences_stay_on_their_side(tmp_path: Path) -> None:
    path = tmp_path / "in/a.hdf5"
    thresholds = [round(0.005 * level, 3) for level in range(201)]
    exact = np.array(thresholds, np.float32)
    finely = np.linspace(0, 1, 10_001, dtype=np.float32)
    odd = np.array([np.nan, -np.inf, -1e-7, 1.5, np.inf], np.float32)
    values = np.concatenate([finely, exact, np.nextafter(exact, 0), np.nextafter(exact, 2), odd])
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["root/default/tracks"] = np.zeros((1, 2, len(values), 2), np.float32)
        file["root/default/vis"] = np.stack([values, values])[None]
    pack(tmp_path / "in", tmp_path / "out")
    (clip,) = read_pack(tmp_path / "out", ("default",)).values()
    found = read_all(clip)[0][1][0, 0]
    for threshold in thresholds:
        assert np.array_equal(found >= np.float32(threshold), values >= np.float32(threshold)), threshold
    stored = np.load(tmp_path / "out/visibility.npy")[0, 0, 0]
    assert stored[-5:].tolist() == [UNSEEN, UNSEEN, UNSEEN, 200, 200]


def test_training_reads_a_pack_as_it_reads_the_files(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 5, 0, span=3.0)
    write_tracks(tmp_path / "in/b.hdf5", 4, 1, span=3.0)
    pack(tmp_path / "in", tmp_path / "out")
    config = small_config()
    plain, packed = (WindowDataset(load_clips(tmp_path / part, config), config) for part in ("in", "out"))
    assert len(plain) == len(packed) == 9
    order = [8, 0, 5, 3, -1]
    expected, found = plain.batch(order), packed.batch(order)
    assert torch.equal(expected.indices, found.indices)
    assert torch.equal(expected.inputs.mask, found.inputs.mask)
    torch.testing.assert_close(expected.inputs.velocities, found.inputs.velocities, rtol=0, atol=0.01)
    assert (expected.inputs.labels != found.inputs.labels).float().mean() < 0.02


def test_a_pack_of_other_things_is_refused(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 1, 0, ("left",))
    write_tracks(tmp_path / "in/b.hdf5", 1, 0, ("right",))
    with pytest.raises(TrackFileError, match=r"b.hdf5: views is \['/root/right'\], and \['/root/left'\]"):
        pack(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "in/b.hdf5").unlink()
    pack(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UsageError, match="exists"):
        pack(tmp_path / "in", tmp_path / "out")
    with pytest.raises(TrackFileError, match="lacks the view top; it holds left"):
        read_pack(tmp_path / "out", ("top", "left"))


def test_what_takes_track_files_says_what_a_pack_is(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 1, 0)
    pack(tmp_path / "in", tmp_path / "out")
    told = r"out is a pack, which only train\.py and inspect read; give the folder of track files"
    with pytest.raises(TrackFileError, match=told):
        find_tracks(tmp_path / "out")
    with pytest.raises(TrackFileError, match=told):
        evaluate_tracks(tmp_path / "out", tmp_path / "in")
    with pytest.raises(TrackFileError, match=told):
        draw_tracked(tmp_path / "out", tmp_path, tmp_path / "drawn", Style())
    with pytest.raises(TrackFileError, match=told):
        pack_main(["--input", str(tmp_path / "out"), "--output", str(tmp_path / "again")])


def test_another_pack_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    """As where tracks are packed again while a run trains: its rows would be those of other clips."""
    write_tracks(tmp_path / "in/a.hdf5", 2, 0)
    write_tracks(tmp_path / "in/b.hdf5", 2, 1)
    pack(tmp_path / "in", tmp_path / "out")
    data = WindowDataset(load_clips(tmp_path / "out", small_config()), small_config())
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "in/a.hdf5").rename(tmp_path / "in/c.hdf5")
    pack(tmp_path / "in", tmp_path / "out")
    with pytest.raises(TrackFileError, match="out: has changed since it was first opened; run the command"):
        data.stored(np.arange(4))


def test_damage_is_named(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 1, 0)
    pack(tmp_path / "in", tmp_path / "out")
    (clip,) = read_pack(tmp_path / "out", ("default",)).values()
    (tmp_path / "out/visibility.npy").write_bytes(b"short")
    with pytest.raises(TrackFileError, match="out: is damaged"):
        clip.open()
    with (tmp_path / "out/visibility.npy").open("wb") as file:
        np.savez(file, visibility=np.zeros(3))
    with pytest.raises(
        TrackFileError, match=r"visibility.npy: is an archive of arrays\); pack the track files"
    ):
        read_pack(tmp_path / "out", ("default",))
    index = json.loads((tmp_path / "out/pack.json").read_text())
    (tmp_path / "out/pack.json").write_text(json.dumps(index | {"format_version": 9}))
    with pytest.raises(TrackFileError, match="format version 9, expected 2"):
        read_pack(tmp_path / "out", ("default",))
    (tmp_path / "out/pack.json").write_text(json.dumps(index | {"format_version": 1}))
    with pytest.raises(TrackFileError, match="format version 1, expected 2; pack the track files again"):
        read_pack(tmp_path / "out", ("default",))


def test_the_command(tmp_path: Path) -> None:
    write_tracks(tmp_path / "in/a.hdf5", 2, 0)
    with h5py.File(tmp_path / "in/a.hdf5", "r+") as file:
        file["root/default/tracks"][1, 3, 4] = 1e4
        file["root/default/tracks"][0, 0, 0] = np.nan
    line = [sys.executable, "-m", "amplify_motion_tokenizer", "pack"]
    done = run_process(*line, "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert done.status == 0, done.err
    assert "packed 2 windows of 1 clips" in done.out and "at most 0.25 px" in done.out
    assert "WARNING: 1 of 1 clips" in done.err and "a (up to 0.25 px)" in done.err
