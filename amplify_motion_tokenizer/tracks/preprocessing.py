"""Preprocessing: the videos of a folder to a folder of tracks."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.config import Config, changes, settings_hash, to_dict
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.devices import available_cores
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import OUTPUT_CONFIG
from amplify_motion_tokenizer.jobs.folder_run import FolderRun, on_threads
from amplify_motion_tokenizer.jobs.loop import Summary
from amplify_motion_tokenizer.jobs.ray_share import Asked
from amplify_motion_tokenizer.jobs.ray_workers import Ray, RayActors
from amplify_motion_tokenizer.jobs.shards import Shard
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker, record_weights
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.tracks.base import TrackFormat, clip_of
from amplify_motion_tokenizer.tracks.clip_files import ClipFiles
from amplify_motion_tokenizer.tracks.formats import DEFAULT_FORMAT, track_format, track_formats
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.remote import input_of, local_copy, workers_for
from amplify_motion_tokenizer.video.sources import find_clips, other_files

logger = logging.getLogger(__name__)


def preprocess_folder(
    source: Path | str,
    output: Path,
    config: Config,
    output_format: str = DEFAULT_FORMAT,
    overwrite: bool = False,
    shard: Shard | None = None,
    ray: Ray | None = None,
) -> Summary:
    """Tracks every clip below ``source`` and writes its tracks below ``output``.

    An HDF5 track file holds every view of its clip; velocity files hold the one that the model takes.
    Subfolders are kept. Clips whose file is complete are skipped, unless ``overwrite``; a failed
    clip is recorded in ``manifest.jsonl`` and does not stop the run. The resolved config is saved
    as ``config.yaml``. Clips run side by side in ``tracking.num_workers`` processes, with equal tracks; a
    script that calls this needs ``if __name__ == "__main__":`` then, as they import it.

    Args:
        source: a video, or a folder of clips; a path, or a URL of fsspec's such as s3://bucket/clips.
        output: where to write.
        config: what is tracked, and how.
        output_format: a name of ``formats.FORMATS``.
        overwrite: redo clips that are complete.
        shard: the share of the clips to track, beside other runs that track the others; then the folder is
            read once ``codes.merging.merge`` has joined them.
        ray: the cluster whose machines run clips, all of which see the folders, in the place of this one.

    Raises:
        UsageError: nothing to do, output not writable, two clips could share a file, or ``output`` holds
            tracks of other settings or of another format, or what another command wrote.
        ConfigError: the format cannot hold what the config asks for: velocity files are of one view of a
            keypoint model, without first frames, ``data.true_horizon`` and ``tracking.pad_end``.
        TrackerError: the tracker cannot start.
    """
    own, source = track_format(output_format), input_of(source)
    clips = find_clips(source, config, own.views(source, config))
    run = FolderRun.open(clips, output, "tracks", overwrite, shard)
    tracker = make_tracker(config)
    config = record_weights(config, tracker)
    _check_format(output, own)
    _check_names(clips, source)
    job = TrackingJob(output, config, own)
    summary = run.telling({"settings": job.settings_text}).run(
        job,
        ClipTracking(job, tracker),
        num_workers=workers_for(source, clip_workers(config, tracker), config.tracking.clip_limit_s),
        limit_s=config.tracking.clip_limit_s,
        ray=None if ray is None else tracking_actors(ray, source, config, tracker, len(run.clips)),
        others="training on it will use them",
    )
    summary.other_files = other_files(source, clips, config)
    return summary


def clip_workers(config: Config, tracker: PointTracker) -> int:
    """As many as the config says; null is one per core, or a lone one for a tracker that owns its device."""
    if config.tracking.num_workers is not None:
        return config.tracking.num_workers
    return 1 if tracker.owns_device else available_cores()


def tracking_actors(
    ray: Ray, source: str | Path, config: Config, tracker: PointTracker, clips: int
) -> RayActors:
    """Actors of the cluster ``ray`` that track ``clips`` clips.

    As many as the config says; null is one per GPU, or core, of all machines.

    Raises:
        UsageError: no other process sees the input ``source``.
    """
    ray.check_input(source)
    devices = (config.tracking.device,) if tracker.owns_device else ()
    asked = Asked(config.tracking.num_workers, clips, devices, tracker.owns_device)
    return RayActors(ray=ray, asked=asked)


def _check_format(output: Path, own: TrackFormat) -> None:
    """Refuses to mix the tracks of two formats in one folder."""
    for other in track_formats():
        there = (next(output.rglob(f"*{ending}"), None) for ending in other.endings)
        if other.name != own.name and any(there):
            raise UsageError(f"{output} holds tracks of --format {other.name}; choose another --output")


def _check_names(clips: Sequence[Clip], source: Path | str) -> None:
    """Refuses a clip whose file another clip's could be, if the other one's pictures change their size."""
    names = {clip.name for clip in clips}
    for name in sorted(names):
        other = clip_of(name)
        if other in names:
            raise UsageError(
                f"input folder {source} has clips named {other} and {name}, where pictures of {other} that "
                f"have another size than its first would go to {name}, too; rename one"
            )


@dataclass(frozen=True)
class TrackingJob:
    """What preprocessing makes of each clip."""

    output: Path
    config: Config
    format: TrackFormat

    @property
    def settings(self) -> dict[str, Any]:
        """The dotted keys that decide what is stored."""
        return self.format.settings(self.config)

    @property
    def settings_text(self) -> str:
        """The same for tracks of the same format that are made alike."""
        return f"{self.format.name} {settings_hash(self.settings)}"

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """The resolved config."""
        return {OUTPUT_CONFIG: to_dict(self.config)}

    def changed(self) -> list[str]:
        """How this run's settings differ from the settings of the tracks in the output folder."""
        path = self.output / OUTPUT_CONFIG
        if not path.exists():
            return []
        before = config_from_dict(load_yaml(path), f"in {path}")
        return changes(self.format.settings(before), self.settings)

    def is_complete(self, clip: Clip) -> bool:
        """Whether the clip's tracks are there, made with these settings of the source as it is."""
        return self.format.is_complete(self.target(clip), self.settings, *clip.files)

    def target(self, clip: Clip) -> Path:
        """The file that is there when the clip is complete."""
        return self.format.target(self.output, clip.name)

    def prepare(self, threads: int) -> ClipTracking:
        """What a worker does with each clip."""
        config = on_threads(self.config, threads)
        return ClipTracking(dataclasses.replace(self, config=config), make_tracker(config))


@dataclass(frozen=True)
class ClipTracking:
    """Tracks clips, in one process."""

    job: TrackingJob
    tracker: PointTracker

    def __call__(self, clip: Clip) -> dict[str, Any]:
        """Writes the tracks of ``clip``; returns what the manifest tells of it."""
        with local_copy(clip) as here:
            return self._track(here)

    def _track(self, clip: Clip) -> dict[str, Any]:
        began, windows = time.perf_counter(), 0
        job, target = self.job, self.job.target(clip)
        with TrackedClip(clip, job.config, self.tracker) as tracked:
            files = ClipFiles(target, job.format, self.tracker.name, tracked.infos, job.config)
            with tracked.times.stage("write"), files:
                for infos, stretch in tracked.stretches():
                    for window in stretch:
                        files.append(infos, *window)
                        windows += 1
                files.finish(tracked.num_frames, tracked.windows_dropped)
        output, *others = (path.relative_to(job.output).as_posix() for path in files.paths)
        if others:
            logger.warning(
                "%s: its pictures change their size; the tracks of others than the first are in %s",
                clip.source, ", ".join(others),
            )  # fmt: skip
        return {
            "output": output,
            **({"other_sizes": others} if others else {}),
            "windows": windows,
            "windows_dropped": tracked.windows_dropped,
            "frames": tracked.num_frames,
            "fps": tracked.info.fps,
            "seconds": round(time.perf_counter() - began, 3),
            "stage_seconds": tracked.times.rounded(),
            **tracked.findings,
        }
