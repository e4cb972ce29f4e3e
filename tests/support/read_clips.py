"""Reads clips with each of the installed video readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.video.clips import ClipInfo, Frame
from amplify_motion_tokenizer.video.reading import open_video
from tests.support.render_clips import read_number

try:
    import decord  # noqa: F401
except ImportError:
    INSTALLED = ["pyav", "opencv"]
else:
    INSTALLED = ["pyav", "decord", "opencv"]

READER = pytest.mark.parametrize("reader", INSTALLED)


def read(
    path: Path, reader: str = "auto", target_fps: float | None = None, shorter: int | None = None
) -> tuple[ClipInfo, list[Frame]]:
    config = VideoConfig(
        reader=reader, target_fps=target_fps, size=None if shorter is None else {"shorter": shorter}
    )
    with open_video(path, config) as video:
        return video.info, list(video)


def numbers(frames: list[Frame]) -> list[int]:
    return [read_number(frame.rgb) for frame in frames]
