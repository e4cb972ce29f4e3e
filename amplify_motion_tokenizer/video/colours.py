"""Decoded frames to RGB: matrix and range of the stream, and depth scaled to be seen."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.clips import RGB

_BT709, _UNKNOWN, _BT470BG, _SMPTE170M, _BT2020 = 1, 2, 5, 6, 9
_LIMITED, _FULL = 1, 2
_MATRICES = {_BT709, 4, _BT470BG, _SMPTE170M, 7, _BT2020}
"""Numbers of ISO/IEC 23091-2 for the matrices that FFmpeg's scaler knows: BT.709, FCC, BT.601 (twice),
SMPTE 240M and BT.2020 with non-constant luminance."""
_WIDE = {10, 13, 14}
"""Matrices that it does not know of pictures in BT.2020's colours: constant luminance, ICtCp."""
_CURVED = {9: "logarithmic", 10: "logarithmic", 16: "PQ", 18: "HLG"}
"""Transfer functions that make pictures look flat or dark where they are shown as they are."""


class ToRGB:
    """Converts the frames of one clip to RGB, each pixel written by the converter.

    Args:
        path: the clip, for messages.
        codec: its codec, for messages.
        levels: least and greatest level of a 16-bit or float gray clip, which become black and white.
    """

    def __init__(self, path: Path, codec: str, levels: tuple[float, float] | None = None) -> None:
        self._path, self._codec, self._levels = path, codec, levels
        self._converter = VideoReformatter()
        self._said: set[str] = set()

    def __call__(self, frame: av.VideoFrame) -> RGB:
        """(H, W, 3) uint8 RGB at the stored size.

        Raises:
            VideoError: FFmpeg refuses the conversion.
        """
        if self._levels is not None:
            return shown_levels(frame.to_ndarray(), *self._levels)
        try:
            return np.asarray(self._converted(frame).to_ndarray(), np.uint8)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(
                f"{self._path}: its {self._codec} frames of pixel format {frame.format.name} (colour matrix "
                f"{int(frame.colorspace)}) cannot be converted to RGB ({error}); convert the file, for "
                "example with ffmpeg -pix_fmt yuv420p"
            ) from None

    def _converted(self, frame: av.VideoFrame) -> av.VideoFrame:
        curve = _CURVED.get(int(frame.color_trc))
        if curve:
            self._say(f"has a {curve} transfer function; its levels are taken as they are stored")
        frame.color_trc = frame.color_primaries = _UNKNOWN  # FFmpeg would apply them, or refuse
        if frame.format.is_rgb or frame.format.has_palette:
            frame.colorspace = 0
            return self._converter.reformat(frame, format="rgb24")
        full = frame.color_range == _FULL or frame.format.name.startswith(("yuvj", "gray"))
        source = self._matrix(int(frame.colorspace))
        frame.colorspace, frame.color_range = source, _FULL if full else _LIMITED
        return self._converter.reformat(
            frame,
            format="rgb24",
            src_colorspace=source,
            dst_colorspace=_BT470BG,
            src_color_range=_FULL if full else _LIMITED,
            dst_color_range=_FULL,
        )

    def _matrix(self, stated: int) -> int:
        if stated in (_BT470BG, _UNKNOWN, 0):
            return _SMPTE170M
        if stated in _MATRICES:
            return stated
        taken = _BT2020 if stated in _WIDE else _BT709
        self._say(
            f"has the colour matrix {stated} (ISO/IEC 23091-2), which cannot be converted; its {self._codec} "
            f"frames are read as BT.{2020 if stated in _WIDE else 709}, so colours are off and motion is not"
        )
        return taken

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            warnings.warn(f"{self._path}: {what}", stacklevel=2)


def shown_levels(deep: NDArray[Any], least: float, most: float) -> RGB:
    """A gray picture (H, W) of any depth as (H, W, 3) uint8: ``least`` black, ``most`` white."""
    scale = 255 / (most - least) if most > least else 0.0
    gray = np.rint(np.clip(np.nan_to_num((deep.astype(np.float32) - least) * scale), 0, 255))
    return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=-1)


def deep_range(pictures: Iterable[NDArray[Any]], path: Path, kind: str) -> tuple[float, float]:
    """Least and greatest level of all gray ``pictures`` of the clip ``path``, which is told."""
    ranges = [(float(np.nanmin(picture)), float(np.nanmax(picture))) for picture in pictures]
    least = min((low for low, _ in ranges), default=0.0)
    most = max((high for _, high in ranges), default=0.0)
    warnings.warn(
        f"{path}: holds {kind}; its levels {least:g} to {most:g} are shown as 0 to 255", stacklevel=2
    )
    return least, most


def is_deep_gray(pixel_format: Any) -> bool:
    """Whether pictures of a stream's format, None where it states none, hold depths and the like."""
    return pixel_format is not None and pixel_format.name.startswith(("gray16", "grayf32"))
