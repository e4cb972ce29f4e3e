"""A folder of videos to a folder of tracks."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import torch
from torch import Tensor

from amplify_motion_tokenizer.config import VELOCITY_KEYS, Config, changes, flatten, to_dict, track_settings
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.devices import available_cores
from amplify_motion_tokenizer.errors import ConfigError, UsageError
from amplify_motion_tokenizer.file_names import MANIFEST, OUTPUT_CONFIG, VELOCITY_INDEX_ENDING
from amplify_motion_tokenizer.files import remove_leftovers, write_yaml
from amplify_motion_tokenizer.geometry import tracks_to_velocities
from amplify_motion_tokenizer.jobs.loop import Process, Summary, Workers, run_clips
from amplify_motion_tokenizer.jobs.manifest import Manifest
from amplify_motion_tokenizer.jobs.output_folders import open_output_folder
from amplify_motion_tokenizer.jobs.workers import cleaned_up
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker, record_weights
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.find import is_complete
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.tracks.record import ClipWriter, clip_record
from amplify_motion_tokenizer.tracks.velocity_files import VelocityFilesWriter
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.sources import find_clips, model_views, other_files, tracked_views

Format = Literal["hdf5", "pt"]
FORMATS: tuple[Format, ...] = ("hdf5", "pt")

logger = logging.getLogger(__name__)


def preprocess_folder(
    source: Path, output: Path, config: Config, output_format: Format = "hdf5", overwrite: bool = False
) -> Summary:
    """Tracks every clip below ``source`` and writes one track file for each below ``output``.

    A track file holds every view of its clip; velocity files hold the one that the model takes.
    Subfolders are kept. Clips whose file is complete are skipped, unless ``overwrite``; a failed
    clip is recorded in ``manifest.jsonl`` and does not stop the run. The resolved config is saved
    as ``config.yaml``. Clips run side by side in ``tracking.num_workers`` processes, with equal tracks; a
    script that calls this needs ``if __name__ == "__main__":`` then, as they import it.

    Raises:
        UsageError: nothing to do, output not writable, or ``output`` holds tracks of other settings, or what
            another command wrote.
        ConfigError: velocity files are asked for, and not for one view of a keypoint model; or with first
            frames or ``data.true_horizon``, which take frames or positions that they do not hold.
        TrackerError: the tracker cannot start.
    """
    views = tracked_views(config) if output_format == "hdf5" else _velocity_view(config)
    clips = find_clips(source, config, views)
    open_output_folder(output, "tracks")
    tracker = make_tracker(config)
    config = record_weights(config, tracker)
    settings = _recorded_settings(config, output_format)
    _check_layout(output, output_format)
    if not overwrite:
        _check_same_settings(output, config, output_format)
    write_yaml(output / OUTPUT_CONFIG, to_dict(config))

    def complete(clip: Clip) -> bool:
        return not overwrite and is_complete(_target(output, clip, output_format), settings, *clip.paths)

    process = partial(_track_clip, output, config, tracker, settings, output_format)
    workers = Workers(_num_workers(config), partial(_in_worker, output, config, settings, output_format))
    manifest = Manifest(output / MANIFEST)
    _warn_of_others(output, manifest, clips)
    with cleaned_up(partial(remove_leftovers, output, own=True)):
        summary = run_clips(clips, manifest, complete, process, workers)
    summary.other_files = other_files(source, clips)
    return summary


def _warn_of_others(output: Path, manifest: Manifest, clips: Sequence[Clip]) -> None:
    """Tracks of clips that were renamed or removed stay, and training would use them."""
    given = {clip.name for clip in clips}
    done = (name for name, record in manifest.records.items() if record["status"] != "failed")
    others = sorted(name for name in done if name not in given)
    if others:
        logger.warning(
            "%s also holds tracks of %d clips that are not in the input, such as %s; training on it will use "
            "them: remove their files and manifest.jsonl if they were renamed or removed",
            output, len(others), others[0],
        )  # fmt: skip


def _num_workers(config: Config) -> int:
    """One per core, or a lone one for a neural tracker, which has its device to itself."""
    if config.tracking.num_workers is not None:
        return config.tracking.num_workers
    return available_cores() if config.tracking.tracker == "flow" else 1


def _in_worker(
    output: Path, config: Config, settings: dict[str, Any], output_format: Format, threads: int
) -> Process:
    """What a worker process does with each clip, on ``threads`` threads and no more."""
    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)
    video = dataclasses.replace(config.video, threads=min(config.video.threads, threads))
    config = dataclasses.replace(config, video=video)
    return partial(_track_clip, output, config, make_tracker(config), settings, output_format)


def _velocity_view(config: Config) -> list[str]:
    if config.model.name != "keypoint":
        raise ConfigError(f"velocity files suit model.name keypoint alone, not {config.model.name}; use hdf5")
    if config.tracking.first_frames is not None:
        raise ConfigError("velocity files hold no frames; use hdf5, or tracking.first_frames: null")
    if config.tracked_length != config.data.sequence_length:
        raise ConfigError(
            "velocity files hold no positions, which alone can be resampled in time; use hdf5, or "
            "data.true_horizon: null"
        )
    return model_views(config)


def _recorded_settings(config: Config, output_format: Format) -> dict[str, Any]:
    settings = track_settings(config)
    if output_format == "pt":
        # Velocities on disk are already remapped and W-normalised, of one view, so these decide them too.
        flat = flatten(to_dict(config))
        settings |= {key: flat[key] for key in (*VELOCITY_KEYS, "data.views")}
    return settings


def _check_layout(output: Path, output_format: Format) -> None:
    """Refuses to mix the two layouts in one folder."""
    other = f"*{VELOCITY_INDEX_ENDING}" if output_format == "hdf5" else "*.hdf5"
    if next(output.rglob(other), None) is not None:
        raise UsageError(f"{output} holds tracks of the other --format; choose another --output")


def _check_same_settings(output: Path, config: Config, output_format: Format) -> None:
    """Refuses to mix tracks of different settings in one folder."""
    path = output / OUTPUT_CONFIG
    if not path.exists():
        return
    before = _recorded_settings(config_from_dict(load_yaml(path), f"in {path}"), output_format)
    now = _recorded_settings(config, output_format)
    changed = changes(before, now)
    if changed:
        raise UsageError(
            f"{output} was made with other settings ({'; '.join(changed)}); "
            "give --overwrite to redo every clip, or another --output"
        )


def _target(output: Path, clip: Clip, output_format: Format) -> Path:
    return output / f"{clip.name}{'.hdf5' if output_format == 'hdf5' else VELOCITY_INDEX_ENDING}"


def _track_clip(
    output: Path,
    config: Config,
    tracker: PointTracker,
    settings: dict[str, Any],
    output_format: Format,
    clip: Clip,
) -> dict[str, Any]:
    began, windows = time.perf_counter(), 0
    target = _target(output, clip, output_format)
    with TrackedClip(clip, config, tracker) as tracked:
        record = clip_record(list(tracked.infos.values()), settings, tracker.name)

        def velocities(window: WindowTracks) -> Tensor:
            tracks_xy_px, width = torch.from_numpy(window.tracks_xy_px), config.model.decoder_window_size
            return tracks_to_velocities(tracks_xy_px, tracked.sizes[0], config.data.reference_size, width)

        writer: ClipWriter = (
            TrackFileWriter(target, record, tracked.infos)
            if output_format == "hdf5"
            else VelocityFilesWriter(target, record, velocities)
        )
        with tracked.times.stage("write"), writer:
            for window in tracked:
                writer.append(*window)
                windows += 1
            writer.finish(tracked.num_frames, tracked.windows_dropped)
    return {
        "output": target.relative_to(output).as_posix(),
        "windows": windows,
        "windows_dropped": tracked.windows_dropped,
        "frames": tracked.num_frames,
        "fps": tracked.info.fps,
        "seconds": round(time.perf_counter() - began, 3),
        "stage_seconds": tracked.times.rounded(),
        **tracked.findings,
    }
