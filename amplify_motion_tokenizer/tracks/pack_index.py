"""The index of a pack of tracks, read and checked; ``packs`` says what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.file_names import PACK_INDEX
from amplify_motion_tokenizer.files import read_json
from amplify_motion_tokenizer.kinds import (
    FLAG,
    MAPPING,
    RATE,
    TEXT,
    TEXTS,
    Kind,
    check_kinds,
    list_of,
    or_none,
    require_kinds,
    whole_from,
)

FORMAT_VERSION = 2

_INDEX: dict[str, Kind] = {
    "settings": or_none(MAPPING),
    "views": TEXTS,
    "length": whole_from(2),
    "num_points": whole_from(1),
    "frame_size": or_none(list_of(whole_from(1), 2)),
    "clips": list_of(MAPPING),
}
_INDEX_MAY: dict[str, Kind] = {"padded": FLAG, "placed": FLAG, "timed": FLAG}
_CLIP: dict[str, Kind] = {
    "name": TEXT,
    "windows": whole_from(0),
    "sizes": list_of(or_none(list_of(whole_from(1), 2))),
}
_CLIP_MAY: dict[str, Kind] = {"fps": or_none(RATE), "source_fps": or_none(RATE)}


def read_index(folder: Path) -> dict[str, Any]:
    """What the index of a pack holds, every value of its kind.

    Raises:
        TrackFileError: it is damaged or of another version; names the first key that is wrong.
    """
    path, again = folder / PACK_INDEX, "pack the track files again"
    try:
        index = read_json(path)
    except UsageError as error:
        raise TrackFileError(f"{path}: is damaged ({error}); {again}") from None
    version = index.get("format_version")
    if version != FORMAT_VERSION:
        raise TrackFileError(f"{path}: format version {version!r}, expected {FORMAT_VERSION}; {again}")
    require_kinds(f"{path}: is damaged", index, _INDEX, TrackFileError)
    check_kinds(f"{path}: is damaged", index, _INDEX_MAY, TrackFileError)
    names: set[str] = set()
    for number, clip in enumerate(index["clips"]):
        where = f"{path}: is damaged: clips[{number}]"
        require_kinds(where, clip, _CLIP, TrackFileError)
        check_kinds(where, clip, _CLIP_MAY, TrackFileError)
        if len(clip["sizes"]) != len(index["views"]):
            raise TrackFileError(
                f"{where}: sizes are of {len(clip['sizes'])} views; expected {len(index['views'])}; {again}"
            )
        if clip["name"] in names:
            raise TrackFileError(f"{where}: name is {clip['name']!r}, the name of another clip too; {again}")
        names.add(clip["name"])
    return index
