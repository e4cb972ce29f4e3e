"""Settings by their dotted keys: flat and nested, and which of them decide what."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from amplify_motion_tokenizer.config.schema import Config


def to_dict(config: Config) -> dict[str, Any]:
    """``config`` as plain nested dicts and lists, ready for YAML, JSON and checkpoints."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict of dotted keys; lists and the mappings of ``LEAF_DICTS`` are leaves."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in LEAF_DICTS:
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


LEAF_DICTS = {"data.reference_size", "loss.view_weights", "tracking.view_files"}
"""Dotted keys whose value is itself a mapping."""

AMPLIFY_LEVELS: dict[int, tuple[int, ...]] = {
    16: (5, 3),
    64: (8, 8),
    256: (8, 6, 5),
    512: (8, 8, 8),
    1024: (8, 5, 5, 5),
    2048: (8, 8, 6, 5),
    4096: (7, 5, 5, 5, 5),
}
"""AMPLIFY's ``codebook_size`` to its FSQ levels; the true number of codes is the levels' product."""

LARGEST_LEVEL = 1000
"""FSQ levels of a digit, at most: its bound reaches a thousandth beyond them, so half a level at most."""

MAX_CODES = 2**31
"""Codes of the largest codebook whose ids are counted and stored as whole numbers."""

ALLOWED_LEVELS = (
    f"one or more whole numbers of at least 3 and at most {LARGEST_LEVEL}, whose product, the number of "
    f"codes, is at most {MAX_CODES}"
)
"""What ``levels_allowed`` asks for, in words."""


def levels_allowed(levels: Sequence[int]) -> bool:
    """Whether every code of these FSQ levels can be reached and has an exact id."""
    each = bool(levels) and all(3 <= level <= LARGEST_LEVEL for level in levels)
    return each and math.prod(levels) <= MAX_CODES


DERIVED_KEYS = ("data.num_points", "model.num_classes", "model.codebook_size")
"""Dotted keys whose numbers follow from others."""

_TRACK_KEYS = ("video.", "tracking.", "data.sequence_length", "data.grid_size")
VELOCITY_KEYS = ("data.reference_size", "model.decoder_window_size")
"""Dotted keys that, besides ``track_settings``, decide W-normalised velocities."""
_NOT_RESULTS = (
    "video.reader",
    "video.threads",
    "tracking.device",
    "tracking.num_workers",
    "tracking.cotracker.checkout",
    "tracking.cotracker.weights",
    "tracking.cotracker.window_batch_size",
    "tracking.cotracker.compile",
)
"""Keys of speed or place; weights count by their hash, not by where they lie."""


def track_settings(config: Config) -> dict[str, Any]:
    """The dotted keys that decide what a clip's tracks are: video, tracking, T and grid.

    Keys that change only speed or place (reader, threads, workers, device, batch) are left out, and so are
    the settings of trackers that are not in use.
    """
    unused = "tracking.cotracker." if config.tracking.tracker == "flow" else "tracking.flow."
    flat = flatten(to_dict(config)) | {"data.sequence_length": config.tracked_length}
    return {
        key: value
        for key, value in flat.items()
        if key.startswith(_TRACK_KEYS) and key not in _NOT_RESULTS and not key.startswith(unused)
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
