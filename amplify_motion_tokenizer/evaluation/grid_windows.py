"""Windows of tracks that start on a square grid, of a folder or made up, and the parts that tokenizers take.

Letters: B windows, T frames, N points, G points on a side of the grid that is stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.camera import without_camera
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.evaluation.against_truth import KIND_ATTRIBUTES
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.scenes.synthetic import synthetic_windows
from amplify_motion_tokenizer.trackers.windows import SEEN
from amplify_motion_tokenizer.tracks.find import find_recorded
from amplify_motion_tokenizer.tracks.stored import RecordedClip

CHUNK_WINDOWS = 32
"""Windows that are read and coded at a time."""

MADE_UP_SEED = 2
"""Of made-up windows that are evaluated: another one than of those that anything was fitted on."""


class GridWindows(NamedTuple):
    """Windows of one clip and view whose points start on a grid, row by row."""

    tracks_xy_px: Tensor
    """(B, T, N, 2) float32, (x, y) pixels."""
    visibility: Tensor
    """(B, T, N) float32, confidence 0..1."""
    size: tuple[int, int]
    """(height, width) of the frames in pixels."""
    kind: str | None
    """Kind of scene; None where the file does not say."""
    camera: Tensor | None = None
    """As in ``ViewTracks``."""

    @property
    def seen(self) -> Tensor:
        """(B, T, N) bool, points that count: visible, at a position that is known."""
        return (self.visibility >= SEEN) & self.tracks_xy_px.isfinite().all(dim=-1)

    @property
    def sizes(self) -> Tensor:
        """(B, 2), ``size`` of each window."""
        return torch.tensor([self.size]).expand(len(self.visibility), 2)

    def views(self, order: str) -> list[ViewTracks]:
        """What ``from_tracks`` takes, with the points in ``tracking.query_order``."""
        side = math.isqrt(self.visibility.shape[2])
        rows = torch.arange(side**2).view(side, side)
        points = (rows.T if order == "uniform" else rows).flatten()
        tracks, visibility = self.tracks_xy_px[:, :, points], self.visibility[:, :, points]
        return [ViewTracks(tracks, visibility, self.size, camera=self.camera)]

    def without_camera(self) -> GridWindows:
        """The windows as a camera would have seen them that stayed where it was in frame 0."""
        apart = without_camera(self.views("row_major")[0])
        return self._replace(
            tracks_xy_px=apart.tracks_xy_px, visibility=apart.visibility, camera=apart.camera
        )

    def part(self, side: int, frames: int) -> GridWindows:
        """The points next to a grid of ``side`` points on a side, in the first ``frames`` frames."""
        of_side = nearest_rows(math.isqrt(self.visibility.shape[2]), side)
        points = (of_side[:, None] * math.isqrt(self.visibility.shape[2]) + of_side).flatten()
        return self._replace(
            tracks_xy_px=self.tracks_xy_px[:, :frames, points],
            visibility=self.visibility[:, :frames, points],
        )


def nearest_rows(stored: int, side: int) -> Tensor:
    """(side,) rows of a grid of ``stored`` rows that lie nearest to the rows of one of ``side``.

    Rows are centres of a partition of the frame, so grids share points only where ``stored`` is an odd
    multiple of ``side``; elsewhere the rows are up to half a stored one off.
    """
    return ((2 * torch.arange(side) + 1) * stored).sub(1).div(2 * side, rounding_mode="floor")


def farthest_off(stored: int, side: int) -> float:
    """How far a row of ``nearest_rows`` is at most from the row that it stands for, in sides of the frame."""
    found = (nearest_rows(stored, side) + 0.5) / stored
    return float((found - (torch.arange(side) + 0.5) / side).abs().max())


@dataclass(frozen=True, kw_only=True)
class WindowSource:
    """Windows that are evaluated together."""

    name: str
    """The folder, or what they are."""
    grid: int
    """G."""
    frames: int
    """T."""
    clips: int
    """Clips that they are of; 0 for windows of no clip."""
    chunks: Callable[[], Iterator[GridWindows]]
    """Reads the windows, a few at a time."""

    def check_fits(self, config: Config, name: str) -> None:
        """Raises TrackFileError where a tokenizer of that config and name wants more than is stored."""
        wanted = config.data.grid_size, config.tracked_length
        for stored, needed, what, key in (
            (self.grid, wanted[0], "points on a side", "data.grid_size"),
            (self.frames, wanted[1], "frames in a window", "data.sequence_length"),
        ):
            if needed > stored:
                raise TrackFileError(
                    f"{self.name}: has {stored} {what}, and the tokenizer {name} takes {needed}; leave the "
                    f"tokenizer out, or track the clips with --{key} {needed}"
                )


def folder_windows(folder: Path) -> WindowSource:
    """The windows of a folder of track files, or of one file; each view of a clip is windows of its own.

    Windows with padding, and ones that begin with lost points, are left out.

    Raises:
        TrackFileError: there are no track files, files differ in T or N, N is no square, sizes are not
            known, or points do not start on a grid.
    """
    clips = find_recorded(folder)
    first = next(iter(clips.values()))
    for clip in clips.values():
        if (clip.length, clip.num_points) != (first.length, first.num_points):
            raise TrackFileError(
                f"{clip.path}: has windows of T = {clip.length} and N = {clip.num_points}, {first.path} of "
                f"T = {first.length} and N = {first.num_points}; give folders with one T and N each"
            )
        if None in clip.sizes:
            raise TrackFileError(
                f"{clip.path}: does not say the size that was tracked; remake it with preprocess_videos.py"
            )
    grid = math.isqrt(first.num_points)
    if grid**2 != first.num_points:
        raise TrackFileError(f"{first.path}: has {first.num_points} points, which make no square grid")
    if not any(clip.num_windows for clip in clips.values()):
        raise TrackFileError(f"{folder}: its {len(clips)} clips hold no windows; lower the motion gate")
    return WindowSource(
        name=str(folder),
        grid=grid,
        frames=first.length,
        clips=len(clips),
        chunks=lambda: _of_clips(clips),
    )


def made_up_windows(count: int, grid: int, frames: int) -> WindowSource:
    """Windows of made-up motion with exact tracks, as a source.

    Raises:
        UsageError: ``count`` is less than 1.
    """
    made = synthetic_windows(count, MADE_UP_SEED, 0, grid, frames, noise=False)

    def chunks() -> Iterator[GridWindows]:
        for row in range(count):  # each has a size of its own
            height, width = made.sizes[row].tolist()
            yield GridWindows(
                made.tracks_xy_px[row : row + 1], made.visibility[row : row + 1], (height, width), None
            )

    return WindowSource(name="made-up motion", grid=grid, frames=frames, clips=0, chunks=chunks)


def _of_clips(clips: Mapping[str, RecordedClip]) -> Iterator[GridWindows]:
    with Progress(len(clips), "clip") as progress:
        for clip in progress.each(clips.values()):
            yield from _of_clip(clip)


def _of_clip(clip: RecordedClip) -> Iterator[GridWindows]:
    kinds = (clip.attributes[name] for name in KIND_ATTRIBUTES if name in clip.attributes)
    kind = next(map(str, kinds), None)
    with clip.open() as file:
        whole = np.flatnonzero(clip.valid_steps(file) == clip.length - 1)
        for first in range(0, len(whole), CHUNK_WINDOWS):
            rows = whole[first : first + CHUNK_WINDOWS].tolist()
            for size, arrays in zip(clip.sizes, clip.read(file, rows), strict=True):
                assert size is not None  # ``folder_windows`` has looked
                tracks, visibility = (torch.as_tensor(array).float() for array in arrays)
                known = tracks[:, 0].isfinite().flatten(1).all(dim=1)
                if known.any():
                    yield _by_rows(GridWindows(tracks[known], visibility[known], size, kind), clip.path)


def _by_rows(windows: GridWindows, path: Path) -> GridWindows:
    """The windows with their points row by row, in whichever order they are stored.

    Raises:
        TrackFileError: points do not start on a grid.
    """
    side = math.isqrt(windows.visibility.shape[2])
    for points in (torch.arange(side**2), torch.arange(side**2).view(side, side).T.flatten()):
        start = windows.tracks_xy_px[:, 0, points].view(-1, side, side, 2)
        if (start[..., 0].diff(dim=2) > 0).all() and (start[..., 1].diff(dim=1) > 0).all():
            return windows._replace(
                tracks_xy_px=windows.tracks_xy_px[:, :, points], visibility=windows.visibility[:, :, points]
            )
    raise TrackFileError(
        f"{path}: its points do not start on a grid of {side} x {side}; the tokenizers take such alone"
    )
