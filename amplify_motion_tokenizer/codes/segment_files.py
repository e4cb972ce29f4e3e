"""Segments of clips on disk: one JSON file, and a video of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amplify_motion_tokenizer.codes.segmentation import Segment
from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import is_clip_name
from amplify_motion_tokenizer.files import read_json, write_json
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.sources import open_views
from amplify_motion_tokenizer.video.writing import h264_writer

_START, _END = "start_seconds", "end_seconds"


def write_segments(path: Path, segments: Mapping[str, Sequence[Segment]]) -> None:
    """Writes ``{"clips": {name: [{"start_seconds": 0.0, "end_seconds": 1.5}, ...]}}``.

    Raises:
        UsageError: ``path`` cannot be written.
    """
    clips = {name: [{_START: start, _END: end} for start, end in each] for name, each in segments.items()}
    write_json(path, {"clips": clips})


def read_segments(path: Path) -> dict[str, list[Segment]]:
    """What ``write_segments`` wrote, or anybody else in that form: in order, none before another has ended.

    Raises:
        UsageError: the file is missing, no JSON, or of another form; says which clip is at fault.
    """
    try:
        clips = read_json(path).get("clips")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a JSON file of segments") from None
    if not isinstance(clips, dict) or not clips:
        raise UsageError(
            f'{path}: holds no segments; expected {{"clips": {{name: [{{"{_START}", "{_END}"}}]}}}}'
        )
    bad = next((name for name in clips if not is_clip_name(name)), None)
    if bad is not None:
        raise UsageError(f"{path}: has a clip named {bad!r:.200}; expected a path below a folder")
    return {name: _segments(path, name, each) for name, each in clips.items()}


def _segments(path: Path, clip: str, found: Any) -> list[Segment]:
    try:
        segments = [Segment(float(each[_START]), float(each[_END])) for each in found]
    except (TypeError, KeyError, ValueError, OverflowError, IndexError):
        raise UsageError(
            f"{path}: segments of {clip} are not a list of {_START} and {_END} in seconds; write them so"
        ) from None
    edges = np.array(segments, np.float64).reshape(-1)
    if not np.isfinite(edges).all() or (np.diff(edges) < -1e-6).any():
        raise UsageError(
            f"{path}: segments of {clip} overlap, run backwards or are no numbers; expected them in order"
        )
    return segments


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
            path = folder / f"{clip.name}_{number:03d}.mp4"
            if frame is None:
                raise UsageError(
                    f"{clip.source}: ends before its segment {number} begins; give the video that the codes "
                    "were made of"
                )
            with h264_writer(path, video.info.source_fps) as write:
                while frame is not None and (last or frame.time_s < end_s - 1e-6):
                    height, width = frame.rgb.shape[:2]
                    write(frame.rgb[: height // 2 * 2, : width // 2 * 2])
                    frame = next(frames, None)
            written.append(path)
    return written
