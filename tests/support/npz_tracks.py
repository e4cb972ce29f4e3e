"""A track format that the package does not have: one npz file per clip, of positions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.files import atomic_path
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.base import TrackFormat
from amplify_motion_tokenizer.tracks.record import ClipRecord, view_attributes
from amplify_motion_tokenizer.tracks.stored import ViewArrays, WindowPlaces, WindowTimes
from amplify_motion_tokenizer.video.clips import ClipInfo


class NpzWriter:
    """Holds the windows of a clip until it ends."""

    def __init__(self, path: Path, record: ClipRecord, infos: Mapping[str, ClipInfo]) -> None:
        self.path, self.record = path, asdict(record) | {"views": view_attributes(infos)}
        self.windows: list[tuple[WindowTracks, ...]] = []

    def append(self, *views: WindowTracks) -> None:
        self.windows.append(views)

    def finish(self, num_frames: int, windows_dropped: int, num_sizes: int = 1) -> None:
        counts = {"num_frames": num_frames, "windows_dropped": windows_dropped, "num_sizes": num_sizes}
        arrays: dict[str, Any] = {"record": json.dumps(self.record | counts)}
        for number, name in enumerate(self.record["views"]):
            column = [views[number] for views in self.windows]
            arrays[f"{name}/tracks"] = np.stack([window.tracks_xy_px for window in column])
            arrays[f"{name}/vis"] = np.stack([window.visibility for window in column])
            arrays["starts"] = np.array([window.start for window in column])
            arrays["valid_steps"] = np.array([window.valid_steps for window in column])
        with atomic_path(self.path) as temporary:
            np.savez(temporary, **arrays)

    def __enter__(self) -> "NpzWriter":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class NpzClip:
    """A clip of stored positions."""

    stores: Literal["positions"] = "positions"
    frame_size = None
    first_row = 0
    unwritten = 0

    def __init__(self, path: Path, views: Sequence[str] | None) -> None:
        self.path = path
        with np.load(path) as arrays:
            self.attributes: dict[str, Any] = json.loads(str(arrays["record"]))
            there = list(self.attributes["views"])
            self.views = there if views is None or len(there) == len(views) == 1 else list(views)
            shape = arrays[f"{self.views[0]}/vis"].shape
        self.num_windows, self.length, self.num_points = shape
        self.view_attributes = [self.attributes["views"][view] for view in self.views]
        self.sizes: list[tuple[int, int] | None] = [(v["height"], v["width"]) for v in self.view_attributes]
        self.fps: float | None = self.attributes["fps"]
        self.source_fps: float | None = self.attributes["source_fps"]
        self.settings: dict[str, Any] | None = self.attributes["settings"]

    @contextmanager
    def open(self) -> Iterator[Any]:
        with np.load(self.path) as arrays:
            yield arrays

    def read(self, opened: Any, rows: Sequence[int]) -> list[tuple[Any, Any]]:
        return [(opened[f"{view}/tracks"][rows], opened[f"{view}/vis"][rows]) for view in self.views]

    def starts(self, opened: Any) -> Any:
        return opened["starts"]

    def valid_steps(self, opened: Any) -> Any:
        return opened["valid_steps"]

    def places(self, opened: Any) -> WindowPlaces:
        return WindowPlaces.of(opened["starts"], opened["starts"] / self.fps, self.times(opened))

    def times(self, opened: Any) -> WindowTimes:
        return WindowTimes.unknown(self.num_windows, len(self.views), self.length)

    def with_views(self, views: Sequence[str]) -> "NpzClip":
        return NpzClip(self.path, views)

    def check_first_frames(self) -> tuple[int, int]:
        raise TrackFileError(f"{self.path}: holds no first frames")

    def read_first_frames(self, opened: Any, rows: Sequence[int]) -> list[Any]:
        raise TrackFileError(f"{self.path}: holds no first frames")

    def reader(self) -> "NpzReader":
        return NpzReader(self)


class NpzReader:
    """Opens the file for each batch."""

    def __init__(self, clip: NpzClip) -> None:
        self.clip = clip

    def read_into(self, rows: Any, into: Sequence[ViewArrays], places: Any) -> None:
        with self.clip.open() as arrays:
            for view, (tracks, visibility) in zip(into, self.clip.read(arrays, rows), strict=True):
                view.tracks_xy_px[places], view.visibility[places] = tracks, visibility

    def valid_steps(self, rows: Any) -> Any:
        with self.clip.open() as arrays:
            return self.clip.valid_steps(arrays)[rows]

    def first_frames(self, rows: Any) -> list[Any]:
        return self.clip.read_first_frames(None, rows)

    def close(self) -> None:
        pass


class _Npz(TrackFormat):
    name = "npz"
    stores = "positions"
    endings = (".npz",)

    def writer(
        self, target: Path, record: ClipRecord, infos: Mapping[str, ClipInfo], config: Config
    ) -> NpzWriter:
        return NpzWriter(target, record, infos)

    def record(self, target: Path) -> Mapping[str, Any]:
        return self.open(target, None).attributes

    def open(self, target: Path, views: Sequence[str] | None) -> NpzClip:
        return NpzClip(target, views)


FORMAT = _Npz()
