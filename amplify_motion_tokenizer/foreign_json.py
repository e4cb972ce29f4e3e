"""Reads JSON that others wrote: what is none, or cannot be handed on, is a ValueError."""

from __future__ import annotations

import errno
import json
import math
import re
from pathlib import Path
from typing import Any


def read_regular(path: Path) -> bytes:
    """The bytes of a file; OSError also for what never ends, or never begins: a pipe or a device."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is no file with data in it")
    return path.read_bytes()


def parse_json(text: str | bytes, finite: bool = False) -> Any:
    """What a JSON text of somebody else's says.

    Args:
        text: as text, or as its bytes in UTF-8; what is neither is refused too, as it comes out of files.
        finite: whether to refuse NaN and numbers that are infinite as float, which JSON itself does not have.

    Raises:
        ValueError: it is no JSON, no UTF-8, nested too deeply to be handed on, or holds such a number.
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    if not isinstance(text, str):
        raise ValueError(f"it is a {type(text).__name__}, no text")
    try:
        if _is_deep(text):
            raise RecursionError
        return json.loads(text, **_FINITE if finite else {})
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


_DEEPEST = 100
"""Levels of a JSON text: more than any of ours has, and fewer than Python's stack takes."""
_BRACKETS = re.compile(r'[\[{\]}]|"(?:[^"\\]|\\.)*"')


def _is_deep(text: str) -> bool:
    """Whether lists and objects of a JSON text lie within each other more than ``_DEEPEST`` levels."""
    if text.count("[") + text.count("{") <= _DEEPEST:
        return False
    depth = 0
    for match in _BRACKETS.finditer(text):
        bracket = text[match.start()]
        depth += (bracket in "[{") - (bracket in "]}")
        if depth > _DEEPEST:
            return True
    return False


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.20} is no finite number")
    return value


_FINITE: dict[str, Any] = {"parse_float": _finite, "parse_constant": _finite}
