"""Converts values, as they are written or stored, to the type of a setting."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from typing import Any, Literal

from amplify_motion_tokenizer.config.settings import parts_of
from amplify_motion_tokenizer.config.yaml_text import Scalar, meaning


class UnfitError(ValueError):
    """A value is not of a setting's type."""


def convert(kind: Any, value: Any) -> Any:
    """``value`` as ``kind``, the resolved annotation of a setting.

    Args:
        kind: bool, int, float, str, None, a Literal, tuple or dict of them, or a union of such.
        value: a plain value; or ``Scalar``, and lists and dicts of it. The text of a plain ``Scalar`` is a
            text where one is wanted, whatever else it could mean (no, 010, 1e5), but null.

    Raises:
        UnfitError: it is of another type.
        ValueError: a number has a leading zero.
    """
    for part in parts_of(kind):
        try:
            return _as(part, value)
        except UnfitError:
            continue
    raise UnfitError


def _as(kind: Any, value: Any) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = parts[:1] * len(value) if Ellipsis in parts else parts
        if len(kinds) == len(value):
            return tuple(convert(kind, part) for kind, part in zip(kinds, value, strict=True))
    elif origin is dict and isinstance(value, Mapping):
        return {_text(name): convert(parts[1], part) for name, part in value.items()}
    elif origin is Literal or kind is str:
        found = _text(value)
        if origin is not Literal or found in parts:
            return found
    elif origin is None:
        return _simple(kind, meaning(value) if isinstance(value, Scalar) else value)
    raise UnfitError


def _text(value: Any) -> str:
    if isinstance(value, Scalar) and not value.null:
        return value.text
    if isinstance(value, str):
        return value
    raise UnfitError


def _simple(kind: Any, found: Any) -> Any:
    """Converts to a plain type; a bool is no number here, and a whole number is a float too."""
    if kind is float and type(found) is int and abs(found) < 2**1000:
        return float(found)
    if type(found) is kind:
        return found
    raise UnfitError


def show(value: Any) -> str:
    """A value for people: as it is written in YAML, or would be, in one line of at most 200 characters."""
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in _written(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


_LONGEST = 200


def _written(value: Any) -> str:
    if isinstance(value, Scalar):
        return str(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_written(part)}' for name, part in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_written, value))}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)
