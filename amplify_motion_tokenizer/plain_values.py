"""What the plain values in a checkpoint must be, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from amplify_motion_tokenizer.errors import CheckpointError

Kind = tuple[Callable[[Any], bool], str]
"""Whether a value is one, and the words for it."""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_whole, value))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)


def _are_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(part, Tensor) for part in value.values())


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_number, value.values()))


FLAG: Kind = (lambda value: isinstance(value, bool), "true or false")
WHOLE: Kind = (_is_whole, "a whole number")
NUMBER: Kind = (_is_number, "a number")
PAIR: Kind = (_is_pair, "two whole numbers")
TEXTS: Kind = (_are_texts, "a list of texts")
MAPPING: Kind = (lambda value: isinstance(value, Mapping), "a mapping")
NUMBERS: Kind = (_are_numbers, "a mapping of names to numbers")
TENSORS: Kind = (_are_tensors, "a mapping of names to tensors")


def or_none(kind: Kind) -> Kind:
    """None, or what ``kind`` says."""
    return lambda value: value is None or kind[0](value), f"{kind[1]}, or None"


def check_kinds(source: str, found: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Raises CheckpointError naming the first value of ``found`` that is of another kind.

    Args:
        source: what to call the file.
        found: its values; those that ``kinds`` does not name are not looked at.
        kinds: what they must be; a key that ``found`` lacks is not checked.
    """
    for key, (fits, words) in kinds.items():
        if key in found and not fits(found[key]):
            value = repr(found[key])
            shown = value if len(value) <= 40 else f"a {type(found[key]).__name__}"
            raise CheckpointError(f"{source}: {key} is {shown}; expected {words}")
