"""Makes the next items of a stream in a background thread while the last one is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """``items`` in their order, made in a background thread that is up to ``depth`` items ahead.

    What making an item raises is raised here, when its turn comes. The thread starts with the first item
    asked for; once this generator has ended, or was closed, ``items`` is in use no more.
    """
    stream, end = iter(items), object()
    with ThreadPoolExecutor(1, "read_ahead") as reader:
        ahead = deque(reader.submit(next, stream, end) for _ in range(depth))
        try:
            while (item := ahead.popleft().result()) is not end:
                ahead.append(reader.submit(next, stream, end))
                yield item  # type: ignore[misc]
        finally:
            for later in ahead:
                later.cancel()
