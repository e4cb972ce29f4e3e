"""Velocity files, one per window: the keypoint reproduction's layout, written and read here alone.

``<clip>_start000123.pt`` is a float32 tensor (T - 1, N, 2), (x, y), W-normalised; ``<clip>.windows.json``
beside them is written last and holds what an HDF5 track file has as attributes.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.config import Config, track_settings, velocity_settings
from amplify_motion_tokenizer.config.gone import settings_now
from amplify_motion_tokenizer.config.input_kinds import names_with
from amplify_motion_tokenizer.damaged_files import DamagedError, load_torch
from amplify_motion_tokenizer.errors import ConfigError, TrackFileError, UsageError
from amplify_motion_tokenizer.files import (
    UNFINISHED,
    check_target,
    failure_named,
    read_json,
    unfinished_folder,
    unpickling_gist,
    write_json,
    write_torch,
)
from amplify_motion_tokenizer.geometry import tracks_to_velocities
from amplify_motion_tokenizer.kinds import (
    ABOVE_0,
    FINITE,
    MAPPING,
    Kind,
    check_kinds,
    list_of,
    or_none,
    whole_from,
)
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.base import OpenClip, TrackFormat
from amplify_motion_tokenizer.tracks.record import RECORD_KINDS, ClipRecord, check_version
from amplify_motion_tokenizer.tracks.stored import FoundClip, WindowPlaces, WindowTimes
from amplify_motion_tokenizer.video.clips import ClipInfo
from amplify_motion_tokenizer.video.sources import model_views

_INDEX_ENDING = ".windows.json"
_WINDOW_NAME = re.compile(r"(?P<clip>.+)_start(?P<start>\d{1,18})\.pt", re.DOTALL)


_MOVING = 0
"""Version of an index whose windows are being moved to their place, which none of the readers takes."""
_PLACES: dict[str, Kind] = {
    "start_frame": list_of(whole_from(0)),
    "start_time": list_of(FINITE),
    "step_seconds": list_of(or_none(ABOVE_0)),
    "source_frame": list_of(or_none(whole_from(0))),
}
"""The columns of the index, which tell where windows are."""


class VelocityFilesWriter:
    """Writes one clip as a ``.pt`` file per window, and its ``.windows.json`` last.

    Args:
        path: ``<folder>/<clip>.windows.json``.
        record: what the index says of the clip.
        velocities: turns a window's tracks, in each view, into (T - 1, N, 2) W-normalised velocities.
    """

    def __init__(self, path: Path, record: ClipRecord, velocities: Callable[..., Tensor]) -> None:
        self.path = path
        self.record = record
        self._clip = path.name.removesuffix(_INDEX_ENDING)
        self._velocities = velocities
        self._starts: list[int] = []
        self._times: list[float] = []
        self._steps_s: list[float | None] = []
        self._source_frames: list[int | None] = []
        self._stack = ExitStack()

    def __enter__(self) -> VelocityFilesWriter:
        check_target(self.path.with_name(self._window_name(0)))  # the longest of the names
        check_target(self.path)
        self._folder = self._stack.enter_context(unfinished_folder(self.path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def append(self, *views: WindowTracks) -> None:
        """Writes one window's file, beside the others in a hidden folder."""
        write_torch(self._folder / self._window_name(views[0].start), self._velocities(*views))
        self._starts.append(views[0].start)
        self._times.append(views[0].time_s)
        self._steps_s.append(views[0].step_seconds)
        self._source_frames.append(views[0].source_frames[0] if views[0].source_frames else None)

    def finish(self, num_frames: int, windows_dropped: int, num_sizes: int = 1) -> None:
        """Moves the windows to their place, removes an earlier run's, and writes the index last."""
        before = _windows_told(self.path)
        # Whoever is killed from here on leaves an index that no reader takes, and the next run can clear up.
        write_json(self.path, {"format_version": _MOVING, "start_frame": sorted({*before, *self._starts})})
        with failure_named(self.path):
            _remove_windows(self.path)
            for window in self._folder.glob("*.pt") if self._folder.is_dir() else ():
                window.replace(self.path.with_name(window.name))
        counts = {"num_frames": num_frames, "windows_dropped": windows_dropped, "num_sizes": num_sizes}
        windows = {
            "start_frame": self._starts,
            "start_time": self._times,
            "step_seconds": self._steps_s,
            "source_frame": self._source_frames,
        }
        write_json(self.path, asdict(self.record) | counts | windows)

    def _window_name(self, start: int) -> str:
        return _window_name(self._clip, start)


class VelocityFiles:
    """The ``.pt`` windows of one clip, in the order of their start frames.

    Args:
        clip: its name, without folders.
        paths: its windows.

    Raises:
        TrackFileError: the first window cannot be read, or the index is of another version.
    """

    stores: Literal["velocities"] = "velocities"

    def __init__(self, clip: str, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.path = self.paths[0]
        self.sizes: list[tuple[int, int] | None] = []  # velocities are in units of W already
        self.num_windows, self.first_row = len(self.paths), 0
        first = _load_velocity(self.path)
        self.length, self.num_points = first.shape[0] + 1, first.shape[1]
        index = self.path.with_name(f"{clip}{_INDEX_ENDING}")
        record = _read_index(index) if index.is_file() else {}
        made = record.get("settings")
        self.settings: dict[str, Any] | None = None if made is None else settings_now(made, str(index))
        self.fps: float | None = record.get("fps")
        self._index, self._record = index, record

    def places(self) -> WindowPlaces:
        """Where in the clip its windows are: their starts by name, the rest as the index tells."""
        names = (_WINDOW_NAME.fullmatch(path.name) for path in self.paths)
        starts = np.array([int(match["start"]) for match in names if match], np.int64)
        even = starts * np.float64(np.nan if self.fps is None else 1 / self.fps)
        places = WindowPlaces.of(starts, even, WindowTimes.unknown(len(starts), 1, self.length))
        if not self._record:
            return places
        found = {name: self._record[name] for name in _PLACES if name in self._record}
        if found.get("start_frame") != starts.tolist() or len({len(column) for column in found.values()}) > 1:
            raise TrackFileError(
                f"{self._index}: tells of other windows than the {len(starts)} files beside it; preprocess "
                "the clip again"
            )
        if "start_time" in found:
            places = places._replace(start_seconds=np.array(found["start_time"], np.float64))
        if "step_seconds" in found:
            places = places._replace(step_seconds=np.array(found["step_seconds"], np.float64))
        if "source_frame" in found:
            known = [[-1 if frame is None else frame, -1] for frame in found["source_frame"]]
            places = places._replace(source_frames=np.array(known, np.int64).reshape(-1, 2))
        return places

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Windows ``rows``: float32 (R, T - 1, N, 2), (x, y), W-normalised."""
        windows = [_load_velocity(self.paths[row]) for row in rows]
        for row, window in zip(rows, windows, strict=True):
            if window.shape != (self.length - 1, self.num_points, 2):
                raise TrackFileError(
                    f"{self.paths[row]}: has shape {tuple(window.shape)}, expected "
                    f"{(self.length - 1, self.num_points, 2)} as in {self.path.name}; "
                    "preprocess the clip again"
                )
        return torch.stack(windows)


def _read_index(path: Path) -> dict[str, Any]:
    """What ``path`` says of a clip's windows, all of its kind; raises TrackFileError where it is not."""
    try:
        record = read_json(path)
    except UsageError as error:
        raise TrackFileError(str(error)) from None
    check_version(record, path)
    check_kinds(str(path), record, {**RECORD_KINDS, **_PLACES, "settings": or_none(MAPPING)}, TrackFileError)
    return record


def _load_velocity(path: Path) -> Tensor:
    try:
        window = load_torch(path)
    except (OSError, DamagedError, pickle.UnpicklingError) as error:
        unpickling = isinstance(error, pickle.UnpicklingError)
        reason = unpickling_gist(error) if unpickling else str(error).split("\n")[0]
        raise TrackFileError(f"{path}: cannot be read as a tensor ({reason}); remove or remake it") from None
    if isinstance(window, Tensor) and not _is_plain(window):
        what = f"{window.dtype}, {window.layout}, {window.device}"
        raise TrackFileError(f"{path}: holds no plain numbers ({what}); remove or remake it")
    if not isinstance(window, Tensor) or window.ndim != 3 or window.shape[-1] != 2:
        found = tuple(window.shape) if isinstance(window, Tensor) else type(window).__name__
        raise TrackFileError(f"{path}: holds {found}, expected one tensor (T - 1, N, 2); remove or remake it")
    # One that asks for gradients cannot leave a loader worker, which would hang.
    return window.detach().float()


def _is_plain(window: Tensor) -> bool:
    """Whether a tensor holds a real number for each of its places, in memory that the file filled."""
    if window.layout != torch.strided or window.is_quantized or window.is_meta or window.is_complex():
        return False
    return window.untyped_storage().nbytes() >= window.numel() * window.element_size()


def _window_name(clip: str, start: int) -> str:
    """File name of the velocities of the window of ``clip`` that starts at frame ``start``."""
    return f"{clip}_start{start:06d}.pt"


def _windows_in(folder: Path) -> dict[str, list[Path]]:
    """The window files directly in ``folder``, by clip, each in the order of start frames."""
    clips: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.glob("*.pt"):
        match = _WINDOW_NAME.fullmatch(path.name)
        if match:
            clips.setdefault(match["clip"], []).append((int(match["start"]), path))
    return {clip: [path for _, path in sorted(found)] for clip, found in sorted(clips.items())}


def _remove_windows(index: Path) -> None:
    """Removes the window files of the clip whose index is, or would be, ``index``."""
    clip = index.name.removesuffix(_INDEX_ENDING)
    for start in _windows_told(index):
        index.with_name(_window_name(clip, start)).unlink(missing_ok=True)


def _windows_told(index: Path) -> list[int]:
    """The starts of the windows that ``index`` lists, or where it is damaged the names in its folder."""
    if not index.exists():
        return []  # to look through the folder for each new clip would take longer with each
    try:
        starts = read_json(index).get("start_frame")
    except UsageError:
        starts = None
    if starts is not None and _PLACES["start_frame"][0](starts):
        return list(starts)
    named = _windows_in(index.parent).get(index.name.removesuffix(_INDEX_ENDING), [])
    return [int(match["start"]) for path in named if (match := _WINDOW_NAME.fullmatch(path.name))]


class _VelocityFormat(TrackFormat):
    """The keypoint reproduction's layout."""

    name = "pt"
    stores = "velocities"
    endings = (_INDEX_ENDING,)
    looked_for = "<clip>_start<n>.pt"

    def views(self, source: Path | str, config: Config) -> list[str]:
        if not config.input_kind.velocity_files:
            raise ConfigError(
                f"velocity files suit model.name {names_with('velocity_files')} alone, not "
                f"{config.model.name}; use hdf5"
            )
        if config.tracking.first_frames is not None:
            raise ConfigError("velocity files hold no frames; use hdf5, or tracking.first_frames: null")
        if config.tracking.pads_end:
            raise ConfigError(
                "velocity files do not say which steps are real; use hdf5, or tracking.pad_end: none"
            )
        if config.tracked_length != config.data.sequence_length:
            raise ConfigError(
                "velocity files hold no positions, which alone can be resampled in time; use hdf5, or "
                "data.true_horizon: null"
            )
        if config.data.camera != "keep":
            raise ConfigError(
                "velocity files hold no positions, out of which alone the camera's motion can be taken; use "
                "hdf5, or data.camera: keep"
            )
        return model_views(source, config)

    def settings(self, config: Config) -> dict[str, Any]:
        # Velocities on disk are already remapped and W-normalised, of one view, so these decide them too.
        return track_settings(config) | velocity_settings(config) | {"data.views": list(config.data.views)}

    def writer(
        self, target: Path, record: ClipRecord, infos: Mapping[str, ClipInfo], config: Config
    ) -> VelocityFilesWriter:
        (info,) = infos.values()

        def velocities(window: WindowTracks) -> Tensor:
            tracks_xy_px, width = torch.from_numpy(window.tracks_xy_px), config.model.decoder_window_size
            return tracks_to_velocities(tracks_xy_px, info.size, config.data.reference_size, width)

        return VelocityFilesWriter(target, record, velocities)

    def record(self, target: Path) -> Mapping[str, Any]:
        return _read_index(target)

    def open(self, target: Path, views: Sequence[str] | None) -> VelocityFiles:
        clip = target.name.removesuffix(_INDEX_ENDING)
        paths = _windows_in(target.parent).get(clip)
        if not paths:
            raise TrackFileError(f"{target}: has no windows beside it; preprocess the clip again")
        return VelocityFiles(clip, paths)

    def whole_record(self, target: Path) -> Mapping[str, Any]:
        clip, record = target.name.removesuffix(_INDEX_ENDING), self.record(target)
        windows = [target.with_name(_window_name(clip, start)) for start in record.get("start_frame", [])]
        missing = next((path for path in windows if not path.is_file()), None)
        if missing is not None:
            raise TrackFileError(f"{missing}: is missing; preprocess the clip again")
        return record

    def remove(self, target: Path) -> None:
        _remove_windows(target)
        super().remove(target)

    def find(self, folder: Path) -> dict[str, OpenClip[FoundClip]]:
        """By the windows, as other writers' have no index."""
        parents = {path.parent for path in folder.rglob("*_start*.pt")}
        return {
            (parent.relative_to(folder) / clip).as_posix(): OpenClip(
                tuple(paths), partial(_opened, clip, paths)
            )
            for parent in sorted(parents)
            if not parent.name.endswith(UNFINISHED)
            for clip, paths in _windows_in(parent).items()
        }


def _opened(clip: str, paths: Sequence[Path], _views: Sequence[str] | None) -> VelocityFiles:
    """They hold one view, whatever its name."""
    return VelocityFiles(clip, paths)


FORMAT = _VelocityFormat()
