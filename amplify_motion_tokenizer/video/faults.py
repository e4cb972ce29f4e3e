"""Says in words what is wrong with a file that is no whole video."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

import av

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.stream_ends import ends_within_packet

_HEAD_BYTES = 512
_MP4_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp"}
_GIF, _GIF_END = b"GIF8", b";"
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
"""Begins every ASF file, such as WMV."""
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""Begins the object of an ASF file's header that states the file's bytes."""
_FLV_SIZE = b"\0\x08filesize\0"
"""Comes before the bytes that an FLV file states, a number of 64 bits."""
_CODEC = re.compile(r"AVCodecID (\S+?)\.?$|\(Video: (\w+(?: \(\S+)?)", re.MULTILINE)


def check_file(path: Path) -> bytes:
    """The first bytes of ``path``, once it is sure that it is a file with something in it.

    Raises:
        VideoError: the file is missing, unreadable or empty, or shorter than its first bytes say.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe waits for who writes it
        raise VideoError(f"{path}: is a pipe or a device, not a file; leave it out")
    try:
        str(path).encode("utf-8")
        with path.open("rb") as file:
            found = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD_BYTES)
            file.seek(max(0, found - _HEAD_BYTES))
            tail = file.read()
            cut = ends_within_packet(file, found, head)
    except OSError as error:
        raise VideoError(f"{path}: cannot be opened ({error.strerror})") from error
    except UnicodeEncodeError:
        raise VideoError(f"{str(path)!a}: its name is not UTF-8; rename the file") from None
    if found == 0:
        raise VideoError(f"{path}: is empty (0 bytes); copy it again")
    check_length(path, _stated_bytes(head))
    if head.startswith(_GIF) and not tail.rstrip(b"\0\r\n").endswith(_GIF_END):
        check_length(path, None)  # FFmpeg would give the last picture without its lower rows
    if cut:
        check_length(path, None)
    return head


def check_length(path: Path, expected: int | None) -> None:
    """Raises VideoError where ``path`` has fewer than the ``expected`` bytes; None: more than there are."""
    found = path.stat().st_size
    if expected is None or expected > found:
        wanted = "more" if expected is None else expected
        raise VideoError(f"{path}: is cut short: {found} bytes found, {wanted} expected; copy it again")


def _stated_bytes(head: bytes) -> int:
    """Least bytes of a RIFF, Matroska, ASF (WMV) or FLV file by its ``head``; 0: unknown."""
    if head.startswith(b"RIFF"):
        size = int.from_bytes(head[4:8], "little")
        return 0 if size in (0, 0xFFFFFFFF) else size + 8
    if head.startswith(_ASF):
        at = head.find(_ASF_FILE)
        live = at < 0 or len(head) <= at + 88 or bool(head[at + 88] & 1)
        return 0 if live else int.from_bytes(head[at + 40 : at + 48], "little")
    if head.startswith(b"FLV"):
        at = head.find(_FLV_SIZE) + len(_FLV_SIZE)
        known = at >= len(_FLV_SIZE) and len(head) >= at + 8
        stated: float = struct.unpack(">d", head[at : at + 8])[0] if known else 0.0
        return int(stated) if 0 < stated < 2**53 else 0  # 0 of a live recording
    at = head.find(_SEGMENT) + 4
    if not head.startswith(_EBML) or at < 4 or not head[at : at + 1].strip(b"\0"):
        return 0
    width = 9 - head[at].bit_length()
    size = int.from_bytes(head[at : at + width], "big") - (1 << 7 * width)
    return 0 if size == (1 << 7 * width) - 1 else at + width + size  # all ones: a live recording


def no_video(path: Path, head: bytes, opened: bool) -> VideoError:
    """Why ``path``, which begins with ``head``, gives no video.

    Args:
        path: the file.
        head: its first bytes.
        opened: whether FFmpeg knows what kind of file it is.
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return VideoError(f"{path}: is a Git LFS pointer, not the video itself; run git lfs pull")
    if text.startswith((b"<!doctype html", b"<html")):
        return VideoError(f"{path}: is an HTML page, not a video; download the video itself")
    if head[4:8] in _MP4_FIRST_BOXES and not opened:
        return VideoError(
            f"{path}: is cut short: {path.stat().st_size} bytes found, and the index (moov box) is missing; "
            "copy it again"
        )
    if opened:
        return VideoError(f"{path}: holds no video stream; leave it out")
    return VideoError(f"{path}: is not a video that FFmpeg knows; convert it or leave it out")


def no_codec(path: Path) -> VideoError:
    """Names the codec of ``path``, which FFmpeg, as PyAV carries it, cannot decode."""
    # Nowhere else: a decoder's thread that logs waits for Python's lock, and Python for the thread.
    av.logging.set_level(av.logging.INFO)
    try:
        place = f"file:{path.absolute()}"
        with av.logging.Capture(local=True) as lines, av.open(place, metadata_errors="replace"):
            found = _CODEC.search("\n".join(line.strip() for _, _, line in lines))
    finally:
        av.logging.set_level(None)
    named = (found[1] or found[2].replace("none (", "")) if found else "unknown"
    return VideoError(
        f"{path}: its codec {named} cannot be decoded by PyAV {av.__version__}; convert it, for example "
        "with ffmpeg -c:v libx264"
    )


def is_encrypted(packet: Any) -> bool:
    """Whether a packet is protected (DRM), so that what decodes, if anything, is no picture."""
    return bool(packet.has_sidedata("encryption_info"))


MOST_PIXELS = 2**27
"""Pixels of a picture of a source, 400 MB as RGB: what its file states costs nothing and decoding it does."""


def check_pixels(path: Path, size: tuple[int, int]) -> None:
    """Raises VideoError for pictures of a ``size`` (height, width) that decoding had no memory for."""
    if size[0] * size[1] > MOST_PIXELS:
        raise VideoError(
            f"{path}: has pictures of {size[1]}x{size[0]}, and at most {MOST_PIXELS} pixels are read; make "
            "them smaller, for example with ffmpeg -vf scale=1920:-2, or leave it out"
        )
