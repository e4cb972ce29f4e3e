"""Checks that values read from other people's files are of the kind they must be, and says so in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from amplify_motion_tokenizer.errors import CheckpointError, TokenizerError

_LARGEST = sys.float_info.max

Kind = tuple[Callable[[Any], bool], str]
"""A test of a value, and the words for the values that pass it."""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and -_LARGEST <= value <= _LARGEST  # false of NaN, and of 10**400


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_whole, value))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_number, value.values()))


FLAG: Kind = (lambda value: isinstance(value, bool), "true or false")


WHOLE: Kind = (_is_whole, "a whole number")


NUMBER: Kind = (_is_number, "a number")


ABOVE_0: Kind = (lambda value: _is_finite(value) and value > 0, "a number above 0")


PAIR: Kind = (_is_pair, "two whole numbers")


TEXT: Kind = (lambda value: isinstance(value, str), "a text")


TEXTS: Kind = (_are_texts, "a list of texts")


MAPPING: Kind = (lambda value: isinstance(value, Mapping), "a mapping")


RATE: Kind = (
    lambda value: _is_number(value) and 1e-3 <= value <= 1e6,
    "frames per second, a number of 0.001 to 1000000",
)


FINITE: Kind = (_is_finite, "a finite number")


NUMBERS: Kind = (_are_numbers, "a mapping of names to numbers")


def or_none(kind: Kind) -> Kind:
    """The kind of a value that is None or of ``kind``."""
    return lambda value: value is None or kind[0](value), f"{kind[1]}, or None"


def whole_from(low: int, high: int = 2**31 - 1) -> Kind:
    """A whole number of ``low`` to ``high``, which has room in what is made of it."""
    return lambda value: _is_whole(value) and low <= value <= high, f"a whole number of {low} to {high}"


def list_of(kind: Kind, length: int | None = None) -> Kind:
    """The kind of a list whose values, ``length`` of them where that is given, are all of ``kind``."""

    def fits(value: Any) -> bool:
        return isinstance(value, list) and length in (None, len(value)) and all(map(kind[0], value))

    return fits, f"a list of {'' if length is None else f'{length}, each: '}({kind[1]})"


def ascending(kind: Kind) -> Kind:
    """The kind of a list whose values are all of ``kind`` and none smaller than the one before it."""

    def fits(value: Any) -> bool:
        return list_of(kind)[0](value) and sorted(value) == value

    return fits, f"an ascending list of ({kind[1]})"


def mapping_of(kind: Kind) -> Kind:
    """The kind of a mapping of names to values of ``kind``."""

    def fits(value: Any) -> bool:
        named = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
        return named and all(map(kind[0], value.values()))

    return fits, f"a mapping of names to ({kind[1]})"


def holding(kinds: Mapping[str, Kind], first: str) -> Kind:
    """The kind of a mapping that has the key ``first``, and under each key of ``kinds`` that it has its kind.

    Keys that ``kinds`` does not name are not looked at.
    """

    def fits(value: Any) -> bool:
        known = isinstance(value, Mapping) and first in value
        return known and all(fit(value[key]) for key, (fit, _) in kinds.items() if key in value)

    words = ", ".join(f"{key} ({kind[1]})" for key, kind in kinds.items())
    return fits, f"a mapping with {words}"


def check_kinds(
    source: str,
    found: Mapping[str, Any],
    kinds: Mapping[str, Kind],
    error: type[TokenizerError] = CheckpointError,
) -> None:
    """Raises ``error`` naming the first value of ``found`` that is of another kind.

    Args:
        source: what to call the file.
        found: the file's values; keys that ``kinds`` does not name are not looked at.
        kinds: the kind of each key's value; a key that ``found`` lacks is not checked.
        error: what to raise.
    """
    for key, (fits, words) in kinds.items():
        if key in found and not fits(found[key]):
            value = repr(found[key])
            shown = value if len(value) <= 40 else f"a {type(found[key]).__name__}"
            raise error(f"{source}: {key} is {shown}; expected {words}")


def require_kinds(
    source: str, found: Any, kinds: Mapping[str, Kind], error: type[TokenizerError] = CheckpointError
) -> None:
    """Checks a mapping as ``check_kinds`` does, which must have all of the keys."""
    if not isinstance(found, Mapping):
        raise error(f"{source}: is a {type(found).__name__}; expected an object with {', '.join(kinds)}")
    missing = [key for key in kinds if key not in found]
    if missing:
        raise error(f"{source}: lacks {', '.join(missing)}")
    check_kinds(source, found, kinds, error)
