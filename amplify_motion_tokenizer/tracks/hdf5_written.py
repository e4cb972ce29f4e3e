"""A new file for h5py that tells when the disk is full."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


class WrittenFile(io.FileIO):
    """A new file for h5py that keeps the first error of writing it, such as a full disk, for ``check``.

    HDF5 cannot close a file that it cannot write: it would end the process.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes all of ``data``, unless writing failed before."""
        rest = memoryview(data).cast("B")
        total = len(rest)
        while rest and self._error is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self._error = error
        return total

    def check(self) -> None:
        """Raises the error that was kept, if any."""
        if self._error is not None:
            raise self._error

    def __exit__(self, *ending: Any) -> None:
        super().__exit__(*ending)
        self.check()
