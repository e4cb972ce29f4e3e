"""The data set of windows: which windows there are, read or made up, and turned into batches."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.augmentation import (
    changed_view,
    check_augmentable,
    draw_changes,
    drop_points,
)
from amplify_motion_tokenizer.data.inputs import ModelInput, from_tracks, from_velocities
from amplify_motion_tokenizer.data.made_up import MadeUpWindows
from amplify_motion_tokenizer.data.sampler import PADDING, EpochSampler, EpochWindows
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.tracks.open_files import Readers
from amplify_motion_tokenizer.tracks.stored import Clips, ViewArrays

CHUNK_WINDOWS = 64
"""Windows that become model input at a time."""


class Batch(NamedTuple):
    """Windows of a batch, and where they come from; or one window of it, whose tensors lack the axis B."""

    inputs: ModelInput
    """As the model takes them; a padding window's mask is False everywhere."""
    indices: Tensor
    """(B,) int64, index in the data set; PADDING for windows that count for nothing."""


class WindowDataset(Dataset[Batch]):
    """Windows of a set of clips, in either layout on disk, and after them windows of made-up motion.

    ``data[index]`` is one window, and ``DataLoader(data, batch_size=8)`` makes batches of them, as of any
    data set. ``data.batch(indices)`` makes a batch at once, which is faster, and ``make_loader`` a loader
    of such batches.

    Reading is lazy and safe in loader workers: files are opened in the process that reads them.

    Args:
        clips: from ``load_clips``, or a part of it from ``split_clips``.
        config: how tracks become model input.
        augment: whether ``EpochWindows`` are changed as ``data.augmentation`` says; windows that are asked
            for by plain indices, or made up, never are.
        truth: as in ``from_tracks``; False for steps of training.
        made_up: made-up windows, the last ones of the data set; those that are asked for by plain indices
            are of the first epoch.

    Raises:
        TrackFileError: tracks cannot be augmented.
    """

    def __init__(
        self,
        clips: Clips,
        config: Config,
        augment: bool = False,
        truth: bool = True,
        made_up: MadeUpWindows | None = None,
    ) -> None:
        self.clips = dict(clips)
        self.config = config
        self._names = list(self.clips)
        known = list(self.clips.values())
        # Index of each clip's first window, and the total at the end.
        self._offsets = np.cumsum([0, *(clip.num_windows for clip in known)])
        # Of each clip, the number of the first one in the same file, its first row there, and the number
        # of the first one whose views were tracked at the same sizes.
        self._files = _numbered([clip.path for clip in known])
        self._first_rows = np.array([clip.first_row for clip in known])
        self._sizes = _numbered([tuple(clip.sizes) for clip in known])
        self._readers = Readers()
        self._truth = truth
        self._made_up = made_up
        self._augment = augment and config.data.augmentation.enabled
        if self._augment:
            check_augmentable(self.clips.values(), config)

    def __len__(self) -> int:
        return self._read + (len(self._made_up) if self._made_up is not None else 0)

    @property
    def _read(self) -> int:
        """Windows that are read; made-up ones come after them."""
        return int(self._offsets[-1])

    @property
    def contents(self) -> str:
        """What the windows are, in words."""
        made = len(self) - self._read
        parts = [f"{self._read} windows of {len(self.clips)} clips"] * bool(self.clips or not made)
        return " and ".join(parts + [f"{made} made-up windows"] * bool(made))

    def first_windows(self, clips: int) -> list[int]:
        """Index of the first window of each of the first ``clips`` clips that have one.

        Without clips the first made-up windows.
        """
        if not self.clips:
            return list(range(min(clips, len(self))))
        starts, ends = self._offsets[:-1], self._offsets[1:]
        return [int(start) for start in starts[starts < ends][:clips]]

    def locate(self, index: int) -> tuple[str, int]:
        """The clip's name and the row in its file of window ``index``; of a made-up one its number twice."""
        if index >= self._read:
            return f"made_up_{index - self._read}", index - self._read
        clip = int(np.searchsorted(self._offsets, index, side="right")) - 1
        return self._names[clip], int(index - self._offsets[clip])

    def first_frames(self, index: int) -> list[NDArray[np.uint8]] | None:
        """(h, w, 3) RGB of each view, window ``index``'s first frame; None where its clip holds none."""
        if index >= self._read:
            return None
        name, row = self.locate(index)
        clip = self.clips[name]
        if clip.stores == "velocities" or clip.frame_size is None:
            return None
        frames = self._readers.get(clip).first_frames(np.array([clip.first_row + row]))
        return [frame[0] for frame in frames]

    def __getitem__(self, index: int) -> Batch:
        """One window; its tensors have no axis B. Negative indices count from the end, as in a list.

        Raises:
            IndexError: there is no such window.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        """The windows ``indices``, read together; torch's DataLoader asks for the windows of a batch so."""
        size = len(self)
        for index in indices:
            if not -size <= index < size:
                raise IndexError(f"there is no window {index}; the data set has {size} windows")
        batch = self.batch([index % size for index in indices])
        inputs = map(ModelInput._make, zip(*batch.inputs, strict=True))
        return [Batch(*window) for window in zip(inputs, batch.indices, strict=True)]

    def batch(self, indices: Sequence[int]) -> Batch:
        """One batch of the windows ``indices``, in that order; PADDING reads as a masked window."""
        wanted = np.asarray(indices, np.int64)
        windows = np.maximum(wanted, 0)
        epoch = indices.epoch if isinstance(indices, EpochWindows) else None
        # Windows that were tracked at one size become model input together, but not so many that what is
        # made of them leaves the CPU's caches. Made-up windows of any sizes do.
        sizes = np.full(len(windows), -1)
        read = windows < self._read
        sizes[read] = self._sizes[np.searchsorted(self._offsets, windows[read], side="right") - 1]
        together = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
        chunks = [at[i : i + CHUNK_WINDOWS] for at in together for i in range(0, len(at), CHUNK_WINDOWS)]
        made = [self._inputs(windows[at], epoch) for at in chunks]
        inputs = made[0]
        if len(made) > 1:
            inputs = ModelInput(*(torch.cat(column) for column in zip(*made, strict=True)))
        if len(together) > 1:
            back = np.argsort(np.concatenate(together))
            inputs = ModelInput(*(column[back] for column in inputs))
        # In numpy: torch takes a tenth of a batch's time to change nothing.
        inputs.mask.numpy()[wanted == PADDING] = False
        return Batch(inputs, torch.from_numpy(wanted))

    def stored(self, windows: NDArray[np.int64]) -> list[ViewTracks] | Tensor:
        """Windows as they are on disk, which must be of one tracked size.

        Returns:
            Tracks of each view; or of velocity files (B, t, N, 2), (x, y), W-normalised.
        """
        clips = np.searchsorted(self._offsets, windows, side="right") - 1
        rows = windows - self._offsets[clips] + self._first_rows[clips]
        files = self._files[clips]
        read: list[tuple[Any, NDArray[np.intp]]] = [
            (self.clips[self._names[i]], np.flatnonzero(files == i)) for i in np.unique(files)
        ]
        if read[0][0].stores == "velocities":
            return _velocities(read, rows)
        # Clips of one pack share a file, not a size: what is told of a window is told by its own clip.
        first = self.clips[self._names[clips[0]]]
        views = [ViewArrays.empty(len(windows), first.length, first.num_points) for _ in first.sizes]
        frames: list[list[NDArray[np.uint8]]] = []
        valid_steps = np.empty(len(windows), np.int64)
        for clip, at in read:
            reader = self._readers.get(clip)
            reader.read_into(rows[at], views, at)
            valid_steps[at] = reader.valid_steps(rows[at])
            if self.config.conditioned:
                frames.append(reader.first_frames(rows[at]))
        images: list[Tensor | None] = [None] * len(views)
        if frames:
            back = np.argsort(np.concatenate([at for _, at in read]))
            images = [torch.from_numpy(np.concatenate(view)[back]) for view in zip(*frames, strict=True)]
        steps = torch.from_numpy(valid_steps)
        return [
            ViewTracks(
                torch.from_numpy(view.tracks_xy_px), torch.from_numpy(view.visibility), size, image, steps
            )
            for view, size, image in zip(views, first.sizes, images, strict=True)
        ]

    def _inputs(self, windows: NDArray[np.int64], epoch: int | None) -> ModelInput:
        """Model input of windows that were tracked at one size, or are all made up."""
        if self._made_up is not None and windows[0] >= self._read:
            return self._made_up.inputs(windows - self._read, epoch or 0, self._truth)
        stored = self.stored(windows)
        if isinstance(stored, Tensor):
            return from_velocities(stored, self.config, self._truth)
        if epoch is None or not self._augment:
            return from_tracks(stored, self.config, self._truth)
        changes = draw_changes(windows, epoch, self.config)
        changed = [changed_view(view, changes, self.config) for view in stored]
        return drop_points(from_tracks(changed, self.config, self._truth), changes.kept)


def _velocities(read: Sequence[tuple[Any, NDArray[np.intp]]], rows: NDArray[np.int64]) -> Tensor:
    velocities = torch.empty(len(rows), read[0][0].length - 1, read[0][0].num_points, 2)
    for clip, at in read:
        velocities[at] = clip.read(rows[at])
    return velocities


def _numbered(values: Sequence[Hashable]) -> NDArray[np.int64]:
    """The index of the first value that equals each."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(value, number) for number, value in enumerate(values)], np.int64)


class _Batches(Dataset[Batch]):
    """Whole batches as the items of a data set, whose indices are lists of windows."""

    def __init__(self, data: WindowDataset) -> None:
        self._data = data

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        return self._data.batch(indices)


def make_loader(
    data: WindowDataset, sampler: EpochSampler, num_workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """A loader of batches as ``WindowDataset.batch`` makes them; workers live as long as the loader."""
    return DataLoader(
        _Batches(data),
        sampler=sampler,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=_leave_group,
        pin_memory=pin_memory,
        # Its own generator, so that making an iterator leaves the training's random state alone.
        generator=torch.Generator().manual_seed(sampler.seed),
    )


def _leave_group(_worker: int) -> None:
    """Launchers send SIGTERM to whole process groups; it is for the training process to stop its workers."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
