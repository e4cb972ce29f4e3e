"""LIBERO's demonstrations as clips: HDF5 files of images instead of videos.

``<suite>/<task>_demo.hdf5`` holds ``data/demo_<k>/obs/<view>_rgb``, (T, H, W, 3) uint8, RGB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import UsageError, VideoError
from amplify_motion_tokenizer.hdf5_files import open_hdf5
from amplify_motion_tokenizer.video.clips import Clip, ViewSource
from amplify_motion_tokenizer.video.decoders import Frames
from amplify_motion_tokenizer.video.input_files import files_below, natural_key
from amplify_motion_tokenizer.video.reading import SourceFrames
from amplify_motion_tokenizer.video.timing import Rate

LIBERO_FPS = 20.0
"""The files state no rate. Each image is one step of LIBERO's controller, which runs at robosuite's
default ``control_freq`` of 20 Hz."""
LIBERO_VIEWS = {"agentview": "agentview_rgb", "eye_in_hand": "eye_in_hand_rgb"}
"""Views of every demo, and their images below ``obs``."""

_FILES = "*_demo.hdf5"
_BLOCK = 32
"""Frames read at once, so that a compressed chunk is not unpacked for each of its frames."""


def demo_views(source: Path, config: Config) -> dict[str, str]:
    """View names to their images below ``obs``: those of ``tracking.view_files``, else ``LIBERO_VIEWS``."""
    return config.tracking.view_files or LIBERO_VIEWS


def find_demos(source: Path, config: Config, views: Mapping[str, str]) -> list[Clip]:
    """Every demo below ``source``, in natural order, named as AMPLIFY names its tracks.

    The names are ``<suite>/uniform_<N>_reinit_<T>/<task>_demo/demo_<k>``, with the query order for
    uniform; the suite is the folder of the file, also when that folder is the source itself. A file
    that cannot be read, or holds no demo, is one clip, which fails when it is opened.

    Args:
        source: one file, or the folder of the suites.
        config: decides the names.
        views: view name to the name of its images below ``obs``.

    Raises:
        UsageError: the source is missing or holds no such file.
    """
    there = files_below(source) if source.is_dir() else []
    paths = [source] if source.is_file() else [path for path in there if path.match(_FILES)]
    if not paths:
        raise UsageError(f"input {source} does not exist or holds no LIBERO demos; looked for {_FILES}")
    tracked = f"{config.tracking.query_order}_{config.num_points}_reinit_{config.tracked_length}"
    clips = []
    for path in paths:
        below = path.parent.relative_to(source).as_posix() if source.is_dir() else "."
        folder = f"{path.resolve().parent.name if below == '.' else below}/{tracked}/{path.stem}"
        for demo in _demos(path) or ["demo_0"]:
            found = {view: ViewSource(path, f"data/{demo}/obs/{name}") for view, name in views.items()}
            clips.append(Clip(f"{folder}/{demo}", found))
    return clips


def holds_demos(path: Path) -> bool:
    """Whether the HDF5 file ``path`` holds LIBERO's demos, and not tracks, which are HDF5 files too."""
    return bool(_demos(path))


def _demos(path: Path) -> list[str]:
    try:
        with open_hdf5(path, VideoError, "") as file:
            data = file.get("data")
            there = data if isinstance(data, h5py.Group) else ()
            # A name that is not UTF-8 comes as bytes.
            names = [name for name in there if isinstance(name, str) and re.fullmatch(r"demo_\d+", name)]
    except (VideoError, OSError, RuntimeError, KeyError):
        return []  # opening the clip says what is wrong
    return sorted(names, key=natural_key)


def open_demo(source: ViewSource) -> SourceFrames:
    """Opens one view of one demo, the right way up.

    Raises:
        VideoError: the file cannot be read, or holds no such images.
    """
    with _open(source) as file:
        try:
            images = file.get(source.dataset)
        except (RuntimeError, OSError, KeyError) as error:
            raise VideoError(f"{source}: is damaged ({error}); copy it again, or leave it out") from None
        if not isinstance(images, h5py.Dataset):
            raise VideoError(
                f"{source.path}: lacks {source.dataset}; expected LIBERO's data/demo_<k>/obs/<view>_rgb "
                "(tracking.view_files names the views)"
            )
        shape, kind = images.shape, images.dtype
    if len(shape) != 4 or shape[-1] != 3 or kind != np.uint8 or 0 in shape:
        raise VideoError(f"{source}: has shape {shape} of {kind}, expected (T, H, W, 3) of uint8, not empty")
    rate, size = Rate(LIBERO_FPS, LIBERO_FPS, True), (shape[1], shape[2])
    return SourceFrames(source.path, "h5py", rate, size, _frames(source), dataset=source.dataset)


def _frames(source: ViewSource) -> Frames:
    with _open(source) as file:
        images = file[source.dataset]
        for start in range(0, len(images), _BLOCK):
            try:
                block = images[start : start + _BLOCK]
            except OSError as error:
                raise VideoError(f"{source}: is damaged ({error})") from None
            for index, rgb in enumerate(block, start):
                # Copied, so that a frame that is held does not hold its block; stored upside down.
                yield index / LIBERO_FPS, np.array(rgb[::-1], order="C")


def _open(source: ViewSource) -> h5py.File:
    return open_hdf5(source.path, VideoError, "copy it again, or leave it out")
