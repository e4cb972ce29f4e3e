"""Tracks that are stored, as what inference makes codes of: track files of every format, and packs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.codes.encoding import WindowBatch
from amplify_motion_tokenizer.codes.overrides import check_overrides
from amplify_motion_tokenizer.config import (
    SETTINGS,
    Config,
    changes,
    flatten,
    to_dict,
    track_settings,
    velocity_settings,
)
from amplify_motion_tokenizer.config.loading import Given, build
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import check_fits
from amplify_motion_tokenizer.errors import ConfigError, TrackFileError, UsageError
from amplify_motion_tokenizer.models.checkpoint import Checkpoint
from amplify_motion_tokenizer.tracks.base import OpenClip
from amplify_motion_tokenizer.tracks.stored import StoredClip, WindowPlaces
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW, Clip, ViewSource

logger = logging.getLogger(__name__)

Openers = Mapping[str, OpenClip[StoredClip]]
"""What opens each clip, by name; none is open yet, as one that cannot be read fails alone."""


def clips_of(openers: Openers) -> list[Clip]:
    """The stored clips as a folder run takes them, sorted by name."""
    return [
        Clip(name, {DEFAULT_VIEW: ViewSource(opener.paths[0], images=opener.paths)})
        for name, opener in sorted(openers.items())
    ]


def first_that_fits(openers: Openers, config: Config) -> StoredClip:
    """The first clip that can be read and suits ``config``; it tells how all of them were made.

    Raises:
        TrackFileError: no clip does; as the first one says.
    """
    first: TrackFileError | None = None
    for _, opener in sorted(openers.items()):
        try:
            clip = opener(config.data.views)
            check_fits(clip, config)
            return clip
        except TrackFileError as error:
            first = first or error
    raise first or TrackFileError("there are no clips of stored tracks")


def config_of_tracks(clip: StoredClip, checkpoint: Checkpoint, config: Config) -> Config:
    """``config`` with the settings that the tracks of ``clip`` were made with, where its file says them.

    What they change of the checkpoint's training tracks, beside what ``config`` changes, is warned of.

    Raises:
        UsageError: ``config`` has another value of one of these settings than the checkpoint and the tracks.
        ConfigError: the checkpoint fixes a setting that the tracks have otherwise.
    """
    if clip.settings is None:
        return config
    own, asked, trained = clip.settings, flatten(to_dict(config)), flatten(to_dict(checkpoint.config))
    given: dict[str, Given] = {}
    for key, value in own.items():
        if key not in SETTINGS or key == "data.sequence_length":  # the tracked length, which was checked
            continue
        if asked[key] not in (value, trained[key]):
            raise UsageError(
                f"{key} = {asked[key]} is impossible: the tracks of {clip.path} were made with {value}; "
                "leave it out, or preprocess again"
            )
        given[key] = Given(value, "")
    try:
        made = build(config, given)
        told = set(check_overrides(checkpoint, config))
        for change in check_overrides(checkpoint, made):
            if change not in told:
                logger.warning("the tracks differ from the checkpoint's training tracks: %s", change)
    except ConfigError as error:
        raise ConfigError(f"{clip.path}: its tracks do not suit {checkpoint.path.name}: {error}") from None
    return made


class StoredWindows:
    """The windows of one stored clip, in batches.

    Args:
        name: the clip's.
        opener: opens it.
        configs: of the tokenizers that are to read it, one or more.

    Attributes:
        clip: open, with the first tokenizer's views.

    Raises:
        TrackFileError: it cannot be read, does not suit a tokenizer, or was made with other settings.
    """

    def __init__(self, name: str, opener: OpenClip[StoredClip], configs: Sequence[Config]) -> None:
        self._config = configs[0]
        self.clip = opener(self._config.data.views)
        for config in configs:
            check_fits(self.clip, config)
            _check_settings(self.clip, config)
        if self.clip.stores == "positions":
            if self._config.conditioned:
                self.clip.check_first_frames()
            _warn_of_clip(self.clip, self._config)
        self._windows = WindowDataset({name: self.clip}, self._config)
        self._places = places_of(self.clip)

    @property
    def counts(self) -> dict[str, int | None]:
        """Frames of the clip and windows that a gate dropped, where its file says."""
        attributes = getattr(self.clip, "attributes", {})
        return {
            name: None if name not in attributes else int(attributes[name])
            for name in ("num_frames", "windows_dropped")
        }

    def batches(self, size: int) -> Iterator[WindowBatch]:
        """Batches of at most ``size`` windows, in order.

        Raises:
            TrackFileError: the file is damaged.
        """
        for first in range(0, len(self._windows), size):
            rows = np.arange(first, min(first + size, len(self._windows)))
            windows = self._windows.stored(rows)
            yield WindowBatch(windows, self._columns(rows, windows))

    def _columns(self, rows: NDArray[np.int64], windows: Any) -> dict[str, Tensor]:
        starts, seconds, step_seconds, sources = (torch.from_numpy(column[rows]) for column in self._places)
        steps = torch.full((len(rows),), self.clip.length - 1)
        if not isinstance(windows, Tensor) and windows[0].valid_steps is not None:
            steps = windows[0].valid_steps
        return {
            "window_starts": starts,
            "start_seconds": seconds,
            "end_seconds": seconds + torch.where(steps > 0, step_seconds * steps, 0.0),
            "step_seconds": step_seconds,
            "source_frames": sources[:, 0],
            "end_source_frames": sources[:, 1],
        }


def places_of(clip: StoredClip) -> WindowPlaces:
    """Where in ``clip`` its windows are.

    Raises:
        TrackFileError: its file does not say.
    """
    if clip.stores == "velocities":
        return clip.places()
    with clip.open() as opened:
        return clip.places(opened)


def _check_settings(clip: StoredClip, config: Config) -> None:
    """Refuses a clip that was made with other settings than the clips before it."""
    if clip.settings is None:
        return
    wanted = track_settings(config)
    if clip.stores == "velocities":
        wanted |= velocity_settings(config)
    # What a file does not say, as true tracks of rendered clips say nothing of a tracker, is not compared.
    said = {key: value for key, value in clip.settings.items() if key in wanted}
    differ = changes(said, {key: wanted[key] for key in said})
    if differ:
        raise TrackFileError(
            f"{clip.path}: was made with other settings than other clips of the input ({'; '.join(differ)}); "
            "preprocess it again"
        )


def _warn_of_clip(clip: Any, config: Config) -> None:
    """Warns of what is not known of tracks; what is the same for all clips Python tells once."""
    if config.data.reference_size is not None and None in clip.sizes:
        warnings.warn(
            "track files without height and width: their pixels are taken as pixels of data.reference_size",
            stacklevel=2,
        )
    if clip.unwritten:
        warnings.warn(
            f"{clip.path}: {clip.unwritten} windows have room and were never written; their codes tell of no "
            "motion, with a visible_share of 0",
            stacklevel=2,
        )
