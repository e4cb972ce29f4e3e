"""Settings by their dotted keys, flat and nested, and which settings decide tracks, codes or weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from amplify_motion_tokenizer.config.input_kinds import MODEL_INPUTS
from amplify_motion_tokenizer.config.schema import Config
from amplify_motion_tokenizer.config.settings import Setting, sections_of, settings_of

SETTINGS: dict[str, Setting] = {each.key: each for each in settings_of(Config)}
"""Every setting by its dotted key, in the order of the sections."""

SECTIONS: dict[str, type] = dict(sections_of(Config))
"""Every section by its dotted name, outer ones first."""


def to_dict(config: Config) -> dict[str, Any]:
    """``config`` as plain nested dicts and lists, ready for YAML, JSON and checkpoints."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict of dotted keys; lists and the mappings that are settings are leaves."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in SETTINGS:
            flat.update(flatten(value, f"{key}."))
        else:
            flat[key] = value
    return flat


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of ``flatten``."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return tree


def decides(key: str, *words: str) -> bool:
    """Whether the setting ``key`` decides one of ``words`` (of ``settings.DECIDES``)."""
    return bool(SETTINGS[key].decides.intersection(words))


def in_use(key: str, config: Config) -> bool:
    """Whether the tracker and the model that ``config`` names use the section of the setting ``key``.

    A section within model of a model's name serves that model, one of ``tracker_sections`` within tracking
    the trackers whose names begin as its own; other settings serve all.
    """
    outer, section, *inner = key.split(".")
    if not inner:
        return True
    tracking = config.tracking
    if outer == "tracking" and section in tracking.tracker_sections:
        return section == tracking.tracker_section
    return outer != "model" or section not in MODEL_INPUTS or section == config.model.name


def track_settings(config: Config) -> dict[str, Any]:
    """The dotted keys that decide what a clip's tracks are: video, tracking, T and grid.

    T counts the frames of the tracked window, before it is resampled in time. Keys that change only speed
    or place (reader, threads, workers, device, batch) are left out, and so are the settings of trackers
    that are not in use.
    """
    flat = flatten(to_dict(config)) | {"data.sequence_length": config.tracked_length}
    return {
        key: value
        for key, value in flat.items()
        if decides(key, "tracks") and not decides(key, "window") and in_use(key, config)
    }


def velocity_settings(config: Config) -> dict[str, Any]:
    """The dotted keys that, besides ``track_settings``, decide W-normalised velocities."""
    resampled = config.tracked_length != config.data.sequence_length
    return {
        key: value
        for key, value in flatten(to_dict(config)).items()
        if decides(key, "velocities") or (resampled and SETTINGS[key].decides == {"window"})
    }


def settings_hash(settings: dict[str, Any]) -> str:
    """Sixteen hex digits that are equal for equal settings, whatever their order."""
    canonical = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """``key old -> new`` for each dotted key whose value differs, sorted; absent keys are None."""
    return [
        f"{key} {before.get(key)} -> {now.get(key)}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def may_differ(key: str, tracks_known: bool = True) -> bool:
    """Whether inference may take another value than a checkpoint's training, when it is given on purpose.

    Args:
        key: a dotted key.
        tracks_known: whether the checkpoint says how its training tracks were made; where it does not, the
            frames of a window may differ too.
    """
    own = SETTINGS[key]
    if own.section not in ("video", "tracking", "data", "inference") or decides(key, "codes", "weights"):
        return False
    return not (tracks_known and decides(key, "window"))


def free_on_resume(key: str) -> bool:
    """Whether a training run that goes on may have another value: it changes nothing that a step computes.

    How tracks were made is compared by what their files say.
    """
    return not decides(key, "velocities", "window", "codes", "weights")
