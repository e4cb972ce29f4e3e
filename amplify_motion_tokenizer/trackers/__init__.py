"""Point trackers, by the name that ``tracking.tracker`` gives them.

A new tracker is a module with a class that derives from ``PointTracker`` and a line in ``TRACKERS``. Settings
of its own are a section of ``config.TrackingConfig`` that the tracker's name begins with. One whose code is
cloned by the user derives from ``checkouts.CheckoutTracker``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from fnmatch import fnmatchcase

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import ConfigError, TrackerError
from amplify_motion_tokenizer.trackers.alltracker import AllTracker
from amplify_motion_tokenizer.trackers.base import PointTracker
from amplify_motion_tokenizer.trackers.bootstapir import BootsTapir
from amplify_motion_tokenizer.trackers.cotracker.loading import WEIGHTS_URLS
from amplify_motion_tokenizer.trackers.cotracker.tracker import CoTracker
from amplify_motion_tokenizer.trackers.flow.tracker import FlowTracker
from amplify_motion_tokenizer.trackers.tapnext import TapNext

__all__ = ["TRACKERS", "PointTracker", "make_tracker", "record_weights"]

TRACKERS: dict[str, Callable[[Config], PointTracker]] = {
    "flow": FlowTracker.from_config,
    **dict.fromkeys(BootsTapir.weights_urls, BootsTapir.from_config),
    **dict.fromkeys(TapNext.weights_urls, TapNext.from_config),
    **dict.fromkeys(AllTracker.weights_urls, AllTracker.from_config),
    **dict.fromkeys([*WEIGHTS_URLS, "cotracker*"], CoTracker.from_config),
}
"""Builders by name. ``*`` stands for any ending: a hub entry of another repository has a name of its own."""


def make_tracker(config: Config) -> PointTracker:
    """The tracker that ``config.tracking.tracker`` names, ready to run.

    Raises:
        ConfigError: no tracker has that name.
        TrackerError: its code or weights are missing.
    """
    name = config.tracking.tracker
    build = next((build for known, build in TRACKERS.items() if fnmatchcase(name, known)), None)
    if build is None:
        names = [known for known in TRACKERS if "*" not in known]
        close = max(names, key=lambda known: _likeness(name, known))
        raise ConfigError(
            f"tracking.tracker = {name!r} is not a tracker; allowed: {', '.join(names)}. "
            f"Did you mean {close}?"
        )
    return build(config)


def _likeness(name: str, known: str) -> float:
    """How much ``name`` is like the beginning of ``known``, 0 to 1: cotraker3 like cotracker3_offline."""
    return difflib.SequenceMatcher(None, name, known[: len(name) + 1]).ratio()


def record_weights(config: Config, tracker: PointTracker) -> Config:
    """``config`` with the hash of the weights that ``tracker`` runs on in the section of its settings.

    A tracker without weights leaves the config as it is.

    Raises:
        TrackerError: the config records the hash of other weights, or has no section for this tracker.
    """
    found, section = tracker.weights_sha256, config.tracking.tracker_section
    if found is None:
        return config
    if section is None:
        raise TrackerError(
            f"the weights of {tracker.name} cannot be recorded: the config has no section tracking.<name> "
            "that the tracker's name begins with"
        )
    settings = getattr(config.tracking, section)
    if settings.weights_sha256 not in (None, found):
        raise TrackerError(
            f"tracking.{section}.weights_sha256 = {settings.weights_sha256}, but the weights of "
            f"{tracker.name} have {found}; give the weights that were meant with tracking.{section}.weights, "
            "or leave weights_sha256 out of the config to track anew with these"
        )
    settings = dataclasses.replace(settings, weights_sha256=found)
    return dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, **{section: settings}))
