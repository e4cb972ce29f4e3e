"""One view of a clip with stored tracks, as drawings show it: its frames at a size, and points over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_settings
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.evaluation.overlay import RGB, colours_by_position, draw_tracks
from amplify_motion_tokenizer.jobs.fingerprint import is_made_of, total_bytes
from amplify_motion_tokenizer.letterbox import content_norm_from_px, source_from_letterbox_px
from amplify_motion_tokenizer.trackers.windows import SEEN
from amplify_motion_tokenizer.tracks.stored import RecordedClip
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.pixels import resize
from amplify_motion_tokenizer.video.reading import Video, placed

_OLDEST = 0.2
"""How strongly a trail's oldest step is drawn."""


@dataclass(frozen=True)
class Style:
    """What is drawn of a clip."""

    starts: tuple[int, ...] = ()
    """Start frames of the windows to draw, a later one over an earlier; () chains windows end to end."""
    every: int = 1
    """Step from one row or column of the grid to the next that is drawn; 1 draws all points."""
    trail: int = 8
    """Steps of the trail behind a point."""
    min_visibility: float = SEEN
    """Confidence from which a point counts as visible."""


def config_of(file: RecordedClip) -> Config:
    """The config that the frames were read with.

    Raises:
        TrackFileError: the file does not say.
    """
    if file.settings is None:
        raise TrackFileError(
            f"{file.path}: does not say how its frames were read; draw files of preprocess_videos.py"
        )
    return config_from_settings(file.settings, f"in the settings of {file.path}")


def check_source(file: RecordedClip, clip: Clip) -> None:
    """Raises TrackFileError unless ``file`` was made of the files of ``clip`` as they are."""
    missing = [name for name in ("source_bytes", "num_frames") if name not in file.attributes]
    if missing:
        raise TrackFileError(
            f"{file.path}: does not say its {missing[0]}; draw files of preprocess_videos.py"
        )
    if not is_made_of(file.attributes, clip.paths):
        raise TrackFileError(
            f"{file.path}: was tracked from a file of {file.attributes['source_bytes']} bytes, which is not "
            f"{clip.source} as it is ({total_bytes(clip.paths)}); give the video that was tracked, or track "
            "this one"
        )


def chained(starts: Iterable[int], length: int) -> list[int]:
    """The windows of ``length`` frames among those at ``starts`` that follow each other end to end."""
    chain: list[int] = []
    for start in sorted(starts):
        if not chain or start >= chain[-1] + length:
            chain.append(start)
    return chain


@dataclass(frozen=True)
class DrawnWindow:
    """One window's tracks in one view, thinned."""

    start: int
    """Index of its first frame."""
    tracks_xy_px: NDArray[np.float32]
    """(T, N, 2), (x, y) pixels of the zoomed frames."""
    visible: NDArray[np.bool_]
    """(T, N)."""
    colours: RGB
    """(N, 3), RGB."""
    points: NDArray[np.int64]
    """(N,) index of each point among all points of the track file."""

    def over(self, image: RGB, index: int, trail: int) -> RGB:
        """``image``, frame ``index`` of the clip, with the points as they are there and their trails."""
        last = index - self.start
        if last >= len(self.tracks_xy_px):
            return image
        shown = slice(max(0, last - trail), last + 1)
        return draw_tracks(image, self.tracks_xy_px[shown], self.visible[shown], self.colours, oldest=_OLDEST)

    def whole(self, image: RGB) -> RGB:
        """``image``, the window's first frame, with the points there and all their way from there."""
        return draw_tracks(image, self.tracks_xy_px[::-1], self.visible[::-1], self.colours)


class DrawnView:
    """One view of an open track file, and its video at the source's size times a zoom.

    Args:
        file: the track file.
        opened: what ``file.open`` gave.
        place: the view's among those of ``file``.
        video: the view's frames, at the source's size.
        config: that the tracked frames were read with.
        zoom: of a source size (height, width) in pixels, by how much to enlarge frames.

    Attributes:
        source_size: (height, width) of the pictures that the tracks are of, in pixels; others have none here.

    Raises:
        TrackFileError: the video's frames are not of the size that was tracked.
    """

    def __init__(
        self,
        file: RecordedClip,
        opened: Any,
        place: int,
        video: Video,
        config: Config,
        zoom: Callable[[tuple[int, int]], float],
    ) -> None:
        size = file.view_attributes[place].get("source_size", video.info.source_size)
        self.source_size = int(size[0]), int(size[1])
        tracked, self._box = placed(self.source_size, config.video)
        if file.sizes[place] != tracked:
            raise TrackFileError(
                f"{file.path}: {file.views[place]} was tracked in frames of {file.sizes[place]}, but "
                f"{video.info.source} gives {tracked} (height, width); track it again"
            )
        self.video = video
        self._zoom = zoom(self.source_size)
        self._file, self._opened, self._place = file, opened, place

    def picture(self, rgb: RGB) -> RGB:
        """A frame (H, W, 3) of ``source_size`` as it is drawn on: zoomed."""
        return resize(rgb, (round(rgb.shape[0] * self._zoom), round(rgb.shape[1] * self._zoom)))

    def window(self, start: int, row: int, style: Style) -> DrawnWindow:
        """The window in ``row`` of the file, which starts at frame ``start``."""
        tracks, visibility = (array[0] for array in self._file.read(self._opened, [row])[self._place])
        side = round(self._file.num_points**0.5)
        points = np.arange(side**2).reshape(side, side)[:: style.every, :: style.every].ravel()
        tracks = tracks[:, points]
        colours = colours_by_position(content_norm_from_px(tracks[0], self._box))
        shown = (source_from_letterbox_px(tracks, self._box) + 0.5) * self._zoom - 0.5
        return DrawnWindow(
            start, shown.astype(np.float32), visibility[:, points] >= style.min_visibility, colours, points
        )
