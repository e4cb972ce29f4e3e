"""Lists the files of an input folder, whatever they hold."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from amplify_motion_tokenizer.file_names import holds_drawings

logger = logging.getLogger(__name__)

VIDEO_EXTENSIONS = (
    ".3g2", ".3gp", ".264", ".265", ".amv", ".apng", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif",
    ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm",
    ".rmvb", ".ts", ".vob", ".webm", ".webp", ".wmv", ".wtv", ".y4m",
)  # fmt: skip
"""Lower-case endings of the files that are taken for videos in a folder."""


def files_below(source: Path) -> list[Path]:
    """Files below the folder ``source``, sorted; links to files and folders are followed.

    Each folder counts once, so links cannot lead in circles: under its own path where that lies in
    ``source``, else under the path of the first link to it. Hidden files and folders are passed over. So are,
    with a warning, links that lead nowhere and folders that cannot be read, and folders of drawings, whose
    videos would be taken for recorded ones.
    """
    unreadable: list[Path] = []
    drawings: list[Path] = []
    found = sorted(_walk(source, unreadable, drawings))
    if unreadable:
        logger.warning(
            "%s: %d links or folders cannot be followed or read, such as %s; left out",
            source, len(unreadable), min(unreadable),
        )  # fmt: skip
    if drawings:
        logger.warning(
            "%s: %d folders hold drawings of tracks, such as %s; left out",
            source, len(drawings), min(drawings),
        )  # fmt: skip
    return found


def quiet_files_below(source: Path) -> list[Path]:
    """As ``files_below``, which has warned before."""
    return sorted(_walk(source, [], []))


def _walk(source: Path, unreadable: list[Path], drawings: list[Path]) -> Iterator[Path]:
    folders, links, seen = [source], list[Path](), set[Path]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        try:
            paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
            drawn = holds_drawings(folder)
        except OSError:
            unreadable.append(folder)
            continue
        if drawn:
            drawings.append(folder)
            continue
        for path in paths:
            if path.is_dir():
                (links if path.is_symlink() else folders).append(path)
            elif path.is_file():
                yield path
            elif path.is_symlink():
                unreadable.append(path)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts as people count: demo_2 before demo_10."""
    return [(int(part or 0), "") if i % 2 else (0, part) for i, part in enumerate(re.split(r"(\d+)", name))]
