"""Windows of made-up motion as model input, beside those of track files or instead of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.data.inputs import ModelInput, from_tracks
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.geometry import reference_scales
from amplify_motion_tokenizer.scenes.synthetic import chosen_windows, synthetic_windows

HELD_OUT_SEED = 2**31
"""Seed of held-out windows: beyond every ``training.seed``, so that no training has seen them."""


class MadeUpWindows:
    """Windows of ``scenes.synthetic``, decided by seed, epoch and row alone, in any process.

    Frames have the shape of ``data.reference_size`` where it has one, else shapes of their own. Views of a
    window are windows of their own: nothing makes up a scene that several cameras see.

    Args:
        config: T, grid, views, reference size and ``training.seed``.
        count: windows of an epoch, whose epochs have nothing in common.
        held_out: whether they are for validation: then the same ones in every epoch and for every seed.
    """

    def __init__(self, config: Config, count: int, held_out: bool = False) -> None:
        self.config = config
        self.count = count
        self._held_out = held_out

    def __len__(self) -> int:
        return self.count

    def inputs(self, rows: NDArray[np.int64], epoch: int, truth: bool) -> ModelInput:
        """Model input of the windows ``rows``, (B,) int64, of an epoch; ``truth`` as in ``from_tracks``."""
        seed, views = self.config.training.seed, len(self.config.data.views)
        if self._held_out:
            seed, epoch = HELD_OUT_SEED, 0
        first = (rows + epoch * self.count) * views
        columns = [self._view((first + view).tolist(), seed) for view in range(views)]
        return from_tracks(columns, self.config, truth)

    def _view(self, indices: list[int], seed: int) -> ViewTracks:
        data, size = self.config.data, self.config.data.reference_size
        own = size if isinstance(size, tuple) else None
        made = chosen_windows(indices, seed, data.grid_size, self.config.tracked_length, own)
        tracks, visibility = (self._ordered(made.tracks_xy_px), self._ordered(made.visibility[..., None]))
        if own is not None:
            return ViewTracks(tracks, visibility[..., 0], own)
        scales = reference_scales(made.sizes, size)
        tracks *= scales[:, None, None]
        return ViewTracks(tracks, visibility[..., 0], None, sizes_px=made.sizes * scales.flip(-1))

    def _ordered(self, values: Tensor) -> Tensor:
        """(B, T, N, E), whose row-major points become those of ``tracking.query_order``."""
        if self.config.tracking.query_order == "row_major":
            return values
        side = self.config.data.grid_size
        grid = values.view(*values.shape[:2], side, side, -1)
        return grid.transpose(2, 3).flatten(2, 3)


def displacements_of_made_up(
    seed: int, first: int, count: int, grid_size: int, frames: int
) -> tuple[Tensor, Tensor]:
    """Displacements of windows of ``synthetic_windows``, and which of their points are seen.

    Args:
        seed: of the endless row of windows.
        first: index of the first of them.
        count: B.
        grid_size: points on a side, N = grid_size^2, row by row.
        frames: T, one more than the steps t.

    Returns:
        (B, t, N, 2) float32, (x, y) since frame 0 in shorter sides of the frame, lost points filled; and
        (B, t, N) bool.
    """
    made = synthetic_windows(count, seed, first, grid_size, frames)
    seen = made.visibility > 0
    moves = made.tracks_xy_px - made.tracks_xy_px[:, :1]
    moves = fill_lost(moves, seen) / made.sizes.amin(dim=1).float()[:, None, None, None]
    return moves[:, 1:], seen[:, 1:]


def made_up_training(config: Config, track_windows: int) -> MadeUpWindows | None:
    """The made-up windows that ``data.source`` adds to so many windows of tracks; None where it adds none."""
    data = config.data
    if data.source == "both":
        share = data.synthetic_share
        return MadeUpWindows(config, max(1, round(track_windows * share / (1 - share))))
    return MadeUpWindows(config, data.synthetic_windows) if data.source == "synthetic" else None


def made_up_validation(config: Config) -> MadeUpWindows | None:
    """Held-out made-up windows for a training without tracks; None where tracks are held out, or nothing."""
    count = round(config.data.val_split * config.data.synthetic_windows)
    if config.data.source != "synthetic" or not count:
        return None
    return MadeUpWindows(config, count, held_out=True)
