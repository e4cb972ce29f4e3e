"""Joins the shards of an output folder: afterwards it holds what one run over all clips would have left."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.codes.formats import FORMATS
from amplify_motion_tokenizer.codes.tables import write_tables
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import MANIFEST, OUTPUT_CONFIG, SHARDS
from amplify_motion_tokenizer.files import make_output_folder
from amplify_motion_tokenizer.jobs.folder_lock import only_run
from amplify_motion_tokenizer.jobs.manifest import read_manifest
from amplify_motion_tokenizer.jobs.shards import (
    check_files,
    ended_shards,
    forget_shards,
    join_manifests,
    shards_in,
)
from amplify_motion_tokenizer.tracks.find import find_tracks

logger = logging.getLogger(__name__)


def folders_to_merge(output: Path) -> list[Path]:
    """``output`` where it holds shards, or was merged before; else its subfolders that hold some.

    Inference with several checkpoints writes one subfolder for each.

    Raises:
        UsageError: there is no such folder, or it holds neither shards nor the output of a run.
    """
    if not output.is_dir():
        raise UsageError(f"{output} is no folder; expected the --output of runs with --shard")
    if shards_in(output) or (output / MANIFEST).is_file():
        return [output]
    folders = sorted(path.parent for path in output.glob(f"*/{SHARDS}") if shards_in(path.parent))
    if not folders:
        raise UsageError(f"{output} holds no shards; expected the --output of runs with --shard")
    return folders


def merge(output: Path) -> Counter[str]:
    """Joins the shards of ``output`` into one manifest and, of codes, into the files of all clips.

    It can be killed at any moment and run again. A folder that is merged stays as it is. The index of a large
    folder of tracks is made anew last.

    Args:
        output: the folder that ``preprocess`` or ``infer`` wrote with ``--shard``.

    Returns:
        How many clips are done, skipped and failed.

    Raises:
        UsageError: a shard runs, is missing or did not end, shards differ in settings or input, or a file
            that they wrote is gone.
        TrackFileError: a track file that the index is to tell of is damaged; the folder is merged then.
    """
    make_output_folder(output)
    with only_run(output):
        if not shards_in(output):
            return _counts(output)
        shards = ended_shards(output)
        check_files(output, shards)
        join_manifests(output)
        facts = next(iter(shards.values()))
        if facts["kind"] == "codes":
            write_tables(output, _tables(output, facts))
        forget_shards(output)
    if facts["kind"] == "tracks":
        _index_tracks(output)
    return _counts(output)


def _counts(output: Path) -> Counter[str]:
    return Counter(str(record.get("status")) for record in read_manifest(output / MANIFEST).values())


def _tables(output: Path, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``write_tables`` needs, as a shard's state tells it, which may have been written by anybody."""
    tables = facts.get("tables")
    if isinstance(tables, dict):
        formats, hashes = tables.get("formats"), tables.get("hashes")
        if _are_texts(formats) and _are_texts(hashes) and all(name in FORMATS for name in formats or ()):
            return tables
    raise UsageError(f"{output / SHARDS}: a state is damaged; run the shards again, then merge")


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _index_tracks(output: Path) -> None:
    """Reads what training will read of every file, which makes the index of a large folder anew."""
    if any(record.get("output") for record in read_manifest(output / MANIFEST).values()):
        config = config_from_dict(load_yaml(output / OUTPUT_CONFIG), f"in {output / OUTPUT_CONFIG}")
        find_tracks(output, config.data.views)
