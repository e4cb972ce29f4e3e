"""Pictures and short videos within the page, as far as there is room for them.

Letters: T frames of a window, N points, H and W height and width of a frame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.decoding import decoded_windows, stretches
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer
from amplify_motion_tokenizer.config import Config, VideoConfig
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.evaluation.drawn_view import chained
from amplify_motion_tokenizer.evaluation.overlay import RGB, colours_by_position, draw_tracks
from amplify_motion_tokenizer.jobs.fingerprint import is_made_of, total_bytes
from amplify_motion_tokenizer.report.markup import data_uri
from amplify_motion_tokenizer.trackers.windows import SEEN
from amplify_motion_tokenizer.tracks.stored import RecordedClip
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.pixels import resize
from amplify_motion_tokenizer.video.sources import open_views
from amplify_motion_tokenizer.video.writing import h264_writer

SMALL = {"crf": "27", "preset": "veryfast", "maxrate": "350k", "bufsize": "700k", "tune": "fastdecode"}
"""What the encoder is told of videos in a page: how good they are, and how many bits a second at most."""
PANEL_PX = (240, 400)
"""(height, width) that the picture of a panel fits into."""
GAP_PX = 4
MOST_SIDE = 12
"""Points drawn of each row and column of the grid, at most."""
TRAIL = 6
_OLDEST = 0.2
"""How strongly a trail's oldest step is drawn."""


class Budget:
    """How many bytes of the page are left for pictures and videos.

    Args:
        most: bytes of all of them together, as text.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self.refused = 0

    def take(self, kind: str, content: bytes) -> str | None:
        """The content of a media type as an address; None, which is counted, where there is no room."""
        uri = data_uri(kind, content)
        return uri if self.fits(uri) else None

    def fits(self, text: str) -> bool:
        """Whether there is room for so much text, which is taken; where there is none, that is counted."""
        size = len(text.encode("utf-8"))
        if size > self._left:
            self.refused += 1
            return False
        self._left -= size
        return True


def webp(rgb: RGB) -> bytes:
    """(H, W, 3), RGB, as a WebP file."""
    _, content = cv2.imencode(".webp", rgb[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 82])
    return content.tobytes()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W, 4), RGB and opacity, as a PNG file."""
    _, content = cv2.imencode(".png", pixels[..., [2, 1, 0, 3]], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return content.tobytes()


class Points(NamedTuple):
    """Tracks that a panel shows, of windows by the frame that they start with."""

    windows: Mapping[int, tuple[NDArray[np.float32], NDArray[np.bool_]]]
    """Start to tracks (T, N, 2), (x, y) pixels of ``size``, and whether each is seen (T, N)."""
    size: tuple[int, int]
    """(height, width) of the frames that they are in."""


def decoded_points(codes: MotionCodes, tokenizer: Tokenizer, frames: int) -> Points | None:
    """What codes tell of a clip's first ``frames`` frames, in its first view; None where no size is known."""
    rows, meta = stretches(codes)[0]
    size = (meta.get("tracked_sizes") or {"": meta.get("tracked_size")}).values()
    height_width = next(iter(size))
    if height_width is None:
        return None
    starts = codes.starts[rows]
    shown = starts < frames
    camera = None if codes.camera is None else codes.camera[rows][shown]
    tracks, seen = decoded_windows(tokenizer, codes.ids[rows][shown], meta, camera=camera)
    if tracks.ndim == 5:
        tracks, seen = tracks[:, 0], seen[:, 0]
    pairs = zip(tracks.numpy(), seen.numpy(), strict=True)
    return Points(dict(zip(starts[shown].tolist(), pairs, strict=True)), (height_width[0], height_width[1]))


def true_points(file: RecordedClip, frames: int) -> Points:
    """The tracks of a file in a clip's first ``frames`` frames, in its first view.

    Raises:
        TrackFileError: it does not say the size that was tracked.
    """
    size = file.sizes[0]
    if size is None:
        raise TrackFileError(f"{file.path}: does not say the size that was tracked; preprocess again")
    with file.open() as opened:
        starts = file.starts(opened)
        rows = np.flatnonzero(starts < frames)
        tracks, visibility = file.read(opened, rows.tolist())[0]
    pairs = zip(np.asarray(tracks, np.float32), np.asarray(visibility) >= SEEN, strict=True)
    return Points(dict(zip(starts[rows].tolist(), pairs, strict=True)), size)


def clip_video(
    clip: Clip, codes: MotionCodes, config: Config, panels: list[Points], frames: int
) -> tuple[bytes, tuple[int, int]]:
    """The first ``frames`` tracked frames of a clip's first view as a small mp4 file.

    Args:
        clip: its files.
        codes: that were made of it.
        config: that it was tracked with.
        panels: points over the clip, a panel each, side by side; none: the clip alone.
        frames: how many frames, at most.

    Returns:
        The file, and (height, width) of its frames.

    Raises:
        TrackFileError: the codes were made of another video.
        VideoError: the clip cannot be read.
    """
    if "parts" in codes.meta and not is_made_of(codes.meta, clip.paths):
        raise TrackFileError(
            f"{clip.source}: has {total_bytes(clip.paths)} bytes and is not the video that its codes were "
            f"made of, of {codes.meta.get('source_bytes')}; give that one, or run inference again"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        size = _write(path, clip, config.video, panels, frames)
        return path.read_bytes(), size


def _write(path: Path, clip: Clip, config: VideoConfig, panels: list[Points], frames: int) -> tuple[int, int]:
    videos = open_views(clip, config)
    for other in videos[1:]:
        other.close()
    shown, whole = _fitted(videos[0].info.size), (0, 0)
    drawn = [_Drawn(points, shown) for points in panels]
    with videos[0] as video, h264_writer(path, video.info.fps, SMALL) as write:
        for index, frame in enumerate(video):
            if index == frames or frame.rgb.shape[:2] != video.info.size:
                break
            rgb = resize(frame.rgb, shown)
            picture = _side_by_side([each.over(rgb, index) for each in drawn] or [rgb])
            whole = picture.shape[0], picture.shape[1]
            write(picture)
    return whole


class _Drawn:
    """The points of one panel, in its pixels; windows that are shown follow each other end to end."""

    def __init__(self, points: Points, shown: tuple[int, int]) -> None:
        length = max((len(tracks) for tracks, _ in points.windows.values()), default=1)
        scale = np.array(shown[::-1], np.float32) / np.array(points.size[::-1], np.float32)
        self._windows = {}
        for start in chained(points.windows, length):
            tracks, seen = points.windows[start]
            side = round(tracks.shape[1] ** 0.5)
            step = -(-side // MOST_SIDE)
            kept = np.arange(side**2).reshape(side, side)[step // 2 :: step, step // 2 :: step].ravel()
            placed = np.asarray((tracks[:, kept] + 0.5) * scale - 0.5, np.float32)
            self._windows[start] = placed, seen[:, kept], colours_by_position(placed[0] / shown[::-1])
        self._now: int | None = None

    def over(self, rgb: RGB, index: int) -> RGB:
        """``rgb``, frame ``index`` of the clip, with the points as they are there and their trails."""
        self._now = index if index in self._windows else self._now
        if self._now is None:
            return rgb
        tracks, seen, colours = self._windows[self._now]
        last = index - self._now
        if last >= len(tracks):
            return rgb
        rows = slice(max(0, last - TRAIL), last + 1)
        return draw_tracks(rgb, tracks[rows], seen[rows], colours, oldest=_OLDEST)


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width), both even as H.264 wants them, that a frame of ``size`` is shown at."""
    scale = min(most / side for most, side in zip(PANEL_PX, size, strict=True))
    height, width = (max(2, 2 * round(side * scale / 2)) for side in size)
    return height, width


def _side_by_side(pictures: Iterable[RGB]) -> RGB:
    parts: list[RGB] = []
    for picture in pictures:
        parts += [np.zeros((picture.shape[0], GAP_PX, 3), np.uint8)] * bool(parts) + [picture]
    return np.concatenate(parts, axis=1)
