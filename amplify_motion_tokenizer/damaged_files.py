"""Reads other people's archives and arrays by numpy and torch, which raise what they like of damaged ones."""

from __future__ import annotations

import pickle
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

NUMPY_DAMAGE = (
    ValueError, EOFError, OverflowError, MemoryError, SyntaxError, TypeError, RuntimeError, struct.error,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What ``numpy.load`` raises of damaged files, beside OSError."""

TORCH_DAMAGE = (
    OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError,
    OverflowError, MemoryError, AssertionError, SyntaxError, ImportError, UnboundLocalError, struct.error,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What ``torch.load`` raises of damaged files, beside UnpicklingError."""

_ROOM = 2**28
"""Bytes that an archive may unfold to whatever its own size; more than any archive of codes has."""
_MOST_UNFOLDED = 100
"""Times its own bytes that a larger archive may unfold to."""


class DamagedError(ValueError):
    """A file is not what its kind of file is; the message says in what."""


_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OverflowError, struct.error)


def no_file(path: Path) -> str:
    """What ``path`` is, which is no file with data in it, in words."""
    if path.is_dir():
        return "is a folder"
    return "is a pipe or a device" if path.exists() else "does not exist"


def check_unfolded(path: Path) -> None:
    """Refuses a zip archive that unfolds to far more than it has: a few KB can stand for many GB.

    Raises:
        DamagedError: it does.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        unfolded = sum(each.file_size for each in archive.infolist())
    most = max(_ROOM, _MOST_UNFOLDED * path.stat().st_size)
    if unfolded > most:
        raise DamagedError(f"{path.stat().st_size} bytes unfold to {unfolded}, at most {most} are read")


def load_array(path: Path, in_place: bool = False) -> Any:
    """The array in an .npy file, which takes no more memory than the file has bytes.

    Args:
        path: the file.
        in_place: whether its numbers stay in the file until they are used.

    Raises:
        DamagedError: it is damaged, no such file, or holds objects.
        OSError: it cannot be read.
    """
    import numpy as np

    if not path.is_file():
        raise DamagedError(f"{path.name} {no_file(path)}")
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except NUMPY_DAMAGE as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DamagedError(f"{path.name}: {reason:.200}") from None
    if not isinstance(found, np.memmap):
        found.close()
        raise DamagedError(f"{path.name}: is an archive of arrays")
    return found if in_place else np.array(found)


def check_torch_archive(path: Path, outline: bool = False) -> None:
    """Holds every byte of a torch file that is a zip archive against the archive's checksums.

    Torch itself reads changed bytes without a word. It writes its parts as they are, so one that is
    compressed was written by somebody else, and could unfold to any size.

    Args:
        path: the file.
        outline: whether to check the part alone that says what there is, and none of the tensors.

    Raises:
        DamagedError: a part is compressed, changed or larger than the file, or the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
            if packed or sum(part.file_size for part in parts) > path.stat().st_size:
                raise DamagedError("its parts are compressed, or larger than the file")
            changed = [
                part.filename
                for part in parts
                if (not outline or part.filename.endswith(_OUTLINE)) and not _is_whole(archive, part)
            ]
    except DamagedError:
        raise
    except (ValueError, *_ZIP_DAMAGE) as error:
        raise DamagedError(f"it is no whole archive ({error})") from None
    if changed:
        raise DamagedError(f"its part {changed[0]:.100} is changed")


_OUTLINE = ("/data.pkl", "/.storage_alignment", "/.format_version", "/version", "/byteorder")
"""How the small parts of a torch file end."""


def _is_whole(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    """Whether a part reads to its end, which checks its sum."""
    try:
        with archive.open(part) as file:
            while file.read(1 << 20):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def load_torch(path: Path, mmap: bool = False) -> Any:
    """What a torch file holds, plain values and tensors on the CPU; nothing that it holds runs.

    Args:
        path: the file.
        mmap: whether tensors stay in the file until they are used; then only the file's outline is checked.

    Raises:
        DamagedError: it is damaged, or no torch file.
        pickle.UnpicklingError: it needs more than tensors and plain values.
        OSError: it cannot be read.
    """
    import torch  # here, as commands that read no torch file need not wait for it

    if not path.is_file():
        raise DamagedError(f"it {no_file(path)}")
    with path.open("rb") as file:
        archive = file.read(2) == b"PK"
    if archive:
        check_torch_archive(path, outline=mmap)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError:
        raise
    except TORCH_DAMAGE as error:
        if isinstance(error, OSError) and error.strerror:
            raise
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DamagedError(f"{reason:.200}") from None
