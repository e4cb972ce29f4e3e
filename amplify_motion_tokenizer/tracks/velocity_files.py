"""Velocity files, one per window: the keypoint reproduction's layout, written and read here alone.

``<clip>_start000123.pt`` is a float32 tensor (T - 1, N, 2), (x, y), W-normalised; ``<clip>.windows.json``
beside them is written last and holds what a track file (``stores``) has as attributes.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.file_names import VELOCITY_INDEX_ENDING, velocity_files, velocity_name
from amplify_motion_tokenizer.files import (
    check_target,
    failure_named,
    read_json,
    unpickling_gist,
    write_json,
    write_torch,
)
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.record import ClipRecord


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
        self._clip = path.name.removesuffix(VELOCITY_INDEX_ENDING)
        self._velocities = velocities
        self._starts: list[int] = []
        self._times: list[float] = []
        self._steps_s: list[float | None] = []
        self._source_frames: list[int | None] = []

    def __enter__(self) -> VelocityFilesWriter:
        check_target(self.path.with_name(self._window_name(0)))  # the longest of the names
        check_target(self.path)
        self._folder = self.path.with_name(f".{self._clip}.unfinished")
        shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def append(self, *views: WindowTracks) -> None:
        """Writes one window's file, beside the others in a hidden folder."""
        write_torch(self._folder / self._window_name(views[0].start), self._velocities(*views))
        self._starts.append(views[0].start)
        self._times.append(views[0].time_s)
        self._steps_s.append(views[0].step_seconds)
        self._source_frames.append(views[0].source_frames[0] if views[0].source_frames else None)

    def finish(self, num_frames: int, windows_dropped: int) -> None:
        """Moves the windows to their place, those of an earlier run away, and writes the index last."""
        with failure_named(self.path):
            self.path.unlink(missing_ok=True)
            for stale in velocity_files(self.path.parent).get(self._clip, []):
                stale.unlink()
            for window in self._folder.glob("*.pt") if self._folder.is_dir() else ():
                window.replace(self.path.with_name(window.name))
        counts = {"num_frames": num_frames, "windows_dropped": windows_dropped}
        windows = {
            "start_frame": self._starts,
            "start_time": self._times,
            "step_seconds": self._steps_s,
            "source_frame": self._source_frames,
        }
        write_json(self.path, asdict(self.record) | counts | windows)

    def _window_name(self, start: int) -> str:
        return velocity_name(self._clip, start)


class VelocityFiles:
    """The ``.pt`` windows of one clip, in the order of their start frames."""

    def __init__(self, clip: str, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.path = self.paths[0]
        self.sizes: list[tuple[int, int] | None] = []  # velocities are in units of W already
        self.num_windows, self.first_row = len(self.paths), 0
        first = _load_velocity(self.path)
        self.length, self.num_points = first.shape[0] + 1, first.shape[1]
        index = self.path.with_name(f"{clip}{VELOCITY_INDEX_ENDING}")
        self.settings: dict[str, Any] | None = read_json(index)["settings"] if index.is_file() else None

    def read(self, rows: Sequence[int]) -> Tensor:
        """Windows ``rows``: float32 (R, T - 1, N, 2), (x, y), W-normalised."""
        windows = [_load_velocity(self.paths[row]) for row in rows]
        for row, window in zip(rows, windows, strict=True):
            if window.shape != (self.length - 1, self.num_points, 2):
                raise TrackFileError(
                    f"{self.paths[row]}: shape {tuple(window.shape)}, expected "
                    f"{(self.length - 1, self.num_points, 2)} as in {self.path.name}"
                )
        return torch.stack(windows)


def _load_velocity(path: Path) -> Tensor:
    try:
        window = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        unpickling = isinstance(error, pickle.UnpicklingError)
        reason = unpickling_gist(error) if unpickling else str(error).split("\n")[0]
        raise TrackFileError(f"{path}: cannot be read as a tensor ({reason}); remove or remake it") from None
    if not isinstance(window, Tensor) or window.ndim != 3 or window.shape[-1] != 2:
        found = tuple(window.shape) if isinstance(window, Tensor) else type(window).__name__
        raise TrackFileError(f"{path}: holds {found}, expected one tensor (T - 1, N, 2)")
    # One that asks for gradients cannot leave a loader worker, which would hang.
    return window.detach().float()
