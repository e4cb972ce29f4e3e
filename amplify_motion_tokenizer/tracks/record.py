"""What is recorded of a clip beside its tracks, and what every writer of clips offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from amplify_motion_tokenizer.config import settings_hash
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.jobs.fingerprint import fingerprint, total_bytes
from amplify_motion_tokenizer.kinds import ABOVE_0, FINITE, RATE, TEXT, Kind, check_kinds, or_none, whole_from
from amplify_motion_tokenizer.letterbox import Letterbox, letterbox, unpadded
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW, ClipInfo

FORMAT_VERSION = 1
"""Of track files of float32 and of velocity files; packs have one of their own."""


_SIDE: Kind = (lambda value: FINITE[0](value) and 1 <= value < 2**31, "pixels, 1 or more")
RECORD_KINDS: dict[str, Kind] = {
    "tracker": TEXT,
    "reader": TEXT,
    "config_hash": TEXT,
    "fps": or_none(RATE),
    "source_fps": or_none(RATE),
    "source_height": or_none(_SIDE),
    "source_width": or_none(_SIDE),
    "source_name": TEXT,
    "source_bytes": whole_from(0, 2**63 - 1),
    "source_fingerprint": TEXT,
    "num_frames": whole_from(0, 2**26),
    "windows_dropped": whole_from(0),
    "num_sizes": whole_from(0),
}
"""What of a clip's record must be where a file has it; ``ClipRecord`` and ``ClipWriter.finish`` say it."""


def _two(kind: Kind) -> Kind:
    """Two values of ``kind``."""

    def fits(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == 2 and all(map(kind[0], value))

    return fits, f"two, each: {kind[1]}"


VIEW_KINDS: dict[str, Kind] = {
    "height": _SIDE,
    "width": _SIDE,
    "scale": _two(ABOVE_0),
    "pad": _two(whole_from(0)),
    "pixel_aspect": ABOVE_0,
    "source_size": _two(_SIDE),
}
"""Of each view's attributes, which ``view_attributes`` says."""


def check_facts(path: Path, attributes: Mapping[str, Any], views: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises TrackFileError where ``path`` says of itself, or of a view by name, what no file can say."""
    check_kinds(f"{path}: root", attributes, RECORD_KINDS, TrackFileError)
    for name, facts in views.items():
        check_kinds(f"{path}: {name}", facts, VIEW_KINDS, TrackFileError)


def check_version(record: Mapping[str, Any], path: Path, known: Sequence[int] = (FORMAT_VERSION,)) -> None:
    """Refuses ``path``, of which ``record`` tells, when its layout is not of a version among ``known``.

    Files of other writers have no version.

    Raises:
        TrackFileError: it is of another version.
    """
    found = record.get("format_version", FORMAT_VERSION)
    if type(found) is not int or found not in known:
        raise TrackFileError(
            f"{path}: format version {found!r:.60}, expected {' or '.join(map(str, known))}; preprocess its "
            "clip again, or use the version of this package that wrote it"
        )


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """What a track file says of itself besides the tracks."""

    settings: dict[str, Any]
    """Dotted keys that decided the tracks (``config.track_settings``)."""
    tracker: str
    reader: str
    fps: float | None
    """Frames per second of the tracked frames; None where it is not known."""
    source_fps: float | None
    source_height: int | None
    source_width: int | None
    """Size of the source's pictures, upright and in square pixels; None where it is not known."""
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

    Sizes, rates and name are the first view's; bytes and fingerprint are of the files of all views together.
    """
    info = infos[0]
    paths = [path for info in infos for path in info.files or (info.path,)]
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


Frames = tuple[int, int] | Mapping[str, ClipInfo | tuple[int, int]]
"""What is known of the tracked frames of each view, by name, or of the one view ``default``; a tuple is their
(height, width) in pixels, where nothing else is known."""


def view_attributes(frames: Frames) -> dict[str, dict[str, Any]]:
    """Attributes of each root/<view>."""
    if isinstance(frames, tuple):
        return view_attributes({DEFAULT_VIEW: frames})
    return {
        name: {"height": info[0], "width": info[1]}
        if isinstance(info, tuple)
        else {
            "height": info.size[0],
            "width": info.size[1],
            "scale": (info.letterbox.scale_x, info.letterbox.scale_y),
            "pad": (info.letterbox.pad_top, info.letterbox.pad_left),
            "pixel_aspect": info.pixel_aspect,
            "source_size": info.source_size,
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

    def finish(self, num_frames: int, windows_dropped: int, num_sizes: int = 1) -> None:
        """Makes the file complete.

        Args:
            num_frames: of the clip, at the rate that was tracked.
            windows_dropped: windows of the clip that the motion gate dropped.
            num_sizes: how many files the clip has (``clip_files``), told in its own one; 0 in the others.
        """

    def __enter__(self) -> ClipWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
