"""Tracks as 16-bit whole numbers: the same numbers as in float32, or float32 itself."""

from __future__ import annotations

import dataclasses
import os
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from amplify_motion_tokenizer.commands.convert import main as convert_main
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.config.tracks import Store
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.trackers.rounding import rounded
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile, TrackFileWriter
from amplify_motion_tokenizer.tracks.stored import ViewArrays
from tests.support.tracked import SIZE, clip_record_of, random_windows

STORES: tuple[Store, ...] = ("int16", "gzip", "float32")
COUNT = 40
"""Windows of a clip, more than are written at once."""


def windows_of(config: Config, count: int = COUNT, reach: float = 1.0) -> list[WindowTracks]:
    """Rounded windows that begin on the query grid, whose points move up to 15 ``reach`` pixels."""
    rng = np.random.default_rng(3)
    made = []
    for window in random_windows(config, count, 0, SIZE):
        first = window.tracks_xy_px[:1]
        tracks = first + (window.tracks_xy_px - first) * np.float32(reach)
        seen = rng.random(window.visibility.shape, np.float32)
        made.append(rounded(dataclasses.replace(window, tracks_xy_px=tracks, visibility=seen)))
    return made


def write(path: Path, config: Config, windows: list[WindowTracks], store: Store) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with TrackFileWriter(path, clip_record_of(config), SIZE, store) as writer:
        for window in windows:
            writer.append(window)
        writer.finish(num_frames=2 * len(windows) + 4, windows_dropped=0)
    return path


def read_both_ways(path: Path, straight: bool = True) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All windows, through HDF5 and past it, which must be equal."""
    clip = TrackFile(path)
    rows = np.arange(clip.num_windows)
    with clip.open() as file:
        ((tracks, seen),) = clip.read(file, rows.tolist())
    into = ViewArrays.empty(clip.num_windows, clip.length, clip.num_points)
    reader = clip.reader()
    reader.read_into(rows, [into], rows)
    assert (reader._views is not None) == straight
    np.testing.assert_array_equal(into.tracks_xy_px, tracks)
    np.testing.assert_array_equal(into.visibility, seen)
    return tracks, seen


def check_same(path: Path, windows: list[WindowTracks]) -> None:
    tracks, seen = read_both_ways(path)
    np.testing.assert_array_equal(tracks, np.stack([window.tracks_xy_px for window in windows]))
    np.testing.assert_array_equal(seen, np.stack([window.visibility for window in windows]))


def version_of(path: Path) -> int:
    with h5py.File(path) as file:
        return int(file["root"].attrs["format_version"])


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("reach", [0.0, 1.0, 12.0, 60.0])
def test_every_form_holds_the_same_numbers(tmp_path: Path, tiny: Config, store: Store, reach: float) -> None:
    windows = windows_of(tiny, reach=reach)
    path = write(tmp_path / "a.hdf5", tiny, windows, store)
    check_same(path, windows)
    assert version_of(path) == (1 if store == "float32" else 2)
    with h5py.File(path) as file:
        assert ("tracks" in file["root/default"]) == (store == "float32")
    assert write(tmp_path / "none.hdf5", tiny, [], store).is_file()
    assert TrackFile(tmp_path / "none.hdf5").num_windows == 0


def test_smaller_forms_are_smaller(tmp_path: Path) -> None:
    config = config_from_dict({}, "here")
    windows = windows_of(config, 20, reach=0.05)
    sizes = {
        store: write(tmp_path / f"{store}.hdf5", config, windows, store).stat().st_size for store in STORES
    }
    assert sizes["float32"] > 20 * 16 * 400 * 12  # (x, y) and confidence, 4 bytes each
    assert sizes["int16"] < 0.45 * sizes["float32"]
    assert sizes["gzip"] < 0.9 * sizes["int16"]


def test_lost_points_and_unknown_confidences_are_kept(tmp_path: Path, tiny: Config) -> None:
    windows = windows_of(tiny)
    tracks, seen = windows[7].tracks_xy_px.copy(), windows[7].visibility.copy()
    tracks[2:4, 5] = np.nan
    seen[3] = np.nan
    windows[7] = dataclasses.replace(windows[7], tracks_xy_px=tracks, visibility=seen)
    for store in STORES:
        path = write(tmp_path / f"{store}.hdf5", tiny, windows, store)
        check_same(path, windows)
        assert version_of(path) == (1 if store == "float32" else 2)


def odd_windows() -> dict[str, tuple[int, tuple[int, ...], float]]:
    """Where a window is changed, and to what: (what, place, value)."""
    return {
        "not rounded": (0, (2, 3, 0), 17.123456),
        "another first frame": (0, (0, 3, 0), 40.0),
        "too far": (0, (5, 1, 1), 2000.0),
        "infinite": (0, (4, 1, 1), np.inf),
        "lost at first": (0, (0, 1, 1), np.nan),
        "a confidence between": (1, (3, 3), 0.1234),
        "a confidence below 0": (1, (3, 3), -0.25),
        "a confidence above 1": (1, (3, 3), 1.5),
    }


@pytest.mark.parametrize("at", [0, 15, 16, 33])
@pytest.mark.parametrize("odd", odd_windows())
def test_what_whole_numbers_cannot_hold_makes_the_file_one_of_float32(
    tmp_path: Path, tiny: Config, odd: str, at: int
) -> None:
    windows = windows_of(tiny)
    arrays = [windows[at].tracks_xy_px.copy(), windows[at].visibility.copy()]
    which, place, value = odd_windows()[odd]
    arrays[which][place] = value
    windows[at] = dataclasses.replace(windows[at], tracks_xy_px=arrays[0], visibility=arrays[1])
    path = write(tmp_path / "a.hdf5", tiny, windows, "int16")
    check_same(path, windows)
    assert version_of(path) == 1
    with h5py.File(path) as file:
        names = set(file["root/default"])
        assert {"tracks", "vis"} <= names
        assert not names & {"moves", "queries", "move_px", "confidence"}


def test_training_takes_every_form_alike(tmp_path: Path, tiny: Config) -> None:
    windows, found = windows_of(tiny), []
    for store in STORES:
        write(tmp_path / store / "a.hdf5", tiny, windows, store)
        found.append(WindowDataset(load_clips(tmp_path / store, tiny), tiny).batch([3, 39, 0, 3]).inputs)
    for other in found[1:]:
        assert all(first.equal(second) for first, second in zip(found[0], other, strict=True))


def test_rows_without_windows_read_as_lost(tmp_path: Path, tiny: Config) -> None:
    path = write(tmp_path / "a.hdf5", tiny, windows_of(tiny, 3), "int16")
    with h5py.File(path, "a") as file:
        for data in file["root/default"].values():
            if data.maxshape[0] is None:
                data.resize(5, axis=0)
    tracks, _ = read_both_ways(path, straight=False)
    assert np.isnan(tracks[3:, 1:]).all()
    assert np.isfinite(tracks[:3]).all()
    assert TrackFile(path).unwritten == 2


def damage(name: str, path: Path) -> None:
    with h5py.File(path, "a") as file:
        view = file["root/default"]
        if name in ("queries", "move_px", "confidence"):
            del view[name]
            return
        changed = {
            "type": ("moves", lambda data: data.astype(np.int32)),
            "moves": ("moves", lambda data: data[:, :, :, 0]),
            "points": ("queries", lambda data: data[:3]),
            "length": ("confidence", lambda data: data[:, 1:]),
            "steps": ("move_px", lambda data: data * 3),
            "nan step": ("move_px", lambda data: data * np.nan),
            "nan queries": ("queries", lambda data: data * np.nan),
            "fill": ("moves", lambda data: data),
        }
        data, change = changed[name]
        values = change(view[data][:])
        del view[data]
        view[data] = values


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("queries", "is damaged or of another layout"),
        ("move_px", "is damaged or of another layout"),
        ("confidence", "is damaged or of another layout"),
        ("type", "moves is int32 .*expected int16"),
        ("moves", r"moves has shape .*expected \(starts, T - 1, N, 2\)"),
        ("points", r"queries is float32 \(3, 2\), expected float32 \(9, 2\)"),
        ("length", r"confidence is uint8 \(4, 5, 9\), expected uint8 \(4, 6, 9\)"),
        ("steps", "move_px holds .*expected powers of two"),
        ("nan step", "move_px holds nan px"),
        ("nan queries", "queries are not all finite"),
        ("fill", "that were never written read as 0, expected -32768"),
    ],
)
def test_damage_is_named(tmp_path: Path, tiny: Config, name: str, told: str) -> None:
    path = write(tmp_path / "a.hdf5", tiny, windows_of(tiny, 4), "int16")
    damage(name, path)
    with pytest.raises(TrackFileError, match=rf"a\.hdf5: .*{told}"):
        read_both_ways(path)


def test_a_damaged_row_of_gzip_is_named(tmp_path: Path, tiny: Config) -> None:
    path = write(tmp_path / "a.hdf5", tiny, windows_of(tiny, 4), "gzip")
    clip = TrackFile(path)
    reader = clip.reader()
    into = ViewArrays.empty(4, 6, 9)
    reader.read_into([0], [into], [0])
    assert reader._views is not None
    moves = reader._views[0].moves  # type: ignore[attr-defined]
    start, size = int(moves.starts[2]), int(moves.sizes[2])
    whole = path.read_bytes()
    too_long = zlib.compress(bytes(10**6), 9)[:size].ljust(size, b"\0")
    for content in (b"\xff" * size, whole[start : start + size // 2].ljust(size, b"\0"), too_long):
        path.write_bytes(whole[:start] + content + whole[start + size :])
        with pytest.raises(TrackFileError, match=r"a\.hdf5: (holds a damaged window|is damaged)"):
            TrackFile(path).reader().read_into([2], [into], [0])
    os.truncate(path, start + 4)
    with pytest.raises(TrackFileError, match=r"a\.hdf5: ends within a window"):
        reader.read_into([2], [into], [0])


@pytest.mark.parametrize("skipped", [1, 2, 3])
def test_rows_that_skip_a_filter_are_read(tmp_path: Path, tiny: Config, skipped: int) -> None:
    """HDF5 may leave a filter out of a row, and says so: bit 0 is the shuffle, bit 1 gzip."""
    windows = windows_of(tiny, 12, reach=0.05)
    path = write(tmp_path / "a.hdf5", tiny, windows, "gzip")
    with h5py.File(path, "a") as file:
        moves = file["root/default/moves"]
        content = moves[4].tobytes()
        if not skipped & 1:
            content = content[::2] + content[1::2]
        if not skipped & 2:
            content = zlib.compress(content)
        moves.id.write_direct_chunk((4, 0, 0, 0), content, filter_mask=skipped)
    check_same(path, windows)


def test_amplifys_layout_is_made_of_every_form(
    tmp_path: Path, tiny: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    windows = windows_of(tiny)
    for store in STORES:
        write(tmp_path / "in" / "sub" / f"{store}.hdf5", tiny, windows, store)
    line = [str(tmp_path / "in"), str(tmp_path / "out"), "--to", "amplify"]
    assert convert_main(line) == 0
    assert capsys.readouterr().out == f"wrote the tracks of 3 clips to {tmp_path / 'out'}\n"
    for store in STORES:
        path = tmp_path / "out" / "sub" / f"{store}.hdf5"
        check_same(path, windows)
        with h5py.File(path) as file:
            view = file["root/default"]
            assert (view["tracks"].dtype, view["vis"].dtype) == (np.float32, np.float32)
            np.testing.assert_array_equal(view["tracks"][5], windows[5].tracks_xy_px)
            assert view["start_frame"][:].tolist() == [window.start for window in windows]
            assert not {"moves", "queries"} & set(view)
        assert version_of(path) == 1
        assert TrackFile(path).settings == TrackFile(tmp_path / "in" / "sub" / f"{store}.hdf5").settings
    with pytest.raises(TrackFileError, match="exists, and nothing is overwritten"):
        convert_main(line)
    with pytest.raises(UsageError, match="--to native: is for checkpoints"):
        convert_main([*line[:2], "--to", "native"])
