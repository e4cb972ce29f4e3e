"""The interface of every code format, and what all formats say of codes alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.config import MAX_CODES
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import is_clip_name
from amplify_motion_tokenizer.kinds import (
    FLAG,
    MAPPING,
    RATE,
    TEXT,
    TEXTS,
    Kind,
    ascending,
    check_kinds,
    holding,
    list_of,
    mapping_of,
    or_none,
    require_kinds,
    whole_from,
)

FORMAT_VERSION = 1
"""Of ``meta`` and the columns, whatever file they are in; files without it are of before it was written."""

DIGIT_ORDER = "id = sum over k of digit[k] * product of fsq_levels[:k]; the first digit counts by ones"


class CodeFormat(ABC):
    """A layout of codes on disk. Formats hold no state."""

    name: ClassVar[str]
    """The format's name, as ``--formats`` takes it."""
    ending: ClassVar[str]
    """End of the file's name, after the clip's name where a file is of one clip."""
    table: ClassVar[str | None] = None
    """Name of the one file of all clips of a folder; None where each clip has a file."""
    needs_latents: ClassVar[bool] = False
    """Whether codes without latents cannot be written."""

    def check_available(self) -> None:  # noqa: B027, most formats need nothing
        """Raises UsageError where a library is missing; says how to install it."""

    @abstractmethod
    def write(self, path: Path, clips: Iterable[MotionCodes]) -> None:
        """Writes the clips of one run, atomically.

        Args:
            path: the file.
            clips: exactly one where a file is of one clip; they may be walked through more than once.
        """

    @abstractmethod
    def read(self, path: Path) -> list[MotionCodes]:
        """The clips in ``path``.

        Raises:
            UsageError: it is missing, damaged, or of another version.
        """

    def meta(self, path: Path) -> Mapping[str, Any]:
        """``meta`` of a file of one clip; empty for one that is missing, cut or not ours."""
        try:
            (codes,) = self.read(path)
        except UsageError:
            return {}
        return codes.meta

    def file(self, output: Path, clip: str) -> Path:
        """The clip's file below ``output``, or the table there."""
        return output / (self.table or f"{clip}{self.ending}")


NEEDED: dict[str, Kind] = {
    "model": TEXT,
    "codebook_size": whole_from(2, MAX_CODES),
    "sequence_length": whole_from(2),
    "tracked_length": whole_from(2),
    "window_stride": whole_from(1),
}
"""Facts of ``meta`` without which ids cannot be understood."""
_MAY: dict[str, Kind] = {
    "tokens_are_steps": FLAG,
    "per_view": FLAG,
    "checkpoint_sha256": TEXT,
    "camera": TEXT,
}
"""Facts that older codes lack."""

_SIZE = or_none(list_of(whole_from(1), 2))
_OF_FRAMES: dict[str, Kind] = {
    "tracked_size": _SIZE,
    "tracked_sizes": mapping_of(_SIZE),
    "contents": mapping_of(list_of(whole_from(0), 4)),
}
_OF_CLIP: dict[str, Kind] = {
    **_OF_FRAMES,
    "views": (lambda value: TEXTS[0](value) and len(value) > 0, "a list of texts, one or more"),
    "num_codes": whole_from(1),
    "parts": or_none(ascending(whole_from(0))),
    "fps": or_none(RATE),
    "source_fps": or_none(RATE),
    "source": or_none(TEXT),
    "saved": TEXTS,
    "checkpoint": or_none(TEXT),
    "config_hash": TEXT,
    "source_bytes": or_none(whole_from(0, 2**63 - 1)),
    "source_fingerprint": or_none(TEXT),
    "num_frames": or_none(whole_from(0)),
    "windows_dropped": or_none(whole_from(0)),
    "versions": or_none(MAPPING),
    "size_changes": list_of(holding({"start_frame": whole_from(0), **_OF_FRAMES}, "start_frame")),
}
"""Facts of a clip, which older codes and codes of other writers' tracks lack."""

OF_RUN = (*NEEDED, *_MAY, "config_hash")
"""Facts that all clips of a run have in common."""

COLUMNS: dict[str, torch.dtype] = {
    "ids": torch.int64,
    "starts": torch.int64,
    "seconds": torch.float64,
    "step_seconds": torch.float64,
    "source_frames": torch.int64,
    "valid_steps": torch.int64,
    "motion_energy": torch.float32,
    "visible_share": torch.float32,
    "latents": torch.float32,
    "camera": torch.float32,
    "camera_ids": torch.int64,
}
"""The tensors of ``MotionCodes``, as formats of arrays hold them."""

OPTIONAL = ("latents", "camera", "camera_ids")
"""Columns that not all codes have."""


def damaged(path: Path | str, reason: object) -> UsageError:
    """The error of a file that cannot be read."""
    text = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return UsageError(f"{path}: is damaged or of another version ({text}); run inference again")


def missing(path: Path, error: OSError) -> UsageError:
    """The error of a file that cannot be opened."""
    reason = "No such file or directory" if isinstance(error, FileNotFoundError) else error.strerror or error
    return UsageError(f"{path}: cannot be read ({reason}); give inference's output")


def check_meta(meta: Any, where: str) -> dict[str, Any]:
    """``meta`` of codes, once it is what codes can be understood by.

    Args:
        meta: as it was read.
        where: what to call the file, for messages.

    Raises:
        UsageError: it lacks a fact, a fact is of another kind, or the version is unknown.
    """
    if isinstance(meta, Mapping) and meta.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
        raise UsageError(
            f"{where}: format version {meta['format_version']!r:.40}, expected {FORMAT_VERSION}; run "
            "inference again, or use the version of this package that wrote it"
        )
    require_kinds(f"{where}: meta", meta, NEEDED, UsageError)
    check_kinds(f"{where}: meta", meta, _MAY | _OF_CLIP, UsageError)
    return dict(meta)


def columns_of(codes: MotionCodes) -> dict[str, Tensor]:
    """The tensors of ``codes`` by name; without those that it does not have."""
    found = {name: getattr(codes, name) for name in COLUMNS}
    return {name: column for name, column in found.items() if column is not None}


def checked_codes(columns: Mapping[str, Tensor], clip: str, meta: dict[str, Any], where: str) -> MotionCodes:
    """``MotionCodes`` of columns that were read.

    Raises:
        UsageError: a column is missing, of another shape or type, or holds what cannot be.
    """
    absent = [name for name in COLUMNS if name not in columns and name not in OPTIONAL]
    if absent:
        raise UsageError(f"{where}: lacks {', '.join(absent)}; run inference again")
    try:
        known = {name: columns[name] for name in COLUMNS if name in columns}
        codes = MotionCodes(**known, clip=clip, meta=meta)
    except ValueError as error:
        raise damaged(where, error) from None
    check_values(codes, where)
    return codes


_MOST_FRAMES = 2**31 - 1
"""The last frame that any clip has."""


def check_values(codes: MotionCodes, where: str) -> None:
    """Raises UsageError for ids outside of the codebook, places that do not ascend, impossible steps."""
    size, steps = codes.meta["codebook_size"], codes.meta["sequence_length"] - 1
    again = "run inference again"
    if codes.clip and not is_clip_name(codes.clip):
        raise UsageError(
            f"{where}: has a clip named {codes.clip!r:.200}, whose files would lie elsewhere; expected a "
            f"path below a folder; {again}"
        )
    if not len(codes):
        return
    if not codes.ids.shape[1]:
        raise UsageError(f"{where}: windows of {codes.clip} have no ids; {again}")
    for name, ids in (("ids", codes.ids), ("camera_ids", codes.camera_ids)):
        low, high = (0, 0) if ids is None else (int(ids.min()), int(ids.max()))
        if low < 0 or high >= size:
            found = f"{name} of {codes.clip} are {low} to {high}"
            raise UsageError(f"{where}: {found}; expected 0 to {size - 1}; {again}")
    if codes.camera is not None and codes.camera.shape[2] != steps:
        raise UsageError(
            f"{where}: camera of {codes.clip} has {codes.camera.shape[2]} steps; expected {steps}; {again}"
        )
    starts = codes.starts  # compared, as differences of hostile numbers go round
    if int(starts[0]) < 0 or int(starts[-1]) > _MOST_FRAMES or (starts[1:] <= starts[:-1]).any():
        raise UsageError(f"{where}: start_frames of {codes.clip} do not ascend, as they should; {again}")
    begins, ends = codes.seconds.T
    known = ~begins.isnan()
    # Comparisons with NaN, a time that is not known, are false.
    if (begins[known].diff() <= 0).any() or (ends < begins).any() or codes.seconds.isinf().any():
        raise UsageError(f"{where}: seconds of {codes.clip} do not ascend, as they should; {again}")
    if int(codes.valid_steps.min()) < 0 or int(codes.valid_steps.max()) > steps:
        raise UsageError(
            f"{where}: valid_steps of {codes.clip} are at most {int(codes.valid_steps.max())}; expected at "
            f"most {steps}; {again}"
        )
    if int(codes.source_frames.min()) < -1 or int(codes.source_frames.max()) > _MOST_FRAMES:
        raise UsageError(f"{where}: source_frames of {codes.clip} are no frames, or -1; {again}")
    for name in ("seconds", "step_seconds", "motion_energy", "visible_share"):
        column = getattr(codes, name)
        if column.isinf().any() or (column < 0).any():
            raise UsageError(f"{where}: {name} of {codes.clip} hold {_worst(column)}; {again}")
    if codes.latents is not None and not codes.latents.isfinite().all():
        raise UsageError(f"{where}: latents of {codes.clip} are not finite; {again}")


def _worst(column: Tensor) -> str:
    """The first number of a column that is infinite or below 0."""
    return f"{float(column[column.isinf() | (column < 0)][0]):g}, expected 0 or more"
