"""Finding the tracks of a folder, in either of the layouts that preprocessing writes.

``track_files`` is AMPLIFY's, one HDF5 file per clip; ``velocity_files`` the keypoint reproduction's, one
file per window.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.config.gone import known_hashes
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.file_names import (
    TRACK_EXTENSIONS,
    VELOCITY_INDEX_ENDING,
    is_pack,
    velocity_files,
    velocity_name,
)
from amplify_motion_tokenizer.files import read_json
from amplify_motion_tokenizer.jobs.fingerprint import is_made_of
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.tracks.record import FORMAT_VERSION
from amplify_motion_tokenizer.tracks.selection import select_demos
from amplify_motion_tokenizer.tracks.velocity_files import VelocityFiles
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW


def is_complete(path: Path, settings: dict[str, Any], *sources: Path) -> bool:
    """Whether ``path`` (a track file or an index) was made with ``settings`` from ``sources`` as they are."""
    if not os.path.isfile(path):  # unlike Path.is_file also of a name too long for one
        return False
    try:
        record = read_json(path) if path.suffix == ".json" else dict(TrackFile(path, None).attributes)
    except (TrackFileError, UsageError):
        return False
    same = record.get("config_hash") in known_hashes(settings)
    if record.get("format_version") != FORMAT_VERSION or not same or not is_made_of(record, sources):
        return False
    if path.suffix != ".json":
        return True
    clip = path.name.removesuffix(VELOCITY_INDEX_ENDING)
    return all(path.with_name(velocity_name(clip, start)).is_file() for start in record["start_frame"])


def find_tracks(
    folder: Path, views: Sequence[str] | None = (DEFAULT_VIEW,), dataset: str | None = None
) -> dict[str, TrackFile] | dict[str, VelocityFiles]:
    """All clips below ``folder`` in one of the two layouts, by their path below it.

    Args:
        folder: searched with its subfolders.
        views: groups of the track files to read; None reads all.
        dataset: a dataset string, which selects clips as ``select_demos`` does; None takes all, sorted.

    Raises:
        TrackFileError: the folder is missing, a file or a pack, holds no tracks, both layouts or two files
            of one clip, or a file is bad; or the dataset selects none.
        ConfigError: the dataset string is malformed.
    """
    _check_folder(folder)
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in TRACK_EXTENSIONS and not path.name.startswith("."):
            other = files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
            if other != path:
                raise TrackFileError(
                    f"{other} and {path.name} are two files of one clip; remove or rename one"
                )
    folders = {
        path.parent for path in folder.rglob("*_start*.pt") if not path.parent.name.endswith(".unfinished")
    }
    velocities = {
        (parent.relative_to(folder) / clip).as_posix(): (clip, paths)
        for parent in sorted(folders)
        for clip, paths in velocity_files(parent).items()
    }
    if files and velocities:
        raise TrackFileError(f"{folder}: holds both track files and .pt velocity files; separate them")
    if not files and not velocities:
        raise TrackFileError(
            f"{folder}: holds no track files; looked for {' '.join(TRACK_EXTENSIONS)} and <clip>_start<n>.pt"
        )
    names = list(velocities or files)
    # Before they are opened, as most may not be wanted.
    names = names if dataset is None else select_demos(names, dataset)
    if velocities:
        return {name: VelocityFiles(*velocities[name]) for name in names}
    return {name: TrackFile(files[name], views) for name in names}


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise TrackFileError(f"{folder} is a file; expected the folder that holds the tracks")
    if not folder.is_dir():
        raise TrackFileError(f"track folder {folder} does not exist; make it with preprocess_videos.py")
    if is_pack(folder):
        raise TrackFileError(
            f"{folder} is a pack, which only train.py and inspect read; give the folder of track files that "
            "it was made from"
        )
