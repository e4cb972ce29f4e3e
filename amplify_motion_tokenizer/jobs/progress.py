"""Tells how far a long loop is: by a bar on a terminal, elsewhere by a plain line in the log now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

logger = logging.getLogger(__name__)

LINE_EVERY_S = 30.0
"""Seconds between two lines where standard error is no terminal."""

Item = TypeVar("Item")


class Progress:
    """Tells how far a loop is; a context manager.

    On a terminal it is a bar, and what is logged meanwhile stands in lines of its own above it. Elsewhere,
    in a file or a pipe, it is a line in the log every ``LINE_EVERY_S`` seconds, at the next ``update``.
    Progress is information: it is told where this module's logger tells ``INFO``, and else not at all.

    Args:
        total: of what is counted, with what was done before.
        unit: one of what is counted, such as "clip".
        label: what the loop does, such as "validation"; empty where that is plain.
        initial: done before.
        shown: False tells nothing, as in all training processes but one.
        leave: whether the whole bar stays on the terminal at the end.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        *,
        label: str = "",
        initial: int = 0,
        shown: bool = True,
        leave: bool = True,
    ) -> None:
        self.total = total
        self.unit = unit
        self.label = label
        self.count = self._initial = initial
        self._shown = shown and logger.isEnabledFor(logging.INFO)
        self._leave = leave
        self._bar: tqdm[Any] | None = None
        self._note = ""
        self._open = ExitStack()
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Progress:
        self._began = self._told = time.monotonic()
        if self._shown and sys.stderr.isatty():
            self._open.enter_context(logging_redirect_tqdm())
            bar: tqdm[Any] = tqdm(
                total=self.total,
                unit=self.unit,
                desc=self.label or None,
                initial=self.count,
                leave=self._leave,
            )
            self._bar = self._open.enter_context(bar)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar = None
        self._open.close()

    def update(self, count: int = 1) -> None:
        """Counts ``count`` more as done."""
        self.count += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._shown and time.monotonic() - self._told >= LINE_EVERY_S:
            self._told = time.monotonic()
            logger.info("%s", self._line())

    def note(self, text: str, now: bool = False) -> None:
        """Sets the text beside the count, from the next update on; ``now`` redraws a bar at once."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=now)

    def each(self, items: Iterable[Item]) -> Iterator[Item]:
        """``items``, each of which is done when the next one is asked for."""
        for item in items:
            yield item
            self.update()

    def _line(self) -> str:
        rate = (self.count - self._initial) / (self._told - self._began)
        left = tqdm.format_interval(max(0, self.total - self.count) / rate)
        label = f"{self.label}: " if self.label else ""
        note = f"; {self._note}" if self._note else ""
        return f"{label}{self.count} of {self.total} {self.unit}s, {rate:.3g} a second, {left} left{note}"
