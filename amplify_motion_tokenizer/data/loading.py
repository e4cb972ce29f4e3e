"""Finds the clips of a folder of tracks, checks that they suit a config, and splits them for validation."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from amplify_motion_tokenizer.config import Config, changes, velocity_settings
from amplify_motion_tokenizer.config.input_kinds import names_with
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.tracks.find import open_tracks
from amplify_motion_tokenizer.tracks.stored import Clips, StoredClip, VelocityClip, positions

logger = logging.getLogger(__name__)


def load_clips(folder: str | Path, config: Config, dataset: str | None = None) -> Clips:
    """Indexes the tracks below ``folder`` and checks that they fit the config.

    Warns once about files that do not say which size was tracked, and about several sizes without a
    reference size.

    Args:
        folder: a folder of track files or velocity files, searched through, or a pack.
        config: what the windows must fit, such as a tokenizer's ``config``. What it says of which clips
            to take (``data.dataset``, ``data.val_split``) is of the data that it was written for, and does
            not act here.
        dataset: takes a share of each task's demos, as ``data.dataset`` says it; None takes every clip.

    Raises:
        ConfigError: ``dataset`` is not such a text.
        TrackFileError: no tracks, a bad file, windows of another T or N, velocities of another
            reference size or W, files that were made with different settings, or no first frames for a
            model that is conditioned on them.
    """
    clips = open_tracks(Path(folder), config.data.views, dataset)
    for clip in clips.values():
        check_fits(clip, config)
    _check_settings(clips, config)
    if config.conditioned:
        _check_first_frames(clips)
    if not any(clip.num_windows for clip in clips.values()):
        raise TrackFileError(f"{folder}: its {len(clips)} clips hold no windows; lower the motion gate")
    _warn_of_sizes(clips, config)
    _warn_of_unwritten(clips)
    return clips


def _warn_of_unwritten(clips: Clips) -> None:
    """Warns of windows that were never written; they read as lost points, which count for nothing."""
    unwritten = {clip.path.name: clip.unwritten for clip in positions(clips).values()}
    first = next((name for name, count in unwritten.items() if count), None)
    if first is not None:
        logger.warning(
            "%d windows of %d track files have room and were never written (the first file is %s): they "
            "count as lost; remake these files",
            sum(unwritten.values()),
            sum(count > 0 for count in unwritten.values()),
            first,
        )


def _warn_of_sizes(clips: Clips, config: Config) -> None:
    """Warns where pixels are not of one size in all clips, or may not be, and nothing rescales them."""
    tracked = positions(clips).values()
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


def check_fits(clip: StoredClip, config: Config) -> None:
    """Raises TrackFileError unless the windows of ``clip`` are of the T and N, and of a kind, that suit."""
    found = (clip.length, clip.num_points)
    expected = (config.tracked_length, config.num_points)
    if clip.stores == "velocities" and not config.input_kind.velocity_files:
        raise TrackFileError(
            f"{clip.path}: velocity files suit model.name {names_with('velocity_files')} alone, not "
            f"{config.model.name}; use track files"
        )
    if clip.stores == "velocities":
        _check_not_resampled(clip, config)
    if found != expected:
        raise TrackFileError(
            f"{clip.path}: windows of T = {found[0]} frames and N = {found[1]} points, expected "
            f"T = {expected[0]} (data.true_horizon or data.sequence_length) and "
            f"N = {expected[1]} (data.grid_size^2)"
        )


def _check_not_resampled(clip: VelocityClip, config: Config) -> None:
    """Refuses velocity files of another length in time: only positions can be resampled."""
    tracked = (clip.settings or {}).get("data.sequence_length", clip.length)
    if tracked != clip.length or config.tracked_length != config.data.sequence_length:
        raise TrackFileError(
            f"{clip.path}: holds {clip.length} frames of windows that were tracked over {tracked}, and "
            f"{config.data.sequence_length} of {config.tracked_length} are asked for; velocity files cannot "
            "be resampled in time: use track files (--format hdf5), or data.true_horizon: null"
        )


def _check_first_frames(clips: Clips) -> None:
    """Raises TrackFileError unless all files have first frames, of one size."""
    files = list(positions(clips).values())
    for clip in files:
        if clip.check_first_frames() != files[0].frame_size:
            raise TrackFileError(
                f"{clip.path}: its first frames are {clip.frame_size}, expected "
                f"{files[0].frame_size} as in {files[0].path}; "
                "preprocess all clips with one tracking.first_frames"
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
    velocity_files = [clip for clip in known if clip.stores == "velocities"]
    if velocity_files:
        wanted, stored = velocity_settings(config), velocity_files[0].settings or {}
        differ = changes({key: stored.get(key) for key in wanted}, wanted)
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
