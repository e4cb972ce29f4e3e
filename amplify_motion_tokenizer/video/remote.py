"""Clips on another file system: listed by its URL, and each copied to this machine while it is worked on.

The file systems are fsspec's: ``s3://``, ``gs://``, ``hf://`` and more, each with a package of its own that
the user installs, and credentials where that package looks for them. A URL comes from the command line or a
script alone: nothing that is read out of a file is ever taken for one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.errors import TokenizerError, UsageError, VideoError
from amplify_motion_tokenizer.file_names import DECODED, DRAWINGS, is_clip_name
from amplify_motion_tokenizer.files import remove_unfinished_beside, unfinished_folder
from amplify_motion_tokenizer.video.clips import Clip, RemoteFile, RemoteFiles

logger = logging.getLogger(__name__)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.*", re.DOTALL)
_LOCAL = ("file", "local")
_PASSWORD = re.compile(r"[^/]*://[^/@]*:[^/@]*@")

_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "az": "adlfs",
    "abfs": "adlfs", "adl": "adlfs", "http": "aiohttp requests", "https": "aiohttp requests",
    "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol", "oss": "ossfs", "webhdfs": "requests",
}  # fmt: skip
"""What to install for the URLs of a protocol; fsspec tells of the others."""

_OF_CONTENT = (
    "etag",
    "md5hash",
    "md5",
    "sha256",
    "checksum",
    "crc32c",
    "generation",
    "blob_id",
    "oid",
    "lfs",
)
_OF_TIME = ("lastmodified", "last_modified", "mtime", "modified", "updated", "created")
"""Facts, in small letters, by which file systems tell of a change: of the content, or else when it was."""


def input_of(source: str | Path) -> str | Path:
    """What the user gave as an input: a URL as text, anything else, ``file://`` URLs too, as a path."""
    if isinstance(source, Path) or not _URL.fullmatch(source):
        return Path(source)
    if source.partition("://")[0].lower() not in _LOCAL:
        return source
    return Path(_file_system(source)[1])


def in_this_process_alone(source: str | Path) -> bool:
    """Whether no other process sees the input: ``memory://`` is each process's own."""
    return isinstance(source, str) and source.lower().startswith("memory:")


def workers_for(source: str | Path, wanted: int, limit_s: float | None) -> int:
    """How many processes work on the input: ``wanted``, or 1 where only this process sees it (``memory://``).

    Args:
        source: from ``input_of``.
        wanted: how many otherwise.
        limit_s: seconds that a clip may take, which another process is needed for; None: any time.

    Raises:
        UsageError: only this process sees the input, and there is a limit.
    """
    if not in_this_process_alone(source):
        return wanted
    if limit_s is not None:
        raise UsageError(
            f"input {source} is in this process's memory, and tracking.clip_limit_s = {limit_s:g} needs "
            "another process; set it to null, or give an input that all processes see"
        )
    return 1


def remove_old_copies() -> None:
    """Removes copies of clips that killed processes left on this machine."""
    remove_unfinished_beside(_copies())


def list_files(url: str) -> RemoteFiles:
    """The files below ``url``, or the one there, without hidden ones and folders of drawings.

    Raises:
        UsageError: the URL cannot be listed, or nothing is there; or its package is not installed.
    """
    system, place = _file_system(url)
    try:
        system.invalidate_cache(place)  # a process that goes on for days lists more than once
        found = {name: info or system.info(name) for name, info in system.find(place, detail=True).items()}
    except Exception as error:  # noqa: BLE001  every file system raises errors of its own
        raise UsageError(
            f"input {url} cannot be listed ({_gist(error)}); check it and its credentials"
        ) from None
    files = {name: info for name, info in found.items() if info.get("type", "file") == "file"}
    if not files:
        raise UsageError(f"input {url} does not exist or is empty; expected a file or folder of files")
    base, root = url.rstrip("/"), Path(url)
    if set(files) == {place}:
        name = place.rsplit("/", 1)[-1]
        return RemoteFiles(root.parent, {root: _remote_file(base, place, name, files[place])}, lone=True)
    below = {name.removeprefix(place).lstrip("/"): name for name in files}
    wanted = {
        name: _remote_file(f"{base}/{name}", below[name], name, files[below[name]])
        for name in _wanted(url, below)
    }
    return RemoteFiles(root, {root / name: file for name, file in wanted.items()})


def _wanted(url: str, names: Mapping[str, Any]) -> list[str]:
    """The names that ``files_below`` would give of a folder, sorted; others that are no paths are told."""
    odd = [name for name in names if not is_clip_name(name)]
    if odd:
        logger.warning(
            "%s: %d files have names that are no paths below a folder, such as %r; left out",
            url, len(odd), odd[0],
        )  # fmt: skip
    drawn = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in (DRAWINGS, DECODED)}
    if drawn:
        logger.warning(
            "%s: %d folders hold drawings of tracks, such as %s; left out", url, len(drawn), min(drawn) or url
        )
    return sorted(
        name
        for name in names
        if is_clip_name(name)
        and not any(part.startswith(".") for part in name.split("/"))
        and not any(name.startswith(f"{folder}/") or not folder for folder in drawn)
    )


def _remote_file(url: str, place: str, name: str, info: Mapping[str, Any]) -> RemoteFile:
    facts = {str(key).lower(): value for key, value in info.items() if value not in (None, "")}
    size = facts.get("size")
    told = [(key, facts[key]) for key in _OF_CONTENT if key in facts]
    told = told or [(key, facts[key]) for key in _OF_TIME if key in facts]
    identity = hashlib.sha256(repr([size, *told]).encode()).hexdigest() if told else ""
    return RemoteFile(url, place, name, size if isinstance(size, int) else None, identity)


@contextmanager
def local_copy(clip: Clip) -> Iterator[Clip]:
    """The clip with its files on this machine within the block; itself where they are already.

    Copies lie in the system's folder for temporary files (TMPDIR), one clip's at a time for each process, and
    keep their names. What a killed process of this host left goes before the next clip is copied.

    Raises:
        VideoError: a file cannot be copied, or there is no room for the clip; names its URL.
    """
    if clip.remote is None:
        yield clip
        return
    remove_old_copies()
    with unfinished_folder(_copies(), own=True) as folder:
        copies = {path: folder / file.name for path, file in clip.remote.files.items()}
        try:
            _check_room(clip, folder)
            folder.mkdir(mode=0o700)
            for path, copy in copies.items():
                _copy(clip.remote.files[path], copy)
            yield _moved(clip, clip.remote.root, folder)
        except TokenizerError as error:
            raise type(error)(_with_urls(str(error), clip, copies)) from error


def _copies() -> Path:
    """A name in the folder that copies are made in."""
    return Path(tempfile.gettempdir()) / "clip"


def _check_room(clip: Clip, folder: Path) -> None:
    wanted = sum(file.bytes or 0 for file in clip.remote.files.values()) if clip.remote else 0
    free = shutil.disk_usage(folder.parent).free
    if wanted > free:
        raise VideoError(
            f"{clip.source}: its copy takes {wanted / 1e6:.1f} MB, and {folder.parent} has "
            f"{free / 1e6:.1f} MB free; set TMPDIR to a folder with more room"
        )


def _copy(file: RemoteFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        system, _ = _file_system(file.url)
        system.get_file(file.place, str(target))
    except UsageError:
        raise
    except Exception as error:  # every file system raises errors of its own
        raise VideoError(
            f"{file.url}: cannot be copied to this machine ({_gist(error)}); run again"
        ) from error
    found = target.stat().st_size
    if file.bytes not in (None, found):
        raise VideoError(
            f"{file.url}: {found} bytes came, and {file.bytes} were listed; it changed since, or the "
            "connection broke; run again"
        )


def _moved(clip: Clip, root: Path, folder: Path) -> Clip:
    def move(path: Path) -> Path:
        return folder / path.relative_to(root)

    views = {
        view: dataclasses.replace(place, path=move(place.path), images=tuple(map(move, place.images)))
        for view, place in clip.views.items()
    }
    return Clip(clip.name, views)


def _with_urls(text: str, clip: Clip, copies: Mapping[Path, Path]) -> str:
    """A message about copies, about the files that they are of."""
    assert clip.remote is not None
    for path, copy in copies.items():
        text = text.replace(str(copy), clip.remote.files[path].url)
    return text


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and what it calls the place there.

    Raises:
        UsageError: there is none for the protocol, its package is missing, or it cannot be opened.
    """
    import fsspec  # here, as most inputs are local

    protocol = url.partition("://")[0].lower()
    if _PASSWORD.match(url):
        raise UsageError(
            f"input {protocol}://...: holds a password, which would be written into manifests; set it where "
            "the file system's package looks for it"
        )
    if "::" in url:
        raise UsageError(
            f"input {url}: URLs within URLs are not read; copy or unpack the files, and give that"
        )
    try:
        system, place = fsspec.core.url_to_fs(url)
    except ImportError as error:
        install = f"pip install {_PACKAGES[protocol]}" if protocol in _PACKAGES else _gist(error)
        raise UsageError(f"input {url}: {protocol}:// needs a package that is missing: {install}") from None
    except ValueError as error:
        raise UsageError(
            f"input {url}: {_gist(error)}; expected a path, or such as s3://, gs://, hf://"
        ) from None
    except Exception as error:  # noqa: BLE001  every file system raises errors of its own
        raise UsageError(
            f"input {url} cannot be opened ({_gist(error)}); check it and its credentials"
        ) from None
    return system, str(place)


def _gist(error: Exception) -> str:
    """An error of a library's in one line."""
    said = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
