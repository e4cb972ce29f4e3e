"""What inference makes of one clip: the code files of each checkpoint, from a video or from stored tracks."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from amplify_motion_tokenizer.codes.encoding import (
    EXTRAS,
    ClipBatches,
    Extra,
    GatheredBatches,
    WindowBatch,
    codes_of_arrays,
    encode_views,
    no_windows,
)
from amplify_motion_tokenizer.codes.files.base import CodeFormat
from amplify_motion_tokenizer.codes.formats import code_format, code_formats
from amplify_motion_tokenizer.codes.record import (
    changes_of_run,
    known_config_hashes,
    source_meta,
    stored_meta,
)
from amplify_motion_tokenizer.codes.stored import Openers, StoredWindows
from amplify_motion_tokenizer.codes.unfinished import UnfinishedCodes
from amplify_motion_tokenizer.config import Config, to_dict
from amplify_motion_tokenizer.devices import resolve_device
from amplify_motion_tokenizer.file_names import CHECKPOINT_RECORD, OUTPUT_CONFIG
from amplify_motion_tokenizer.files import check_target, write_torch
from amplify_motion_tokenizer.jobs.fingerprint import is_made_of
from amplify_motion_tokenizer.jobs.folder_run import on_threads
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_weights
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.tracks.find import clips_to_open
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.remote import local_copy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenizingJob:
    """What inference with one checkpoint makes of clips: a code file for each, in any process."""

    output: Path
    checkpoint: Checkpoint
    config: Config
    meta: dict[str, Any]
    """What every clip's ``meta`` has in common."""
    save: tuple[Extra, ...]
    formats: tuple[str, ...]
    """Names of the formats of files, the first of which is of a file for each clip."""

    def __getstate__(self) -> dict[str, Any]:
        """The job for workers, with weights as bytes: torch would share memory, which may be scarce."""
        weights = io.BytesIO()
        torch.save(self.checkpoint.model, weights)
        checkpoint = dataclasses.replace(self.checkpoint, model={}, training=None)
        return self.__dict__ | {"checkpoint": checkpoint, "weights": weights.getvalue()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        model = torch.load(io.BytesIO(state.pop("weights")), weights_only=True)
        checkpoint = dataclasses.replace(state["checkpoint"], model=model)
        self.__dict__.update(state | {"checkpoint": checkpoint})

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """Which checkpoint and settings made the codes."""
        checkpoint = {key: self.meta[key] for key in ("checkpoint", "checkpoint_sha256")}
        return {CHECKPOINT_RECORD: checkpoint, OUTPUT_CONFIG: to_dict(self.config)}

    @property
    def known(self) -> set[str]:
        """Every ``config_hash`` under which codes of this checkpoint and config were written."""
        own_views = self.checkpoint.config.data.views
        return known_config_hashes(self.config, self.meta["checkpoint_sha256"], own_views)

    @property
    def made_alike(self) -> str:
        """The same for codes that are made alike and written in the same formats."""
        return " ".join([self.meta["config_hash"], *sorted(self.formats), *sorted(self.save)])

    @property
    def tables(self) -> dict[str, list[str]]:
        """What ``write_tables`` is to know of the run."""
        return {"formats": list(self.formats), "hashes": sorted(self.known)}

    def changed(self) -> list[str]:
        """How checkpoint and settings differ from the run whose codes are in the output folder."""
        return changes_of_run(self.output, self.config, self.meta)

    def is_complete(self, clip: Clip) -> bool:
        """Whether the clip's codes, and what is to be saved beside them, were made of its source as it is."""
        if self.save and not os.path.isfile(self.arrays(clip)):
            return False
        for form in self.clip_formats:
            path = form.file(self.output, clip.name)
            found = form.meta(path) if os.path.isfile(path) else {}
            if str(found.get("config_hash")) not in self.known or not is_made_of(found, clip.files):
                return False
            if not set(self.save) <= set(found["saved"]):
                return False
        return True

    @property
    def clip_formats(self) -> list[CodeFormat]:
        """The formats of a file for each clip, of which the first is read to make tables."""
        return [form for form in map(code_format, self.formats) if not form.table]

    def arrays(self, clip: Clip) -> Path:
        """The file of the clip's extra arrays."""
        return self.output / f"{clip.name}.pt"

    def target(self, clip: Clip) -> Path:
        """The first file of the clip's codes."""
        return self.clip_formats[0].file(self.output, clip.name)

    def written_formats(self, clip: Clip) -> list[CodeFormat]:
        """The formats of the clip's files: what is wanted, and what an earlier run wrote, to keep it true."""
        of_clips = [form for form in code_formats() if not form.table]
        # Unlike Path.is_file, isfile takes names that are too long, of which ``check_target`` tells.
        there = [form for form in of_clips if os.path.isfile(form.file(self.output, clip.name))]
        return [form for form in of_clips if form.name in self.formats or form in there]

    def saved(self, clip: Clip) -> tuple[Extra, ...]:
        """``save``, and what an earlier run of this checkpoint and config saved, to keep it."""
        metas = (form.meta(form.file(self.output, clip.name)) for form in self.written_formats(clip))
        before = next((meta["saved"] for meta in metas if meta.get("config_hash") in self.known), ())
        return tuple(extra for extra in EXTRAS if extra in (*self.save, *before))

    def prepare(self, threads: int) -> VideoTokenizing:
        """As ``VideoJobs.prepare``, for this job alone."""
        return VideoJobs((self,)).prepare(threads)


def load_model(checkpoint: Checkpoint, config: Config) -> MotionTokenizer:
    """The checkpoint's model in evaluation mode, on ``inference.device``."""
    device = resolve_device(config.inference.device, "inference.device")
    model = build_model(checkpoint.config)
    load_weights(model, checkpoint.model, str(checkpoint.path))
    return model.to(device).eval()


_SAVED = (
    "window_starts", "start_seconds", "step_seconds", "source_frames", "valid_steps", "code_sequences",
    "latent_tokens", "labels_per_point",
)  # fmt: skip
"""The arrays that ``<clip>.pt`` holds, as far as they were asked for."""


class _ClipCodes:
    """The codes of one clip that one job makes, until they are written."""

    def __init__(self, job: TokenizingJob, model: MotionTokenizer, clip: Clip) -> None:
        self._job, self._model, self._clip = job, model, clip
        self.path = job.target(clip)
        self._formats = job.written_formats(clip)
        for target in (*(form.file(job.output, clip.name) for form in self._formats), job.arrays(clip)):
            check_target(target)
        self._save = job.saved(clip)
        self._made = GatheredBatches()

    def on_disk(self, facts: Mapping[str, Any]) -> UnfinishedCodes:
        """What ``add`` is to be given to have codes on disk as they are made; ``facts`` tell of the clip."""
        return UnfinishedCodes(self.path, self._clip.name, {**self._job.meta, "saved": [], **facts})

    def add(self, batch: WindowBatch, on_disk: UnfinishedCodes | None = None) -> None:
        """Makes the codes of some windows."""
        codes = encode_views(batch.views, self._model, self._job.config, self._save)
        arrays = {**batch.places, **codes}
        self._made.add(arrays)
        if on_disk is not None:
            on_disk.add(codes_of_arrays(arrays, self._clip.name, {}))

    def write(self, facts: Mapping[str, Any]) -> int:
        """Writes the clip's files, its extra arrays first; returns its number of windows."""
        job, clip = self._job, self._clip
        arrays = self._made.taken() if len(self._made) else no_windows(self._model, job.config, self._save)
        if self._save:
            write_torch(job.arrays(clip), {name: arrays[name] for name in _SAVED if name in arrays})
        else:
            job.arrays(clip).unlink(missing_ok=True)  # of another run; its codes would differ
        codes = codes_of_arrays(arrays, clip.name, {**job.meta, "saved": list(self._save), **facts})
        if codes.camera_known is not None and not codes.camera_known.all():
            steps = codes.camera_known.flatten()
            logger.warning(
                "%s: the camera is not known in %d of %d steps of its windows: codes say nothing true of "
                "these (points count as not seen), and decode draws no points there",
                clip.name,
                int((~steps).sum()),
                len(steps),
            )
        for form in self._formats:
            form.write(form.file(job.output, clip.name), [codes])
        return len(codes)


@dataclass(frozen=True)
class VideoJobs:
    """The codes of several checkpoints, which one tracking pass feeds."""

    jobs: tuple[TokenizingJob, ...]

    def prepare(self, threads: int) -> VideoTokenizing:
        """Loads models and tracker on ``threads`` threads; returns what writes the codes of a clip."""
        jobs = [dataclasses.replace(job, config=on_threads(job.config, threads)) for job in self.jobs]
        models = [load_model(job.checkpoint, job.config) for job in jobs]
        return VideoTokenizing(tuple(zip(jobs, models, strict=True)), make_tracker(jobs[0].config))


@dataclass(frozen=True)
class VideoTokenizing:
    """Writes the codes of videos, in one process."""

    jobs: tuple[tuple[TokenizingJob, MotionTokenizer], ...]
    """One or more, that track alike."""
    tracker: PointTracker

    def __call__(self, clip: Clip) -> dict[str, Any]:
        """Writes the codes of ``clip``; returns what the manifest tells of it."""
        with local_copy(clip) as here:
            return self._tokenize(here)

    def _tokenize(self, clip: Clip) -> dict[str, Any]:
        began, config = time.perf_counter(), self.jobs[0][0].config
        codes = [_ClipCodes(job, model, clip) for job, model in self.jobs]
        with ExitStack() as opened:
            with TrackedClip(clip, config, self.tracker) as tracked, tracked.times.stage("encode"):
                facts = source_meta(tracked.infos)
                unfinished = [opened.enter_context(each.on_disk(facts)) for each in codes]
                batches = ClipBatches(tracked, config.inference.batch_size)
                for batch in batches:
                    for each, on_disk in zip(codes, unfinished, strict=True):
                        each.add(batch, on_disk)
            windows = [each.write(facts | batches.facts) for each in codes]
            for on_disk in unfinished:
                on_disk.remove()
        return {
            "output": codes[0].path.relative_to(self.jobs[0][0].output).as_posix(),
            "windows": windows[0],
            "windows_dropped": tracked.windows_dropped,
            "frames": tracked.num_frames,
            "seconds": round(time.perf_counter() - began, 3),
            "stage_seconds": tracked.times.rounded(),
            **tracked.findings,
        }


@dataclass(frozen=True)
class StoredJobs:
    """The codes of several checkpoints, of clips whose tracks are stored."""

    jobs: tuple[TokenizingJob, ...]
    source: Path
    """The folder, pack or file of the tracks, which each worker lists anew: what opens clips is not light to
    send, and not always picklable."""

    def prepare(self, threads: int) -> StoredTokenizing:
        """Loads models on ``threads`` threads; returns what writes the codes of a clip."""
        jobs = [dataclasses.replace(job, config=on_threads(job.config, threads)) for job in self.jobs]
        models = [load_model(job.checkpoint, job.config) for job in jobs]
        return StoredTokenizing(tuple(zip(jobs, models, strict=True)), clips_to_open(self.source))


@dataclass(frozen=True)
class StoredTokenizing:
    """Writes the codes of clips whose tracks are stored, in one process."""

    jobs: tuple[tuple[TokenizingJob, MotionTokenizer], ...]
    """One or more, that tracks suit."""
    openers: Openers
    """What opens each clip, by name."""

    def __call__(self, clip: Clip) -> dict[str, Any]:
        """Writes the codes of ``clip``; returns what the manifest tells of it."""
        began, config = time.perf_counter(), self.jobs[0][0].config
        stored = StoredWindows(clip.name, self.openers[clip.name], [job.config for job, _ in self.jobs])
        codes = [_ClipCodes(job, model, clip) for job, model in self.jobs]
        for batch in stored.batches(config.inference.batch_size):
            for each in codes:
                each.add(batch)
        facts = stored_meta(stored.clip, clip.paths) | stored.counts
        windows = [each.write(facts) for each in codes]
        return {
            "output": codes[0].path.relative_to(self.jobs[0][0].output).as_posix(),
            "windows": windows[0],
            "windows_dropped": stored.counts["windows_dropped"],
            "seconds": round(time.perf_counter() - began, 3),
        }
