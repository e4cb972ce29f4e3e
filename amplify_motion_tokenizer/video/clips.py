"""What a clip and a frame are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.letterbox import Letterbox

DEFAULT_VIEW = "default"


@dataclass(frozen=True)
class ViewSource:
    """Where the frames of one view of a clip are."""

    path: Path
    """The file."""
    dataset: str = ""
    """The frames' place in an HDF5 file; empty for a video file."""

    def __str__(self) -> str:
        return f"{self.path}:{self.dataset}" if self.dataset else str(self.path)


@dataclass(frozen=True)
class Clip:
    """What is tracked together: one video, or the views of one recording."""

    name: str
    """Its output's path below the output folder, without the extension, with forward slashes."""
    views: dict[str, ViewSource]
    """Frames by view name, one view or more; a file may turn out to be missing."""

    @property
    def paths(self) -> list[Path]:
        """The files that hold it."""
        return [source.path for source in self.views.values()]

    @property
    def source(self) -> str:
        """Where it is, for people: of several views the first that is there."""
        views = list(self.views.values())
        return str(next((view for view in views if os.path.exists(view.path)), views[0]))


@dataclass(frozen=True, kw_only=True)
class ClipInfo:
    """What is known of a clip once it is open."""

    path: Path
    """File."""
    dataset: str = ""
    """The frames' place in an HDF5 file; empty for a video file."""
    reader: str
    """Backend that decodes it: decord or opencv."""
    source_fps: float
    """Average frame rate that the container states."""
    fps: float
    """Rate of the frames that are yielded."""
    source_size: tuple[int, int]
    """(height, width) in the container, after its rotation is applied."""
    size: tuple[int, int]
    """(height, width) of the frames that are yielded, padding included."""
    letterbox: Letterbox
    """Where the source frame lies in them."""

    @property
    def source(self) -> str:
        """Where the frames are, for people: the file, and of several clips in one file which."""
        return str(ViewSource(self.path, self.dataset))


@dataclass(frozen=True)
class Frame:
    """One decoded, resized frame."""

    rgb: NDArray[np.uint8]
    """(H, W, 3), RGB, 0..255."""
    time_s: float
    """Seconds since the clip's first frame."""
