"""What the exchange of checkpoints with AMPLIFY and with the keypoint reproduction has in common.

What an export says beyond the other system's keys lies under ``OWN_KEY``, which that system does not read:
in AMPLIFY's file itself, in the ``config.yaml`` beside the keypoint reproduction's weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from amplify_motion_tokenizer.config import (
    Config,
    flatten,
    to_dict,
)
from amplify_motion_tokenizer.config.gone import settings_now
from amplify_motion_tokenizer.config.loading import config_from_dict, local_settings
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.kinds import MAPPING, NUMBERS, Kind, check_kinds, or_none

OWN_KEY = "amplify_motion_tokenizer"
"""Where an export keeps what the other system's file has no place for: ``own_part``."""


OWN_PARTS: dict[str, Kind] = {"config": MAPPING, "track_settings": or_none(MAPPING), "metrics": NUMBERS}
"""The keys that our own files have beside the weights, and exports under ``OWN_KEY``."""


class Exchanged(NamedTuple):
    """What a file of another system holds, in our terms."""

    model: dict[str, Tensor]
    """State dict."""
    config: Config
    track_settings: dict[str, Any] | None
    """Dotted keys that decided the training tracks; None when the file does not say."""
    metrics: dict[str, float]
    not_followed: dict[str, Any] = {}
    """Local settings that the file names, which are not taken from files."""


def own_part(config: Config, settings: dict[str, Any] | None, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What an export holds under ``OWN_KEY``, so that reading it again loses nothing but training's state."""
    return {"config": to_dict(config), "track_settings": settings, "metrics": dict(metrics)}


def unknown_settings(config: Config) -> list[str]:
    """``key = value`` of each setting that makes the model's input otherwise than the other system makes it.

    No key of that system's file says so.
    """
    size, is_amplify = to_dict(config)["video"]["size"], config.model.name == "amplify"
    is_box = isinstance(size, list)
    theirs: dict[str, Any] = {
        "tracking.query_order": "uniform" if is_amplify else "row_major",
        "data.true_horizon": config.data.sequence_length,
    }
    if is_box:
        theirs["video.size"] = "no letterbox"
    elif not is_amplify:
        theirs["data.reference_size"] = size
    ours = flatten(to_dict(config)) | {"data.true_horizon": config.tracked_length}
    return [f"{key} = {ours[key]}" for key, value in theirs.items() if ours[key] != value]


def read_own(path: Path, part: Any) -> tuple[Config, dict[str, Any] | None, dict[str, float], dict[str, Any]]:
    """``own_part``'s arguments, and the local settings that it names."""
    if not isinstance(part, Mapping) or {"config", "track_settings", "metrics"} - part.keys():
        raise CheckpointError(
            f"{path}: {OWN_KEY} holds no config, track_settings and metrics, as an export's does; remove it"
        )
    check_kinds(f"{path}: {OWN_KEY}", part, OWN_PARTS)
    config = config_from_dict(part["config"], f"in {path} under {OWN_KEY}")
    made = part["track_settings"]
    settings = None if made is None else settings_now(made, str(path), CheckpointError)
    return config, settings, part["metrics"], local_settings(part["config"])


def disagreement(path: Path, change: str) -> str:
    """The message for a file whose part under ``OWN_KEY`` contradicts what the other system reads."""
    return (
        f"{path}: {OWN_KEY} says something else than the file's other keys ({change}); make them equal, or "
        f"remove {OWN_KEY}"
    )
