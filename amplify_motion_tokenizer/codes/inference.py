"""Inference: the clips of a folder to files of motion codes, with a trained tokenizer."""

from __future__ import annotations

import dataclasses
import io
import logging
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amplify_motion_tokenizer.codes.encoding import EXTRAS, Extra, encode_windows, joined, no_windows
from amplify_motion_tokenizer.codes.record import (
    changes_of_run,
    known_config_hashes,
    meta_of,
    run_meta,
    source_meta,
)
from amplify_motion_tokenizer.config import (
    Config,
    to_dict,
)
from amplify_motion_tokenizer.devices import resolve_device
from amplify_motion_tokenizer.file_names import CHECKPOINT_RECORD, CODES, MANIFEST, OUTPUT_CONFIG
from amplify_motion_tokenizer.files import (
    atomic_path,
    check_target,
    write_json,
    write_torch,
)
from amplify_motion_tokenizer.jobs.fingerprint import is_made_of
from amplify_motion_tokenizer.jobs.folder_run import FolderRun, on_threads
from amplify_motion_tokenizer.jobs.loop import Summary
from amplify_motion_tokenizer.jobs.manifest import Manifest
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_weights
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker, record_weights
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.tracks.preprocessing import clip_workers
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.sources import find_clips, model_views, other_files

logger = logging.getLogger(__name__)


def tokenize_folder(
    source: Path,
    output: Path,
    checkpoint: Checkpoint,
    config: Config,
    save: Sequence[Extra] = (),
    overwrite: bool = False,
) -> Summary:
    """Writes the codes of every clip below ``source`` as JSON below ``output``, subfolders kept.

    ``<clip>.json`` holds ``codes`` (windows, d), ``start_frames`` (index among the resampled
    frames), ``start_seconds``, ``step_seconds`` (mean, from frame to frame; null where it is not known),
    ``source_frames`` (index of a window's first frame in the source), ``valid_steps`` (how many of the
    model's t steps are real; the rest repeats the clip's last frame) and ``meta``; ``codes.jsonl`` has the
    same objects, one a line.
    With ``save``, ``<clip>.pt`` holds tensors: window_starts (windows,), code_sequences
    (windows, d), latent_tokens (windows, d, D) after quantising, labels_per_point (windows, [V,] t, N).
    What an earlier run saved there is kept.
    Clips run side by side in ``tracking.num_workers`` processes where model and tracker run on the CPU, with
    equal codes; a script that calls this needs ``if __name__ == "__main__":`` then, as they import it.
    Clips that are complete for this checkpoint and config are skipped, unless ``overwrite``. The folder
    holds the codes of one checkpoint and config, which ``checkpoint.yaml`` and ``config.yaml`` tell.

    Args:
        source: a video or a folder of videos.
        output: where to write.
        checkpoint: from ``load_checkpoint``.
        config: the checkpoint's config, or one that ``check_overrides`` allows.
        save: extra arrays.
        overwrite: redo clips that are complete.

    Raises:
        TokenizerError: nothing to do, output not writable, tracker or weights cannot be used, or
            ``output`` holds the codes of another checkpoint or config, or what another command wrote.
    """
    clips = find_clips(source, config, model_views(config))
    run = FolderRun.open(clips, output, "codes", overwrite)
    model = _load_model(checkpoint, config)
    if checkpoint.track_settings is None:
        logger.warning(
            "%s does not say how its training tracks were made: video.* and tracking.* are used as given",
            checkpoint.path,
        )
    tracker = make_tracker(config)
    config = record_weights(config, tracker)
    meta = run_meta(checkpoint, config, tracker.name, model)
    job = TokenizingJob(output, checkpoint, config, meta, tuple(save))
    summary = run.run(
        job,
        ClipTokenizing(job, model, tracker),
        num_workers=tokenizing_workers(config, tracker, model.device, len(clips)),
    )
    summary.other_files = other_files(source, clips)
    records = Manifest(output / MANIFEST).records
    done = [name for name, record in records.items() if record["status"] != "failed"]
    _collect(output, done, job.known)
    return summary


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


def _load_model(checkpoint: Checkpoint, config: Config) -> MotionTokenizer:
    """The checkpoint's model in evaluation mode, on ``inference.device``."""
    device = resolve_device(config.inference.device, "inference.device")
    model = build_model(checkpoint.config)
    load_weights(model, checkpoint.model, str(checkpoint.path))
    return model.to(device).eval()


def _arrays_of(path: Path) -> Path:
    """The file for the arrays of the code file ``<clip>.json``; a clip's name may hold dots."""
    return path.with_name(f"{path.name.removesuffix('.json')}.pt")


def _with_saved(path: Path, known: set[str], save: Sequence[Extra]) -> tuple[Extra, ...]:
    """``save``, and what an earlier run of this checkpoint and config saved beside ``path``, to keep it."""
    found = meta_of(path) if path.is_file() else {}
    before = found.get("saved", ()) if found.get("config_hash") in known else ()
    return tuple(extra for extra in EXTRAS if extra in (*save, *before))


@dataclass(frozen=True)
class TokenizingJob:
    """The job of inference: a code file for each clip, in any process."""

    output: Path
    checkpoint: Checkpoint
    config: Config
    meta: dict[str, Any]
    """What every clip's ``meta`` has in common."""
    save: tuple[Extra, ...]

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
        return known_config_hashes(self.config, self.meta["checkpoint_sha256"])

    def changed(self) -> list[str]:
        """How checkpoint and settings differ from the run whose codes are in the output folder."""
        return changes_of_run(self.output, self.config, self.meta)

    def is_complete(self, clip: Clip) -> bool:
        """Whether the clip's codes, and what is to be saved beside them, were made of its source as it is."""
        path = self.target(clip)
        if not os.path.isfile(path) or (self.save and not _arrays_of(path).is_file()):
            return False
        found = meta_of(path)
        same = found.get("config_hash") in self.known and is_made_of(found, clip.paths)
        return same and set(self.save) <= set(found["saved"])

    def target(self, clip: Clip) -> Path:
        """The file of the clip's codes."""
        return self.output / f"{clip.name}.json"

    def prepare(self, threads: int) -> ClipTokenizing:
        """Loads model and tracker on ``threads`` threads; returns what writes the codes of a clip."""
        config = on_threads(self.config, threads)
        job = dataclasses.replace(self, config=config)
        return ClipTokenizing(job, _load_model(self.checkpoint, config), make_tracker(config))


@dataclass(frozen=True)
class ClipTokenizing:
    """Writes the codes of clips, in one process."""

    job: TokenizingJob
    model: MotionTokenizer
    tracker: PointTracker

    def __call__(self, clip: Clip) -> dict[str, Any]:
        """Writes the codes of ``clip``; returns what the manifest tells of it."""
        began = time.perf_counter()
        path = self.job.target(clip)
        for target in (path, _arrays_of(path)):
            check_target(target)
        save = _with_saved(path, self.job.known, self.job.save)
        with TrackedClip(clip, self.job.config, self.tracker) as tracked, tracked.times.stage("encode"):
            meta = {**self.job.meta, "saved": list(save), **source_meta(tracked.infos)}
            batches = list(encode_windows(tracked, tracked.sizes, self.model, self.job.config, save))
        arrays = joined(batches or [no_windows(self.model, save)])
        counts = {"num_frames": tracked.num_frames, "windows_dropped": tracked.windows_dropped}
        _write(path, clip.name, arrays, meta | counts)
        return {
            "output": path.relative_to(self.job.output).as_posix(),
            "windows": len(arrays["window_starts"]),
            "windows_dropped": tracked.windows_dropped,
            "frames": tracked.num_frames,
            "seconds": round(time.perf_counter() - began, 3),
            "stage_seconds": tracked.times.rounded(),
            **tracked.findings,
        }


_SAVED = (
    "window_starts", "start_seconds", "step_seconds", "source_frames", "valid_steps", "code_sequences",
    "latent_tokens", "labels_per_point",
)  # fmt: skip
"""The arrays that ``<clip>.pt`` holds, as far as they were asked for."""


def _write(path: Path, name: str, arrays: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Writes a clip's codes, last, and its arrays beside them where some are to be saved."""
    beside = _arrays_of(path)
    if meta["saved"]:
        write_torch(beside, {name: arrays[name] for name in _SAVED if name in arrays})
    else:
        beside.unlink(missing_ok=True)  # of another run; its codes would differ
    columns = {
        "codes": "code_sequences",
        "start_frames": "window_starts",
        "start_seconds": "start_seconds",
        "step_seconds": "step_seconds",
        "source_frames": "source_frames",
        "valid_steps": "valid_steps",
    }
    found = {key: arrays[column].tolist() for key, column in columns.items()}
    found["step_seconds"] = [None if math.isnan(step) else step for step in found["step_seconds"]]
    write_json(
        path,
        {"clip": name, **found, "meta": meta},
    )


def _collect(output: Path, names: Iterable[str], known: set[str]) -> None:
    """Writes ``codes.jsonl``: a line for each clip whose codes are of this checkpoint and config."""
    with atomic_path(output / CODES) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for name in sorted(names):
            path = output / f"{name}.json"
            if path.is_file() and meta_of(path).get("config_hash") in known:
                lines.write(path.read_text(encoding="utf-8").strip() + "\n")
