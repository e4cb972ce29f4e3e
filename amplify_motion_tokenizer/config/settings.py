"""What a setting says of itself: default, meaning, what it decides, which values it may have.

A setting is a field made by ``setting``, in a dataclass that another one holds by ``section``. Nothing
else in the package lists settings by name.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

DECIDES = {
    "tracks": "what a clip's tracks are",
    "velocities": "how tracks become velocities and labels, the model's input",
    "window": "how many tracked frames a window spans, and how they are resampled in time",
    "codes": "the network; the weights fix it",
    "weights": "what training makes of the weights; codes of a trained tokenizer do not depend on it",
    "run": "how a training run begins, is logged and kept, and ends",
    "speed": "speed, memory and place alone",
}
"""What a setting may decide. What is said of a setting wherever it counts follows from these words."""


_MOST = 2**63 - 1
"""The largest number that any setting may be."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Bounds of every number in a value; None where there is none."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    odd: bool = False

    def holds(self, number: float) -> bool:
        """Whether ``number`` is within the bounds, and has room in what is made of it."""
        # A whole number of any length is one in Python; torch and numpy have 64 bits.
        return (
            (-_MOST <= number <= _MOST if isinstance(number, int) else math.isfinite(number))
            and (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
            and (not self.odd or number % 2 == 1)
        )

    @property
    def words(self) -> str:
        """The bounds, as in "of at least 0 and below 1"; empty where there are none."""
        if self.at_least is not None and self.at_most is not None:
            return f"from {self.at_least} to {self.at_most}"
        least = "of 0 or more" if self.at_least == 0 else f"of at least {self.at_least}"
        bounds = {"above": self.above, "at most": self.at_most, "below": self.below}
        told = [least] if self.at_least is not None else []
        told += [f"{word} {bound}" for word, bound in bounds.items() if bound is not None]
        return " and ".join(told)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting, by its dotted key."""

    key: str
    kind: Any
    """The field's annotation, resolved."""
    default: Any
    help: str
    decides: frozenset[str]
    """Words of ``DECIDES``."""
    range: Range
    names: tuple[str, ...]
    """The only keys that a mapping may have; any where it is empty."""
    choices: Collection[str]
    """The only texts that it may be; any where it is empty."""
    record: bool
    """Whether it is filled in, told and checked, but never chosen."""
    local: bool
    """Whether it names code, a path or a network place. The user's own command line and config files alone
    say it: a checkpoint or a track file of somebody else's must not decide what runs or is read here."""

    @property
    def section(self) -> str:
        """The first part of its key."""
        return self.key.partition(".")[0]

    @property
    def allowed(self) -> str:
        """What its values may be, in words."""
        return ", ".join(self.choices) or in_words(self.kind, self.range, self.names)

    def fits(self, value: Any) -> bool:
        """Whether a value of the right type is one that is allowed."""
        if isinstance(value, dict) and self.names and tuple(value) != self.names:
            return False
        if self.choices and value not in self.choices:
            return False
        if value == () and typing.get_origin(self.kind) is tuple:
            return False
        return all(self.range.holds(number) for number in _numbers(value))


def setting(
    default: Any,
    *,
    decides: str,
    help: str,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    odd: bool = False,
    names: tuple[str, ...] = (),
    choices: Collection[str] = (),
    record: bool = False,
    local: bool = False,
) -> Any:
    """A field of a section that is a setting.

    Args:
        default: its default.
        decides: words of ``DECIDES``, separated by spaces.
        help: its meaning in a sentence or two, which must be clear where nothing stands around it.
        at_least: bound of every number in it; so are the next three.
        above: bound.
        at_most: bound.
        below: bound.
        odd: whether numbers must be odd.
        names: the only keys that a mapping may have.
        choices: the only texts that it may be, where they are not known to its type; any where it is empty.
        record: it is filled in by the program: read from files, never chosen.
        local: it names code, a path or a network place, and is not taken from stored files.

    Raises:
        ValueError: ``decides`` has none or another word.
    """
    words = frozenset(decides.split())
    if not words or words - DECIDES.keys():
        raise ValueError(f"decides = {decides!r}; expected words of {', '.join(DECIDES)}")
    bounds = Range(at_least=at_least, above=above, at_most=at_most, below=below, odd=odd)
    told = {
        "default": default, "help": help, "decides": words, "range": bounds, "names": names,
        "choices": choices, "record": record, "local": local,
    }  # fmt: skip
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=told)
    return field(default=default, metadata=told)


def section(kind: type) -> Any:
    """A field that holds a section of settings, the dataclass ``kind``, whose docstring is its help."""
    return field(default_factory=kind)


def settings_of(kind: type, prefix: str = "") -> Iterator[Setting]:
    """Every setting of a section and of the sections in it.

    Raises:
        TypeError: a field was made neither by ``setting`` nor by ``section``.
    """
    hints = typing.get_type_hints(kind)
    for each in dataclasses.fields(kind):
        key, told, annotation = f"{prefix}{each.name}", each.metadata, hints[each.name]
        if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
            yield from settings_of(annotation, f"{key}.")
        elif "decides" not in told:
            raise TypeError(
                f"{key} does not say what it decides; make the field with config.settings.setting"
            )
        else:
            yield Setting(key=key, kind=annotation, **told)


def sections_of(kind: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """The dotted name and the dataclass of every section in ``kind``, outer ones first."""
    for name, annotation in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
            yield f"{prefix}{name}", annotation
            yield from sections_of(annotation, f"{prefix}{name}.")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


def in_words(kind: Any, bounds: Range, names: tuple[str, ...] = ()) -> str:
    """What a value of this type may be, in words: ``a whole number of at least 1 or null``."""
    parts = parts_of(kind)
    containers = [part for part in parts if typing.get_origin(part) in (tuple, dict)]
    within = Range() if containers else bounds
    told = [_words_of(part, within, names) for part in parts]
    # A comma tells that the bounds do not go on: a number above 0, or null.
    words = (", or " if {int, float}.intersection(parts) and within.words else " or ").join(told)
    if containers and bounds.words:
        return f"{words}; {'odd ' if bounds.odd else ''}numbers {bounds.words}"
    return words


def parts_of(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    is_union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    return typing.get_args(kind) if is_union else (kind,)


def _words_of(kind: Any, bounds: Range, names: tuple[str, ...]) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return ", ".join(map(str, parts))
    if origin is tuple:
        return f"[{', '.join('...' if part is Ellipsis else _WORDS[part] for part in parts)}]"
    if origin is dict:
        inner = ", ".join(f"{name}: {_WORDS[parts[1]]}" for name in names or ("name",))
        return f"{{{inner}{'' if names else ', ...'}}}"
    if kind in (int, float):
        odd = "an odd whole number" if bounds.odd else _WORDS[kind]
        return f"{odd} {bounds.words}".rstrip()
    return _WORDS[kind]
