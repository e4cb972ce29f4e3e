"""Reads torch files that hold objects of other libraries, without importing or calling any of them.

A training of another system may keep such an object beside its weights: an optimiser's betas as a list of
its configuration library, a loss as a number of numpy. Torch's own restricted unpickler (``weights_only``)
reads the file here too. It knows tensors and plain values, and it refuses every other name. Each of the
names that it would refuse is bound to a class of this module, made for that name, which takes whatever it
is given and keeps none of it. So nothing foreign can run:

- the unpickler never imports: it looks names up in its own list and in the list that it is given, which
  holds nothing but the classes made here;
- it calls only what stands in those lists: torch's functions that rebuild tensors, and those classes;
- names of the modules that it blocks (``os``, ``sys``) are refused even so, and the file with them.

Lists and mappings of foreign classes are read as plain ones, which is what is stored of them.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

_WRONG_KIND = re.compile(r"Can only (append|extend|SETITEM)[^']*<class '__foreign__\.(.+)'>", re.DOTALL)
"""The unpickler's message about an object that turns out to be a list or a mapping."""


class Foreign:
    """Stands for an object of another library, of which nothing is known but its class's name."""

    name = ""
    """Module and name of what the file asked for."""

    def __new__(cls, *_: object, **__: object) -> Any:
        """Makes an empty object; takes any arguments and keeps none."""
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        """Does nothing."""

    def __setstate__(self, _: object) -> None:
        """Keeps nothing of the object's state."""

    def __repr__(self) -> str:
        """Its name, for where it is the key of a mapping."""
        return f"<{self.name}>"


class _ForeignList(Foreign):
    def __new__(cls, *_: object, **__: object) -> Any:
        return []


class _ForeignMapping(Foreign):
    def __new__(cls, *_: object, **__: object) -> Any:
        return {}


def read_with_foreign(path: Path) -> Any:
    """What a torch file holds, on the CPU, with a ``Foreign`` for each object of another library.

    Raises:
        pickle.UnpicklingError: it needs a module that is blocked, or does what torch's unpickler cannot read.
        ValueError: the file is of torch's old layout, whose names cannot be listed.
    """
    kinds: dict[str, type[Foreign]] = dict.fromkeys(get_unsafe_globals_in_checkpoint(str(path)), Foreign)
    while True:
        try:
            with safe_globals([(_named(kind, name), name) for name, kind in kinds.items()]):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = _WRONG_KIND.search(str(error))
            if found is None or kinds.get(found[2]) is not Foreign:
                raise
            kinds[found[2]] = _ForeignMapping if found[1] == "SETITEM" else _ForeignList


def _named(kind: type[Foreign], name: str) -> Any:
    return type(name, (kind,), {"name": name, "__module__": "__foreign__", "__qualname__": name})


def foreign_parts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """(place, name) of every ``Foreign`` in ``value``; places are dotted keys that begin with ``where``."""
    waiting, seen = [(where, value)], set()
    while waiting:
        place, part = waiting.pop()
        if isinstance(part, Foreign) or (isinstance(part, type) and issubclass(part, Foreign)):
            yield place, part.name
        if id(part) in seen:  # a list may hold itself
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            waiting += [(f"{place}.{key}", key) for key in part if not isinstance(key, str)]
            waiting += [(f"{place}.{key}", inner) for key, inner in part.items()]
        elif isinstance(part, list | tuple | set):
            waiting += [(f"{place}.{number}", inner) for number, inner in enumerate(part)]
