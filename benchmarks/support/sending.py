"""Sends pictures through a pipe as live video: as Y4M, which holds none of them back."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def y4m(frames: Iterable[NDArray[np.uint8]], fps: int = 20) -> list[bytes]:
    """The stream's parts: its head with the first picture, then each further picture."""
    parts = []
    for number, rgb in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        planes = picture.reformat(format="yuv420p").to_ndarray().tobytes()
        height, width = rgb.shape[:2]
        head = b"" if number else f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420jpeg\n".encode()
        parts.append(head + b"FRAME\n" + planes)
    return parts


def send(path: Path, content: bytes) -> None:
    """Writes ``content`` into the named pipe ``path``, once it is read, and closes it."""
    pipe = os.open(path, os.O_WRONLY)
    try:
        while content:
            content = content[os.write(pipe, content) :]
    finally:
        os.close(pipe)
