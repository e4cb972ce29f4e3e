"""Renders small clips, whole and broken, whose frames carry their own number."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

_BITS = 10

VFR_MS = [0, 20, 40, 60, 80, 280, 480, 680, 700, 720, 740, 790, 840, 890, 940, 990, 1000, 1010, 1020, 1030]
VFR_MS += [1030 + 10 * step for step in range(1, 21)]
"""Times of 40 frames at rates that change, in milliseconds."""


def numbered_frames(
    count: int, height: int = 48, width: int = 80, texture_seed: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    """``count`` frames (height, width, 3) that show their index as black and white blocks."""
    background = np.full((height, width, 3), (90, 120, 60), np.uint8)
    if texture_seed is not None:
        coarse = np.random.default_rng(texture_seed).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3))
        background = coarse.astype(np.uint8).repeat(8, 0).repeat(8, 1)[:height, :width].copy()
    for index in range(count):
        frame = background.copy()
        for bit, (rows, columns) in enumerate(_blocks(height, width)):
            frame[rows, columns] = 255 if index >> bit & 1 else 0
        yield frame


def _blocks(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Where each bit is drawn: two rows of five blocks over the whole frame."""
    edges_y = np.linspace(0, height, 3).round().astype(int)
    edges_x = np.linspace(0, width, _BITS // 2 + 1).round().astype(int)
    for bit in range(_BITS):
        row, column = divmod(bit, _BITS // 2)
        top, bottom = edges_y[row : row + 2]
        left, right = edges_x[column : column + 2]
        margin_y, margin_x = (bottom - top) // 5, (right - left) // 5
        yield (
            slice(top + margin_y, bottom - margin_y),
            slice(left + margin_x, right - margin_x),
        )


def read_number(rgb: NDArray[np.uint8], quarter_turns: int = 0) -> int:
    """The index drawn in a frame that was turned ``quarter_turns`` times anticlockwise (np.rot90)."""
    upright = np.rot90(rgb, -quarter_turns)
    blocks = _blocks(*upright.shape[:2])
    return sum(int(upright[rows, cols].mean() > 127) << bit for bit, (rows, cols) in enumerate(blocks))


def write_clip(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: float | Fraction = 20,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    colorspace: int | None = None,
) -> Path:
    """Encodes RGB ``frames``; ``pts`` in units of ``time_base`` (default milliseconds) makes it VFR."""
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pix_fmt
        base = 1 / rate if pts is None else time_base or Fraction(1, 1000)
        stream.codec_context.time_base = base
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        for index, rgb in enumerate(frames):
            if index == 0:
                stream.height, stream.width = rgb.shape[:2]
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            if colorspace is not None:
                frame = frame.reformat(format=pix_fmt, dst_colorspace=colorspace)
            frame.pts = index if pts is None else pts[index]
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_moving(
    path: Path, size: tuple[int, int], frames: int, fps: float = 10, step_px: int = 2, seed: int = 0
) -> Path:
    """VP8 of a texture of ``size`` (height, width) that moves ``step_px`` columns to the right a frame."""
    noise = np.random.default_rng(seed).random((size[0] // 8, size[1] // 8, 3))
    grown = np.asarray(cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC))
    texture = (255 * np.clip(grown, 0, 1)).astype(np.uint8)
    video = (np.roll(texture, step_px * index, axis=1) for index in range(frames))
    options = {"deadline": "realtime", "crf": "4", "b": "4M"}
    return write_clip(path, video, fps, codec="libvpx", options=options)


def join_packets(path: Path, *parts: Path, fps: int = 10) -> Path:
    """One stream of the pictures of ``parts``, as cameras and calls write when they are turned."""
    with av.open(str(path), "w") as container:
        stream, count = None, 0
        for part in parts:
            with av.open(str(part)) as source:
                stream = stream or container.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.time_base = Fraction(1, fps)
                        packet.pts = packet.dts = count
                        packet.duration = 1
                        packet.stream, count = stream, count + 1
                        container.mux(packet)
    return path


def audio_only(path: Path, container_format: str | None = None) -> Path:
    """One second of a tone, in ``container_format`` whatever the file is called."""
    with av.open(str(path), "w", format=container_format) as container:
        wav = container.format.name == "wav"
        stream = container.add_stream("pcm_s16le" if wav else "aac", rate=16000, layout="mono")
        tone = (8000 * np.sin(np.arange(16000) / 8)).astype(np.int16)[None]
        for start in range(0, 16000, 1024):
            frame = av.AudioFrame.from_ndarray(tone[:, start : start + 1024], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_file(source: Path, target: Path, share: float) -> Path:
    """The first ``share`` of the bytes of ``source``."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def rotate_mp4(source: Path, target: Path, degrees: int) -> Path:
    """A copy of a video-only MP4 whose display matrix turns it ``degrees`` (90, 180, 270) clockwise."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data = bytearray(source.read_bytes())
    start = data.index(b"tkhd") + 4
    matrix_at = start + (52 if data[start] == 1 else 40)
    matrix = [cosine, sine, 0, -sine, cosine, 0, 0, 0]
    data[matrix_at : matrix_at + 36] = struct.pack(">8ii", *(value << 16 for value in matrix), 1 << 30)
    target.write_bytes(data)
    return target


def trim_by_edit_list(source: Path, target: Path, skip_frames: int) -> Path:
    """Shows a 25 fps MP4 only from ``skip_frames`` on, as phones do: the packets stay in the file."""
    data = bytearray(source.read_bytes())
    media_time_at = data.index(b"elst") + 16
    start = int.from_bytes(data[media_time_at : media_time_at + 4], "big")
    data[media_time_at : media_time_at + 4] = (start + skip_frames * 512).to_bytes(4, "big")
    target.write_bytes(data)
    return target


def packets_of(path: Path) -> list[tuple[int, int]]:
    """(byte position, size) of each video packet in file order."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]


def spoil_packets(source: Path, target: Path, indices: Iterable[int]) -> Path:
    """A copy in which the bytes of these packets (in file order) are overwritten with 0xFF."""
    data, packets = bytearray(source.read_bytes()), packets_of(source)
    for index in indices:
        position, size = packets[index]
        data[position : position + size] = b"\xff" * size
    target.write_bytes(data)
    return target


def claim_more_frames(source: Path, target: Path, extra: int) -> Path:
    """A copy of an AVI whose headers state ``extra`` frames more than it holds."""
    data = bytearray(source.read_bytes())
    for tag, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        at = data.index(tag) + offset
        count = int.from_bytes(data[at : at + 4], "little")
        data[at : at + 4] = (count + extra).to_bytes(4, "little")
    target.write_bytes(data)
    return target
