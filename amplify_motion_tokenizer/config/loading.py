"""Makes a checked ``Config`` of YAML files, command lines and stored mappings, with errors of one line."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from amplify_motion_tokenizer.config.checks import impossible, problem_of
from amplify_motion_tokenizer.config.convert import UnfitError, convert, show
from amplify_motion_tokenizer.config.gone import (
    CONSTANTS,
    DERIVED,
    KEYS,
    Translated,
    today_of,
    translate,
    what_took_its_place,
)
from amplify_motion_tokenizer.config.gone import SECTIONS as GONE_SECTIONS
from amplify_motion_tokenizer.config.keys import SECTIONS, SETTINGS, flatten, unflatten
from amplify_motion_tokenizer.config.schema import Config
from amplify_motion_tokenizer.config.yaml_text import Keys, Scalar, meanings, read_keys
from amplify_motion_tokenizer.errors import ConfigError

logger = logging.getLogger(__name__)

_REPRODUCTIONS = "preprocess"
"""Section that the keypoint reproduction's configs have, and ours do not."""

Flags = Mapping[str, Mapping[str, Any]]
"""A command's own flags, such as ``--input``: name to the keywords of ``add_argument``."""


class Given(NamedTuple):
    """A value that a file or a command line gives a setting."""

    value: Any
    """The value, as ``convert`` takes it."""
    place: str
    """Where: file and line, as ``config.yaml:12``; empty for the command line."""

    def error(self, text: str) -> ConfigError:
        """A ConfigError with ``text``, behind the value's place."""
        return ConfigError(f"{self.place}: {text}" if self.place else text)


def find_config(name: str | Path) -> Path:
    """The file that ``--config`` names: a path, or the name of a config that the package ships.

    Raises:
        ConfigError: neither is there, or the path is a folder's.
    """
    path = Path(name)
    # A run's folder may well be called quickstart.
    if path.exists() and not path.is_dir():
        return path
    package = Path(__file__).parents[1]
    # Installed, the folder lies in the package; in a checkout beside it.
    folder = next(place for place in (package / "configs", package.parent / "configs") if place.is_dir())
    shipped = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    if str(name) not in shipped:
        found = "is a folder" if path.exists() else "does not exist"
        raise ConfigError(
            f"config file {name} {found}; give a path, or the name of a shipped one: {', '.join(shipped)}"
        )
    return shipped[str(name)]


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file (YAML 1.2), as plain values; empty for a file of comments alone.

    Raises:
        ConfigError: the file is missing, is not YAML, writes a key twice, or does not hold a mapping.
    """
    try:
        plain: dict[str, Any] = meanings(read_keys(path))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return plain


def read_settings(path: Path) -> dict[str, Given]:
    """The settings that a YAML file holds, by dotted key; gone ones are translated, with one warning.

    Raises:
        ConfigError: as ``load_yaml``; or a key is unknown, blank, or gone with a value that nothing can say
            today. Names the file and the line.
    """
    keys = read_keys(path)
    if _REPRODUCTIONS in keys:
        raise ConfigError(
            f"{path}: this is a config of the keypoint reproduction (section {_REPRODUCTIONS}), "
            "which is read with the weights beside it; leave it out here"
        )
    given = _settings_in(keys, str(path), "")
    gone = {key: given.pop(key) for key in list(given) if key in KEYS}
    if gone:
        given |= _translated(gone, given, path)
    return given


def _settings_in(keys: Keys, name: str, prefix: str) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for own, value in keys.items():
        key, place = f"{prefix}{own}", f"{name}:{keys.lines[own]}"
        given = Given(value, place)
        parts = {key: given}
        if key in SETTINGS or key in KEYS:
            if isinstance(value, Scalar) and value.blank:
                raise given.error(f"{key} is left blank; {_how_to_fill(key)}")
        elif key not in SECTIONS and key not in GONE_SECTIONS:
            raise given.error(unknown_key(key, show(value)))
        elif isinstance(value, Keys):
            parts = _settings_in(value, name, f"{key}.")
        elif isinstance(value, Scalar) and value.null:
            parts = {}
        else:
            raise given.error(not_a_section(key, show(value)))
        for twice in parts.keys() & found.keys():
            raise parts[twice].error(
                f"{twice} is written twice, first at {found[twice].place}; keep one of them"
            )
        found |= parts
    return found


def _how_to_fill(key: str) -> str:
    if key in KEYS:
        return f"it {what_took_its_place(key)}"
    return f"write {SETTINGS[key].allowed}, or leave the line out"


def _translated(gone: Mapping[str, Given], beside: Mapping[str, Given], path: Path) -> dict[str, Given]:
    """Gone keys of a file, as keys of today."""
    plain = {key: _meanings(key, given) for key, given in gone.items()}
    found = translate(plain | {key: None for key in beside if key in ("video.size", "model.fsq_levels")})
    for key in found.other:
        raise gone[key].error(f"{key} = {show(gone[key].value)} {what_took_its_place(key)}")
    logger.warning(
        "%s names settings that there are no more, and may leave them out: %s",
        path,
        "; ".join(f"{key} {what_took_its_place(key)}" for key in gone),
    )
    places = {today_of(key): given.place for key, given in gone.items()}
    now = {key: value for key, value in found.now.items() if key not in beside}
    return {key: Given(value, places[key]) for key, value in (now | found.derived).items()}


def _meanings(key: str, given: Given) -> Any:
    try:
        return meanings(given.value)
    except ValueError as error:
        raise given.error(f"{key}: {error}") from None


def build(base: Config, given: Mapping[str, Given]) -> Config:
    """``base`` with the values that were given, checked.

    Args:
        base: the settings that nobody gave.
        given: values by dotted key; keys of ``gone.DERIVED`` are held against what follows.

    Raises:
        ConfigError: a value is of a wrong type or impossible; names its key, its place and what is allowed.
    """
    values = flatten(dataclasses.asdict(base))
    for key, one in given.items():
        if key not in DERIVED:
            values[key] = _converted(key, one)
    config: Config = _made(Config, unflatten(values))
    problem = problem_of(config)
    if problem is not None:
        key, value, allowed = problem
        text = impossible(key, given[key].value if key in given else value, allowed)
        raise (given[key].error(text) if key in given else ConfigError(text))
    for key, (follows, how) in DERIVED.items():
        if key in given and given[key].value != follows(config):
            raise given[key].error(
                f"{key} = {show(given[key].value)} is impossible; allowed: {follows(config)}, which is "
                f"{how}, or leave it out"
            )
    return config


def _converted(key: str, given: Given) -> Any:
    own = SETTINGS[key]
    if isinstance(given.value, Scalar) and given.value.blank:
        raise given.error(f"{key} lacks its value; allowed: {own.allowed}")
    try:
        value = convert(own.kind, given.value)
        if not own.choices or value in own.choices:
            return value
        raise UnfitError
    except UnfitError:
        text = f"{key} = {show(given.value)} is impossible; allowed: {own.allowed}"
    except ValueError as error:
        text = f"{key} = {show(given.value)} is impossible: {error}"
    raise given.error(text)


def _made(kind: type, tree: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    parts = {
        name: _made(hints[name], value) if dataclasses.is_dataclass(hints[name]) else value
        for name, value in tree.items()
    }
    return kind(**parts)


def stored_settings(tree: Mapping[str, Any], source: str) -> Translated:
    """The dotted keys of a stored config, nested as ``to_dict`` makes it, in terms of today.

    Raises:
        ConfigError: a key is unknown, or a section holds no keys; ``source`` is for it.
    """
    flat: dict[str, Any] = {}
    for key, value in flatten(dict(tree)).items():
        parents = {key[: dot.start()] for dot in re.finditer(r"\.", key)}
        known = key in SETTINGS or key in KEYS
        if key in SECTIONS or key in GONE_SECTIONS and not known:
            if value is not None:
                raise ConfigError(f"{not_a_section(key, show(value))} ({source})")
        elif not known:
            outer = next((name for name in sorted(parents) if name in SETTINGS), None)
            raise ConfigError(f"{unknown_key(outer or key, show(value))} ({source})")
        else:
            flat[key] = value
    return translate(flat)


def config_from_dict(tree: Mapping[str, Any], source: str) -> Config:
    """A checked ``Config`` from nested dicts such as a checkpoint's; ``source`` is for errors.

    What a file written before says in gone keys is said in keys of today. Where it cannot be, and decides
    tracks, that is warned about. Local settings, which name code, paths and network places, keep their
    defaults: a stored file must not decide them (``local_settings`` tells what it says).

    Raises:
        ConfigError: unknown key, wrong type or impossible value, in one line with the closest key.
    """
    found = stored_settings(tree, source)
    given = {key: Given(value, "") for key, value in (found.now | found.derived).items()}
    try:
        config = build(Config(), {key: one for key, one in given.items() if not _is_local(key)})
    except ConfigError as error:
        raise ConfigError(f"{error} ({source})") from None
    for key, value in found.other.items():
        if key not in CONSTANTS:
            raise ConfigError(f"{key} = {show(value)} {what_took_its_place(key)} ({source})")
        if CONSTANTS[key].decides == "tracks":
            logger.warning(
                "%s = %s (%s) %s; tracks made now differ from the ones made then",
                key, show(value), source, what_took_its_place(key),
            )  # fmt: skip
    return config


def local_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The local settings in a stored config, nested as ``to_dict`` makes it, that are not their defaults."""
    flat = {key: value for key, value in flatten(dict(tree)).items() if _is_local(key)}
    return {key: value for key, value in flat.items() if value != SETTINGS[key].default}


def _is_local(key: str) -> bool:
    return key in SETTINGS and SETTINGS[key].local


def config_from_settings(settings: Mapping[str, Any], source: str) -> Config:
    """A checked ``Config`` that tracks as ``settings`` say, the dotted keys of ``track_settings``.

    Raises:
        ConfigError: as ``config_from_dict``; ``source`` is for it.
    """
    # The filter is no part of tracking, and as many points as by default may be more than the grid has.
    return config_from_dict(unflatten({"data.static_filter.min_keep": 0, **settings}), source)


def unknown_key(key: str, value: str, sections: bool = True) -> str:
    """The message for an unknown key, with the closest key or, with ``sections``, the closest section."""
    closest = closest_key(key, SECTIONS if sections else ())
    return f"unknown key {show(key)}{f' = {value}' if value else ''}; closest valid key: {closest}"


def not_a_section(key: str, value: str) -> str:
    """The message for a section that is given one value."""
    first = next((own for own in SETTINGS if own.startswith(f"{key}.")), "")
    such = f", such as {first}" if first else ""
    return f"{key}{f' = {value}' if value else ''} is a section; expected keys below it{such}"


def closest_key(key: str, extra: Sequence[str] | Mapping[str, Any] = ()) -> str:
    """The valid dotted key that resembles ``key`` most, by its whole or by its last part."""
    candidates: list[str] = [*SETTINGS, *extra]
    return max(candidates, key=lambda candidate: likeness(key, candidate))


def likeness(key: str, candidate: str) -> float:
    """How much two names resemble each other, 0 to 1: by the whole, or by the last part."""
    last = key.rsplit(".", 1)[-1]
    whole = difflib.SequenceMatcher(None, key, candidate).ratio()
    name = candidate.rsplit(".", 1)[-1]
    part = difflib.SequenceMatcher(None, last, name).ratio()
    # A word left out, stride for window_stride, is likelier than another word that looks like it.
    word = 0.9 if last in name.split("_") else 0.0
    return max(whole, 0.99 * part, word)
