"""The types for a clip, its views, its parts and its frames."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.letterbox import Letterbox

DEFAULT_VIEW = "default"

RGB = NDArray[np.uint8]


@dataclass(frozen=True)
class Span:
    """The part of a video file that is one of several clips in it."""

    start_s: float
    """Seconds on the file's clock of its first frame."""
    frames: int
    """How many it has."""
    fps: float
    """Frames per second, evenly."""


@dataclass(frozen=True)
class ViewSource:
    """Where the frames of one view of a clip are."""

    path: Path
    """The file, or the folder of an image sequence."""
    dataset: str = ""
    """The frames' place in an HDF5 file; empty for everything else."""
    images: tuple[Path, ...] = ()
    """The pictures of an image sequence, in order; empty for everything else."""
    span: Span | None = None
    """The part of the file; None for all of it."""

    def __str__(self) -> str:
        if self.span is not None:
            return f"{self.path} (from {self.span.start_s:.3f} s)"
        return f"{self.path}:{self.dataset}" if self.dataset else str(self.path)


@dataclass(frozen=True)
class RemoteFile:
    """A file on another file system, as that told of it when it was listed."""

    url: str
    """Where it is, for people."""
    place: str
    """What its file system calls it."""
    name: str
    """Its path below the input, with forward slashes."""
    bytes: int | None
    """Its size; None where the file system does not say."""
    identity: str
    """Changes with the file, as far as the file system tells; empty where it tells nothing."""

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class RemoteFiles:
    """Files on another file system, each under the path by which a clip knows it, which is nowhere here."""

    root: Path
    """Stands for the folder that they are all below."""
    files: Mapping[Path, RemoteFile]
    lone: bool = False
    """Whether the input is this one file, not a folder."""


@dataclass(frozen=True)
class Clip:
    """What is tracked together: one video, or the views of one recording."""

    name: str
    """Its output's path below the output folder, without the extension, with forward slashes."""
    views: dict[str, ViewSource]
    """Frames by view name, one view or more; a file may turn out to be missing."""
    remote: RemoteFiles | None = None
    """Its files, as far as they are there, if they are on another file system (``video.remote``)."""

    @property
    def paths(self) -> list[Path]:
        """The files that hold it."""
        return [path for source in self.views.values() for path in source.images or (source.path,)]

    @property
    def files(self) -> list[Path | RemoteFile]:
        """The files that hold it, wherever they are; ``paths`` if they are on this machine."""
        files = self.remote.files if self.remote else {}
        return [files.get(path, path) for path in self.paths]

    @property
    def identity(self) -> str:
        """Changes with the clip's files on another file system; empty where nothing tells that."""
        if self.remote is None or not all(file.identity for file in self.remote.files.values()):
            return ""
        told = sorted((file.name, file.identity) for file in self.remote.files.values())
        return hashlib.sha256(repr(told).encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def source(self) -> str:
        """Where it is, for people: of several views the first that is there."""
        views = list(self.views.values())
        if self.remote is not None:
            there = next((view.path for view in views if view.path in self.remote.files), views[0].path)
            return str(self.remote.files.get(there, there))
        return str(next((view for view in views if os.path.exists(view.path)), views[0]))


@dataclass(frozen=True, kw_only=True)
class ClipInfo:
    """What is known of a clip once it is open; where its pictures change their size, of those of one size."""

    path: Path
    """File, or folder of an image sequence."""
    dataset: str = ""
    """The frames' place in an HDF5 file; empty for everything else."""
    reader: str
    """What decodes it: pyav, decord, opencv, pillow or h5py."""
    source_fps: float
    """Mean frame rate of the source by its timestamps, pauses left out."""
    fps: float
    """Rate of the frames that are yielded."""
    source_size: tuple[int, int]
    """(height, width) of the source upright and in square pixels."""
    size: tuple[int, int]
    """(height, width) of the frames that are yielded, padding included."""
    letterbox: Letterbox
    """Where the source frame lies in them."""
    pixel_aspect: float = 1.0
    """Width of a stored pixel over its height, as the upright picture shows it; 1 where they are square."""
    files: tuple[Path, ...] = ()
    """The files that hold it; empty for ``path`` alone."""
    span: Span | None = None
    """The part of the file that it is; None for all of it."""

    @property
    def source(self) -> str:
        """Where the frames are, for people: the file, and of several clips in one file which."""
        return str(ViewSource(self.path, self.dataset, span=self.span))


@dataclass(frozen=True)
class Frame:
    """One decoded, resized frame."""

    rgb: RGB
    """(H, W, 3), RGB, 0..255."""
    time_s: float
    """Seconds since the clip's first frame."""
    source_frame: int = 0
    """Index among the frames that the source decodes to."""
    part: int = 0
    """Which part of the clip it belongs to; no window spans two."""
    tick: int = 0
    """Index among the times at which frames are picked; of several views, frames of one tick are together."""
    source_size: tuple[int, int] = (0, 0)
    """(height, width) of its picture in the source, upright and in square pixels."""


@dataclass(frozen=True)
class Part:
    """A stretch of a clip without a pause, a jump of its clock or another picture size; or one shot of it."""

    source_frame: int
    """Index of its first frame in the source."""
    time_s: float
    """Seconds from the clip's first frame to its own."""
    size: tuple[int, int]
    """(height, width) of its frames in the source, upright and in square pixels."""
    cut: str
    """Why it does not go on from the part before it; empty for the first."""
