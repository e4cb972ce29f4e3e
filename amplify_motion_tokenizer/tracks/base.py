"""The interface of every track format."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.config.gone import known_hashes
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.jobs.fingerprint import is_made_of
from amplify_motion_tokenizer.tracks.record import FORMAT_VERSION, ClipRecord, ClipWriter
from amplify_motion_tokenizer.tracks.stored import FoundClip, StoredClip, Stores
from amplify_motion_tokenizer.video.clips import ClipInfo, RemoteFile
from amplify_motion_tokenizer.video.sources import tracked_views

_OF_SIZE = re.compile(r"(?P<clip>.+)\.size\d+", re.DOTALL)
"""Names that ``TrackFormat.of_size`` gives, without their ending."""

ClipT = TypeVar("ClipT", bound=StoredClip, covariant=True)


@dataclass(frozen=True)
class OpenClip(Generic[ClipT]):
    """Opens a clip that was found, with its views in the order given; None stands for all of them."""

    paths: tuple[Path, ...]
    """The files that hold it."""
    open: Callable[[Sequence[str] | None], ClipT]

    def __call__(self, views: Sequence[str] | None) -> ClipT:
        """The clip; raises TrackFileError as ``TrackFormat.open`` does."""
        return self.open(views)


def clip_of(name: str) -> str | None:
    """The clip whose pictures of a further size ``name``, without an ending, holds; None for other names."""
    match = _OF_SIZE.fullmatch(name)
    return match and match["clip"]


class TrackFormat(ABC):
    """A layout of tracks on disk: how clips are written, found and opened again.

    Formats hold no state and are pickled along to worker processes. What is defined here suits formats of
    one file per clip.
    """

    name: ClassVar[str]
    """The format's name, as ``--format`` takes it."""
    stores: ClassVar[Stores]
    endings: ClassVar[tuple[str, ...]]
    """Endings of a clip's file, after the clip's name; the first one is written."""

    versions: ClassVar[tuple[int, ...]] = (FORMAT_VERSION,)
    """Versions of the layout that are read."""

    of_facts: ClassVar[Callable[..., Any] | None] = None
    """Makes a clip of its path and of what ``folder_index`` kept of it; None: nothing is kept."""

    @property
    def looked_for(self) -> str:
        """The files that make a folder one of this format, for messages."""
        return " ".join(self.endings)

    def target(self, output: Path, clip: str) -> Path:
        """The file below ``output`` that is there when the clip of that name is complete."""
        return output / f"{clip}{self.endings[0]}"

    def of_size(self, target: Path, number: int) -> Path:
        """The file for pictures of a clip's size ``number``, counted from 1; ``target`` is the clip's own."""
        ending = self.endings[0]
        clip = target.name.removesuffix(ending)
        return target if number == 1 else target.with_name(f"{clip}.size{number}{ending}")

    def remove(self, target: Path) -> None:
        """Removes the file ``target``, if it is there, and what belongs to it."""
        target.unlink(missing_ok=True)

    def views(self, source: Path | str, config: Config) -> list[str]:
        """The views of the input's clips that are tracked, all of them unless a format holds fewer.

        Raises:
            ConfigError: the format cannot hold what ``config`` asks for.
            UsageError: as ``tracked_views``.
        """
        return tracked_views(source, config)

    def settings(self, config: Config) -> dict[str, Any]:
        """The dotted keys that decide what is stored, which are recorded with it."""
        return track_settings(config)

    @abstractmethod
    def writer(
        self, target: Path, record: ClipRecord, infos: Mapping[str, ClipInfo], config: Config
    ) -> ClipWriter:
        """The writer of one clip's tracks.

        Args:
            target: from ``target``.
            record: what is recorded of the clip.
            infos: what is known of the frames of each view, by name.
            config: the run's config, in which ``views`` found nothing wrong.
        """

    @abstractmethod
    def record(self, target: Path) -> Mapping[str, Any]:
        """What ``target`` says of how it was made; in files of this project at least what ``ClipRecord`` has.

        Raises:
            TrackFileError, UsageError: it cannot be read.
        """

    def whole_record(self, target: Path) -> Mapping[str, Any]:
        """As ``record``, of a file that is found to be whole.

        Raises:
            TrackFileError, UsageError: it cannot be read, or not all of it.
        """
        return self.record(target)

    @abstractmethod
    def open(self, target: Path, views: Sequence[str] | None) -> FoundClip:
        """The clip in the file ``target`` with ``views``, in that order; None stands for all of them.

        Raises:
            TrackFileError: it cannot be read, or lacks a view.
        """

    def is_complete(self, target: Path, settings: dict[str, Any], *sources: Path | RemoteFile) -> bool:
        """Whether ``target`` was made with ``settings`` from ``sources`` as they are now.

        So must be the files of its pictures of other sizes. A file that is not whole is not complete.
        """
        if not os.path.isfile(target):  # unlike Path.is_file also of a name too long for one
            return False
        try:
            record = self.whole_record(target)
        except (TrackFileError, UsageError):
            return False
        same = record.get("config_hash") in known_hashes(settings)
        if record.get("format_version") not in self.versions or not same or not is_made_of(record, sources):
            return False
        others = (self.of_size(target, number) for number in range(2, record.get("num_sizes", 1) + 1))
        return all(self.is_complete(other, settings, *sources) for other in others)

    def find(self, folder: Path) -> dict[str, OpenClip[FoundClip]]:
        """The clips below ``folder``, by their path below it without the ending, sorted; none is opened yet.

        Raises:
            TrackFileError: two files are of one clip.
        """
        files: dict[str, Path] = {}
        for path in sorted(folder.rglob("*")):
            ending = next((ending for ending in self.endings if path.name.endswith(ending)), None)
            if ending is None or path.name.startswith("."):
                continue
            other = files.setdefault(path.relative_to(folder).as_posix().removesuffix(ending), path)
            if other != path:
                raise TrackFileError(
                    f"{other} and {path.name} are two files of one clip; remove or rename one"
                )
        return {name: OpenClip((path,), partial(self.open, path)) for name, path in files.items()}
