"""YAML files by the rules of YAML 1.2, with the line of every key.

Of plain words only true, false and null mean more than their letters; numbers with a leading zero are
refused, and so is a key that is written twice.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from amplify_motion_tokenizer.errors import ConfigError


class Scalar(NamedTuple):
    """A value as it is written."""

    text: str
    plain: bool = True
    """Whether the value is written without quotes."""

    @property
    def blank(self) -> bool:
        """Whether no value is written."""
        return self.plain and not self.text

    @property
    def null(self) -> bool:
        """Whether the value means None."""
        return self.plain and _CONSTANTS.get(self.text, self) is None

    def __str__(self) -> str:
        return self.text if self.plain else f'"{self.text}"'


class Keys(dict[str, Any]):
    """A mapping: names to ``Scalar``, list or ``Keys``, and the line of each name."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


_CONSTANTS: dict[str, Any] = {
    word: value
    for name, value in {"true": True, "false": False, "null": None}.items()
    for word in (name, name.capitalize(), name.upper())
} | {"~": None, "": None}
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_DEEPEST = 50
"""Levels below which a file is refused; settings have five."""
_MOST_VALUES = 100_000
"""Values in a file, with aliases written out, above which it is refused; a config has a few hundred."""
_BEYOND = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")


def meaning(value: Scalar) -> Any:
    """What a plain scalar means: None, a bool, an int, a float, or its text; a quoted one is its text.

    Raises:
        ValueError: a number has a leading zero, which some readers take for an octal one.
    """
    text = value.text
    if not value.plain:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _LEADING_ZERO.fullmatch(text):
        raise ValueError(
            f"{text} has a leading zero; write {int(text)}, 0o{text.lstrip('+-0') or 0} for octal, "
            "or quote it"
        )
    if _NUMBER.fullmatch(text):
        return float(text)
    beyond = _BEYOND.fullmatch(text)
    return float(f"{beyond[1]}{beyond[2]}") if beyond else text


def meanings(value: Any) -> Any:
    """The plain value of a whole tree.

    Raises:
        ValueError: as ``meaning``.
    """
    if isinstance(value, Scalar):
        return meaning(value)
    if isinstance(value, dict):
        return {name: meanings(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [meanings(part) for part in value]
    return value


def read_keys(path: Path) -> Keys:
    """The mapping in a YAML file; empty for a file of nothing but comments.

    Raises:
        ConfigError: the file is missing, is not YAML, writes a key twice, or does not hold a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"config file {path} cannot be read ({error.strerror}); give the path of a YAML file"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"config file {path} is not YAML: {error}; save it as UTF-8 text") from None
    found = parse(text, str(path))
    if isinstance(found, Scalar) and found.null:
        return Keys()
    if not isinstance(found, Keys):
        kind = "list" if isinstance(found, list) else "text"
        raise ConfigError(f"config file {path} holds a {kind}, expected sections of keys")
    return found


def parse(text: str, name: str) -> Any:
    """The ``Keys``, list or ``Scalar`` that ``text`` is; ``name`` is for errors.

    Raises:
        ConfigError: it is not YAML, writes a key twice, merges mappings (``<<``), is nested deeply, or its
            aliases stand for more values than any config has.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{name}{line}: is not YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{name}: {_TOO_DEEP}") from None
    return Scalar("") if node is None else _tree(node, name, (), itertools.count(1))


_TOO_DEEP = "is nested too deeply to be read; expected sections of keys"


def _tree(node: yaml.Node, name: str, within: tuple[yaml.Node, ...], values: Iterator[int]) -> Any:
    line = node.start_mark.line + 1
    if len(within) > _DEEPEST:
        raise ConfigError(f"{name}:{line}: {_TOO_DEEP}")
    if next(values) > _MOST_VALUES:
        raise ConfigError(
            f"{name}:{line}: aliases stand for more than {_MOST_VALUES} values; write out what is meant"
        )
    if any(node is outer for outer in within):
        raise ConfigError(
            f"{name}:{line}: holds itself (an alias within its own anchor); write the values out instead"
        )
    within = (*within, node)
    if isinstance(node, yaml.ScalarNode):
        return Scalar(node.value, node.style is None)
    if isinstance(node, yaml.SequenceNode):
        return [_tree(part, name, within, values) for part in node.value]
    keys = Keys()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{name}:{line}: a key is a list or a mapping; expected a name")
        if key.tag == "tag:yaml.org,2002:merge":
            raise ConfigError(f"{name}:{line}: merging with << is no part of YAML 1.2; write the keys out")
        if key.value in keys:
            first = keys.lines[key.value]
            raise ConfigError(
                f"{name}:{line}: {key.value} is written twice, first in line {first}; keep one of them"
            )
        keys[key.value] = _tree(value, name, within, values)
        keys.lines[key.value] = line
    return keys
