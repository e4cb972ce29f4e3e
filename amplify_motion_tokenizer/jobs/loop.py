"""The loop over clips that every folder run shares: skip, process, record."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.errors import (
    EXIT_OK,
    EXIT_SOME_FAILED,
    FileNameError,
    TokenizerError,
    TrackerError,
    TrackFileError,
    UnexpectedError,
    VideoError,
    WorkerError,
)
from amplify_motion_tokenizer.files import check_writable
from amplify_motion_tokenizer.jobs.manifest import Manifest, NoManifest, SeveralManifests
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.jobs.ray_workers import RayActors, Seen, run_in_actors
from amplify_motion_tokenizer.jobs.workers import attempt, run_in_workers
from amplify_motion_tokenizer.video.clips import Clip

logger = logging.getLogger(__name__)


STAGES: dict[type[TokenizerError], str] = {
    VideoError: "video",
    TrackerError: "tracking",
    TrackFileError: "files",
    FileNameError: "write",
    WorkerError: "worker",
    UnexpectedError: "unexpected",
}
"""Errors that concern one clip, and the stage that they belong to; any other error ends the run."""


@dataclass
class Summary:
    """Counts of one run."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    windows: int = 0
    frames: int = 0
    other_files: Counter[str] = field(default_factory=Counter)
    """Files of the input that no clip is made of, by ending."""
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Time in each stage, summed over the clips done."""

    @property
    def exit_status(self) -> int:
        """0 when every clip is done or was done before, 3 when some failed."""
        return EXIT_SOME_FAILED if self.failed else EXIT_OK

    def __str__(self) -> str:
        counts = f"{self.done} done ({self.windows} windows), {self.skipped} skipped, {self.failed} failed"
        if not self.other_files:
            return counts
        most = sorted(self.other_files.items(), key=lambda item: (-item[1], item[0]))[:5]
        kinds = ", ".join(f"{ending} {count}" for ending, count in most)
        return f"{counts}, {self.other_files.total()} files that are no videos left out ({kinds})"

    def add(self, result: dict[str, Any]) -> None:
        """Counts a clip that is done."""
        self.done += 1
        self.windows += result["windows"]
        self.frames += result.get("frames", 0)
        for stage, seconds in result.get("stage_seconds", {}).items():
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds

    def speed(self, seconds: float) -> str:
        """Frames per second of a run of ``seconds``, and the time in each stage with its share."""
        total = sum(self.stage_seconds.values()) or 1.0
        longest_first = sorted(self.stage_seconds.items(), key=lambda item: -item[1])
        stages = ", ".join(f"{name} {spent:.1f} s ({spent / total:.0%})" for name, spent in longest_first)
        rate = self.frames / seconds
        return f"{self.frames} frames in {seconds:.1f} s, {rate:.1f} a second; all processes: {stages}"


AnyManifest = Manifest | SeveralManifests | NoManifest

Process = Callable[[Clip], dict[str, Any]]
"""Makes one clip's output; the result holds ``windows``, their number, and what else the manifest tells."""


@dataclass(frozen=True)
class Workers:
    """Processes to run clips in."""

    count: int
    prepare: Callable[[int], Process]
    """Picklable; makes in a worker its ``Process``, of the number of threads that it may use."""
    limit_s: float | None = None
    """Seconds that a clip may take; as only other processes can be ended, a lone worker is one then."""
    ray: RayActors | None = None
    """What runs all clips in the place of ``count`` processes of this machine, even a lone one."""
    outputs: tuple[Path, ...] = ()
    """The folders that workers write into."""


def run_clips(
    clips: Sequence[Clip],
    manifest: AnyManifest,
    is_complete: Callable[[Clip], bool],
    process: Process,
    workers: Workers | None = None,
) -> Summary:
    """Processes each clip that is not complete, or that the manifest lacks, and records each there.

    A clip that fails with one of ``STAGES``' errors is recorded and does not stop the run.

    Args:
        clips: what to process, in this order.
        manifest: in the output folder; one record per clip: ``clip``, ``source``, ``status`` (done, skipped,
            failed), then what ``process`` returned, or ``stage`` and ``error``.
        is_complete: whether the clip's output is there already.
        process: makes the output; its result may hold ``frames`` and ``stage_seconds``, which are summed.
        workers: used in the place of ``process`` where they and the clips to do are more than one, or where
            there is a limit, or they are Ray's.

    Raises:
        TokenizerError: any other that ``process`` raised; what was done before stays.
        UsageError: nothing can be written in the output folder any more.
    """
    summary, began = Summary(), time.perf_counter()
    with Progress(len(clips), "clip") as progress:
        to_do = []
        for clip in clips:
            # A run that was killed between a clip's files and its line left nothing to tell of it.
            if _is_recorded(clip, manifest) and is_complete(clip):
                manifest.add(_skipped(clip, manifest, summary))
                progress.update()
            else:
                to_do.append(clip)
        with closing(_outcomes(to_do, process, workers, progress)) as outcomes:
            for clip, outcome in outcomes:
                if isinstance(outcome, FileNameError):
                    check_writable(manifest.path.parent)  # raises where it is not that clip's alone
                manifest.add(_finished(clip, outcome, summary))
                progress.update()
    manifest.compact()
    if summary.stage_seconds:
        logger.info("%s", summary.speed(time.perf_counter() - began))
    return summary


def _is_recorded(clip: Clip, manifest: AnyManifest) -> bool:
    """Whether the manifest tells that the clip was finished, as its files on another file system are now."""
    if clip.remote is None:
        return manifest.is_new or clip.name in manifest.records
    known = manifest.records.get(clip.name, {}).get(IDENTITY)
    return known is not None and known == clip.identity


IDENTITY = "source_identity"
"""Key of a record with ``Clip.identity``."""

Outcome = dict[str, Any] | TokenizerError


def _outcomes(
    clips: Sequence[Clip], process: Process, workers: Workers | None, progress: Progress
) -> Generator[tuple[Clip, Outcome], None, None]:
    """Each clip with its result or error, from this process or from workers."""
    if workers and workers.ray and clips:
        progress.note("Ray")
        seen = Seen(workers.outputs, [clip.paths[0].parent for clip in clips[:1] if clip.remote is None])
        yield from run_in_actors(clips, workers.ray, workers.prepare, workers.limit_s, seen, _name)
        return
    count = min(workers.count, len(clips)) if workers else 1
    if workers and (count > 1 or (clips and workers.limit_s is not None)):
        progress.note(f"{count} workers" if count > 1 else "1 worker")
        yield from run_in_workers(clips, count, workers.prepare, workers.limit_s)
        return
    for clip in clips:
        progress.note(clip.name, now=True)
        yield clip, attempt(process, clip)


def _name(clip: Clip) -> str:
    return clip.name


def _skipped(clip: Clip, manifest: AnyManifest, summary: Summary) -> dict[str, Any]:
    summary.skipped += 1
    before = {k: v for k, v in manifest.records.get(clip.name, {}).items() if k not in ("stage", "error")}
    return before | _of_clip(clip) | {"status": "skipped"}


def _of_clip(clip: Clip) -> dict[str, Any]:
    told = {"clip": clip.name, "source": clip.source}
    return {**told, IDENTITY: clip.identity} if clip.identity else told


def _finished(clip: Clip, outcome: Outcome, summary: Summary) -> dict[str, Any]:
    record = _of_clip(clip)
    if not isinstance(outcome, TokenizerError):
        summary.add(outcome)
        return {**record, "status": "done", **outcome}
    stage = next((stage for kind, stage in STAGES.items() if isinstance(outcome, kind)), None)
    if stage is None:
        raise outcome
    summary.failed += 1
    named = any(str(file) in str(outcome) for file in clip.files)
    message = str(outcome) if named else f"{clip.source}: {outcome}"
    logger.error("%s", message)
    return {**record, "status": "failed", "stage": stage, "error": message}
