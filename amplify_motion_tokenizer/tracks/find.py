"""Finds the tracks of a folder, in whichever format they were written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.file_names import is_pack
from amplify_motion_tokenizer.jobs.shards import check_merged
from amplify_motion_tokenizer.tracks.base import OpenClip, TrackFormat
from amplify_motion_tokenizer.tracks.folder_index import open_clips
from amplify_motion_tokenizer.tracks.formats import DEFAULT_FORMAT, track_format, track_formats
from amplify_motion_tokenizer.tracks.packs import find_packed, read_pack
from amplify_motion_tokenizer.tracks.selection import select_demos
from amplify_motion_tokenizer.tracks.stored import Clips, FoundClip, RecordedClip, StoredClip
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW
from amplify_motion_tokenizer.video.images import image_sequences
from amplify_motion_tokenizer.video.input_files import VIDEO_EXTENSIONS, quiet_files_below
from amplify_motion_tokenizer.video.libero import holds_demos


def open_tracks(folder: Path, views: Sequence[str] | None, dataset: str | None = None) -> Clips:
    """All clips of ``folder``, a pack or a folder of tracks, as ``read_pack`` or ``find_tracks`` gives them.

    Args:
        folder: a pack, or a folder of tracks.
        views: the views to read, in this order; None reads all.
        dataset: a dataset string, which selects clips as ``select_demos`` does; None takes all.

    Raises:
        TrackFileError, ConfigError: as ``read_pack`` and ``find_tracks``.
    """
    return read_pack(folder, views, dataset) if is_pack(folder) else find_tracks(folder, views, dataset)


def find_tracks(
    folder: Path, views: Sequence[str] | None = (DEFAULT_VIEW,), dataset: str | None = None
) -> dict[str, FoundClip]:
    """All clips below ``folder``, which are of one format, by their path below it.

    Args:
        folder: searched with its subfolders.
        views: the views to read, in this order; None reads all.
        dataset: a dataset string, which selects clips as ``select_demos`` does; None takes all, sorted.

    Raises:
        TrackFileError: the folder is missing, a file or a pack, holds no tracks, tracks of two formats or
            two files of one clip, or a file is bad; or the dataset selects none.
        UsageError: shards of the folder are not merged.
        ConfigError: the dataset string is malformed.
    """
    form, clips = _found(folder)
    # Before they are opened, as most may not be wanted.
    names = list(clips) if dataset is None else select_demos(clips, dataset)
    return open_clips(folder, clips, form.of_facts, names, views)


def clips_to_open(source: Path) -> dict[str, OpenClip[StoredClip]]:
    """The clips of a folder of tracks, of a pack or of one track file, by name; none is opened yet.

    What opens a clip takes the views that are wanted, in their order; None stands for all.

    Raises:
        TrackFileError: as ``find_tracks`` and ``read_pack``, but for what is wrong with one clip alone.
    """
    if source.is_file():
        own = next((each for each in track_formats() if source.name.endswith(each.endings)), None)
        ending = next((end for end in own.endings if source.name.endswith(end)), "") if own else ""
        form = own or track_format(DEFAULT_FORMAT)
        return {source.name.removesuffix(ending): OpenClip((source,), partial(form.open, source))}
    if is_pack(source):
        return dict(find_packed(source))
    return dict(_found(source)[1])


def holds_tracks(source: Path) -> bool:
    """Whether ``source`` is a track file, or a folder that holds tracks and neither videos nor pictures.

    LIBERO's demos, which are HDF5 files too, are videos.
    """
    if source.is_file():
        return source.name.endswith(_endings()) and not holds_demos(source)
    if not source.is_dir():
        return False
    if is_pack(source):
        return True
    files = quiet_files_below(source)
    if any(path.suffix.lower() in VIDEO_EXTENSIONS for path in files) or image_sequences(files):
        return False
    first = next((path for path in files if path.name.endswith(_endings())), None)
    if first is not None and holds_demos(first):
        return False
    return any(each.find(source) for each in track_formats())


def _endings() -> tuple[str, ...]:
    return tuple(ending for each in track_formats() for ending in each.endings)


def find_recorded(source: Path) -> dict[str, RecordedClip]:
    """The clips below the folder ``source``, or the one in the file ``source``, with all views, by name.

    Raises:
        TrackFileError: as ``find_tracks``; or the files hold velocities.
    """
    if source.is_file():
        own = next((each for each in track_formats() if source.name.endswith(each.endings)), None)
        clips = {source.stem: (own or track_format(DEFAULT_FORMAT)).open(source, None)}
    else:
        clips = find_tracks(source, None)
    recorded = {name: clip for name, clip in clips.items() if clip.stores == "positions"}
    if not recorded:
        raise TrackFileError(f"{source}: holds velocities of windows; expected track files (--format hdf5)")
    return recorded


def _found(folder: Path) -> tuple[TrackFormat, dict[str, OpenClip[FoundClip]]]:
    """The format of the clips below ``folder``, and the clips, none opened yet."""
    _check_folder(folder)
    check_merged(folder)
    formats = track_formats()
    found = {each.name: clips for each in formats if (clips := each.find(folder))}
    if len(found) > 1:
        raise TrackFileError(
            f"{folder}: holds tracks of both --format {' and --format '.join(found)}, expected one format; "
            "move the files of one into another folder"
        )
    if not found:
        looked_for = ", ".join(each.looked_for for each in formats)
        raise TrackFileError(
            f"{folder}: holds no track files; looked for {looked_for}; make some with preprocess_videos.py"
        )
    ((name, clips),) = found.items()
    return track_format(name), clips


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise TrackFileError(f"{folder} is a file; expected the folder that holds the tracks")
    if not folder.is_dir():
        raise TrackFileError(
            f"track folder {folder} does not exist; make it with preprocess_videos.py, and true tracks with "
            "scenes --truth"
        )
    if is_pack(folder):
        raise TrackFileError(
            f"{folder} is a pack, which only train.py and inspect read; give the folder of track files that "
            "it was made from"
        )
