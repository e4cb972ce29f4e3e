"""Track folders to batches of windows: index, split by clip, reading."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amplify_motion_tokenizer.augmentation import augmented_input, check_augmentable, draw_changes
from amplify_motion_tokenizer.config import VELOCITY_KEYS, Config, changes, flatten, to_dict
from amplify_motion_tokenizer.epochs import PADDING, EpochSampler, EpochWindows
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.file_names import is_pack
from amplify_motion_tokenizer.inputs import ModelInput, ViewTracks, from_tracks, from_velocities
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5_rows import ViewArrays
from amplify_motion_tokenizer.tracks.open_files import Clips, Readers, StoredTracks
from amplify_motion_tokenizer.tracks.packs import read_pack
from amplify_motion_tokenizer.tracks.velocity_files import VelocityFiles

logger = logging.getLogger(__name__)


CHUNK_WINDOWS = 64
"""Windows that become model input at a time."""


class Batch(NamedTuple):
    """Windows of a batch, and where they come from."""

    inputs: ModelInput
    """As the model takes them; a padding window's mask is False everywhere."""
    indices: Tensor
    """(B,) int64, index in the data set; PADDING for windows that count for nothing."""


class WindowDataset(Dataset[Batch]):
    """Windows of a set of clips, in either layout on disk.

    Reading is lazy and safe in loader workers: files are opened in the process that reads them.

    Args:
        clips: from ``load_clips``, or a part of it from ``split_clips``.
        config: how tracks become model input.
        augment: whether ``EpochWindows`` are changed as ``data.augmentation`` says; windows that are asked
            for by plain indices never are.
        truth: as in ``from_tracks``; False for steps of training.

    Raises:
        TrackFileError: tracks cannot be augmented.
    """

    def __init__(self, clips: Clips, config: Config, augment: bool = False, truth: bool = True) -> None:
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
        self._augment = augment and config.data.augmentation.enabled
        if self._augment:
            check_augmentable(self.clips.values(), config)

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def first_windows(self, clips: int) -> list[int]:
        """Index of the first window of each of the first ``clips`` clips that have one."""
        starts, ends = self._offsets[:-1], self._offsets[1:]
        return [int(start) for start in starts[starts < ends][:clips]]

    def locate(self, index: int) -> tuple[str, int]:
        """The clip's name and the row in its file of window ``index``."""
        clip = int(np.searchsorted(self._offsets, index, side="right")) - 1
        return self._names[clip], int(index - self._offsets[clip])

    def first_frames(self, index: int) -> list[NDArray[np.uint8]] | None:
        """(h, w, 3) RGB of each view, window ``index``'s first frame; None where its clip holds none."""
        name, row = self.locate(index)
        clip = self.clips[name]
        if isinstance(clip, VelocityFiles) or clip.frame_size is None:
            return None
        return [frames[0] for frames in self._readers.get(clip).first_frames([clip.first_row + row])]

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """One batch of the windows ``indices``, in that order; PADDING reads as a masked window."""
        wanted = np.asarray(indices, np.int64)
        windows = np.maximum(wanted, 0)
        clips = np.searchsorted(self._offsets, windows, side="right") - 1
        epoch = indices.epoch if self._augment and isinstance(indices, EpochWindows) else None
        # Windows that were tracked at one size become model input together, but not so many that what is
        # made of them leaves the CPU's caches.
        sizes = self._sizes[clips]
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
        if isinstance(read[0][0], VelocityFiles):
            return _velocities(read, rows)
        # Clips of one pack share a file, not a size: what is told of a window is told by its own clip.
        first = self.clips[self._names[clips[0]]]
        views = [ViewArrays.empty(len(windows), first.length, first.num_points) for _ in first.sizes]
        frames: list[list[NDArray[np.uint8]]] = []
        for clip, at in read:
            reader = self._readers.get(clip)
            reader.read_into(rows[at], views, at)
            if self.config.conditioned:
                frames.append(reader.first_frames(rows[at]))
        images: list[Tensor | None] = [None] * len(views)
        if frames:
            back = np.argsort(np.concatenate([at for _, at in read]))
            images = [torch.from_numpy(np.concatenate(view)[back]) for view in zip(*frames, strict=True)]
        return [
            ViewTracks(torch.from_numpy(view.tracks_xy_px), torch.from_numpy(view.visibility), size, image)
            for view, size, image in zip(views, first.sizes, images, strict=True)
        ]

    def _inputs(self, windows: NDArray[np.int64], epoch: int | None) -> ModelInput:
        """Model input of windows that were tracked at one size."""
        stored = self.stored(windows)
        if isinstance(stored, Tensor):
            return from_velocities(stored, self.config)
        if epoch is None:
            return from_tracks(stored, self.config, self._truth)
        return augmented_input(stored, draw_changes(windows, epoch, self.config), self.config, self._truth)


def _velocities(read: Sequence[tuple[Any, NDArray[np.intp]]], rows: NDArray[np.int64]) -> Tensor:
    velocities = torch.empty(len(rows), read[0][0].length - 1, read[0][0].num_points, 2)
    for clip, at in read:
        velocities[at] = clip.read(rows[at])
    return velocities


def _numbered(values: Sequence[Hashable]) -> NDArray[np.int64]:
    """The index of the first value that equals each."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(value, number) for number, value in enumerate(values)], np.int64)


def load_clips(folder: Path, config: Config) -> Clips:
    """Indexes the tracks below ``folder`` and checks that they fit the config.

    Warns once about files that do not say which size was tracked, and about several sizes without a
    reference size.

    Raises:
        TrackFileError: no tracks, a bad file, windows of another T or N, velocities of another
            reference size or W, files that were made with different settings, or no first frames for a
            model that is conditioned on them.
    """
    views, dataset = config.data.views, config.data.dataset
    find = read_pack if is_pack(folder) else find_tracks
    clips: Clips = find(folder, views, dataset)
    for clip in clips.values():
        _check_shape(clip, config)
    _check_settings(clips, config)
    if config.conditioned:
        _check_first_frames(clips)
    if not any(clip.num_windows for clip in clips.values()):
        raise TrackFileError(f"{folder}: its {len(clips)} clips hold no windows; lower the motion gate")
    _warn_of_sizes(clips, config)
    return clips


def _warn_of_sizes(clips: Clips, config: Config) -> None:
    """Where pixels of clips are of several kinds, or may be, and nothing brings them to one."""
    tracked = [clip for clip in clips.values() if not isinstance(clip, VelocityFiles)]
    if config.data.reference_size is None:
        sizes = list(dict.fromkeys(tuple(clip.sizes) for clip in tracked))
        if len(sizes) > 1:
            logger.warning(
                "clips were tracked at %d sizes, such as (height, width) %s and %s, and data.reference_size: "
                "null leaves each its own pixels, so one motion becomes several classes; set it",
                len(sizes),
                *(", ".join(map(str, of_views)) for of_views in sizes[:2]),
            )
        return
    sizeless = [clip.path.name for clip in tracked if None in clip.sizes]
    if sizeless:
        logger.warning(
            "%d of %d track files have no height and width (the first is %s): their pixels are taken "
            "as pixels of data.reference_size; preprocess them again if they were tracked at another size",
            len(sizeless),
            len(clips),
            sizeless[0],
        )


def _check_shape(clip: StoredTracks | VelocityFiles, config: Config) -> None:
    found = (clip.length, clip.num_points)
    expected = (config.tracked_length, config.num_points)
    if isinstance(clip, VelocityFiles) and config.model.name != "keypoint":
        raise TrackFileError(f"{clip.path}: velocity files suit the keypoint model alone; use track files")
    if isinstance(clip, VelocityFiles):
        _check_not_resampled(clip, config)
    if found != expected:
        raise TrackFileError(
            f"{clip.path}: windows of T = {found[0]} frames and N = {found[1]} points, expected "
            f"T = {expected[0]} (data.true_horizon or data.sequence_length) and "
            f"N = {expected[1]} (data.grid_size^2)"
        )


def _check_not_resampled(clip: VelocityFiles, config: Config) -> None:
    """Velocity files are as long as their windows were tracked: positions alone are resampled in time."""
    tracked = (clip.settings or {}).get("data.sequence_length", clip.length)
    if tracked != clip.length or config.tracked_length != config.data.sequence_length:
        raise TrackFileError(
            f"{clip.path}: holds {clip.length} frames of windows that were tracked over {tracked}, and "
            f"{config.data.sequence_length} of {config.tracked_length} are asked for; velocity files cannot "
            "be resampled in time: use track files (--format hdf5), or data.true_horizon: null"
        )


def _check_first_frames(clips: Clips) -> None:
    """All files must have them, of one size."""
    files = [clip for clip in clips.values() if not isinstance(clip, VelocityFiles)]
    for clip in files:
        if clip.check_first_frames() != files[0].frame_size:
            raise TrackFileError(
                f"{clip.path}: its first frames are {clip.frame_size}, those of {files[0].path} "
                f"{files[0].frame_size}; preprocess all clips with one tracking.first_frames"
            )


def _check_settings(clips: Clips, config: Config) -> None:
    known = [clip for clip in clips.values() if clip.settings is not None]
    for clip in known[1:]:
        differ = changes(known[0].settings or {}, clip.settings or {})
        if differ:
            raise TrackFileError(
                f"{clip.path} and {known[0].path} were made with different settings "
                f"({'; '.join(differ)}); preprocess all clips with the same ones"
            )
    velocity_files = [clip for clip in known if isinstance(clip, VelocityFiles)]
    if velocity_files:
        flat, stored = flatten(to_dict(config)), velocity_files[0].settings or {}
        differ = changes({k: stored.get(k) for k in VELOCITY_KEYS}, {k: flat[k] for k in VELOCITY_KEYS})
        if differ:
            raise TrackFileError(
                f"{velocity_files[0].path}: velocities were stored with other settings "
                f"({'; '.join(differ)}); set these keys as stored, or preprocess again"
            )


def split_clips(clips: Clips, val_split: float, seed: int) -> tuple[Clips, Clips]:
    """Splits by clip, never by window, into (training, validation).

    The validation share is rounded, but at least one clip and never all; the same names and seed
    give the same split. A single clip cannot be split: it trains, and that is warned about.
    """
    names = sorted(name for name, clip in clips.items() if clip.num_windows)
    count = 0 if val_split == 0 else min(max(1, round(val_split * len(names))), len(names) - 1)
    if val_split > 0 and count == 0:
        logger.warning("there is one clip with windows: it trains, and nothing is left for validation")
    order = np.random.default_rng(seed).permutation(len(names))
    held_out = {names[i] for i in order[:count]}
    training = {name: clips[name] for name in names if name not in held_out}
    return training, {name: clips[name] for name in names if name in held_out}


def make_loader(
    data: WindowDataset, sampler: EpochSampler, num_workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """A loader of whole batches; workers live as long as the loader."""
    return DataLoader(
        data,
        batch_sampler=sampler,
        collate_fn=_as_is,
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


def _as_is(batch: Any) -> Any:
    """``__getitems__`` has made the batch already; it is typed as a list of samples in torch."""
    return batch
