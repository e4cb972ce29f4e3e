"""Which settings of a checkpoint's config inference may change."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from typing import Any

from amplify_motion_tokenizer.config import (
    SETTINGS,
    Config,
    changes,
    decides,
    flatten,
    in_use,
    may_differ,
    to_dict,
    track_settings,
)
from amplify_motion_tokenizer.config.convert import show
from amplify_motion_tokenizer.config.loading import Given, build, unknown_key
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.models.acting import in_effect
from amplify_motion_tokenizer.models.checkpoint import Checkpoint

ACTING = ("tracks", "velocities", "window", "codes")
"""What settings of inference decide."""

logger = logging.getLogger(__name__)

_VIEWS = "data.views"

_HARMLESS = {"tracking.window_stride", "video.source"}
"""Where windows begin and where clips come from: each window has the codes that it would have."""


def check_overrides(checkpoint: Checkpoint, given: Config) -> list[str]:
    """What ``given`` changes of how the checkpoint's training tracks were made, as ``key old -> new``.

    Values are compared as they act: keys that inference or the model does not use do not count. As many views
    as the model takes may have other names: they say which of the input's views it is given.

    Raises:
        ConfigError: a change of something that the weights fix, such as grid or model width.
    """
    tracks_known = checkpoint.track_settings is not None
    differ = changes(in_effect(checkpoint.config, *ACTING), in_effect(given, *ACTING))
    renamed = len(given.data.views) == len(checkpoint.config.data.views)
    fixed = [
        change
        for change in differ
        if not may_differ(_key_of(change), tracks_known) and not (renamed and _key_of(change) == _VIEWS)
    ]
    if fixed:
        fixed.sort(key=lambda change: not change.startswith("model.name "))
        raise ConfigError(
            f"{fixed[0]} is impossible: the checkpoint fixes it; leave it out (allowed to differ: "
            f"{_allowed(tracks_known)})"
        )
    of_tracks = track_settings(given) if tracks_known else {}
    told = {key for key in SETTINGS if decides(key, "velocities") or key in of_tracks or key == _VIEWS}
    return [change for change in differ if _key_of(change) in told - _HARMLESS]


def warn_of_what_is_not_followed(checkpoint: Checkpoint, given: Config) -> None:
    """Warns of code and files for the tracker that the checkpoint names: it must decide none of them."""
    for key, value in checkpoint.not_followed.items():
        if key.startswith("tracking.") and in_use(key, given) and flatten(to_dict(given))[key] is None:
            logger.warning(
                "%s: its %s = %s is not followed, as a checkpoint must not decide what runs or is read here; "
                "if you trust it, give --%s %s",
                checkpoint.path, key, show(value), key, shlex.quote(str(value)),
            )  # fmt: skip


def overridden(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> Config:
    """The checkpoint's config with ``settings`` by dotted key; what they change of its training is warned of.

    Raises:
        ConfigError: as ``check_overrides``; or a setting is unknown or impossible.
    """
    for key, value in settings.items():
        if key not in SETTINGS or SETTINGS[key].record:
            raise ConfigError(unknown_key(key, str(value)))
    config = build(checkpoint.config, {key: Given(value, "") for key, value in settings.items()})
    for change in check_overrides(checkpoint, config):
        logger.warning("differs from the checkpoint's training: %s", change)
    warn_of_what_is_not_followed(checkpoint, config)
    return config


def _key_of(change: str) -> str:
    return change.partition(" ")[0]


def _allowed(tracks_known: bool) -> str:
    """The keys that may differ; a section of which all may is told once."""
    free = [key for key in SETTINGS if may_differ(key, tracks_known)]
    names = [
        f"{own.section}.*" if _all_may(own.section, tracks_known) else own.key
        for own in (SETTINGS[key] for key in free)
    ]
    return ", ".join(dict.fromkeys(names))


def _all_may(section: str, tracks_known: bool) -> bool:
    return all(may_differ(key, tracks_known) for key, own in SETTINGS.items() if own.section == section)
