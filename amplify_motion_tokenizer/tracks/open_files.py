"""Keeps the track files that a process reads windows from open, up to a number."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from amplify_motion_tokenizer.tracks.stored import PositionClip, WindowReader

MAX_OPEN_FILES = 128
"""Track files that one data set keeps open in a process, where the system allows it."""

_SHARE = 8
"""One file in so many that a process may have open: a track file may take two, and training and validation
may read in one process."""


class Readers:
    """Keeps the track files of one process open, those least recently used closed again."""

    def __init__(self) -> None:
        self._process: int | None = None
        self._most = MAX_OPEN_FILES
        self._readers: dict[Path, WindowReader] = {}
        self._open: OrderedDict[Path, None] = OrderedDict()

    def get(self, clip: PositionClip) -> WindowReader:
        """The reader of the clip's file; clips of one pack share it."""
        if self._process != os.getpid():
            # A forked worker must not use the HDF5 handles of its parent.
            self._process, self._readers, self._open = os.getpid(), {}, OrderedDict()
            self._most = _most_open()
        if clip.path not in self._readers:
            self._readers[clip.path] = clip.reader()
        self._open[clip.path] = None
        self._open.move_to_end(clip.path)
        if len(self._open) > self._most:
            self._readers[self._open.popitem(last=False)[0]].close()
        return self._readers[clip.path]

    def __getstate__(self) -> dict[str, object]:
        return {"_process": None, "_readers": {}, "_open": OrderedDict()}


def _most_open() -> int:
    allowed = os.sysconf("SC_OPEN_MAX") if hasattr(os, "sysconf") else -1
    return min(MAX_OPEN_FILES, max(1, allowed // _SHARE)) if allowed > 0 else MAX_OPEN_FILES
