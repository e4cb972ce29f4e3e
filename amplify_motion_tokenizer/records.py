"""What is recorded of a clip beside its tracks, and what every writer of clips offers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from amplify_motion_tokenizer.config import settings_hash
from amplify_motion_tokenizer.datatypes import WindowTracks
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.geometry import Letterbox, letterbox, unpadded
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW, ClipInfo

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """What a track file says of itself besides the tracks."""

    settings: dict[str, Any]
    """Dotted keys that decided the tracks (``config.track_settings``)."""
    tracker: str
    reader: str
    fps: float
    """Frames per second of the tracked frames."""
    source_fps: float
    source_height: int
    source_width: int
    source_name: str
    source_bytes: int
    source_fingerprint: str = ""
    """``fingerprint`` of the source; empty where it is not known."""
    config_hash: str = field(default="")
    """Hash of the settings; set by the store."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Derives the hash."""
        object.__setattr__(self, "config_hash", settings_hash(self.settings))


def clip_record(infos: Sequence[ClipInfo], settings: dict[str, Any], tracker: str) -> ClipRecord:
    """The record of an open clip, ``infos`` of its views, that ``tracker`` tracks with ``settings``.

    Sizes, rates and name are the first view's; bytes and fingerprint are those of all its files.
    """
    info = infos[0]
    paths = [info.path for info in infos]
    return ClipRecord(
        settings=settings,
        tracker=tracker,
        reader=info.reader,
        fps=info.fps,
        source_fps=info.source_fps,
        source_height=info.source_size[0],
        source_width=info.source_size[1],
        source_name=info.path.name,
        source_bytes=total_bytes(paths),
        source_fingerprint=fingerprint(paths),
    )


def total_bytes(paths: Iterable[Path]) -> int:
    """Size of the files, each counted once; one that is missing counts 0, so its return is noticed."""
    return sum(path.stat().st_size for path in set(paths) if os.path.exists(path))


_BLOCK, _BLOCKS = 1 << 16, 4


def fingerprint(paths: Iterable[Path]) -> str:
    """SHA-256, in hex, of the files' sizes and of blocks of each: its first, its last and some between.

    Files of up to four blocks of 64 KiB are read whole. The order of the files does not matter, and as for
    ``total_bytes`` each counts once and missing ones do not.

    Raises:
        VideoError: a file cannot be read.
    """
    digests = sorted(_blocks_digest(path) for path in set(paths) if os.path.exists(path))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _blocks_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(str(size).encode())
            if size <= _BLOCKS * _BLOCK:
                digest.update(file.read())
                return digest.digest()
            for number in range(_BLOCKS):
                file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.digest()


def is_made_of(record: Mapping[str, Any], paths: Sequence[Path]) -> bool:
    """Whether ``record``, of tracks or codes, tells that they were made of the files as they are.

    By size alone where it has no fingerprint, as before there was one. A file that cannot be read is not as
    it was.
    """
    if record.get("source_bytes") != total_bytes(paths):
        return False
    if not record.get("source_fingerprint"):
        return True
    try:
        return bool(record["source_fingerprint"] == fingerprint(paths))
    except VideoError:
        return False


def view_attributes(frames: tuple[int, int] | Mapping[str, ClipInfo]) -> dict[str, dict[str, Any]]:
    """Attributes of each root/<view>; see ``TrackFileWriter`` for ``frames``."""
    if isinstance(frames, tuple):
        return {DEFAULT_VIEW: {"height": frames[0], "width": frames[1]}}
    return {
        name: {
            "height": info.size[0],
            "width": info.size[1],
            "scale": (info.letterbox.scale_x, info.letterbox.scale_y),
            "pad": (info.letterbox.pad_top, info.letterbox.pad_left),
        }
        for name, info in frames.items()
    }


def view_letterbox(attributes: Mapping[str, Any], source_size: tuple[int, int]) -> Letterbox:
    """Where the source frame lies in a view's tracked frames, from what ``view_attributes`` wrote.

    Raises:
        ValueError: the view is padded in a way that does not fit a source of ``source_size``.
    """
    size = int(attributes["height"]), int(attributes["width"])
    scale, pad = tuple(attributes.get("scale", ())), tuple(attributes.get("pad", ()))
    box = letterbox(source_size, size)
    if (scale, pad) == ((box.scale_x, box.scale_y), (box.pad_top, box.pad_left)):
        return box
    if any(pad):
        raise ValueError(
            f"scale {scale} and pad {pad} do not fit a source of {source_size[0]}x{source_size[1]}"
        )
    return unpadded(source_size, size)


class ClipWriter(Protocol):
    """Streams one clip's windows to disk; nothing is visible under the final name before the end."""

    def append(self, *views: WindowTracks) -> None:
        """Adds one window: its tracks in each view."""

    def finish(self, num_frames: int, windows_dropped: int) -> None:
        """Makes the clip complete."""

    def __enter__(self) -> ClipWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
