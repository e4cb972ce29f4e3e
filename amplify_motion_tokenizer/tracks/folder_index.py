"""What the track files of a folder say of themselves, kept in one file there: opening 100,000 takes minutes.

The index is a copy. It counts for files of the size and the time of change that it names; others are opened
and looked at again, and a reader checks what it opens (``TrackFile.check_unchanged``). Removing it costs time
alone.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.file_names import TRACK_INDEX
from amplify_motion_tokenizer.files import read_json, write_json
from amplify_motion_tokenizer.foreign_json import parse_json
from amplify_motion_tokenizer.tracks.base import OpenClip

LEAST_CLIPS = 256
"""Clips of a folder that pay for an index."""

_VERSION = 1

logger = logging.getLogger(__name__)

Facts = dict[str, Any]
"""What a clip's file says of itself, as plain values."""


def open_clips(
    folder: Path,
    clips: Mapping[str, OpenClip[Any]],
    of_facts: Callable[[Path, Facts], Any] | None,
    names: Sequence[str],
    views: Sequence[str] | None,
) -> dict[str, Any]:
    """Opens the clips ``names``, by the index of ``folder`` where it knows them, and keeps the index true.

    Args:
        folder: holds the clips' files.
        clips: all that there are.
        of_facts: makes a clip of its path and its facts, or raises TrackFileError where these are none; None:
            the format has no index.
        names: the ones to open, in this order.
        views: as ``OpenClip`` takes them.

    Raises:
        TrackFileError: a file is bad.
    """
    if of_facts is None or len(clips) < LEAST_CLIPS:
        return {name: clips[name](views) for name in names}
    index = _Index(folder / TRACK_INDEX, views)
    opened = {}
    for name in names:
        path = clips[name].paths[0]
        facts = index.facts(name, path)
        if facts is not None:
            with suppress(TrackFileError):  # the file itself says what is true
                opened[name] = of_facts(path, facts)
                continue
        opened[name] = clips[name](views)
        index.add(name, path, opened[name].facts())
    index.save(clips)
    return opened


class _Index:
    """The index of one folder, for one choice of views."""

    def __init__(self, path: Path, views: Sequence[str] | None) -> None:
        self._path, self._views = path, None if views is None else list(views)
        self._known: dict[str, Any] = {}
        self._texts: list[str] = []
        self._values: list[Any] = []
        self._added = False
        if path.is_file():
            try:
                self._load(read_json(path))
            except (UsageError, KeyError, TypeError, ValueError, OSError) as error:
                logger.info("%s is made anew (%s)", path, error)
        self._places = {text: number for number, text in enumerate(self._texts)}

    def _load(self, found: Mapping[str, Any]) -> None:
        if found["version"] != _VERSION or found["views"] != self._views:
            return  # for other views, or of another version
        texts, known = list(found["texts"]), dict(found["clips"])
        values = [parse_json(text) for text in texts]
        if not all(_is_entry(entry, len(texts)) for entry in known.values()):
            raise ValueError("an entry is of another form")
        self._texts, self._values, self._known = texts, values, known

    def facts(self, name: str, path: Path) -> Facts | None:
        """What the index knows of a clip; None where its file is another one, or unknown."""
        entry = self._known.get(name)
        if entry is None or entry[:2] != _state(path):
            return None
        return {key: self._values[number] for key, number in entry[2].items()}

    def add(self, name: str, path: Path, facts: Facts) -> None:
        """Takes in what a file says; values that clips have in common are kept once."""
        told = {key: self._place(json.dumps(value)) for key, value in facts.items()}
        self._known[name] = [*_state(path), told]
        self._added = True

    def _place(self, text: str) -> int:
        if text not in self._places:
            self._places[text] = len(self._texts)
            self._texts.append(text)
        return self._places[text]

    def save(self, clips: Mapping[str, Any]) -> None:
        """Writes the index where it has changed and the folder can be written."""
        gone = self._known.keys() - clips.keys()
        if not self._added and not gone:
            return
        known = {name: entry for name, entry in self._known.items() if name not in gone}
        content = {"version": _VERSION, "views": self._views, "texts": self._texts, "clips": known}
        if not os.access(self._path.parent, os.W_OK):
            return
        try:
            write_json(self._path, content)
        except UsageError as error:
            logger.info("%s is not kept (%s): every run opens all files", self._path, error)


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _is_entry(entry: Any, texts: int) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 3
        and isinstance(entry[2], dict)
        and all(isinstance(number, int) and 0 <= number < texts for number in entry[2].values())
    )
