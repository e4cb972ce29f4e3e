"""The files that hold one clip's tracks: a single one, or one for each size that its pictures have.

Where a phone was turned while it filmed, or a broadcaster or a video call changed its resolution, pixels mean
something else from there on. Tracks of pictures of the first size are in the clip's own file, which says how
many files there are; those of the next size are in ``<clip>.size2`` beside it, and so on. Of several views
it counts which sizes their pictures have together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count, takewhile
from pathlib import Path
from types import TracebackType

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import FileNameError, TrackFileError, UsageError
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.base import TrackFormat
from amplify_motion_tokenizer.tracks.record import ClipWriter, clip_record
from amplify_motion_tokenizer.video.clips import ClipInfo


class ClipFiles:
    """Writes one clip's tracks, when the ``with`` block ends without an error, the clip's own file last.

    Args:
        target: the clip's own file.
        format: writes the files.
        tracker: name of the tracker.
        infos: what is known of the clip's first pictures in each view, by name.
        config: of the run.

    Attributes:
        paths: the files, the clip's own first.
    """

    def __init__(
        self, target: Path, format: TrackFormat, tracker: str, infos: Mapping[str, ClipInfo], config: Config
    ) -> None:
        self.paths: list[Path] = []
        self._target, self._format, self._tracker, self._config = target, format, tracker, config
        self._first = infos
        self._writers: dict[tuple[tuple[int, int], ...], ClipWriter] = {}
        self._stack = ExitStack()

    def __enter__(self) -> ClipFiles:
        self._writer(self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def append(self, infos: Mapping[str, ClipInfo], *views: WindowTracks) -> None:
        """Adds one window, its tracks in each view; ``infos`` are of its pictures.

        Raises:
            FileNameError: the file that it belongs into is another clip's.
        """
        self._writer(infos).append(*views)

    def finish(self, num_frames: int, windows_dropped: int) -> None:
        """Makes the files complete, the clip's own last; files of sizes that an earlier run found go."""
        own, *others = self._writers.values()
        for writer in others:
            writer.finish(num_frames, windows_dropped, num_sizes=0)
        further = (self._format.of_size(self._target, number) for number in count(len(self.paths) + 1))
        for path in reversed(list(takewhile(self._is_further, further))):
            self._format.remove(path)
        own.finish(num_frames, windows_dropped, num_sizes=len(self.paths))

    def _writer(self, infos: Mapping[str, ClipInfo]) -> ClipWriter:
        sizes = tuple(info.source_size for info in infos.values())
        if sizes not in self._writers:
            path = self._format.of_size(self._target, len(self.paths) + 1)
            if self.paths and os.path.exists(path) and not self._is_further(path):
                raise FileNameError(
                    f"{path}: is there for another clip, and {self.paths[0].name} needs it for pictures of "
                    "another size; rename the other clip, and remove its file"
                )
            record = clip_record(list(infos.values()), self._format.settings(self._config), self._tracker)
            writer = self._format.writer(path, record, infos, self._config)
            self._writers[sizes] = self._stack.enter_context(writer)
            self.paths.append(path)
        return self._writers[sizes]

    def _is_further(self, path: Path) -> bool:
        """Whether there is a file ``path``, and it is of pictures of a further size, or damaged."""
        if not os.path.exists(path):  # unlike Path.exists also of a name too long for one
            return False
        try:
            return self._format.record(path).get("num_sizes") == 0
        except (TrackFileError, UsageError):
            return True
