"""Reads codes from whatever format they were written in, and writes them in another."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from amplify_motion_tokenizer.codes.files.base import OF_RUN, CodeFormat, missing
from amplify_motion_tokenizer.codes.formats import code_formats, format_of
from amplify_motion_tokenizer.codes.motion_codes import CodesAt, FrameCount, MotionCodes
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import CHECKPOINT_RECORD, CODES, MANIFEST
from amplify_motion_tokenizer.jobs.manifest import read_manifest
from amplify_motion_tokenizer.jobs.shards import check_merged
from amplify_motion_tokenizer.models.torch_files import read_torch


class MotionCodeSet(Mapping[str, MotionCodes]):
    """The codes of the clips of one run, by the clips' names.

    Args:
        clips: in their order.
        path: where they were read, for messages.

    Raises:
        UsageError: they are of several runs, or two are of one clip.
    """

    def __init__(self, clips: Iterable[MotionCodes], path: Path | None = None) -> None:
        self.path = path
        self._clips: dict[str, MotionCodes] = {}
        for codes in clips:
            self._add(codes)

    def _add(self, codes: MotionCodes) -> None:
        where = f"{self.path}: " if self.path else ""
        if codes.clip in self._clips:
            raise UsageError(f"{where}holds two sets of codes of the clip {codes.clip}; run inference again")
        first = next(iter(self._clips.values()), codes)
        shapes = {each.ids.shape[1] for each in (first, codes) if len(each)}
        if _run(first) != _run(codes) or len(shapes) > 1:
            raise UsageError(
                f"{where}holds codes of several runs: {_made_by(first)} and {_made_by(codes)}; give the "
                "codes of one, or run inference again with --overwrite"
            )
        self._clips[codes.clip] = codes

    def __getitem__(self, clip: str) -> MotionCodes:
        if clip not in self._clips:
            known = ", ".join(list(self._clips)[:5])
            raise KeyError(f"there is no clip {clip}; there are {len(self)}, such as {known}")
        return self._clips[clip]

    def at(self, clip: str, frame: int, of: FrameCount = "source") -> CodesAt:
        """The codes of the motion at a frame of a clip; see ``MotionCodes.at``.

        Raises:
            KeyError: there is no such clip.
            IndexError: no window covers the frame.
            ValueError: frames are not counted that way.
        """
        return self[clip].at(frame, of)

    def __iter__(self) -> Iterator[str]:
        return iter(self._clips)

    def __len__(self) -> int:
        return len(self._clips)

    def __repr__(self) -> str:
        windows = sum(len(codes) for codes in self._clips.values())
        return f"MotionCodeSet({len(self)} clips, {windows} windows)"


def read_codes(path: str | Path, latents: bool = False) -> MotionCodeSet:
    """The codes in a file of any format, or in a folder that ``infer`` wrote.

    Of a folder ``codes.jsonl`` is read, or ``codes.parquet``, or where there is neither the files of clips.

    Args:
        path: the file or folder.
        latents: whether to read the ids' vectors from ``<clip>.pt`` too, where ``infer --save latents`` wrote
            them and the format itself holds none.

    Raises:
        UsageError: nothing is there, or it is damaged, of an unknown version, of several runs, or a clip that
            the folder's manifest names is missing; or shards of the folder are not merged.
        CheckpointError: a file of vectors is damaged.
    """
    path = Path(path)
    found = _read(path)
    if not latents:
        return found
    return MotionCodeSet(with_latents(found.values(), path if path.is_dir() else path.parent), found.path)


def holds_codes(folder: Path) -> bool:
    """Whether there are files in ``folder`` that are codes of any format by their names."""
    return any((folder / str(each.table)).is_file() or bool(_files(folder, each)) for each in code_formats())


def _read(path: Path) -> MotionCodeSet:
    form, files = code_files(path)
    found = MotionCodeSet(
        (codes for file in files for codes in form.read(file)), files[0] if form.table else path
    )
    if form.table and path.is_dir():
        _check_not_cut(found, files[0])
    return found


def code_files(path: Path) -> tuple[CodeFormat, list[Path]]:
    """What ``read_codes`` reads at ``path``: the format, and one table or the files of all clips.

    Raises:
        UsageError: nothing is there, no format has that name, or a clip that the folder's manifest names has
            no file.
    """
    formats = code_formats()
    if not path.exists() and not any(path.name.endswith(each.ending) for each in formats):
        raise missing(path, FileNotFoundError())
    if not path.is_dir():
        return format_of(path), [path]
    check_merged(path)
    table = next((each for each in formats if each.table and (path / each.table).is_file()), None)
    if table is not None:
        return table, [path / str(table.table)]
    for each in formats:
        files = _files(path, each)
        if files:
            _check_all_there(path, each)
            return each, files
    raise UsageError(
        f"{path / CODES}: cannot be read (No such file or directory), and there are no codes in another "
        "format; give inference's output folder"
    )


def _check_not_cut(found: MotionCodeSet, table: Path) -> None:
    """Raises UsageError where a table lacks a clip of its run that is done and has a file of its own.

    A table that is cut at the end of a line can be told from a whole one by nothing else.
    """
    run = next((codes.meta.get("config_hash") for codes in found.values()), None)
    for clip in _done(table.parent):
        for form in code_formats() if clip not in found else ():
            own = form.file(table.parent, clip)
            if (
                form.table is None
                and os.path.isfile(own)
                and run in (None, form.meta(own).get("config_hash"))
            ):
                raise UsageError(
                    f"{table}: is cut, as it lacks the clip {clip}, whose codes are in {own.name}; run "
                    "inference again"
                )


def _done(folder: Path) -> list[str]:
    """The clips that the manifest of a folder of codes tells as done."""
    if not (folder / CHECKPOINT_RECORD).is_file():
        return []
    records = read_manifest(folder / MANIFEST)
    return [clip for clip, record in records.items() if record.get("status") in ("done", "skipped")]


def _check_all_there(folder: Path, form: CodeFormat) -> None:
    """Raises UsageError where a clip that the manifest of a run tells as done has no file."""
    for clip in _done(folder):
        if not form.file(folder, clip).is_file():
            raise UsageError(
                f"{form.file(folder, clip)}: is not there, and {MANIFEST} says that {clip} is done; run "
                "inference again, which makes what is missing"
            )


def write_codes(
    path: str | Path, codes: MotionCodes | Mapping[str, MotionCodes] | Iterable[MotionCodes]
) -> None:
    """Writes codes as a file, whose ending tells the format.

    Args:
        path: ends in .json, .npz or .safetensors for one clip; in .jsonl or .parquet for any number.
        codes: of one run; of one clip, of several, or by the clips' names as ``read_codes`` gives.

    Raises:
        UsageError: no format has that ending, its library is missing, codes are of several runs, or the
            format takes one clip.
    """
    path = Path(path)
    form = format_of(path)
    form.check_available()
    several = codes.values() if isinstance(codes, Mapping) else codes
    clips = MotionCodeSet([several] if isinstance(several, MotionCodes) else several)
    if not form.table and len(clips) != 1:
        raise UsageError(f"{path}: holds one clip, and there are {len(clips)}; write .jsonl or .parquet")
    form.write(path, clips.values())


def with_latents(clips: Iterable[MotionCodes], folder: Path) -> list[MotionCodes]:
    """The clips, with the vectors that ``infer --save latents`` wrote below ``folder`` where they have none.

    Raises:
        CheckpointError: ``<clip>.pt`` is damaged.
    """
    found = []
    for codes in clips:
        path = folder / f"{codes.clip}.pt"
        if codes.latents is None and "latents" in codes.meta.get("saved", ()) and path.is_file():
            arrays = read_torch(path, ("latent_tokens", "code_sequences"))
            if torch.equal(arrays["code_sequences"], codes.ids):
                codes = dataclasses.replace(codes, latents=arrays["latent_tokens"].float())
        found.append(codes)
    return found


def _files(folder: Path, form: CodeFormat) -> list[Path]:
    """The files of clips below ``folder`` that are of the format by their names."""
    if form.table:
        return []
    found = sorted(path for path in folder.rglob(f"*{form.ending}") if not path.name.startswith("."))
    return [path for path in found if format_of(path) is form]


def _run(codes: MotionCodes) -> dict[str, Any]:
    return {key: codes.meta[key] for key in OF_RUN if key in codes.meta}


def _made_by(codes: MotionCodes) -> str:
    digest = str(codes.meta.get("checkpoint_sha256", "not known"))[:8]
    settings = str(codes.meta.get("config_hash", "not known"))[:8]
    return f"{codes.clip} by {codes.meta.get('checkpoint')} (SHA-256 {digest}, settings {settings})"
