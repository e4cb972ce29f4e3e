"""The formats that tracks are written in, by the names that ``--format`` takes.

A format is a module that holds its ``TrackFormat`` as ``FORMAT``, and a line in the table. The table itself
imports none of them: a command line waits for no format's libraries.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amplify_motion_tokenizer.tracks.base import TrackFormat

FORMATS: dict[str, tuple[str, str]] = {
    "hdf5": ("amplify_motion_tokenizer.tracks.hdf5", "one track file per clip"),
    "pt": ("amplify_motion_tokenizer.tracks.velocity_files", "one velocity file per window"),
}
"""Name of each format to its module and what it writes, in one line; the first format is the default."""

DEFAULT_FORMAT = next(iter(FORMATS))


def track_format(name: str) -> TrackFormat:
    """The format that ``FORMATS`` has under ``name``."""
    found: TrackFormat = importlib.import_module(FORMATS[name][0]).FORMAT
    return found


def track_formats() -> list[TrackFormat]:
    """All formats, in the order of the table."""
    return [track_format(name) for name in FORMATS]
