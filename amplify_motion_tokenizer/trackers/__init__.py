"""Point trackers, by the name that ``tracking.tracker`` gives them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import ConfigError, TrackerError
from amplify_motion_tokenizer.trackers.base import PointTracker
from amplify_motion_tokenizer.trackers.cotracker.loading import WEIGHTS_URLS

__all__ = ["TRACKERS", "PointTracker", "make_tracker", "record_weights"]


def _flow(config: Config) -> PointTracker:
    from amplify_motion_tokenizer.trackers.flow import FlowTracker

    return FlowTracker(config.tracking.flow, threads=config.video.threads)


def _cotracker(config: Config) -> PointTracker:
    from amplify_motion_tokenizer.trackers.cotracker import CoTracker

    return CoTracker(config.tracking.tracker, config.tracking.cotracker, config.tracking.device)


TRACKERS: dict[str, Callable[[Config], PointTracker]] = {
    "flow": _flow,
    **dict.fromkeys(WEIGHTS_URLS, _cotracker),
}
"""Builders by name. They import a tracker only when it is asked for."""


def make_tracker(config: Config) -> PointTracker:
    """The tracker that ``config.tracking.tracker`` names, ready to run.

    A name that is not in ``TRACKERS`` but begins with cotracker is a hub entry of another repository.

    Raises:
        ConfigError: no tracker has that name.
        TrackerError: its code or weights are missing.
    """
    name = config.tracking.tracker
    build = TRACKERS.get(name, _cotracker if name.startswith("cotracker") else None)
    if build is None:
        close = max(TRACKERS, key=lambda known: _likeness(name, known))
        raise ConfigError(
            f"tracking.tracker = {name!r} is not a tracker; allowed: {', '.join(TRACKERS)}. "
            f"Did you mean {close}?"
        )
    return build(config)


def _likeness(name: str, known: str) -> float:
    """Of ``name`` to the beginning of ``known``: cotraker3 is a cotracker3_offline that was cut short."""
    return difflib.SequenceMatcher(None, name, known[: len(name) + 1]).ratio()


def record_weights(config: Config, tracker: PointTracker) -> Config:
    """``config`` with the hash of the weights that ``tracker`` runs on, where it runs on any.

    Raises:
        TrackerError: the config records the hash of other weights.
    """
    found, settings = tracker.weights_sha256, config.tracking.cotracker
    if found is None:
        return config
    if settings.weights_sha256 not in (None, found):
        raise TrackerError(
            f"tracking.cotracker.weights_sha256 = {settings.weights_sha256}, but the weights of "
            f"{tracker.name} have {found}; give the weights that were meant with tracking.cotracker.weights, "
            "or leave weights_sha256 out of the config to track anew with these"
        )
    settings = dataclasses.replace(settings, weights_sha256=found)
    return dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, cotracker=settings))
