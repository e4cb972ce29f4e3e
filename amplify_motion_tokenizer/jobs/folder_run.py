"""A run over the clips of a folder into an output folder of its own, made alike by every command.

A command says what it makes of a clip and what is its own; the rest stands here: refusing to mix outputs of
different settings, what an output folder says of itself, skipping what is complete, workers, the manifest.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import MANIFEST
from amplify_motion_tokenizer.files import remove_leftovers, write_yaml
from amplify_motion_tokenizer.jobs.folder_lock import beginning, only_run, remove_lock
from amplify_motion_tokenizer.jobs.loop import Process, Summary, Workers, run_clips
from amplify_motion_tokenizer.jobs.manifest import Manifest, SeveralManifests
from amplify_motion_tokenizer.jobs.output_folders import Kind, open_output_folder
from amplify_motion_tokenizer.jobs.ray_workers import RayActors
from amplify_motion_tokenizer.jobs.shards import Shard, check_number, finish_shard, listing_of, manifest_of
from amplify_motion_tokenizer.jobs.workers import cleaned_up
from amplify_motion_tokenizer.video.clips import Clip

logger = logging.getLogger(__name__)


class ClipJob(Protocol):
    """What a command makes of each clip; picklable, so that a worker process can prepare to do it too."""

    @property
    def records(self) -> Mapping[str, dict[str, Any]]:
        """Contents of the YAML files, by name, that say in the output folder how it was made."""

    def changed(self) -> Sequence[str]:
        """How the outputs in the folder were made otherwise, as ``config.keys.changes`` tells it."""

    def prepare(self, threads: int) -> Process:
        """Makes the function that a worker calls on each clip, on ``threads`` threads (``on_threads``)."""

    def is_complete(self, clip: Clip) -> bool:
        """Whether the clip's output is there, made with these settings of the source as it is."""


@dataclass(frozen=True, kw_only=True)
class FolderRun:
    """The clips of an input and the folder that is to hold what is made of them.

    Make one with ``open``, before anything that takes long: it finds out whether the folder can be used.
    """

    clips: Sequence[Clip]
    output: Path
    kind: Kind
    """What ``output`` holds."""
    overwrite: bool
    """Whether clips that are complete are done again, whatever settings they were made with."""
    shard: Shard | None = None
    """The share of the input that ``clips`` are; None where they are all."""
    for_merge: Mapping[str, Any] = field(default_factory=dict)
    """Of a shard what ``finish_shard`` records of it."""

    @staticmethod
    def open(
        clips: Sequence[Clip], output: Path, kind: Kind, overwrite: bool = False, shard: Shard | None = None
    ) -> FolderRun:
        """Creates or opens ``output``, for all ``clips`` of the input or for the share of a shard.

        Raises:
            UsageError: it cannot be written, or another command wrote it.
        """
        open_output_folder(output, kind)
        if shard is None:
            return FolderRun(clips=clips, output=output, kind=kind, overwrite=overwrite)
        own = [clip for clip in clips if shard.holds(clip.name)]
        logger.info("shard %s: %d of %d clips", shard, len(own), len(clips))
        facts = {"kind": kind, "input": listing_of(clip.name for clip in clips)}
        return FolderRun(
            clips=own, output=output, kind=kind, overwrite=overwrite, shard=shard, for_merge=facts
        )

    def telling(self, facts: Mapping[str, Any]) -> FolderRun:
        """The same run, of which ``merge`` is to know ``facts`` too, if it is a shard's: plain values.

        ``settings`` among them is a text that outputs of equal settings have in common.
        """
        return dataclasses.replace(self, for_merge={**self.for_merge, **facts})

    def run(
        self,
        job: ClipJob,
        process: Process,
        *,
        num_workers: int = 1,
        limit_s: float | None = None,
        ray: RayActors | None = None,
        others: str = "",
    ) -> Summary:
        """Makes the output of each clip that is not complete; see ``run_clips`` for clips that fail.

        Args:
            job: what is made of a clip.
            process: what ``job.prepare`` would make, for this process.
            num_workers: processes that make outputs side by side, 1 being this one alone.
            limit_s: seconds that a clip may take; with a limit a lone worker is a process of its own too.
            ray: actors that make them instead.
            others: what happens to outputs that are in the folder and whose clips are not in the input, for a
                warning; empty where they do no harm.

        Raises:
            UsageError: outputs of other settings are in the folder; or it cannot be written any more.
            TokenizerError: as ``run_clips``.
        """
        return run_together(
            [(self, job)],
            process,
            job.prepare,
            num_workers=num_workers,
            limit_s=limit_s,
            ray=ray,
            others=others,
        )

    def begin(self, job: ClipJob, others: str = "") -> Manifest:
        """Writes what the folder says of how it is made; arguments and errors as those of ``run``."""
        if self.shard is not None:
            check_number(self.output, self.shard)
        if not self.overwrite and (differ := job.changed()):
            raise UsageError(
                f"{self.output} holds the {self.kind} of another run ({'; '.join(differ)}); "
                "give --overwrite to redo every clip, or another --output"
            )
        for name, content in job.records.items():
            write_yaml(self.output / name, content)
        manifest = manifest_of(self.output, self.shard)
        manifest.begin()
        if others:
            self._warn_of_others(manifest, others)
        return manifest

    def finish(self) -> None:
        """Records of a shard that all its clips were seen."""
        if self.shard is not None:
            finish_shard(self.output, self.shard, self.for_merge)

    def is_done(self, job: ClipJob, clip: Clip) -> bool:
        """Whether nothing is to be made of ``clip``."""
        return not self.overwrite and job.is_complete(clip)

    def _warn_of_others(self, manifest: Manifest, consequence: str) -> None:
        """Outputs of clips that were renamed or removed stay."""
        given = {clip.name for clip in self.clips}
        done = (name for name, record in manifest.records.items() if record.get("status") != "failed")
        others = sorted(name for name in done if name not in given)
        if others:
            logger.warning(
                "%s also holds %s of %d clips that are not in the input, such as %s; %s: remove their files "
                "and %s if they were renamed or removed",
                self.output, self.kind, len(others), others[0], consequence, MANIFEST,
            )  # fmt: skip


def run_together(
    runs: Sequence[tuple[FolderRun, ClipJob]],
    process: Process,
    prepare: Callable[[int], Process],
    *,
    num_workers: int = 1,
    limit_s: float | None = None,
    ray: RayActors | None = None,
    others: str = "",
) -> Summary:
    """Runs over the same clips into several folders, in each of which the same file names are made of a clip.

    A clip that is complete in all of them is skipped; else it is made anew in all.

    Args:
        runs: each folder's run and what is made in it, one or more.
        process: makes the outputs of a clip in all folders, in this process.
        prepare: makes such a function in a worker, on that many threads.
        num_workers: as for ``FolderRun.run``.
        limit_s: as for ``FolderRun.run``.
        ray: as for ``FolderRun.run``.
        others: as for ``FolderRun.run``.

    Raises:
        UsageError, TokenizerError: as ``FolderRun.run``.
    """
    with ExitStack() as held:
        for run, _ in runs:
            held.enter_context(only_run(run.output, run.shard))
        outputs = tuple(run.output for run, _ in runs)
        return _run_alone(runs, process, Workers(num_workers, prepare, limit_s, ray, outputs), others)


def _run_alone(
    runs: Sequence[tuple[FolderRun, ClipJob]], process: Process, workers: Workers, others: str
) -> Summary:
    manifests = []
    for run, job in runs:
        with beginning(run.output, run.shard):
            manifests.append(run.begin(job, others))

    def clean_up() -> None:
        for run, _ in runs:
            remove_leftovers(run.output, own=True)
            if run.shard is None:  # others may share the lock of a shard
                remove_lock(run.output)  # SIGTERM ends the process there and then

    with cleaned_up(clean_up):
        summary = run_clips(
            runs[0][0].clips,
            SeveralManifests(manifests),
            lambda clip: all(run.is_done(job, clip) for run, job in runs),
            process,
            workers,
        )
        for run, _ in runs:
            run.finish()
        return summary


def on_threads(config: Config, threads: int) -> Config:
    """Keeps OpenCV and torch in this process to ``threads`` threads; in the config returned decoding too."""
    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)
    video = dataclasses.replace(config.video, threads=min(config.video.threads, threads))
    return dataclasses.replace(config, video=video)
