"""Tells what an output folder holds, so that no command writes among the files of another.

The commands share names (``config.yaml``, ``manifest.jsonl``) that mean another thing in each kind of folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import (
    CHECKPOINT_RECORD,
    CODE_TABLE,
    CODES,
    DECODED,
    MANIFEST,
    SCENES,
    checkpoints_in,
    holds_drawings,
    is_pack,
)
from amplify_motion_tokenizer.files import make_output_folder
from amplify_motion_tokenizer.foreign_json import parse_json
from amplify_motion_tokenizer.jobs.shards import shards_in

Kind = Literal[
    "tracks", "checkpoints of a run", "codes", "a pack", "drawings", "decoded codes", "rendered clips"
]


def open_output_folder(folder: Path, kind: Kind) -> None:
    """``make_output_folder`` of a folder that is to hold ``kind`` alone.

    Raises:
        UsageError: as ``make_output_folder``; or another command's files are there.
    """
    make_output_folder(folder)
    found = kind_of(folder)
    if found not in (None, kind):
        raise UsageError(
            f"{folder} holds {found}, among which {kind} would get mixed up; choose another --output"
        )


def kind_of(folder: Path) -> Kind | None:
    """What ``folder`` holds as the output of one of the commands; None where it is no such folder.

    Tracks are told by the manifest, which lists them: a folder of several outputs has none itself.
    """
    if is_pack(folder):
        return "a pack"
    if checkpoints_in(folder):
        return "checkpoints of a run"
    if any((folder / name).is_file() for name in (CODES, CODE_TABLE, CHECKPOINT_RECORD)):
        return "codes"
    if (folder / SCENES).is_file():
        return "rendered clips"
    if (folder / DECODED).is_file():
        return "decoded codes"
    if holds_drawings(folder):
        return "drawings"
    manifests = [folder / MANIFEST, *(shard.file(folder, ".jsonl") for shard in shards_in(folder))]
    if any(os.path.exists(folder / output) for path in manifests for output in _outputs_listed(path)):
        return "tracks"
    return None


def _outputs_listed(manifest: Path) -> Iterator[str]:
    """The outputs, in whatever format, that a manifest lists; empty for another file of that name."""
    if not manifest.is_file():
        return
    with manifest.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError):  # a foreign file, or a line that a crash cut short
                record = parse_json(line)
                if isinstance(record, dict) and {"clip", "source", "status", "output"} <= record.keys():
                    yield str(record["output"])
