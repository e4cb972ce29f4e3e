"""Protocols of stored clips, whatever format they are stored in, and what clips have in common.

The rest of the package asks a clip what it stores and never which class it is. Letters: S window starts, V
views, T frames, t = T - 1 steps, N points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import TrackFileError

if TYPE_CHECKING:
    from torch import Tensor

Stores = Literal["positions", "velocities"]
"""``positions``: tracks of every view in pixels of the tracked frames, with visibility; other frame rates and
reference sizes can be made of them. ``velocities``: W-normalised velocities of one view, which reference
size and W have decided for good, and which cannot be resampled in time."""


class ViewArrays(NamedTuple):
    """Windows of one view, to be filled."""

    tracks_xy_px: NDArray[np.float32]
    """(B, T, N, 2), (x, y) pixels of the tracked frames."""
    visibility: NDArray[np.float32]
    """(B, T, N), confidence 0..1."""

    @staticmethod
    def empty(windows: int, length: int, points: int) -> ViewArrays:
        """Arrays of B windows, T frames and N points, with whatever was in memory."""
        shape = windows, length, points
        return ViewArrays(np.empty((*shape, 2), np.float32), np.empty(shape, np.float32))


class WindowTimes(NamedTuple):
    """When the frames of a clip's windows are."""

    source_frame: NDArray[np.int64]
    """(S, V, T), index of each frame among those that the view's source decodes to; -1 where not known."""
    step_seconds: NDArray[np.float64]
    """(S, V), mean seconds from one of a window's frames to the next; NaN where not known."""

    @staticmethod
    def unknown(windows: int, views: int, length: int) -> WindowTimes:
        """Of S windows, V views and T frames of which nothing is known."""
        return WindowTimes(
            np.full((windows, views, length), -1, np.int64), np.full((windows, views), np.nan, np.float64)
        )


class WindowPlaces(NamedTuple):
    """Where in its clip each window is, in its first view."""

    starts: NDArray[np.int64]
    """(S,) index of each window's first frame among the tracked frames, ascending."""
    start_seconds: NDArray[np.float64]
    """(S,) seconds from the clip's first frame to the window's; NaN where it is not known."""
    step_seconds: NDArray[np.float64]
    """(S,) mean seconds from one of its frames to the next; NaN where it is not known."""
    source_frames: NDArray[np.int64]
    """(S, 2) index of its first and its last real frame in the source; -1 where it is not known."""

    @staticmethod
    def of(starts: NDArray[np.int64], start_seconds: NDArray[np.float64], times: WindowTimes) -> WindowPlaces:
        """Places by the first view of ``times``."""
        return WindowPlaces(
            starts,
            start_seconds,
            np.array(times.step_seconds[:, 0]),
            np.array(times.source_frame[:, 0][:, [0, -1]]),
        )


MOST_FRAMES = 2**31 - 1
"""The last frame that any clip has; more than a year at 60 a second."""


def check_starts(starts: NDArray[np.int64], seconds: NDArray[np.float64], path: Path) -> None:
    """Refuses windows that do not ascend from frame 0 on, or begin at no time of a clip.

    Args:
        starts: (S,) index of each window's first frame.
        seconds: (S,) seconds from the clip's first frame to it; NaN where not known.
        path: where they were read.

    Raises:
        TrackFileError: they are not so.
    """
    # Compared, as differences of hostile numbers go round.
    if len(starts) and (starts[0] < 0 or starts[-1] > MOST_FRAMES or (starts[1:] <= starts[:-1]).any()):
        raise TrackFileError(f"{path}: start_frame does not ascend from 0 on, as it should; remake it")
    if np.isinf(seconds).any():
        raise TrackFileError(f"{path}: start_time holds times that are infinite; remake it")


def check_times(times: WindowTimes, path: Path) -> None:
    """Raises TrackFileError for frames of the source, or seconds of a step, that no clip has."""
    frames, seconds = times
    if frames.size and (frames.min() < -1 or frames.max() > MOST_FRAMES):
        raise TrackFileError(
            f"{path}: source_frame is {frames.min()} to {frames.max()}, expected frames of the clip, or -1; "
            "remake it"
        )
    if (np.isinf(seconds) | (seconds < 0)).any():
        raise TrackFileError(f"{path}: step_seconds holds {seconds.min():g}, expected 0 or more; remake it")


class WindowReader(Protocol):
    """Reads windows of positions in one process; opens what it needs, again after ``close``."""

    def read_into(
        self, rows: NDArray[np.int64], into: Sequence[ViewArrays], places: NDArray[np.int64]
    ) -> None:
        """Puts window ``rows[i]`` of the file, in each view, at ``places[i]`` of the view's arrays.

        Raises:
            TrackFileError: the file is gone or damaged, or has changed.
        """

    def valid_steps(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(R,) how many of the T - 1 steps of windows ``rows`` of the file are real; the rest is padding.

        Raises:
            TrackFileError: the file is gone or damaged, or has changed.
        """

    def first_frames(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """First frames of windows ``rows`` of the file in each view: (R, h, w, 3), RGB.

        Raises:
            TrackFileError: the file holds none.
        """

    def close(self) -> None:
        """Gives back what the system holds open."""


class _Clip(Protocol):
    """What every format knows of a clip."""

    @property
    def path(self) -> Path:
        """The file or folder that is read; clips that share it share a reader."""

    @property
    def num_windows(self) -> int:
        """S."""

    @property
    def first_row(self) -> int:
        """Row of the clip's first window among all windows of ``path``."""

    @property
    def length(self) -> int:
        """T, frames of a window."""

    @property
    def num_points(self) -> int:
        """N."""

    @property
    def sizes(self) -> list[tuple[int, int] | None]:
        """(height, width) of each view's tracked frames in pixels, None where it is not known.

        Empty where velocities are stored, for which it does not matter.
        """

    @property
    def fps(self) -> float | None:
        """Frames per second of the tracked frames; None where it is not known."""

    @property
    def settings(self) -> dict[str, Any] | None:
        """Dotted keys that decided what is stored; None in files of other writers."""


class PositionClip(_Clip, Protocol):
    """A clip of stored positions."""

    @property
    def stores(self) -> Literal["positions"]:
        """What is stored."""

    @property
    def views(self) -> list[str]:
        """The views that are read, in this order."""

    @property
    def unwritten(self) -> int:
        """Windows that have room in the file and were never written, as far as the file tells."""

    @property
    def source_fps(self) -> float | None:
        """Average frames per second of the clip itself; None where the file does not say."""

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(height, width) of the windows' first frames in pixels; None where a view has none."""

    def check_first_frames(self) -> tuple[int, int]:
        """``frame_size``, which must be known.

        Raises:
            TrackFileError: a view has no first frames; says how to get them.
        """

    def reader(self) -> WindowReader:
        """What reads windows of ``path`` for a loader; it belongs to one process."""

    def open(self) -> AbstractContextManager[Any]:
        """Opens ``path``; what the block gets is for the methods below."""

    def read(self, opened: Any, rows: Sequence[int]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Windows ``rows`` of the clip in each view: tracks (R, T, N, 2), (x, y) px, visibility (R, T, N)."""

    def valid_steps(self, opened: Any) -> NDArray[np.int64]:
        """(S,) how many of each window's T - 1 steps are real; the rest is padding (``tracking.pad_end``).

        Raises:
            TrackFileError: the file holds numbers that no window has.
        """

    def places(self, opened: Any) -> WindowPlaces:
        """Where in the clip its windows are.

        Raises:
            TrackFileError: the file does not say which frames they begin with, or says what cannot be.
        """

    def times(self, opened: Any) -> WindowTimes:
        """When the frames of the clip's windows are, in the views that are read.

        Raises:
            TrackFileError: the file holds it in another layout.
        """

    def read_first_frames(self, opened: Any, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        """First frames of windows ``rows`` of the clip in each view: (R, h, w, 3), RGB.

        Raises:
            TrackFileError: a view has none.
        """


class RecordedClip(PositionClip, Protocol):
    """A clip of stored positions that says how it was made: it can be drawn and held against others."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What ``ClipRecord`` has, ``num_frames`` and ``windows_dropped``; other writers leave some out."""

    @property
    def view_attributes(self) -> Sequence[Mapping[str, Any]]:
        """Of each view what ``record.view_attributes`` has."""

    def starts(self, opened: Any) -> NDArray[np.int64]:
        """Index of each window's first frame among the tracked frames, (S,).

        Raises:
            TrackFileError: the file does not say.
        """

    def with_views(self, views: Sequence[str]) -> RecordedClip:
        """The same clip with those views, in that order.

        Raises:
            TrackFileError: it lacks one.
        """


class VelocityClip(_Clip, Protocol):
    """A clip of stored velocities."""

    @property
    def stores(self) -> Literal["velocities"]:
        """What is stored."""

    def places(self) -> WindowPlaces:
        """Where in the clip its windows are.

        Raises:
            TrackFileError: its index says something else than its files.
        """

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Windows ``rows``: float32 (R, t, N, 2), (x, y), W-normalised.

        Raises:
            TrackFileError: a file is gone, damaged or of another shape.
        """


StoredClip = PositionClip | VelocityClip
"""A clip, whatever it is stored in; ``stores`` says what it holds."""

FoundClip = RecordedClip | VelocityClip
"""A clip with files of its own, as track formats write them."""

Clips = Mapping[str, StoredClip]
"""Clips by name."""


def positions(clips: Clips) -> dict[str, PositionClip]:
    """The clips among ``clips`` that store positions."""
    return {name: clip for name, clip in clips.items() if clip.stores == "positions"}
