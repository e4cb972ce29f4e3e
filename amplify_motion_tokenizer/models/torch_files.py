"""Reads other people's torch files without running anything that they hold."""

from __future__ import annotations

import codecs
import hashlib
import logging
import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from amplify_motion_tokenizer.damaged_files import TORCH_DAMAGE, DamagedError, load_torch, no_file
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.files import unpickling_gist
from amplify_motion_tokenizer.kinds import WHOLE, Kind
from amplify_motion_tokenizer.models.foreign_objects import foreign_parts, read_with_foreign

logger = logging.getLogger(__name__)

_EXPECTED = (
    "give a run's best.pth or last.pth, a checkpoint of AMPLIFY, or weights of the keypoint reproduction"
)


_DAMAGED = "is damaged, cut short or changed (copy it again, or take another checkpoint)"


_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
"""Control characters, which no text has."""


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_torch(path: Path, needed: Collection[str] = ()) -> Any:
    """What a torch file holds, on the CPU; every byte is checked against the file's own checksums.

    Args:
        path: the file.
        needed: keys of a dict, which are enough where other parts need code to unpickle: such parts are
            left out, which is told. Where no keys are given all of the file is needed.

    Raises:
        CheckpointError: the file is missing, damaged, no torch file, or needs code to unpickle.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} {no_file(path)}; {_EXPECTED}")
    try:
        _check_kind(path)
        return load_torch(path)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise CheckpointError(f"{path}: {_DAMAGED}, or no torch file") from error
        refused = CheckpointError(f"{path}: is refused, because {unpickling_gist(error)}")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    except DamagedError as error:
        raise CheckpointError(f"{path}: {_DAMAGED}, or no torch file") from error
    content = _read_needed(path, needed) if needed else None
    if content is None:
        raise refused
    return content


def _read_needed(path: Path, needed: Collection[str]) -> dict[str, Any] | None:
    """The parts of a dict that need no code; None where some that are ``needed`` are not among them."""
    try:
        content = read_with_foreign(path)
    except (pickle.UnpicklingError, *TORCH_DAMAGE):
        return None
    if not isinstance(content, dict):
        return None
    found = {key: next(foreign_parts(part, str(key)), None) for key, part in content.items()}
    left = {key: place for key, place in found.items() if place is not None}
    if not set(needed) <= content.keys() - left.keys():
        return None
    if left:
        shown = ", ".join(f"{place} ({name})" for place, name in list(left.values())[:3])
        more = " and others" if len(left) > 3 else ""
        logger.warning("%s: %s%s left unread: objects of other libraries, not needed here", path, shown, more)
    return {key: part for key, part in content.items() if key not in left}


def _check_kind(path: Path) -> None:
    """Raises CheckpointError where the first bytes are of another kind of file."""
    with path.open("rb") as file:
        head = file.read(4096)
    kind = _other_kind(head)
    if kind is not None:
        raise CheckpointError(f"{path}: is {kind}; {_EXPECTED}")


def _other_kind(head: bytes) -> str | None:
    """What a file that begins with ``head`` is, where it is known and no torch file."""
    if not head:
        return "empty (0 bytes)"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file, such as tracks"
    if head[4:8] == b"ftyp":
        return "a video"
    try:
        # A letter may be cut at the end.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return None
    return "a text file, such as YAML" if not _CONTROL.search(text) else None


def peek_step(path: Path) -> int | None:
    """The step of one of our checkpoints without reading its tensors; None where it cannot be told."""
    try:
        step = load_torch(path, mmap=True)["training"]["state"]["step"]
    except (*TORCH_DAMAGE, pickle.UnpicklingError):
        return None
    return step if WHOLE[0](step) and step >= 0 else None


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` without what compiled and distributed models put into the names of their weights.

    A model that is wrapped as a whole has it at the start of all names; one that is compiled block by block
    has it within.
    """
    names = (re.sub(r"^(module\.)+", "", re.sub(r"(?<![^.])_orig_mod\.", "", key)) for key in state)
    return dict(zip(names, state.values(), strict=True))


def _are_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(part, Tensor) for name, part in value.items()
    )


TENSORS: Kind = (_are_tensors, "a mapping of names to tensors")
