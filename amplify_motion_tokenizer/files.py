"""Writes files so that a reader sees either the old content or the new one, never a part.

The one exception is a file of lines that is to be read while it grows.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import yaml

from amplify_motion_tokenizer.errors import FileNameError, UsageError
from amplify_motion_tokenizer.foreign_json import parse_json, read_regular
from amplify_motion_tokenizer.temporary_names import TEMPORARY, host, temporary_name

_OF_THE_NAME = {
    errno.ENAMETOOLONG,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EINVAL,
    errno.EILSEQ,
    errno.EACCES,
    errno.EPERM,
}
"""Error numbers of the system that concern one path, not a disk that is full or gone."""


@contextmanager
def temporary_file(folder: Path) -> Iterator[Path]:
    """An empty file in ``folder`` that is there within the block."""
    path = folder / temporary_name()
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path, own: bool = False) -> None:
    """Removes the temporary files and folders below ``folder`` that killed processes of this host left.

    Files of processes that still run stay, and other hosts' files, which may still grow.

    Args:
        folder: searched with its subfolders.
        own: whether to remove this process's files too, as it writes nothing there now or is about to end.
    """
    # Listed first, as folders among them go with what they hold.
    with suppress(OSError):  # a disk that went away; what ended the run must be told, not this
        _remove(list(folder.rglob(".*.tmp*")), own)


def _remove(paths: Iterable[Path], own: bool) -> None:
    for path in paths:
        match = TEMPORARY.fullmatch(path.name)
        if match is None or match["host"] != host():
            continue
        process = int(match["process"])
        if not (own and process == os.getpid()) and _runs(process):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # as of a folder; what ended the run must be told, not this
                path.unlink()


def _runs(process: int) -> bool:
    if os.name == "nt":
        return True  # there is no signal that asks and does nothing
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


UNFINISHED = ".unfinished"
"""How the names of hidden folders end in which something is made until it is whole."""


@contextmanager
def unfinished_folder(path: Path, own: bool = False) -> Iterator[Path]:
    """Yields the name of a hidden folder beside ``path``, of this block alone; it is removed afterwards.

    Two processes that make the same have a folder each, and neither takes the other's files for its own.

    Args:
        path: what is made.
        own: whether it is on this machine alone, so that no other process (``WRITES_FOR``) could remove it.
    """
    folder = path.with_name(temporary_name(UNFINISHED, own))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def discard_folder(folder: Path) -> None:
    """Removes a folder that is there: its name goes at once; ``remove_leftovers`` ends what is cut short."""
    with failure_named(folder):
        gone = folder.with_name(temporary_name())
        os.replace(folder, gone)
        sync(folder.parent)
    shutil.rmtree(gone, ignore_errors=True)


def remove_unfinished_beside(path: Path) -> None:
    """Removes what killed processes of this host left of ``unfinished_folder`` in the folder of ``path``."""
    _remove(list(path.parent.glob(f".*.tmp{UNFINISHED}")), own=False)


@contextmanager
def atomic_path(path: Path, wanted_bytes: int | None = None) -> Iterator[Path]:
    """Yields a temporary path in ``path``'s folder; on success it is fsynced and renamed to ``path``.

    When the block raises, the temporary file is removed and ``path`` stays as it was.

    Args:
        path: where the file is wanted.
        wanted_bytes: its size, where that is known before.

    Raises:
        UsageError: the folder or file cannot be written (disk full); names the path.
        FileNameError: as ``check_target``; or the system allows no file there.
    """
    check_target(path)
    temporary = path.with_name(temporary_name(path.suffix))
    try:
        with failure_named(path, wanted_bytes, temporary):
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        with suppress(OSError):  # gone, or on a disk that takes no changes, which is told above
            temporary.unlink()


def check_target(path: Path) -> None:
    """Makes the folder of ``path``, before there is anything to write.

    Raises:
        FileNameError: no file can have that path: its name is too long, a folder is in its place, or a
            file in the place of one of its folders.
    """
    with failure_named(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, f"{path.parent} is a file") from None
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(path.stat().st_mode):
                raise IsADirectoryError(errno.EISDIR, "a folder has that name")


@contextmanager
def failure_named(
    path: Path, wanted_bytes: int | None = None, temporary: Path | None = None
) -> Iterator[None]:
    """Turns an OSError of the block, which writes ``path``, into a UsageError that names it.

    An error that concerns this path alone becomes a FileNameError. A full disk is told as such, with how
    many bytes were wanted.

    Args:
        path: what is written.
        wanted_bytes: its size, where that is known.
        temporary: where it is written until it is whole, which takes room that will be free again.
    """
    try:
        yield
    except OSError as error:
        kind = FileNameError if error.errno in _OF_THE_NAME else UsageError
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = _disk_full(path, wanted_bytes, temporary) if full else error.strerror or error
        raise kind(f"{path}: cannot be written ({reason}); what was there is kept") from error


def _disk_full(path: Path, wanted_bytes: int | None, temporary: Path | None) -> str:
    there = next((folder for folder in path.parents if folder.is_dir()), Path())
    begun = temporary.stat().st_size if temporary is not None and temporary.is_file() else 0
    free = _megabytes(shutil.disk_usage(there).free + begun)
    wanted = f"more than {_megabytes(begun)}" if wanted_bytes is None else _megabytes(wanted_bytes)
    return f"disk full: {wanted} are wanted, and {free} are free"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def sync(path: Path) -> None:
    """Has the system write a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unpickling_gist(error: Exception) -> str:
    """What ``torch.load`` says with an UnpicklingError, without its advice to switch the refusal off."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"it needs more than tensors and plain values ({found[1]})" if found else "it is no torch file"


def write_torch(path: Path, value: Any) -> None:
    """Writes ``value`` with ``torch.save``, atomically."""
    import torch  # here, as commands that read no torch file need not wait for it

    wanted = sum(part.nbytes for part in _leaves(value) if isinstance(part, torch.Tensor))
    with atomic_path(path, wanted) as temporary, temporary.open("wb") as file:
        faults: list[OSError] = []
        try:
            torch.save(value, cast(IO[bytes], _Noting(file, faults)))
            file.flush()
        except RuntimeError:  # torch tells that it could not write, and not why
            if not faults:
                raise
            raise faults[0] from None


def write_safetensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Writes torch tensors by their names, and texts, atomically; equal content gives equal bytes."""
    from safetensors.torch import save  # here, as it imports torch

    # As bytes: the library's own writing gives files that only their owner may read.
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, dict(metadata))
    # The library's header comes in another order every time.
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with atomic_path(path) as temporary:
        temporary.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])


class _Noting:
    """A file for ``torch.save`` that notes why it cannot be written."""

    def __init__(self, file: IO[bytes], faults: list[OSError]) -> None:
        self._file, self._faults = file, faults

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self._faults.append(error)
            raise

    def flush(self) -> None:
        self._file.flush()


def _leaves(value: Any) -> Iterator[Any]:
    """Every value within nested dicts, lists and tuples."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        yield value
        return
    for part in value:
        yield from _leaves(part)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 ``text`` atomically."""
    content = text.encode("utf-8")
    with atomic_path(path, len(content)) as temporary:
        temporary.write_bytes(content)


@contextmanager
def growing_file(path: Path, overwrite: bool = False) -> Iterator[Callable[[bytes], None]]:
    """Yields what appends bytes to ``path``, where others can read them when it returns.

    Args:
        path: made anew with the first bytes.
        overwrite: whether a file that is there may go.

    Raises:
        UsageError: a file is there that may not go; or it cannot be written, when it is.
        FileNameError: as ``check_target``.
    """
    check_target(path)
    if path.exists() and not overwrite:
        raise UsageError(f"{path} is there already; give --overwrite to write it anew, or another --output")
    with ExitStack() as opened:
        files: list[io.FileIO] = []

        def append(content: bytes) -> None:
            with failure_named(path):
                if not files:
                    files.append(opened.enter_context(io.FileIO(path, "w")))
                while content:
                    content = content[files[0].write(content) or 0 :]

        yield append


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as JSON, atomically; NaN is refused with ValueError."""
    write_text(path, json.dumps(value, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UsageError: the file does not hold a JSON object; names it.
    """
    try:
        value = parse_json(read_regular(path))
    except ValueError as error:
        raise UsageError(f"{path}: is not JSON ({error}); remove it and run again") from None
    if not isinstance(value, dict):
        raise UsageError(
            f"{path}: holds a {type(value).__name__}, expected a JSON object; remove it and run again"
        )
    return value


def yaml_text(value: dict[str, Any]) -> str:
    """``value`` as YAML in its own key order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False)
    return text


def write_yaml(path: Path, value: dict[str, Any]) -> None:
    """Writes ``value`` as YAML in its own key order, atomically."""
    write_text(path, yaml_text(value))


class _Dumper(yaml.SafeDumper):
    """A YAML writer that also quotes texts which are numbers in YAML 1.2 alone, such as 1e5."""


_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+")
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


def make_output_folder(folder: Path) -> Path:
    """Creates ``folder``, checks that files can be made in it and clears it as ``remove_leftovers`` does.

    Raises:
        UsageError: it is a file, lies under one, or is not writable.
    """
    check_writable(folder)
    with _folder_named(folder):
        remove_leftovers(folder)
    return folder


def check_writable(folder: Path) -> None:
    """Creates ``folder`` and a file in it, which is removed again.

    Raises:
        UsageError: it is a file, lies under one, or is not writable.
    """
    with _folder_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_file(folder):
            pass


@contextmanager
def _folder_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"output folder {folder} cannot be written ({error.strerror}); choose another with --output"
        ) from None
