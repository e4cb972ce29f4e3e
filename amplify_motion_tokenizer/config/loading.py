"""Plain mappings (YAML files, checkpoints) to a checked ``Config``, with errors of one line.

jsonargparse parses, types and documents; this module adds the closest valid key and the checks of
``checks``.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.keys import LEAF_DICTS, flatten, to_dict
from amplify_motion_tokenizer.config.schema import Config
from amplify_motion_tokenizer.errors import ConfigError

_REPRODUCTIONS = "preprocess"
"""Section that the keypoint reproduction's configs have, and ours do not."""

_LIKE = 0.75
"""Likeness from which a name is taken for another one misspelt: resumed for resume, not overwrite."""

Flags = Mapping[str, Mapping[str, Any]]
"""A script's own flags, such as ``--input``: name to the keywords of ``add_argument``."""


def make_parser(
    description: str = "", flags: Flags | None = None, program: str | None = None
) -> jsonargparse.ArgumentParser:
    """A parser of every config key, with its docstring as help, and of a script's ``flags``."""
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(
        program, description=description, exit_on_error=False, allow_abbrev=False
    )
    if flags is not None:
        parser.add_argument("--config", action="config", help="YAML file of settings; may be repeated")
        for name, keywords in flags.items():
            parser.add_argument(name, **keywords)
    parser.add_class_arguments(Config)
    return parser


def find_config(name: str | Path) -> Path:
    """The file that ``--config`` names: a path, or the name of a config that the package ships.

    Raises:
        ConfigError: neither is there.
    """
    path = Path(name)
    if path.exists():
        return path
    package = Path(__file__).parents[1]
    # Installed, the folder lies in the package; in a checkout beside it.
    folder = next(place for place in (package / "configs", package.parent / "configs") if place.is_dir())
    shipped = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    if str(name) not in shipped:
        names = ", ".join(shipped)
        raise ConfigError(
            f"config file {name} does not exist; give a path, or the name of a shipped one: {names}"
        )
    return shipped[str(name)]


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not hold a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not YAML: {_squash(str(error))}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"config file {path} holds a {type(content).__name__}, expected sections of keys")
    return content


def config_from_dict(tree: dict[str, Any], source: str) -> Config:
    """A checked ``Config`` from nested dicts such as a checkpoint's; ``source`` is for errors.

    Raises:
        ConfigError: as ``parse``.
    """
    check_keys(tree, source)
    parser = make_parser()
    try:
        instantiated = parser.instantiate(parser.parse_object(tree))
    except (argparse.ArgumentError, jsonargparse.ArgumentError) as error:
        raise ConfigError(f"{one_line(str(error))} ({source})") from None
    config = Config(**{field.name: instantiated[field.name] for field in dataclasses.fields(Config)})
    try:
        return validate(config)
    except ConfigError as error:
        raise ConfigError(f"{error} ({source})") from None


def config_from_settings(settings: Mapping[str, Any], source: str) -> Config:
    """A checked ``Config`` that tracks as ``settings`` say, the dotted keys of ``track_settings``.

    Raises:
        ConfigError: as ``parse``; ``source`` is for it.
    """
    # The filter is no part of tracking, and as many points as by default may be more than the grid has.
    tree: dict[str, Any] = {"data": {"static_filter": {"min_keep": 0}}}
    for key, value in settings.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return config_from_dict(tree, source)


def _known_keys() -> list[str]:
    return list(flatten(to_dict(Config())))


def check_keys(tree: dict[str, Any], source: str) -> None:
    """Raises ConfigError naming the first unknown key of ``tree``, and the closest valid one."""
    if _REPRODUCTIONS in tree:
        raise ConfigError(
            f"unknown section {_REPRODUCTIONS} {source}: this is a config of the keypoint reproduction, "
            "which is read with the weights beside it; leave it out here"
        )
    known = _known_keys()
    sections = {key[: match.start()] for key in known for match in re.finditer(r"\.", key)}
    for key, value in _walk(tree, sections, ""):
        if key in sections:
            raise ConfigError(f"{key} = {value!r} {source} is a section; expected keys below it")
        if key not in known:
            closest = closest_key(key, sorted(sections))
            raise ConfigError(f"unknown key {key} = {value!r} {source}; closest valid key: {closest}")


def _walk(tree: dict[str, Any], sections: set[str], prefix: str) -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if key in sections and isinstance(value, dict):
            items += _walk(value, sections, f"{key}.")
        elif not (key in sections and value is None) and key not in LEAF_DICTS:
            items.append((key, value))
    return items


def closest_key(key: str, extra: Sequence[str] = ()) -> str:
    """The valid dotted key that resembles ``key`` most, by its whole or by its last part."""
    return max([*_known_keys(), *extra], key=lambda candidate: _likeness(key, candidate))


def _likeness(key: str, candidate: str) -> float:
    last = key.rsplit(".", 1)[-1]
    whole = difflib.SequenceMatcher(None, key, candidate).ratio()
    name = candidate.rsplit(".", 1)[-1]
    part = difflib.SequenceMatcher(None, last, name).ratio()
    # A word left out, stride for window_stride, is likelier than another word that looks like it.
    word = 0.9 if last in name.split("_") else 0.0
    return max(whole, 0.99 * part, word)


def _squash(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def one_line(message: str, flags: Flags | None = None) -> str:
    """Jsonargparse's message as one line that names key, value, what is allowed, closest key."""
    unknown = re.search(r"unrecognized arguments: --([\w.\-]+)[= ]?(.*)", message)
    if unknown:
        return _unknown(unknown[1], unknown[2], [name.lstrip("-") for name in flags or ()])
    wrong = re.search(r'(?:Parser key|argument) "?-{0,2}([\w.]+)"?:\s*(.*)', message, re.DOTALL)
    if wrong is None:
        return _squash(message)
    key, found = wrong.groups()
    if key in _known_keys():
        allowed = _in_words(_type_of(key))
        if found.startswith("expected one argument"):
            return f"{key} lacks its value; allowed: {allowed}"
        value_match = re.search(r"(?:Given value: |Got value: |invalid .* value: )(.*)", message)
        value = value_match[1].strip() if value_match else _squash(found)
        return f"{key} = {value} is impossible; allowed: {allowed}"
    if dataclasses.is_dataclass(_type_of(key)):
        return f"{key} is a section; expected keys below it, such as {_first_key(key)}"
    return _squash(message)


def _unknown(name: str, value: str, flags: Sequence[str]) -> str:
    """What to say of ``--name value``: a key where it has a section, else an option."""
    closest = closest_key(name, flags)
    if "." in name:
        return f"unknown key {name}{f' = {value}' if value else ''}; closest valid key: {closest}"
    if _likeness(name, closest) >= _LIKE:
        return f"unknown option --{name}; did you mean --{closest}?"
    own = ", ".join(f"--{flag}" for flag in ["config", *flags])
    return f"unknown option --{name}; options here are {own}, and the keys that --help lists"


def _type_of(key: str) -> Any:
    """The type of a key or of a section; None where there is no such one."""
    found: Any = Config
    for name in key.split("."):
        found = typing.get_type_hints(found).get(name) if dataclasses.is_dataclass(found) else None
    return found


def _first_key(section: str) -> str:
    return next(key for key in _known_keys() if key.startswith(f"{section}."))


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


def _in_words(kind: Any) -> str:
    """What a key of this type may be, in words: ``a whole number or null``."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return ", ".join(map(str, parts))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(_in_words, parts))
    if origin is tuple:
        return f"[{', '.join('...' if part is Ellipsis else _in_words(part) for part in parts)}]"
    if origin is dict:
        return f"{{name: {_in_words(parts[1])}, ...}}"
    return _WORDS[kind]
