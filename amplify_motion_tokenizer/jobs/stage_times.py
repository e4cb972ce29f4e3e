"""Measures how much time a clip spends in each stage."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class StageTimes:
    """Seconds that a clip spent in each stage. Where stages nest, a moment counts for the innermost alone.

    Attributes:
        seconds: by stage.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inside: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time within it for ``name``."""
        self._count()
        self._inside.append(name)
        try:
            yield
        finally:
            self._count()
            self._inside.pop()

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """``items``; the time that each takes to come counts for ``name``."""
        stream = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(stream)
                except StopIteration:
                    return
            yield item

    def rounded(self) -> dict[str, float]:
        """The seconds, to milliseconds."""
        return {name: round(seconds, 3) for name, seconds in self.seconds.items()}

    def _count(self) -> None:
        """Gives the time since the last change of stage to the stage that it was spent in."""
        now = time.perf_counter()
        if self._inside:
            self.seconds[self._inside[-1]] += now - self._since
        self._since = now
