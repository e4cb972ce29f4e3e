"""The codes of a clip that is still being worked on, on disk as they are made.

They stand in a file of their own, which goes when the clip's files are written. What kills the run leaves it:
``read_codes`` reads it and says that it has not ended. The next run makes the clip anew, from its start, as
windows that are tracked beside others may differ from windows tracked alone in the last bits.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from amplify_motion_tokenizer.codes.files.json_stream import CodeLines
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.file_names import unfinished_name
from amplify_motion_tokenizer.files import growing_file


class UnfinishedCodes:
    """A context manager that writes codes as they come; it makes the file with the first of them.

    Args:
        target: the clip's file, which is written when all codes are there.
        clip: the clip's name.
        meta: how the codes are made.
    """

    def __init__(self, target: Path, clip: str, meta: Mapping[str, Any]) -> None:
        # Of the same length whatever the clip is called, as its own name may be as long as names can be.
        self._path = target.with_name(unfinished_name(f"{zlib.crc32(clip.encode()):08x}"))
        self._clip, self._meta = clip, meta
        self._open = ExitStack()
        self._lines: CodeLines | None = None

    def __enter__(self) -> UnfinishedCodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, codes: MotionCodes) -> None:
        """Writes the next windows.

        Raises:
            UsageError: the file cannot be written.
        """
        if self._lines is None:
            append = self._open.enter_context(growing_file(self._path, overwrite=True))
            self._lines = CodeLines(append, self._clip, self._meta)
        self._lines.add(codes)

    def remove(self) -> None:
        """Closes and removes the file, and one that an earlier run left of this clip."""
        self._open.close()
        self._path.unlink(missing_ok=True)
