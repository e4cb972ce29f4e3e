"""What worker processes and Ray actors log, on its way to the process that the user started."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import NamedTuple


class Record(NamedTuple):
    """A log record that is picklable, whatever its arguments were."""

    logger: str
    level: int
    text: str

    def log(self) -> None:
        """Logs it in this process."""
        logging.getLogger(self.logger).log(self.level, "%s", self.text)


def pass_on_logs(level: int, give: Callable[[Record], object]) -> None:
    """From here on gives away what this process logs from ``level`` on; its warnings are logged too."""
    logging.getLogger().setLevel(level)
    logging.getLogger().addHandler(_PassedOn(give))
    warnings.showwarning = lambda message, *_: logging.getLogger("py.warnings").warning("%s", message)


class _PassedOn(logging.Handler):
    def __init__(self, give: Callable[[Record], object]) -> None:
        super().__init__()
        self._give = give

    def emit(self, record: logging.LogRecord) -> None:
        self._give(Record(record.name, record.levelno, self.format(record)))
