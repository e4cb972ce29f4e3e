"""Track files in HDF5: AMPLIFY's layout with sizes and times added, written and read here alone.

One file per clip, in AMPLIFY's layout (S window starts, T frames, N points)::

    root                     attributes: format_version, settings (JSON), config_hash, tracker,
                             reader, fps, source_fps, source_height, source_width, source_name,
                             source_bytes, source_fingerprint, num_frames, windows_dropped, num_sizes
                             (``clip_files``: files that the clip has; 0 in all but its own)
    root/<view>              attributes: height, width of the frames that were tracked, padding included;
                             scale (x, y), pad (top, left) of the upright source frame in square pixels;
                             source_size (height, width) of that frame; pixel_aspect, width over height of
                             its stored pixels
    root/<view>/tracks       float32 (S, T, N, 2), (x, y) pixels of the tracked frames
    root/<view>/vis          float32 (S, T, N), confidence 0..1; in files of format version 2
                             ``hdf5_int16`` says what a view may have in the place of these two
    root/<view>/start_frame  int64 (S,), index among the tracked frames
    root/<view>/start_time   float64 (S,), seconds since the clip's first frame
    root/<view>/step_seconds float64 (S,), mean seconds from one of its frames to the next; NaN: not known
    root/<view>/source_frame int64 (S, T), index of each frame among those that the source decodes to; -1:
                             not known
    root/<view>/valid_steps  int64 (S,), how many of the T - 1 steps are real: frames after them repeat the
                             last one (tracking.pad_end); in files without it all are
    root/<view>/first_frames uint8 (S, h, w, 3), RGB, each window's first frame, small and padding included
                             (``pixels.small_frame``); only with tracking.first_frames
    root/<view>/camera       float64 (S, T, 3, 3), maps of (x, y, 1) in pixels by which the background moves
                             from a window's first frame to each; only in the truth of rendered clips

``velocity_files`` has the other layout, a file per window.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.tracks import Store
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.file_names import TRACK_INDEX
from amplify_motion_tokenizer.files import atomic_path
from amplify_motion_tokenizer.kinds import require_kinds
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.base import TrackFormat
from amplify_motion_tokenizer.tracks.hdf5_appending import ViewRows
from amplify_motion_tokenizer.tracks.hdf5_facts import FACTS, plain_attributes, settings_of
from amplify_motion_tokenizer.tracks.hdf5_groups import (
    damage_named,
    first_frame_size,
    gather,
    open_for_texts,
    open_hdf5,
    read_view,
    tracked_size,
    valid_steps,
    view_groups,
    window_data,
    window_shape,
    window_starts,
    window_times,
)
from amplify_motion_tokenizer.tracks.hdf5_rows import TrackReader
from amplify_motion_tokenizer.tracks.hdf5_written import WrittenFile
from amplify_motion_tokenizer.tracks.record import (
    FORMAT_VERSION,
    ClipRecord,
    Frames,
    check_facts,
    check_version,
    view_attributes,
)
from amplify_motion_tokenizer.tracks.stored import WindowPlaces, WindowTimes
from amplify_motion_tokenizer.tracks.unwritten import count_unwritten
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW, ClipInfo

INT16_VERSION = 2
"""Format version of files with a view in the form of ``hdf5_int16``, which older readers do not know."""
VERSIONS = (FORMAT_VERSION, INT16_VERSION)


class TrackFileWriter:
    """Writes one clip's HDF5 file; see the module's docstring for the layout.

    Args:
        path: the final file, replaced only when the ``with`` block ends without an error.
        record: what the file says of how it was made.
        frames: what is known of each view's frames.
        store: form of the tracks (``tracking.store``); a view that int16 cannot hold exactly is float32.
    """

    def __init__(self, path: Path, record: ClipRecord, frames: Frames, store: Store = "float32") -> None:
        self.path = path
        self._store = store
        self.record = record
        self._views = view_attributes(frames)
        self._stack = ExitStack()
        side = record.settings.get("tracking.first_frames")
        self._frame_shape = None if side is None else (side, side, 3)

    def __enter__(self) -> TrackFileWriter:
        temporary = self._stack.enter_context(atomic_path(self.path))
        self._written = self._stack.enter_context(WrittenFile(temporary))
        self._file = self._stack.enter_context(h5py.File(self._written, "w"))
        root = self._file.create_group("root")
        attributes = {name: value for name, value in asdict(self.record).items() if value is not None}
        root.attrs.update(attributes | {"settings": json.dumps(self.record.settings)})
        for name, facts in self._views.items():
            root.create_group(name).attrs.update(facts)
        self._rows = {name: ViewRows(root[name], self._store) for name in self._views}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def append(self, *views: WindowTracks) -> None:
        """Adds one window, its tracks in each view, to the end of every data set.

        Raises:
            ValueError: a first frame is missing, or is of another side than the settings say.
        """
        for rows, window in zip(self._rows.values(), views, strict=True):
            found = None if window.first_frame is None else window.first_frame.shape
            if found != self._frame_shape:
                raise ValueError(f"first frame: expected {self._frame_shape}, found {found}")
            rows.append(window)
        self._written.check()

    def finish(self, num_frames: int, windows_dropped: int, num_sizes: int = 1) -> None:
        """Records the counts that are known only at the end."""
        length = self.record.settings["data.sequence_length"]
        points = self.record.settings["data.grid_size"] ** 2
        for rows in self._rows.values():
            rows.finish(length, points, self._frame_shape)
        self._written.check()
        counts = {"num_frames": num_frames, "windows_dropped": windows_dropped, "num_sizes": num_sizes}
        root = self._file["root"]
        root.attrs.update(counts)
        if any(rows.is_int16 for rows in self._rows.values()):
            root.attrs["format_version"] = INT16_VERSION


class TrackFile:
    """One clip's HDF5 track file, ours or another writer's.

    Args:
        path: the file.
        views: groups to read, in this order; None reads all.

    Attributes:
        num_windows: S.
        first_row: 0, the row of its first window.
        length: T.
        num_points: N.
        views: names of the groups read, in the order asked for.
        sizes: (height, width) of each view's tracked frames in pixels; None where the file does not say.
        view_attributes, attributes: of each view, and of the root.
        frame_size: (height, width) of the first frames in pixels; None where a view has none.
        settings: what decided the tracks; None in files of other writers.
        unwritten: windows of which the file says that they have room and were never written; there may be
            more. All of them read as lost.

    Raises:
        TrackFileError: the file cannot be opened, is truncated, or has another layout or version.
    """

    stores: Literal["positions"] = "positions"

    def __init__(self, path: Path, views: Sequence[str] | None = (DEFAULT_VIEW,)) -> None:
        self.path = path
        self.first_row = 0
        with open_for_texts(path) as file, damage_named(path):
            self.attributes = plain_attributes(file["root"].attrs) if "root" in file else {}
            check_version(self.attributes, path, VERSIONS)
            groups = view_groups(file, path, views)
            self.views = [group.name for group in groups]
            shapes = [window_shape(group, path) for group in groups]
            if len(set(shapes)) > 1:
                found = ", ".join(f"{name} {shape}" for name, shape in zip(self.views, shapes, strict=True))
                raise TrackFileError(f"{path}: its views differ in (starts, T, N): {found}")
            self.num_windows, self.length, self.num_points = shapes[0]
            self.sizes = [tracked_size(group) for group in groups]
            self.view_attributes = [plain_attributes(group.attrs) for group in groups]
            check_facts(path, self.attributes, dict(zip(self.views, self.view_attributes, strict=True)))
            self.frame_size = first_frame_size(groups, path)
            self.settings = settings_of(self.attributes.get("settings"), path)
            self.unwritten = max(count_unwritten(window_data(group)) for group in groups)

    def facts(self) -> dict[str, Any]:
        """What ``of_facts`` makes the same ``TrackFile`` of, as plain values."""
        return {name: getattr(self, name) for name in FACTS}

    @staticmethod
    def of_facts(path: Path, facts: Mapping[str, Any]) -> TrackFile:
        """The file that has said ``facts`` of itself, not opened; reading it checks that they are true.

        Raises:
            TrackFileError: they are no such facts.
        """
        require_kinds(f"{path}: the index of its folder", facts, FACTS, TrackFileError)
        made = TrackFile.__new__(TrackFile)
        made.path, made.first_row = path, 0
        for name in FACTS:
            setattr(made, name, facts[name])
        made.sizes = [None if size is None else (size[0], size[1]) for size in made.sizes]
        made.frame_size = None if made.frame_size is None else (made.frame_size[0], made.frame_size[1])
        check_facts(path, made.attributes, dict(zip(made.views, made.view_attributes, strict=False)))
        made.settings = settings_of(made.attributes.get("settings"), path)
        return made

    @property
    def fps(self) -> float | None:
        """Frames per second of the tracked frames; None where the file does not say."""
        return self.attributes.get("fps")

    @property
    def source_fps(self) -> float | None:
        """Average frames per second of the clip itself; None where the file does not say."""
        return self.attributes.get("source_fps")

    def with_views(self, views: Sequence[str]) -> TrackFile:
        """The same file with ``views``, in that order."""
        return TrackFile(self.path, views)

    def reader(self) -> TrackReader:
        """A reader of the file's windows for a loader; it belongs to one process."""
        return TrackReader(self)

    def open(self) -> h5py.File:
        """Opens the file for reading; a handle must not be shared between processes."""
        return open_hdf5(self.path)

    def check_unchanged(self, file: h5py.File) -> None:
        """Raises TrackFileError when ``file``, open now, holds other windows than were found at first."""
        groups = [file[view] for view in self.views]
        expected = self.num_windows, self.length, self.num_points
        if [tracked_size(group) for group in groups] != self.sizes or any(
            window_shape(group, self.path) != expected for group in groups
        ):
            raise TrackFileError(
                f"{self.path}: has changed since it was first opened; run the command again, without the "
                f"folder's {TRACK_INDEX} if that says the same"
            )

    def starts(self, file: h5py.File) -> NDArray[np.int64]:
        """Index of each window's first frame, (S,), in any order; TrackFileError where the file says none."""
        with damage_named(self.path):
            view = file[self.views[0]]
            if "start_frame" not in view:
                raise KeyError("it holds no start_frame")
            return window_starts(view, self.fps, self.path, in_order=False)[0]

    def valid_steps(self, file: h5py.File) -> NDArray[np.int64]:
        """(S,) how many of each window's T - 1 steps are real; all of them where the file does not say.

        Raises:
            TrackFileError: the file says what no window has.
        """
        with damage_named(self.path):
            return valid_steps(file[self.views[0]], self.path)

    def places(self, file: h5py.File) -> WindowPlaces:
        """Where in the clip the windows are.

        Raises:
            TrackFileError: the file says it in another layout, or what cannot be.
        """
        with damage_named(self.path):
            starts = window_starts(file[self.views[0]], self.fps, self.path)
        return WindowPlaces.of(*starts, self.times(file))

    def times(self, file: h5py.File) -> WindowTimes:
        """When the frames of the windows are, as far as the file says.

        Raises:
            TrackFileError: it says it in another layout.
        """
        with damage_named(self.path):
            return window_times([file[view] for view in self.views], self.path)

    def check_readable(self) -> None:
        """Raises TrackFileError unless everything that its views hold is where the file says.

        Finds every piece of every data set, and reads the last row of each.
        """
        with self.open() as file, damage_named(self.path):
            for data in (data for view in self.views for data in file[view].values()):
                if data.chunks is not None:
                    data.id.chunk_iter(lambda _: None)
                if len(data) and data.dtype.kind in "biuf":  # HDF5 may read damaged texts for ever
                    data[-1]

    def read(self, file: h5py.File, rows: Sequence[int]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Windows ``rows`` of each view: tracks (R, T, N, 2) in (x, y) pixels, visibility (R, T, N); float32.

        A file without ``vis`` counts as visible everywhere; windows that were never written are NaN.
        """
        with damage_named(self.path):
            return [read_view(file[view], rows) for view in self.views]

    def check_first_frames(self) -> tuple[int, int]:
        """(height, width) of the first frames in pixels, which every view must have.

        Raises:
            TrackFileError: a view has none; says how to get them.
        """
        if self.frame_size is None:
            raise TrackFileError(
                f"{self.path}: holds no first frames of its windows; preprocess again with "
                "tracking.first_frames (and --overwrite, or into another folder)"
            )
        return self.frame_size

    def read_first_frames(self, file: h5py.File, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        """First frames of windows ``rows`` in each view: (R, h, w, 3), RGB.

        Raises:
            TrackFileError: as ``check_first_frames``.
        """
        self.check_first_frames()
        with damage_named(self.path):
            return [gather(file[view]["first_frames"], rows) for view in self.views]


class _Hdf5(TrackFormat):
    """AMPLIFY's layout."""

    of_facts = staticmethod(TrackFile.of_facts)

    name = "hdf5"
    stores = "positions"
    endings = (".hdf5", ".h5")
    versions = VERSIONS

    def writer(
        self, target: Path, record: ClipRecord, infos: Mapping[str, ClipInfo], config: Config
    ) -> TrackFileWriter:
        return TrackFileWriter(target, record, infos, config.tracking.store)

    def record(self, target: Path) -> Mapping[str, Any]:
        return self.open(target, None).attributes

    def open(self, target: Path, views: Sequence[str] | None) -> TrackFile:
        return TrackFile(target, views)

    def whole_record(self, target: Path) -> Mapping[str, Any]:
        """See ``TrackFormat``; windows that cannot be read are an error."""
        opened = self.open(target, None)
        opened.check_readable()
        return opened.attributes


FORMAT = _Hdf5()
