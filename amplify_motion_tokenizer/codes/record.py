"""The record in an output of codes of how it was made: run, settings, checkpoint, source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.codes.files.base import DIGIT_ORDER, FORMAT_VERSION
from amplify_motion_tokenizer.config import (
    Config,
    changes,
    settings_hash,
    to_dict,
    track_settings,
    velocity_settings,
)
from amplify_motion_tokenizer.config.gone import known_hashes
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.file_names import CHECKPOINT_RECORD, OUTPUT_CONFIG
from amplify_motion_tokenizer.jobs.fingerprint import fingerprint, total_bytes
from amplify_motion_tokenizer.models.base import MotionTokenizer
from amplify_motion_tokenizer.models.checkpoint import Checkpoint
from amplify_motion_tokenizer.tracks.stored import StoredClip
from amplify_motion_tokenizer.version import versions
from amplify_motion_tokenizer.video.clips import ClipInfo


def run_meta(
    checkpoint: Checkpoint, config: Config, tracker: str | None, model: MotionTokenizer
) -> dict[str, Any]:
    """What every clip of the run has in common; clips of another run differ in ``config_hash``.

    Args:
        checkpoint: that ``model`` was made of.
        config: how tracks are made and become the model's input.
        tracker: the tracker's name; None where tracks were given and nothing says what made them.
        model: the tokenizer.
    """
    checkpoint_hash = checkpoint.sha256
    return {
        "format_version": FORMAT_VERSION,
        "checkpoint": checkpoint.path.name,
        "checkpoint_sha256": checkpoint_hash,
        "config_hash": settings_hash(_decides_codes(config, checkpoint_hash, checkpoint.config.data.views)),
        "model": config.model.name,
        "fsq_levels": list(config.model.fsq_levels),
        "digit_order": DIGIT_ORDER,
        "codebook_size": config.codebook_size,
        "num_codes": model.num_codes,
        "views": list(config.data.views),
        "per_view": model.codes_per_view,
        "tokens_are_steps": model.tokens_are_steps,
        "tracker": tracker,
        "sequence_length": config.data.sequence_length,
        "tracked_length": config.tracked_length,
        "window_stride": config.tracking.window_stride,
        "grid_size": config.data.grid_size,
        "query_order": config.tracking.query_order,
        "reference_size": to_dict(config)["data"]["reference_size"],
        "camera": config.data.camera,
        **_class_meta(config),
        "versions": versions(),
    }


def _class_meta(config: Config) -> dict[str, Any]:
    """The velocity classes that labels number, by the key that the model takes them from."""
    if config.model.has_class_grid:
        return {"class_grid": list(config.class_grid)}
    return {"decoder_window_size": config.model.decoder_window_size}


def code_settings(config: Config) -> dict[str, Any]:
    """The dotted keys that, with the weights, decide codes."""
    return track_settings(config) | velocity_settings(config)


def _decides_codes(config: Config, checkpoint_hash: str, own_views: Sequence[str]) -> dict[str, Any]:
    """What ``config_hash`` is of; the names of the views only where they are not the checkpoint's own."""
    views = {} if config.data.views == tuple(own_views) else _views(config)
    return code_settings(config) | {"checkpoint": checkpoint_hash} | views


def _views(config: Config) -> dict[str, Any]:
    return {"data.views": list(config.data.views)}


def known_config_hashes(
    config: Config, checkpoint_hash: str, own_views: Sequence[str] | None = None
) -> set[str]:
    """Every ``config_hash`` of ``run_meta`` under which codes of this checkpoint and config were written.

    Args:
        config: how tracks are made and become the model's input.
        checkpoint_hash: SHA-256 of the checkpoint.
        own_views: the views of the checkpoint's own config; None: they are those of ``config``.
    """
    return known_hashes(_decides_codes(config, checkpoint_hash, own_views or config.data.views))


def changes_of_run(output: Path, config: Config, record: Mapping[str, Any]) -> list[str]:
    """What differs from the run whose codes are in ``output``: checkpoint, and settings that decide codes.

    Args:
        output: the folder of codes.
        config: this run's.
        record: holds name and SHA-256 of this run's checkpoint, as ``checkpoint.yaml`` does.
    """
    differ = []
    if (output / CHECKPOINT_RECORD).exists():
        made_by = load_yaml(output / CHECKPOINT_RECORD)
        if made_by.get("checkpoint_sha256") != record["checkpoint_sha256"]:
            differ.append(f"checkpoint {_checkpoint_name(made_by)} -> {_checkpoint_name(record)}")
    path = output / OUTPUT_CONFIG
    if path.exists():
        config_before = config_from_dict(load_yaml(path), f"in {path}")
        before, now = (code_settings(each) | _views(each) for each in (config_before, config))
        differ += changes(before, now)
    return differ


def _checkpoint_name(record: Mapping[str, Any]) -> str:
    """The checkpoint's name and hash for people, as several files may have the same name."""
    return f"{record.get('checkpoint')} (SHA-256 {str(record.get('checkpoint_sha256'))[:8]}...)"


def source_meta(infos: Mapping[str, ClipInfo]) -> dict[str, Any]:
    """What is known of a clip's files and frames once it is open.

    Args:
        infos: of each view, by name; rates, name and size are the first view's.
    """
    info, paths = next(iter(infos.values())), [each.path for each in infos.values()]
    return {
        "source": info.path.name,
        "source_bytes": total_bytes(paths),
        "source_fingerprint": fingerprint(paths),
        **frames_meta(infos),
    }


def frames_meta(infos: Mapping[str, ClipInfo]) -> dict[str, Any]:
    """What is known of a clip's frames.

    Args:
        infos: of each view, by name; rates are the first view's.
    """
    info = next(iter(infos.values()))
    return {"source_fps": info.source_fps, "fps": info.fps, **size_meta(infos)}


def size_meta(infos: Mapping[str, ClipInfo]) -> dict[str, Any]:
    """(height, width) of the tracked frames of the first view; and of all views, where there are several.

    ``contents`` tells where the picture lies in the padded frames of each view: (top, left, height, width).
    """
    sizes = {view: list(info.size) for view, info in infos.items()}
    facts: dict[str, Any] = {"tracked_size": next(iter(sizes.values()))}
    if len(sizes) > 1:
        facts["tracked_sizes"] = sizes
    boxes = {view: info.letterbox for view, info in infos.items()}
    if any(list(box.content_size) != sizes[view] for view, box in boxes.items()):
        facts["contents"] = {
            view: [box.pad_top, box.pad_left, *box.content_size] for view, box in boxes.items()
        }
    return facts


def stored_meta(clip: StoredClip, paths: Sequence[Path]) -> dict[str, Any]:
    """What is known of a clip of stored tracks: as ``source_meta``, the source being the track files.

    What is not known is null.

    Args:
        clip: open.
        paths: its files.
    """
    facts: dict[str, Any] = {
        "source": clip.path.name,
        "source_bytes": total_bytes(paths),
        "source_fingerprint": fingerprint(paths),
        "fps": clip.fps,
    }
    if clip.stores == "velocities":
        return facts | {"tracked_size": None}
    sizes = [None if size is None else list(size) for size in clip.sizes]
    facts |= {"source_fps": clip.source_fps, "tracked_size": sizes[0]}
    if len(sizes) > 1:
        names = [view.rsplit("/", 1)[-1] for view in clip.views]
        facts["tracked_sizes"] = dict(zip(names, sizes, strict=True))
    return facts
