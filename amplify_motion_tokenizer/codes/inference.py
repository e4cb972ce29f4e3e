"""Inference: the clips of a folder, or tracks that are stored, to files of motion codes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from amplify_motion_tokenizer.codes.clip_codes import (
    StoredJobs,
    StoredTokenizing,
    TokenizingJob,
    VideoJobs,
    VideoTokenizing,
    load_model,
)
from amplify_motion_tokenizer.codes.encoding import EXTRAS, Extra, encode_windows
from amplify_motion_tokenizer.codes.formats import DEFAULT_FORMATS, check_formats
from amplify_motion_tokenizer.codes.record import run_meta
from amplify_motion_tokenizer.codes.stored import clips_of, config_of_tracks, first_that_fits
from amplify_motion_tokenizer.codes.tables import write_tables
from amplify_motion_tokenizer.config import Config, changes, track_settings
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.jobs.folder_run import FolderRun, run_together
from amplify_motion_tokenizer.jobs.loop import Summary
from amplify_motion_tokenizer.jobs.ray_share import Asked
from amplify_motion_tokenizer.jobs.ray_workers import Ray, RayActors
from amplify_motion_tokenizer.jobs.shards import Shard
from amplify_motion_tokenizer.models import MotionTokenizer
from amplify_motion_tokenizer.models.checkpoint import Checkpoint
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker, record_weights
from amplify_motion_tokenizer.tracks.find import clips_to_open, holds_tracks
from amplify_motion_tokenizer.tracks.preprocessing import clip_workers
from amplify_motion_tokenizer.video.remote import input_of, workers_for
from amplify_motion_tokenizer.video.sources import find_clips, model_views, other_files

__all__ = [
    "EXTRAS",
    "Extra",
    "Target",
    "encode_windows",
    "folders_of",
    "tokenize_folder",
    "tokenize_together",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """One checkpoint's codes."""

    output: Path
    """The folder that they are written to."""
    checkpoint: Checkpoint
    """From ``load_checkpoint``."""
    config: Config
    """The checkpoint's config, or one that ``check_overrides`` allows."""


class Written(NamedTuple):
    """What is written of each clip."""

    save: tuple[Extra, ...]
    """Extra arrays."""
    formats: tuple[str, ...]
    """Names of formats, from ``check_formats``."""


def tokenize_folder(
    source: Path | str,
    output: Path,
    checkpoint: Checkpoint,
    config: Config,
    save: Sequence[Extra] = (),
    overwrite: bool = False,
    formats: Sequence[str] = DEFAULT_FORMATS,
    shard: Shard | None = None,
    ray: Ray | None = None,
) -> Summary:
    """Writes the codes of every clip below ``source`` below ``output``, subfolders kept.

    By default ``<clip>.json`` for each clip and ``codes.jsonl`` with the same objects, one a line;
    docs/formats.md has every format. Files in other formats that an earlier run wrote there are kept true.
    With ``save``, ``<clip>.pt`` holds tensors: window_starts (windows,), code_sequences
    (windows, d), latent_tokens (windows, d, D) after quantising, labels_per_point (windows, [V,] t, N).
    What an earlier run saved there is kept.
    Clips run side by side in ``tracking.num_workers`` processes where model and tracker run on the CPU, with
    equal codes; a script that calls this needs ``if __name__ == "__main__":`` then, as they import it.
    Clips that are complete for this checkpoint and config are skipped, unless ``overwrite``. The folder
    holds the codes of one checkpoint and config, which ``checkpoint.yaml`` and ``config.yaml`` tell.

    Args:
        source: a video or a folder of videos, as a path or a URL of fsspec's such as s3://bucket/clips; or
            tracks, which are not tracked again: a folder of track files of any format, a pack, or one track
            file. The same windows have the same codes either way.
        output: where to write.
        checkpoint: from ``load_checkpoint``.
        config: the checkpoint's config, or one that ``check_overrides`` allows.
        save: extra arrays.
        overwrite: redo clips that are complete.
        formats: names of ``codes.formats.FORMATS``, one at least of a file for each clip.
        shard: the share of the clips to take, beside other runs that take the others; then the folder is
            read once ``codes.merging.merge`` has joined them, which writes the files of all clips.
        ray: the cluster whose machines run clips, all of which see the folders, in the place of this one.

    Raises:
        TokenizerError: nothing to do, output not writable, tracker or weights cannot be used, or
            ``output`` holds the codes of another checkpoint or config, or what another command wrote.
    """
    target = Target(output, checkpoint, config)
    return tokenize_together(source, [target], save, overwrite, formats, shard, ray)


def tokenize_together(
    source: Path | str,
    targets: Sequence[Target],
    save: Sequence[Extra] = (),
    overwrite: bool = False,
    formats: Sequence[str] = DEFAULT_FORMATS,
    shard: Shard | None = None,
    ray: Ray | None = None,
) -> Summary:
    """As ``tokenize_folder``, with several checkpoints, which one tracking pass feeds.

    Args:
        source: as there.
        targets: each checkpoint with its config and its folder of codes; one or more.
        save: extra arrays.
        overwrite: redo clips that are complete.
        formats: as there.
        shard: as there.
        ray: as there.

    Raises:
        TokenizerError: as there; or the configs of two targets ask for different tracks of videos.
    """
    written = Written(tuple(save), check_formats(formats, save))
    source = input_of(source)
    if targets[0].config.video.source == "files" and isinstance(source, Path) and holds_tracks(source):
        return _tokenize_stored(source, targets, written, overwrite, shard, ray)
    _check_alike(targets)
    config = targets[0].config
    clips = find_clips(source, config, model_views(source, config))
    runs = [FolderRun.open(clips, target.output, "codes", overwrite, shard) for target in targets]
    for target in targets:
        if target.checkpoint.track_settings is None:
            logger.warning(
                "%s does not say how its training tracks were made: video.* and tracking.* are used as given",
                target.checkpoint.path,
            )
    tracker = make_tracker(config)
    models = [load_model(target.checkpoint, target.config) for target in targets]
    jobs = [
        _job(target, record_weights(target.config, tracker), tracker.name, model, written)
        for target, model in zip(targets, models, strict=True)
    ]
    workers = tokenizing_workers(config, tracker, models[0].device, len(runs[0].clips))
    summary = run_together(
        _with_jobs(runs, jobs),
        VideoTokenizing(tuple(zip(jobs, models, strict=True)), tracker),
        VideoJobs(tuple(jobs)).prepare,
        num_workers=workers_for(source, workers, config.tracking.clip_limit_s),
        limit_s=config.tracking.clip_limit_s,
        ray=None if ray is None else tokenizing_actors(ray, source, config, tracker, len(runs[0].clips)),
    )
    summary.other_files = other_files(source, clips, config)
    _write_tables(jobs, shard)
    return summary


def _tokenize_stored(
    source: Path,
    targets: Sequence[Target],
    written: Written,
    overwrite: bool,
    shard: Shard | None,
    ray: Ray | None,
) -> Summary:
    """Codes of tracks; one process without Ray: reading and encoding take a thousandth of tracking's time."""
    openers = clips_to_open(source)
    clips, first = clips_of(openers), first_that_fits(openers, targets[0].config)
    runs = [FolderRun.open(clips, target.output, "codes", overwrite, shard) for target in targets]
    models = [load_model(target.checkpoint, target.config) for target in targets]
    jobs = []
    for target, model in zip(targets, models, strict=True):
        config = config_of_tracks(first, target.checkpoint, target.config)
        tracker = None if first.settings is None else config.tracking.tracker
        jobs.append(_job(target, config, tracker, model, written))
    process = StoredTokenizing(tuple(zip(jobs, models, strict=True)), openers)
    config = targets[0].config
    summary = run_together(
        _with_jobs(runs, jobs),
        process,
        StoredJobs(tuple(jobs), source).prepare,
        ray=None if ray is None else tokenizing_actors(ray, source, config, None, len(runs[0].clips)),
    )
    _write_tables(jobs, shard)
    return summary


def _write_tables(jobs: Sequence[TokenizingJob], shard: Shard | None) -> None:
    """Writes the files of all clips, which of shards ``merge`` writes."""
    if shard is None:
        for job in jobs:
            write_tables(job.output, job.tables)


def _with_jobs(
    runs: Sequence[FolderRun], jobs: Sequence[TokenizingJob]
) -> list[tuple[FolderRun, TokenizingJob]]:
    """Each run with its job, of which ``merge`` is to know how to make the tables of all clips."""
    facts = ({"settings": job.made_alike, "tables": job.tables} for job in jobs)
    return [(run.telling(told), job) for run, job, told in zip(runs, jobs, facts, strict=True)]


def _job(
    target: Target, config: Config, tracker: str | None, model: MotionTokenizer, written: Written
) -> TokenizingJob:
    meta = run_meta(target.checkpoint, config, tracker, model)
    return TokenizingJob(target.output, target.checkpoint, config, meta, *written)


def _check_alike(targets: Sequence[Target]) -> None:
    """Refuses checkpoints that one tracking pass cannot feed."""
    first = targets[0]
    for other in targets[1:]:
        differ = changes(_tracked(first.config), _tracked(other.config))
        if differ:
            raise UsageError(
                f"{first.checkpoint.path} and {other.checkpoint.path} take different tracks "
                f"({'; '.join(differ)}); set these keys alike where that is allowed, or run them one by one"
            )


def _tracked(config: Config) -> dict[str, Any]:
    """What decides the tracked windows that a model is given."""
    return track_settings(config) | {"data.views": list(config.data.views)}


def folders_of(output: Path, checkpoints: Sequence[str | Path]) -> list[Path]:
    """The folder of codes of each checkpoint: ``output`` of a lone one, else subfolders named after them.

    The name is the file's without its ending, with the folder's before it where several are called alike.

    Raises:
        UsageError: two checkpoints would share a folder.
    """
    if len(checkpoints) == 1:
        return [output]
    paths = [Path(checkpoint) for checkpoint in checkpoints]
    stems = Counter(path.stem for path in paths)
    names = [
        path.stem if stems[path.stem] == 1 else f"{path.resolve().parent.name}_{path.stem}" for path in paths
    ]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UsageError(
            f"--checkpoint: two checkpoints would share {output / twice}; give each once, or rename"
        )
    return [output / name for name in names]


CLIPS_A_WORKER = 16
"""Clips that pay for a worker: it takes some 5 CPU seconds to start, mostly the quantiser's library."""


def tokenizing_workers(config: Config, tracker: PointTracker, device: torch.device, clips: int) -> int:
    """Processes that tokenize ``clips`` clips; a lone one where the model owns a device.

    ``tracking.num_workers`` of them, or, where it is null, as many as track clips but no more than pay.
    """
    if device.type != "cpu":
        return 1
    most = clip_workers(config, tracker)
    return most if config.tracking.num_workers is not None else max(1, min(most, clips // CLIPS_A_WORKER))


def tokenizing_actors(
    ray: Ray, source: str | Path, config: Config, tracker: PointTracker | None, clips: int
) -> RayActors:
    """Actors of the cluster ``ray`` that tokenize ``clips`` clips.

    ``tracking.num_workers`` of them, or, where it is null, one per GPU or core of all machines, but no more
    than pay.

    Args:
        ray: the cluster.
        source: the input.
        config: of the tokenizer.
        tracker: what tracks the clips; None where their tracks are stored.
        clips: their number.

    Raises:
        UsageError: no other process sees the input.
    """
    ray.check_input(source)
    most = clips if config.tracking.num_workers is not None else max(1, clips // CLIPS_A_WORKER)
    owns = tracker is not None and tracker.owns_device
    devices = (config.inference.device, *([config.tracking.device] if owns else []))
    return RayActors(ray=ray, asked=Asked(config.tracking.num_workers, most, devices, owns))
