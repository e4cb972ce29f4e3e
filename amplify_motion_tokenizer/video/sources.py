"""What an input folder holds: clips of one video, of one video per view, or LIBERO's demos."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from amplify_motion_tokenizer.config import Config, VideoConfig
from amplify_motion_tokenizer.config.checks import CLIP_PLACE
from amplify_motion_tokenizer.errors import ConfigError, UsageError, VideoError
from amplify_motion_tokenizer.file_names import SCENES
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW, Clip, RemoteFiles, ViewSource
from amplify_motion_tokenizer.video.images import ANIMATED, image_sequences, open_images
from amplify_motion_tokenizer.video.input_files import VIDEO_EXTENSIONS, files_below, quiet_files_below
from amplify_motion_tokenizer.video.lerobot import INFO, camera_views, find_episodes, open_episode
from amplify_motion_tokenizer.video.libero import demo_views, find_demos, open_demo
from amplify_motion_tokenizer.video.reading import SourceFrames, Video, make_videos, open_source
from amplify_motion_tokenizer.video.remote import list_files

_WANTED = f"numbered pictures and {' '.join(VIDEO_EXTENSIONS)}"


class Source(NamedTuple):
    """What an input folder may hold, as ``video.source`` names it."""

    views: Callable[[Path, Config], Mapping[str, str]]
    """Names of the views of the input's clips, and where each is."""
    find: Callable[[Path, Config, Mapping[str, str]], list[Clip]]
    """The clips in the input, sorted, with these views."""
    leaves_out: bool = True
    """Whether other files of the input folder are told, as they may have been meant for clips."""


def tracked_views(source: Path | str, config: Config) -> list[str]:
    """Names of the views that the clips of the input ``source`` have.

    Raises:
        UsageError: the input says of its views itself, and is damaged or missing.
    """
    return list(_views(source, config))


def _views(source: Path | str, config: Config) -> Mapping[str, str]:
    if isinstance(source, Path):
        return SOURCES[config.video.source].views(source, config)
    if config.video.source != "files":
        advice = "give its name on the Hub" if config.video.source == "lerobot" else "copy it to this machine"
        raise UsageError(f"input {source}: a URL holds video files, not {config.video.source} data; {advice}")
    return _view_forms(config)


def model_views(source: Path | str, config: Config) -> list[str]:
    """The views among ``tracked_views`` that ``data.views`` asks for; a lone view serves whatever its name.

    Raises:
        ConfigError: the input's clips lack one of them.
    """
    there, wanted = tracked_views(source, config), list(config.data.views)
    if len(there) == len(wanted) == 1:
        return there
    missing = [view for view in wanted if view not in there]
    if missing:
        raise ConfigError(
            f"data.views names {missing[0]}, but the input has the views {', '.join(there)}; "
            f"give --data.views {there[0]}, or set tracking.view_files to where each view is"
        )
    return wanted


def find_clips(source: Path | str, config: Config, views: Sequence[str]) -> list[Clip]:
    """The clips in ``source``, a folder or a file, sorted, each with its ``views`` in that order.

    ``files_below`` says which links are followed and what is passed over. A text is the URL of a folder or
    file on another file system (``remote.input_of``).

    Raises:
        UsageError: the source is missing, empty, or holds no clip; or two would share an output.
    """
    there = _views(source, config)
    if isinstance(source, Path):
        clips = SOURCES[config.video.source].find(source, config, there)
        return [Clip(clip.name, {view: clip.views[view] for view in views}) for clip in clips]
    listed = list_files(source)
    place = next(iter(listed.files)) if listed.lone else listed.root
    clips = _clips_among(place, None if listed.lone else sorted(listed.files), config)
    return [_with_files(clip, views, listed) for clip in clips]


def _with_files(clip: Clip, views: Sequence[str], listed: RemoteFiles) -> Clip:
    """The clip with its ``views`` and their files among the listed ones."""
    own = Clip(clip.name, {view: clip.views[view] for view in views})
    files = {path: listed.files[path] for path in own.paths if path in listed.files}
    return dataclasses.replace(own, remote=RemoteFiles(listed.root, files))


def open_views(clip: Clip, config: VideoConfig) -> list[Video]:
    """Opens all views of ``clip`` at one rate; several views are resampled to the same ticks.

    The rate is the slowest view's where that is below ``video.target_fps``.

    Raises:
        VideoError: a view is missing or cannot be read.
    """
    with ExitStack() as opened:
        sources = []
        for view, place in clip.views.items():
            if not os.path.exists(place.path):
                raise VideoError(
                    f"{place}: is missing, the view {view} of the clip {clip.name}; add it, leave the clip "
                    "out, or take the view out of tracking.view_files"
                )
            sources.append(_open_view(place, config))
            opened.callback(sources[-1].close)
        videos = make_videos(sources, config)
        opened.pop_all()
    return videos


def _open_view(place: ViewSource, config: VideoConfig) -> SourceFrames:
    if place.span is not None:
        return open_episode(place, config.threads)
    if place.dataset:
        return open_demo(place)
    if place.images or place.path.suffix.lower() in ANIMATED:
        return open_images(place, config)
    return open_source(place.path, config)


def other_files(source: Path | str, clips: Sequence[Clip], config: Config) -> Counter[str]:
    """Files of the input folder ``source`` that no clip is made of, counted by ending; empty for a file.

    What rendered clips say of themselves is no such file. On another file system nothing is listed again.
    """
    if isinstance(source, str) or not source.is_dir() or not SOURCES[config.video.source].leaves_out:
        return Counter()
    used = {path for clip in clips for path in clip.paths}
    others = (path for path in quiet_files_below(source) if path not in used and path.name != SCENES)
    return Counter(path.suffix.lower() or path.name for path in others)


def _files(source: Path) -> list[Path]:
    """``files_below`` the folder ``source``.

    Raises:
        UsageError: it is no folder, cannot be read, or is empty.
    """
    if not source.is_dir():
        raise UsageError(f"input {source} does not exist; expected a file or folder")
    try:
        empty = not any(source.iterdir())
    except OSError as error:
        raise UsageError(f"input folder {source} cannot be read ({error.strerror})") from None
    if empty:
        raise UsageError(f"input folder {source} is empty; looked for {_WANTED}")
    return files_below(source)


def _view_forms(config: Config) -> Mapping[str, str]:
    return config.tracking.view_files or {DEFAULT_VIEW: ""}


def _views_of_files(source: Path, config: Config) -> Mapping[str, str]:
    return _view_forms(config)


def _find_files(source: Path, config: Config, views: Mapping[str, str]) -> list[Clip]:
    return _clips_among(source, None if source.is_file() else _files(source), config)


def _clips_among(source: Path, paths: list[Path] | None, config: Config) -> list[Clip]:
    """The clips of the files ``paths`` below the folder ``source``, or of the file ``source`` for None."""
    forms = config.tracking.view_files
    return _find_views(source, paths, forms) if forms else _find_videos(source, paths)


def _find_videos(source: Path, paths: list[Path] | None) -> list[Clip]:
    """A clip for each video and each image sequence."""
    if paths is None:
        return [Clip(source.stem, {DEFAULT_VIEW: ViewSource(source)})]
    if source / INFO in paths:
        raise UsageError(
            f"input folder {source} is a LeRobotDataset, whose videos hold several episodes each: windows "
            "would go over their ends; give --video.source lerobot"
        )
    sequences = image_sequences(paths)
    pictures = {path for images in sequences.values() for path in images}
    videos = [path for path in paths if path.suffix.lower() in VIDEO_EXTENSIONS and path not in pictures]
    places = {path.relative_to(source).with_suffix("").as_posix(): ViewSource(path) for path in videos}
    names = Counter(path.relative_to(source).with_suffix("").as_posix() for path in videos)
    for folder, images in sequences.items():
        name = folder.relative_to(source).as_posix()
        name = folder.resolve().name if name == "." else name
        names[name] += 1
        places[name] = ViewSource(folder, images=images)
    if not places:
        raise UsageError(f"input folder {source} holds no video; looked for {_WANTED}")
    shared = [name for name, count in names.items() if count > 1]
    if shared:
        raise UsageError(
            f"input folder {source} has several files named {shared[0]} with different extensions, "
            "which would share one output; rename all but one"
        )
    return [Clip(name, {DEFAULT_VIEW: places[name]}) for name in sorted(places)]


def _find_views(source: Path, paths: list[Path] | None, view_files: Mapping[str, str]) -> list[Clip]:
    """A clip for each name that at least one view's pattern finds a file for."""
    if paths is None:
        raise UsageError(
            f"input {source} is a file; tracking.view_files needs the folder of the clips; "
            "for videos of one view set it to {}"
        )
    found = {_clip_of(path.relative_to(source).as_posix(), view_files) for path in paths}
    names = sorted(name for name in found if name is not None)
    if not names:
        raise UsageError(
            f"input folder {source} holds no file of tracking.view_files; looked for "
            f"{', '.join(view_files.values())}; for videos of one view set it to {{}}"
        )
    return [
        Clip(
            name,
            {view: ViewSource(source / form.replace(CLIP_PLACE, name)) for view, form in view_files.items()},
        )
        for name in names
    ]


def _clip_of(file: str, view_files: Mapping[str, str]) -> str | None:
    """The clip that ``file``, a path below the input folder, is a view of; None for other files.

    Where several patterns fit, such as {clip}.mp4 and {clip}_wrist.mp4, the longest is meant.
    """
    for form in sorted(view_files.values(), key=len, reverse=True):
        before, after = form.split(CLIP_PLACE)
        clip = file[len(before) : len(file) - len(after)]
        if clip and file == f"{before}{clip}{after}":
            return clip
    return None


SOURCES = {
    "files": Source(_views_of_files, _find_files),
    "libero": Source(demo_views, find_demos),
    "lerobot": Source(camera_views, find_episodes, leaves_out=False),
}
"""What an input may be, by the name that ``video.source`` gives it."""
