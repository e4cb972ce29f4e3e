"""Frames that are in memory as a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.video.clips import RGB
from amplify_motion_tokenizer.video.reading import SourceFrames
from amplify_motion_tokenizer.video.timing import Rate


def frames_in_memory(frames: Sequence[RGB], fps: float, name: str) -> SourceFrames:
    """Frames that follow each other evenly, as ``make_videos`` takes them.

    Args:
        frames: (H, W, 3) uint8 each, RGB, upright, in square pixels; at least one.
        fps: frames per second.
        name: what messages call them.
    """
    timed = ((number / fps, frame) for number, frame in enumerate(frames))
    height, width, _ = frames[0].shape
    return SourceFrames(Path(name), "memory", Rate(fps, fps, True), (height, width), timed)
