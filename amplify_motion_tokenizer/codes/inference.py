"""Clips to motion codes with a trained tokenizer."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from amplify_motion_tokenizer.codes.record import check_same_run, meta_of, run_meta, source_meta
from amplify_motion_tokenizer.config import (
    Config,
    to_dict,
)
from amplify_motion_tokenizer.data.inputs import from_tracks, stack_views
from amplify_motion_tokenizer.devices import resolve_device
from amplify_motion_tokenizer.file_names import CHECKPOINT_RECORD, CODES, MANIFEST, OUTPUT_CONFIG
from amplify_motion_tokenizer.files import (
    atomic_path,
    check_target,
    write_json,
    write_torch,
    write_yaml,
)
from amplify_motion_tokenizer.jobs.fingerprint import is_made_of
from amplify_motion_tokenizer.jobs.loop import Summary, run_clips
from amplify_motion_tokenizer.jobs.manifest import Manifest
from amplify_motion_tokenizer.jobs.output_folders import open_output_folder
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_weights
from amplify_motion_tokenizer.models.heads import head_answers
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker, record_weights
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.sources import find_clips, model_views, other_files

logger = logging.getLogger(__name__)

Extra = Literal["latents", "labels"]
"""What can be saved besides the codes, in ``<clip>.pt``."""
EXTRAS: tuple[Extra, ...] = ("latents", "labels")


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
    frames), ``start_seconds``, ``step_seconds`` (mean, from frame to frame), ``source_frames`` (index of a
    window's first frame in the source) and ``meta``; ``codes.jsonl`` has the same objects, one a line.
    With ``save``, ``<clip>.pt`` holds tensors: window_starts (windows,), code_sequences
    (windows, d), latent_tokens (windows, d, D) after quantising, labels_per_point (windows, [V,] t, N).
    What an earlier run saved there is kept.
    Clips that are complete for this checkpoint and config are skipped, unless ``overwrite``. The folder
    holds the codes of one checkpoint and config, which ``checkpoint.yaml`` and ``config.yaml`` tell.

    Args:
        source: a video or a folder of videos.
        output: where to write.
        checkpoint: from ``load_checkpoint``.
        config: the checkpoint's, or one that ``check_overrides`` allows.
        save: extra arrays.
        overwrite: redo clips that are complete.

    Raises:
        TokenizerError: nothing to do, output not writable, tracker or weights cannot be used, or
            ``output`` holds the codes of another checkpoint or config, or what another command wrote.
    """
    clips = find_clips(source, config, model_views(config))
    open_output_folder(output, "codes")
    device = resolve_device(config.inference.device, "inference.device")
    model = build_model(checkpoint.config)
    load_weights(model, checkpoint.model, str(checkpoint.path))
    if checkpoint.track_settings is None:
        logger.warning(
            "%s does not say how its training tracks were made: video.* and tracking.* are used as given",
            checkpoint.path,
        )
    tracker = make_tracker(config)
    config = record_weights(config, tracker)
    meta = run_meta(checkpoint, config, tracker)
    record = {key: meta[key] for key in ("checkpoint", "checkpoint_sha256")}
    if not overwrite:
        check_same_run(output, config, record)
    write_yaml(output / CHECKPOINT_RECORD, record)
    write_yaml(output / OUTPUT_CONFIG, to_dict(config))
    process = partial(_tokenize_clip, output, model.to(device).eval(), tracker, config, meta, tuple(save))

    def complete(clip: Clip) -> bool:
        return not overwrite and _is_complete(output, clip, meta, save)

    manifest = Manifest(output / MANIFEST)
    summary = run_clips(clips, manifest, complete, process)
    summary.other_files = other_files(source, clips)
    done = [name for name, record in manifest.records.items() if record["status"] != "failed"]
    _collect(output, done, meta["config_hash"])
    return summary


def encode_windows(
    windows: Iterable[tuple[WindowTracks, ...]],
    sizes: Sequence[tuple[int, int]],
    model: MotionTokenizer,
    config: Config,
    save: Sequence[Extra] = (),
) -> Iterator[dict[str, Tensor]]:
    """Batches of tracked windows to codes; stops after quantising unless labels are asked for.

    Args:
        windows: tracks of each window in each of the model's views.
        sizes: (height, width) of each view's frames, whose pixels the tracks are in.
        model: in evaluation mode, on its device.
        config: decides reference size and batch size.
        save: extra arrays to compute.

    Yields:
        CPU tensors of a batch of b windows: window_starts (b,) int64, start_seconds and step_seconds
        (b,) float64, source_frames (b,) int64 (a step of NaN and a frame of -1 are not known),
        code_sequences (b, d) int64, and those of ``save``.
    """
    device = next(model.parameters()).device
    stream = iter(windows)
    while batch := list(islice(stream, config.inference.batch_size)):
        inputs = from_tracks(stack_views(batch, sizes), config).to(device)
        with torch.no_grad():
            codes, indices = model.quantize(model.encode(inputs.velocities, inputs.images))
            result = {
                "window_starts": torch.tensor([views[0].start for views in batch]),
                "start_seconds": torch.tensor([views[0].time_s for views in batch], dtype=torch.float64),
                "step_seconds": torch.tensor(
                    [views[0].step_seconds or torch.nan for views in batch], dtype=torch.float64
                ),
                "source_frames": torch.tensor([(*views[0].source_frames, -1)[0] for views in batch]),
                "code_sequences": indices.cpu(),
            }
            if "latents" in save:
                result["latent_tokens"] = codes.float().cpu()
            if "labels" in save:
                labels = head_answers(model.head(codes)).expand(-1, *model.input_shape[:-1])
                result["labels_per_point"] = labels.to(torch.int32).cpu()
        yield result


def _is_complete(output: Path, clip: Clip, meta: dict[str, Any], save: Sequence[Extra]) -> bool:
    path = output / f"{clip.name}.json"
    if not os.path.isfile(path) or (save and not _arrays_of(path).is_file()):
        return False
    meta_found = meta_of(path)
    same = meta_found.get("config_hash") == meta["config_hash"] and is_made_of(meta_found, clip.paths)
    return same and set(save) <= set(meta_found["saved"])


def _arrays_of(path: Path) -> Path:
    """Where the arrays of ``<clip>.json`` lie; a clip's name may hold dots."""
    return path.with_name(f"{path.name.removesuffix('.json')}.pt")


def _with_saved(path: Path, meta: dict[str, Any], save: Sequence[Extra]) -> tuple[Extra, ...]:
    """``save``, and what an earlier run of this checkpoint and config saved beside ``path``, to keep it."""
    found = meta_of(path) if path.is_file() else {}
    before = found.get("saved", ()) if found.get("config_hash") == meta["config_hash"] else ()
    return tuple(extra for extra in EXTRAS if extra in (*save, *before))


def _of_no_windows(model: MotionTokenizer, save: Sequence[Extra]) -> dict[str, Tensor]:
    """A batch of ``encode_windows`` with b = 0: a clip may have no windows, and its arrays still a shape."""
    *labels, _ = model.input_shape
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "window_starts": ((0,), torch.int64),
        "start_seconds": ((0,), torch.float64),
        "step_seconds": ((0,), torch.float64),
        "source_frames": ((0,), torch.int64),
        "code_sequences": ((0, model.num_codes), torch.int64),
    }
    if "latents" in save:
        shapes["latent_tokens"] = ((0, model.num_codes, model.config.model.hidden_dim), torch.float32)
    if "labels" in save:
        shapes["labels_per_point"] = ((0, *labels), torch.int32)
    return {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in shapes.items()}


def _tokenize_clip(
    output: Path,
    model: MotionTokenizer,
    tracker: PointTracker,
    config: Config,
    meta: dict[str, Any],
    save: tuple[Extra, ...],
    clip: Clip,
) -> dict[str, Any]:
    began = time.perf_counter()
    path = output / f"{clip.name}.json"
    for target in (path, _arrays_of(path)):
        check_target(target)
    save = _with_saved(path, meta, save)
    with TrackedClip(clip, config, tracker) as tracked, tracked.times.stage("encode"):
        batches = list(encode_windows(tracked, tracked.sizes, model, config, save))
    batches = batches or [_of_no_windows(model, save)]
    # Each batch lets go of what is joined: with ``save`` they are most of what a long clip holds.
    arrays = {name: torch.cat([batch.pop(name) for batch in batches]) for name in list(batches[0])}
    beside = _arrays_of(path)
    if save:
        write_torch(beside, arrays)
    else:
        beside.unlink(missing_ok=True)  # of another run; its codes would differ
    columns = ("code_sequences", "window_starts", "start_seconds", "source_frames")
    codes, starts, seconds, source_frames = (arrays[name].tolist() for name in columns)
    write_json(
        path,
        {
            "clip": clip.name,
            "codes": codes,
            "start_frames": starts,
            "start_seconds": seconds,
            "step_seconds": arrays["step_seconds"].tolist(),
            "source_frames": source_frames,
            "meta": {
                **meta,
                "saved": list(save),
                **source_meta(clip, tracked),
                "num_frames": tracked.num_frames,
                "windows_dropped": tracked.windows_dropped,
            },
        },
    )
    return {
        "output": f"{clip.name}.json",
        "windows": len(codes),
        "windows_dropped": tracked.windows_dropped,
        "frames": tracked.num_frames,
        "seconds": round(time.perf_counter() - began, 3),
        "stage_seconds": tracked.times.rounded(),
        **tracked.findings,
    }


def _collect(output: Path, names: Iterable[str], config_hash: str) -> None:
    """Writes ``codes.jsonl``: a line for each clip whose codes are of this checkpoint and config."""
    with atomic_path(output / CODES) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for name in sorted(names):
            path = output / f"{name}.json"
            if path.is_file() and meta_of(path).get("config_hash") == config_hash:
                lines.write(path.read_text(encoding="utf-8").strip() + "\n")
