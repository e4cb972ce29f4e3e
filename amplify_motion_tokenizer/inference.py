"""Clips to motion codes with a trained tokenizer."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import (
    VELOCITY_KEYS,
    Config,
    changes,
    flatten,
    settings_hash,
    to_dict,
    track_settings,
)
from amplify_motion_tokenizer.config.files import config_from_dict, load_yaml
from amplify_motion_tokenizer.data.inputs import from_tracks, stack_views
from amplify_motion_tokenizer.devices import resolve_device
from amplify_motion_tokenizer.errors import ConfigError, UsageError
from amplify_motion_tokenizer.file_names import CHECKPOINT_RECORD, CODES, MANIFEST, OUTPUT_CONFIG
from amplify_motion_tokenizer.files import (
    atomic_path,
    check_target,
    read_json,
    write_json,
    write_torch,
    write_yaml,
)
from amplify_motion_tokenizer.jobs.fingerprint import fingerprint, is_made_of, total_bytes
from amplify_motion_tokenizer.jobs.loop import Summary, run_clips
from amplify_motion_tokenizer.jobs.manifest import Manifest
from amplify_motion_tokenizer.jobs.output_folders import open_output_folder
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_weights, versions
from amplify_motion_tokenizer.models.heads import head_answers
from amplify_motion_tokenizer.models.torch_files import file_hash
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker, record_weights
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.sources import find_clips, model_views

logger = logging.getLogger(__name__)

Extra = Literal["latents", "labels"]
"""What can be saved besides the codes, in ``<clip>.pt``."""
EXTRAS: tuple[Extra, ...] = ("latents", "labels")

_MAY_DIFFER = ("video.", "tracking.", "inference.", "data.reference_size")
"""Keys that may differ from the checkpoint's, when they are given on purpose."""
_TRACKED_LENGTH = ("data.true_horizon", "data.interpolation")
"""Those that also may where the checkpoint does not say how its tracks were made."""
_NO_MATTER = (
    "training.",
    "loss.",
    "data.tracks_dir",
    "data.dataset",
    "data.val_split",
    "data.static_filter.",
    "data.augmentation.",
    "model.dropout",
    "model.latent_noise",
    "model.nominal_codebook_size",
    "model.amplify.vision.weights",
    "model.amplify.vision.frozen",
    "model.amplify.vision.lr_multiplier",
)
"""Keys that inference does not use."""
_OTHER_MODELS = {
    "amplify": ("model.keypoint.", "model.encoder_sequence_len", "model.decoder_window_size"),
    "keypoint": ("model.amplify.",),
}
"""Value of ``model.name`` to the keys that it does not use; amplify's window of classes is its class_grid."""


def check_overrides(checkpoint: Checkpoint, given: Config) -> list[str]:
    """What ``given`` changes of how the checkpoint's training tracks were made, as ``key old -> new``.

    Values are compared as they act: keys that inference or the model does not use do not count.

    Raises:
        ConfigError: a change of something that the weights fix, such as grid or model width.
    """
    tracks_known = checkpoint.track_settings is not None
    allowed = _MAY_DIFFER if tracks_known else (*_MAY_DIFFER, *_TRACKED_LENGTH)
    differ = changes(_in_effect(checkpoint.config), _in_effect(given))
    fixed = [change for change in differ if not change.startswith(allowed)]
    if fixed:
        fixed.sort(key=lambda change: not change.startswith("model.name "))
        names = ", ".join(f"{key}*" if key.endswith(".") else key for key in allowed)
        raise ConfigError(f"{fixed[0]} is impossible: the checkpoint fixes it; allowed to differ: {names}")
    told = {"data.reference_size", *(track_settings(given) if tracks_known else ())}
    return [change for change in differ if change.partition(" ")[0] in told]


def _in_effect(config: Config) -> dict[str, Any]:
    """The dotted keys that inference uses, with the values that null stands for."""
    unused = (*_NO_MATTER, *_OTHER_MODELS[config.model.name])
    flat = flatten(to_dict(config)) | {"data.true_horizon": config.tracked_length}
    if config.model.name == "amplify":
        flat["model.amplify.class_grid"] = list(config.class_grid)
    return {key: value for key, value in flat.items() if not key.startswith(unused)}


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
    frames), ``start_seconds`` and ``meta``; ``codes.jsonl`` has the same objects, one a line.
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
    meta = _run_meta(checkpoint, config, tracker)
    record = {key: meta[key] for key in ("checkpoint", "checkpoint_sha256")}
    if not overwrite:
        _check_same_run(output, config, record)
    write_yaml(output / CHECKPOINT_RECORD, record)
    write_yaml(output / OUTPUT_CONFIG, to_dict(config))
    process = partial(_tokenize_clip, output, model.to(device).eval(), tracker, config, meta, tuple(save))

    def complete(clip: Clip) -> bool:
        return not overwrite and _is_complete(output, clip, meta, save)

    manifest = Manifest(output / MANIFEST)
    summary = run_clips(clips, manifest, complete, process)
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
        CPU tensors of a batch of b windows: window_starts (b,) int64, start_seconds (b,) float64,
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
                "code_sequences": indices.cpu(),
            }
            if "latents" in save:
                result["latent_tokens"] = codes.float().cpu()
            if "labels" in save:
                labels = head_answers(model.head(codes)).expand(-1, *model.input_shape[:-1])
                result["labels_per_point"] = labels.to(torch.int32).cpu()
        yield result


def _run_meta(checkpoint: Checkpoint, config: Config, tracker: PointTracker) -> dict[str, Any]:
    """What every clip of the run has in common; clips of another run differ in ``config_hash``."""
    checkpoint_hash = file_hash(checkpoint.path)
    return {
        "checkpoint": checkpoint.path.name,
        "checkpoint_sha256": checkpoint_hash,
        "config_hash": settings_hash(_code_settings(config) | {"checkpoint": checkpoint_hash}),
        "model": config.model.name,
        "fsq_levels": list(config.model.fsq_levels),
        "codebook_size": config.codebook_size,
        "views": list(config.data.views),
        "per_view": config.model.name == "amplify" and config.model.amplify.per_view,
        "tracker": tracker.name,
        "sequence_length": config.data.sequence_length,
        "tracked_length": config.tracked_length,
        "window_stride": config.tracking.window_stride,
        "grid_size": config.data.grid_size,
        "query_order": config.tracking.query_order,
        "reference_size": to_dict(config)["data"]["reference_size"],
        **_class_meta(config),
        "versions": versions(),
    }


def _class_meta(config: Config) -> dict[str, Any]:
    """The velocity classes that labels number, by the key that the model takes them from."""
    if config.model.name == "amplify":
        return {"class_grid": list(config.class_grid)}
    return {"decoder_window_size": config.model.decoder_window_size}


def _code_settings(config: Config) -> dict[str, Any]:
    """The dotted keys that, with the weights, decide codes."""
    flat = flatten(to_dict(config))
    resampled = config.tracked_length != config.data.sequence_length
    keys = (*VELOCITY_KEYS, "data.interpolation") if resampled else VELOCITY_KEYS
    return track_settings(config) | {key: flat[key] for key in keys}


def _check_same_run(output: Path, config: Config, record: dict[str, str]) -> None:
    """Refuses to mix codes of different checkpoints or settings in one folder."""
    differ = []
    if (output / CHECKPOINT_RECORD).exists():
        before = load_yaml(output / CHECKPOINT_RECORD)
        if before.get("checkpoint_sha256") != record["checkpoint_sha256"]:
            differ.append(f"checkpoint {_checkpoint_name(before)} -> {_checkpoint_name(record)}")
    path = output / OUTPUT_CONFIG
    if path.exists():
        config_before = config_from_dict(load_yaml(path), f"in {path}")
        differ += changes(_code_settings(config_before), _code_settings(config))
    if differ:
        raise UsageError(
            f"{output} holds the codes of another run ({'; '.join(differ)}); "
            "give --overwrite to redo every clip, or another --output"
        )


def _checkpoint_name(record: Mapping[str, Any]) -> str:
    """For people: several files may have the same name."""
    return f"{record.get('checkpoint')} (SHA-256 {str(record.get('checkpoint_sha256'))[:8]}...)"


def _is_complete(output: Path, clip: Clip, meta: dict[str, Any], save: Sequence[Extra]) -> bool:
    path = output / f"{clip.name}.json"
    if not os.path.isfile(path) or (save and not _arrays_of(path).is_file()):
        return False
    meta_found = _meta_of(path)
    same = meta_found.get("config_hash") == meta["config_hash"] and is_made_of(meta_found, clip.paths)
    return same and set(save) <= set(meta_found["saved"])


def _arrays_of(path: Path) -> Path:
    """Where the arrays of ``<clip>.json`` lie; a clip's name may hold dots."""
    return path.with_name(f"{path.name.removesuffix('.json')}.pt")


def _meta_of(path: Path) -> dict[str, Any]:
    """``meta`` of a code file; empty for a file that is cut or not ours, which is made again."""
    try:
        meta = read_json(path).get("meta")
    except UsageError:
        return {}
    return meta if isinstance(meta, dict) else {}


def _with_saved(path: Path, meta: dict[str, Any], save: Sequence[Extra]) -> tuple[Extra, ...]:
    """``save``, and what an earlier run of this checkpoint and config saved beside ``path``, to keep it."""
    found = _meta_of(path) if path.is_file() else {}
    before = found.get("saved", ()) if found.get("config_hash") == meta["config_hash"] else ()
    return tuple(extra for extra in EXTRAS if extra in (*save, *before))


def _of_no_windows(model: MotionTokenizer, save: Sequence[Extra]) -> dict[str, Tensor]:
    """A batch of ``encode_windows`` with b = 0: a clip may have no windows, and its arrays still a shape."""
    *labels, _ = model.input_shape
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "window_starts": ((0,), torch.int64),
        "start_seconds": ((0,), torch.float64),
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
    columns = ("code_sequences", "window_starts", "start_seconds")
    codes, starts, seconds = (arrays[name].tolist() for name in columns)
    write_json(
        path,
        {
            "clip": clip.name,
            "codes": codes,
            "start_frames": starts,
            "start_seconds": seconds,
            "meta": {
                **meta,
                "saved": list(save),
                **_source_meta(clip, tracked),
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
        **tracked.shortfall,
    }


def _source_meta(clip: Clip, tracked: TrackedClip) -> dict[str, Any]:
    """What is known of the clip itself; sizes of all views are told where there are several."""
    info = tracked.info
    facts: dict[str, Any] = {
        "source": info.path.name,
        "source_bytes": total_bytes(clip.paths),
        "source_fingerprint": fingerprint(clip.paths),
        "source_fps": info.source_fps,
        "fps": info.fps,
        "tracked_size": list(info.size),
    }
    if len(tracked.infos) > 1:
        facts["tracked_sizes"] = {view: list(each.size) for view, each in tracked.infos.items()}
    return facts


def _collect(output: Path, names: Iterable[str], config_hash: str) -> None:
    """Writes ``codes.jsonl``: a line for each clip whose codes are of this checkpoint and config."""
    with atomic_path(output / CODES) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for name in sorted(names):
            path = output / f"{name}.json"
            if path.is_file() and _meta_of(path).get("config_hash") == config_hash:
                lines.write(path.read_text(encoding="utf-8").strip() + "\n")
