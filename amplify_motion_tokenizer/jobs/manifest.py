"""The manifest of an output folder: one line per clip, of which the newest counts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import is_clip_name
from amplify_motion_tokenizer.files import failure_named, sync, write_text
from amplify_motion_tokenizer.foreign_json import parse_json, read_regular


class Manifest:
    """A JSONL file with one record per clip, where the last line of a clip counts.

    Lines are appended and flushed as clips finish, so that a killed run leaves its record;
    ``compact`` rewrites the file atomically with one line per clip.

    Args:
        path: the file; a last line that a crash cut short is dropped.

    Attributes:
        is_new: whether there was no file, so that nothing is known of what was done before.
        records: the last record of each clip, by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_new = not path.exists()
        self.records, torn = _read(path)
        if torn:
            self.compact()

    def begin(self) -> None:
        """Makes the file where there is none: from now on a clip without a line was not finished."""
        if not self.path.exists():
            write_text(self.path, "")

    def add(self, record: dict[str, Any]) -> None:
        """Appends ``record``, whose key ``clip`` names the clip."""
        new = not self.path.exists()
        with failure_named(self.path):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync(self.path.parent)
        self.records[record["clip"]] = record

    def compact(self) -> None:
        """Rewrites the file with the last record of each clip, in the order of the names."""
        lines = (json.dumps(self.records[clip], allow_nan=False) + "\n" for clip in sorted(self.records))
        write_text(self.path, "".join(lines))


def _text(path: Path) -> str:
    try:
        return read_regular(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise UsageError(f"{path}: cannot be read ({reason}); mend or remove the file") from None


def _is_name(clip: Any) -> bool:
    return isinstance(clip, str) and is_clip_name(clip)


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """The last record of each clip, by name; none where there is no manifest. The file stays as it is.

    Raises:
        UsageError: a line is no record.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], bool]:
    """The last record of each clip, and whether a crash cut the last line short, which is left out."""
    text = _text(path) if path.exists() else ""
    complete, _, torn = text.rpartition("\n")
    return dict(_parse(path, complete.split("\n") if complete else [])), bool(torn)


def _parse(path: Path, lines: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line, finite=True)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not _is_name(record.get("clip")):  # outputs are found by it
            raise UsageError(
                f"{path}: line {number} is not a record with a clip name; mend or remove the file"
            )
        yield record["clip"], record


class NoManifest:
    """In the place of a manifest, for a run whose output is one file: keeps no record.

    Args:
        path: the file that is written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.is_new = path, True
        self.records: Mapping[str, dict[str, Any]] = {}

    def add(self, record: dict[str, Any]) -> None:
        """Does nothing."""

    def compact(self) -> None:
        """Does nothing."""


class SeveralManifests:
    """The manifests of output folders in which the same is made of each clip, written together.

    Args:
        manifests: one or more.
    """

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self._manifests = manifests

    @property
    def path(self) -> Path:
        """Of the first."""
        return self._manifests[0].path

    @property
    def is_new(self) -> bool:
        """Whether one of them was."""
        return any(manifest.is_new for manifest in self._manifests)

    @property
    def records(self) -> Mapping[str, dict[str, Any]]:
        """Of the first."""
        return self._manifests[0].records

    def add(self, record: dict[str, Any]) -> None:
        """Appends ``record`` to each."""
        for manifest in self._manifests:
            manifest.add(record)

    def compact(self) -> None:
        """Compacts each."""
        for manifest in self._manifests:
            manifest.compact()
