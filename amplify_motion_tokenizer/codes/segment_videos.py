"""A video of each segment of a clip: encoded again at the very frames, or copied from key frames on."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import av

from amplify_motion_tokenizer.codes.segmentation import Segment
from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.errors import UsageError, VideoError
from amplify_motion_tokenizer.files import atomic_path
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.sources import open_views
from amplify_motion_tokenizer.video.writing import h264_writer

_EPSILON_S = 1e-6


def cut(clip: Clip, segments: Sequence[Segment], folder: Path) -> list[Path]:
    """Writes each segment of the first view of a clip as ``<clip>_000.mp4`` and so on; returns the files.

    All frames from its start to the next segment's are decoded and encoded again as H.264, so cuts are at the
    very frame; an odd row or column at the end is left out.

    Raises:
        VideoError: the clip cannot be read or written.
        UsageError: it ends before a segment begins, or a file cannot be written.
    """
    written = []
    (video, *others) = open_views(clip, VideoConfig(target_fps=None, size=None))
    for other in others:
        other.close()
    with video:
        frames = iter(video)
        frame = next(frames, None)
        for number, (_, end_s) in enumerate(segments):
            last = number == len(segments) - 1
            path = _target(folder, clip, number)
            if frame is None:
                raise _too_short(clip, number)
            with h264_writer(path, video.info.source_fps) as write:
                while frame is not None and (last or frame.time_s < end_s - _EPSILON_S):
                    height, width = frame.rgb.shape[:2]
                    write(frame.rgb[: height // 2 * 2, : width // 2 * 2])
                    frame = next(frames, None)
            written.append(path)
    return written


def copy(clip: Clip, segments: Sequence[Segment], folder: Path) -> tuple[list[Path], float]:
    """Copies each segment of the first view of a clip as ``<clip>_000.mp4`` and so on, without encoding.

    A copy begins with the last key frame at or before its segment and ends with the segment, or some frames
    later where these come first in the file.

    Returns:
        the files, and by how many seconds the earliest of them begins before its segment.

    Raises:
        VideoError: the clip is no video file, cannot be read, or its codec does not go into an mp4.
        UsageError: it ends before a segment begins, or a file cannot be written.
    """
    source = next(iter(clip.views.values()))
    if source.images or source.dataset:
        raise VideoError(f"{source}: is no video file, and cannot be copied; leave out --copy to encode it")
    packets = _packets(path := source.path)
    written, early = [], 0.0
    for number, (start_s, end_s) in enumerate(segments):
        if max(packets).time_s < start_s - _EPSILON_S:
            raise _too_short(clip, number)
        keys = [
            at for at, packet in enumerate(packets) if packet.key and packet.time_s <= start_s + _EPSILON_S
        ]
        first, last = max(keys, default=0), number == len(segments) - 1
        shown = [at for at, packet in enumerate(packets) if last or packet.time_s < end_s - _EPSILON_S]
        early = max(early, start_s - packets[first].time_s)
        written.append(_target(folder, clip, number))
        _copy_packets(path, written[-1], packets[first].pts, max(shown) + 1 - first)
    return written, early


class _Packet(NamedTuple):
    """A picture as it is stored."""

    time_s: float
    """Since the first picture that is shown."""
    pts: int
    key: bool
    """Whether it can be shown without others."""


def _packets(path: Path) -> list[_Packet]:
    """The packets of a video's first stream in the file's order."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = container.streams.video[0]
            found = [
                _Packet(float(packet.pts * packet.time_base), packet.pts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.pts is not None
            ]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise VideoError(f"{path}: cannot be copied ({error}); leave out --copy to encode it") from None
    if not found:
        raise VideoError(f"{path}: tells no times of its pictures; leave out --copy to encode it")
    begin_s = min(found).time_s
    return [packet._replace(time_s=packet.time_s - begin_s) for packet in found]


def _copy_packets(source: Path, path: Path, first_pts: int, count: int) -> None:
    """Writes ``count`` packets of ``source`` to ``path``, from the one of ``first_pts`` on."""
    with atomic_path(path) as temporary:
        try:
            with (
                av.open(str(source), metadata_errors="replace") as given,
                av.open(str(temporary), "w", format="mp4") as made,
            ):
                stream = given.streams.video[0]
                target = made.add_stream_from_template(stream)
                given.seek(first_pts, stream=stream)
                shown = (packet for packet in given.demux(stream) if packet.pts is not None)
                wanted = itertools.dropwhile(lambda packet: packet.pts != first_pts, shown)
                for packet in itertools.islice(wanted, count):
                    packet.pts -= first_pts
                    packet.dts = None if packet.dts is None else packet.dts - first_pts
                    packet.stream = target
                    made.mux(packet)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"{source}: cannot be copied into an mp4 ({error}); leave out --copy") from None


def others_beside(written: Sequence[Path], folder: Path, names: Iterable[str]) -> list[Path]:
    """Videos of segments of the clips ``names`` that lie in ``folder`` and are none of ``written``."""
    found = (path for name in names for path in folder.glob(f"{glob.escape(name)}_[0-9][0-9][0-9].mp4"))
    return sorted(set(found) - set(written))


def _target(folder: Path, clip: Clip, number: int) -> Path:
    return folder / f"{clip.name}_{number:03d}.mp4"


def _too_short(clip: Clip, number: int) -> UsageError:
    return UsageError(
        f"{clip.source}: ends before its segment {number} begins; give the video that the codes were made of"
    )
