"""Point trackers, by the name that ``tracking.tracker`` gives them."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.trackers.base import PointTracker

__all__ = ["TRACKERS", "PointTracker", "make_tracker"]


def _flow(config: Config) -> PointTracker:
    from amplify_motion_tokenizer.trackers.flow import FlowTracker

    return FlowTracker(config.tracking.flow, threads=config.video.threads)


def _cotracker3_offline(config: Config) -> PointTracker:
    from amplify_motion_tokenizer.trackers.cotracker import CoTracker

    return CoTracker(config.tracking.cotracker, config.tracking.device)


TRACKERS: dict[str, Callable[[Config], PointTracker]] = {
    "flow": _flow,
    "cotracker3_offline": _cotracker3_offline,
}
"""Builders by name. They import a tracker only when it is asked for."""


def make_tracker(config: Config) -> PointTracker:
    """The tracker that ``config.tracking.tracker`` names, ready to run.

    Raises:
        ConfigError: no tracker has that name.
        TrackerError: its code or weights are missing.
    """
    name = config.tracking.tracker
    if name not in TRACKERS:
        close = difflib.get_close_matches(name, TRACKERS, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"tracking.tracker = {name!r} is not a tracker; allowed: {', '.join(TRACKERS)}. "
            f"Did you mean {close}?"
        )
    return TRACKERS[name](config)
