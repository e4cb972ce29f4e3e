"""Image sequences (numbered pictures in a folder) and animated WebP, by Pillow."""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.clips import RGB, ViewSource
from amplify_motion_tokenizer.video.colours import deep_range, shown_levels
from amplify_motion_tokenizer.video.decoders import Frames
from amplify_motion_tokenizer.video.faults import check_file, check_pixels, no_video
from amplify_motion_tokenizer.video.input_files import natural_key
from amplify_motion_tokenizer.video.reading import SourceFrames
from amplify_motion_tokenizer.video.timing import Rate, rate_of

IMAGE_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Lower-case endings of the pictures of an image sequence."""
ANIMATED = (".webp",)
"""Lower-case endings of the files that hold several pictures and are read by Pillow."""
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, IndexError, MemoryError, struct.error,
)  # fmt: skip
"""What Pillow raises of damaged files, by what is damaged."""
_DEEP = ("I", "F")
"""Beginning of Pillow's names for gray levels of more than 8 bits."""


def image_sequences(paths: Iterable[Path]) -> dict[Path, tuple[Path, ...]]:
    """The image sequences among files: the folder of each, and its pictures in the order people count.

    A folder is a sequence where all its pictures, at least two, have one name but for a number.
    """
    folders = defaultdict(list)
    for path in paths:
        if path.suffix.lower() in IMAGE_EXTENSIONS:
            folders[path.parent].append(path)
    return {
        folder: tuple(sorted(images, key=lambda path: natural_key(path.name)))
        for folder, images in sorted(folders.items())
        if len(images) > 1 and len({re.sub(r"\d+(?=\.\w+$)", "", path.name) for path in images}) == 1
    }


def open_images(source: ViewSource, config: VideoConfig) -> SourceFrames:
    """Opens an image sequence, at ``config.fps``, or an animated WebP, at its own times.

    Raises:
        VideoError: ``config.fps`` is not set for a sequence, or the first picture cannot be read.
    """
    if source.images:
        if config.fps is None:
            raise VideoError(f"{source.path}: is an image sequence, which has no rate; give --video.fps")
        with _opened(source.images[0]) as image:
            levels, size = None, _upright(image, source.images[0]).size[::-1]
            if image.mode.startswith(_DEEP):
                deep = (np.asarray(_upright(_opened(path), path)) for path in source.images)
                levels = deep_range(deep, source.path, f"gray pictures of more than 8 bits ({image.mode})")
        rate = Rate(config.fps, config.fps, True)
        frames = _sequence(source.images, config.fps, levels)
        return SourceFrames(source.path, "pillow", rate, size, frames, files=source.images)
    image = _opened(source.path)
    times_s = [0.0]
    with _decoding(source.path):
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            image.load()
            times_s.append(times_s[-1] + image.info.get("duration", 0) / 1000)
    rate_found = rate_of(times_s, 0)
    if rate_found is None:
        raise VideoError(f"{source.path}: is one picture or states no durations; leave it out")
    return SourceFrames(
        source.path, "pillow", rate_found, image.size[::-1], _animation(image, source.path, times_s)
    )


def _opened(path: Path) -> Any:
    head = check_file(path)
    try:
        image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise VideoError(f"{path}: is not read, since it states a huge picture ({error})") from None
    except _DAMAGED:
        raise no_video(path, head, opened=False) from None
    check_pixels(path, (image.height, image.width))  # decoding takes the memory, opening does not
    return image


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Names the picture or animation ``path`` where Pillow cannot decode it.

    Raises:
        VideoError: it cannot be decoded.
    """
    try:
        yield
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        raise VideoError(f"{path}: cannot be decoded ({error}); copy it again or leave it out") from None


def _sequence(paths: Iterable[Path], fps: float, levels: tuple[float, float] | None) -> Frames:
    for index, path in enumerate(paths):
        with _opened(path) as image:
            if levels is None or not image.mode.startswith(_DEEP):
                yield index / fps, _rgb(image, path)
            else:
                yield index / fps, shown_levels(np.asarray(_upright(image, path)), *levels)


def _animation(image: Any, path: Path, times_s: list[float]) -> Frames:
    with image:
        for index, time_s in enumerate(times_s[:-1]):
            with _decoding(path):
                image.seek(index)
            yield time_s, _rgb(image, path)


def _rgb(image: Any, path: Path) -> RGB:
    """A picture as (H, W, 3) uint8, upright."""
    with _decoding(path):
        return np.array(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)


def _upright(image: Any, path: Path) -> Any:
    """A decoded picture as its EXIF orientation says."""
    with _decoding(path):
        return ImageOps.exif_transpose(image)
