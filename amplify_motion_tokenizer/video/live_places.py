"""Where a live video comes from: a camera, a pipe, the network, or a file that is read as if it were live."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from amplify_motion_tokenizer.errors import UsageError

STDIN = "-"
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
"""Platform to FFmpeg's name of its cameras' interface, and how a camera is called there by its number."""
_CANNOT_WAIT = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srtp", "srt", "udp", "mms", "mmsh", "mmst")
"""Protocols of senders that go on whether they are read or not; others wait, as HTTP does."""
_PATIENCE_S = 15.0
"""Seconds without an answer or a packet after which a connection counts as dropped."""


class LivePlace(NamedTuple):
    """A place that a live video is read from. Only ``url`` may hold a password, and no message tells it."""

    url: str
    """What FFmpeg opens."""
    label: str
    """What messages call it, without user, password and query."""
    name: str
    """What its codes are called."""
    waits: bool
    """Whether it waits until it is read; else pictures that nobody takes in time are dropped."""
    format: str | None = None
    """FFmpeg's name of the interface; None: it finds out."""
    patience_s: float | None = None
    """Seconds that may pass without a packet; None: as many as it takes."""

    @property
    def options(self) -> dict[str, str]:
        """Options of FFmpeg for it."""
        return {"rtsp_transport": "tcp"} if self.url.startswith("rtsp") else {}


def live_place(source: str) -> LivePlace:
    """The place that ``source`` names.

    Args:
        source: a camera's number or device, ``-`` for standard input, a path or a URL.

    Raises:
        UsageError: nothing is there, or it cannot be read like that.
    """
    if source == STDIN:
        if sys.stdin is not None and sys.stdin.isatty():
            raise UsageError("--follow -: standard input is a terminal; pipe a video into it")
        return LivePlace("pipe:0", "standard input", "stdin", waits=True)
    if source.isascii() and source.isdigit():
        return _camera(source)
    if "://" in source and not source.startswith("file://"):
        return _url(source)
    path = Path(source.removeprefix("file://"))
    if path.as_posix().startswith("/dev/video"):
        return LivePlace(str(path), str(path), path.name, waits=False, format=_CAMERAS["linux"][0])
    if path.is_dir() or not path.exists():
        found = "a folder" if path.is_dir() else "nothing"
        raise UsageError(
            f"--follow {source}: found {found} there; expected a camera's number, - for standard input, a "
            "pipe, a file or a URL"
        )
    return LivePlace(f"file:{path.absolute()}", str(path), path.stem, waits=True)


def _camera(number: str) -> LivePlace:
    if sys.platform not in _CAMERAS:
        raise UsageError(
            f"--follow {number}: cameras have no numbers on {sys.platform}; expected - for standard input, a "
            "file or a URL"
        )
    interface, form = _CAMERAS[sys.platform]
    return LivePlace(
        form.format(number), f"camera {number}", f"camera{number}", waits=False, format=interface
    )


def _url(source: str) -> LivePlace:
    scheme = source.partition("://")[0].lower()
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise UsageError(f"--follow {scheme}://...: is no URL with a host; expected {scheme}://HOST/PATH")
    # User and password stand before the host, and cameras take them in the query, too.
    label = f"{host}{'' if port is None else f':{port}'}{parts.path}"
    name = Path(parts.path).stem or host
    return LivePlace(source, label, name, scheme not in _CANNOT_WAIT, patience_s=_PATIENCE_S)
