"""What an HDF5 track file says of itself besides its arrays, as plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from amplify_motion_tokenizer.config.gone import settings_now
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.foreign_json import parse_json
from amplify_motion_tokenizer.kinds import MAPPING, PAIR, TEXT, Kind, list_of, or_none, whole_from

FACTS: dict[str, Kind] = {
    "num_windows": whole_from(0),
    "length": whole_from(1),
    "num_points": whole_from(1),
    "views": list_of(TEXT),
    "sizes": list_of(or_none(PAIR)),
    "view_attributes": list_of(MAPPING),
    "attributes": MAPPING,
    "frame_size": or_none(PAIR),
    "unwritten": whole_from(0),
}
"""What the index of a folder keeps of a file: attributes of ``TrackFile``."""


def plain_attributes(attributes: h5py.AttributeManager) -> dict[str, Any]:
    """Attributes as Python's own numbers, texts and tuples."""
    return {str(_plain(name)): _plain(value) for name, value in attributes.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return tuple(value) if isinstance(value, list) else value


def settings_of(found: Any, path: Path) -> dict[str, Any] | None:
    """The settings in the attribute ``settings``; None where there is none.

    Raises:
        TrackFileError: it is no JSON object of settings that decide tracks.
    """
    if found is None:
        return None
    try:
        settings = parse_json(found)
    except ValueError as error:
        raise TrackFileError(f"{path}: its settings are no JSON ({error}); remake it") from None
    if not isinstance(settings, dict):
        raise TrackFileError(
            f"{path}: its settings are a {type(settings).__name__}; expected a JSON object; remake it"
        )
    return settings_now(settings, str(path))
