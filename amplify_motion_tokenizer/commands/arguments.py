"""Settings on a command line: ``--section.key VALUE``, anywhere between the flags; and shared flags."""

from __future__ import annotations

import argparse
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amplify_motion_tokenizer.config.gone import KEYS, what_took_its_place
from amplify_motion_tokenizer.config.gone import SECTIONS as GONE_SECTIONS
from amplify_motion_tokenizer.config.keys import SECTIONS, SETTINGS
from amplify_motion_tokenizer.config.loading import (
    Flags,
    Given,
    closest_key,
    likeness,
    not_a_section,
    unknown_key,
)
from amplify_motion_tokenizer.config.settings import parts_of
from amplify_motion_tokenizer.config.yaml_text import Scalar, parse
from amplify_motion_tokenizer.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from amplify_motion_tokenizer.jobs.ray_workers import Ray

CODES: Flags = {
    "--codes": {
        "type": Path,
        "required": True,
        "help": "output folder of infer, or a file of codes of any format",
    },
}
TOKENIZER_OF_CODES: Flags = {
    "--checkpoint": {"type": Path, "help": "the tokenizer of the codes, unless it came with the package"},
}
VIDEOS_OF_CODES: Flags = {
    "--input": {"type": Path, "help": "the video, or the folder of the videos, that the codes were made of"},
}
"""Flags of commands that go on from codes."""

ENGINE: Flags = {
    "--engine": {
        "choices": ["local", "ray"],
        "default": "local",
        "help": "what runs clips side by side: processes of this machine, or actors of a Ray cluster (needs "
        "the extra ray), whose machines must all see the input and the output (default: local)",
    },
    "--ray-address": {
        "metavar": "ADDRESS",
        "help": "with --engine ray, HOST:PORT of the cluster, or auto for the one that this machine belongs "
        "to; by default one of this machine alone, which is started and ended",
    },
}
"""Flags of runs over the clips of a folder."""


def engine(flags: argparse.Namespace) -> Ray | None:
    """The Ray cluster that ``ENGINE``'s flags name, checked; None for processes of this machine.

    Raises:
        UsageError: there is no such cluster, Ray is not installed, or --ray-address is given without it.
    """
    if flags.engine == "local":
        if flags.ray_address is not None:
            raise UsageError("--ray-address is for --engine ray, which is not given")
        return None
    from amplify_motion_tokenizer.jobs.ray_workers import Ray

    found = Ray(address=flags.ray_address)
    found.check()
    return found


SHARD: Flags = {
    "--shard": {
        "metavar": "I/N",
        "help": "make the I-th of N shares of the clips, I from 1 to N, while other runs make the others in "
        "the same output; merge joins them. In a Slurm array: --array=1-8 and "
        "--shard $SLURM_ARRAY_TASK_ID/8",
    },
}
"""The flag of commands that can share the clips of an input."""

_LIKE = 0.75
"""Likeness from which a name is taken for another one misspelt: resumed for resume, not overwrite."""

_OPTION = re.compile(r"--[A-Za-z]")
"""How an option begins; a negative number is a value."""


def split(argv: Sequence[str], flags: Flags) -> tuple[list[str], dict[str, Given]]:
    """``argv`` without its settings, and the settings by dotted key; of one given twice the last counts.

    Raises:
        ConfigError: an option is neither a setting nor one of ``flags``, or a setting lacks its value.
    """
    rest: list[str] = []
    given: dict[str, Given] = {}
    waiting = list(argv)
    while waiting:
        token = waiting.pop(0)
        name, equals, value = token.partition("=")
        if not _OPTION.match(name) or name in flags:
            rest.append(token)
            continue
        key = name.removeprefix("--")
        if key not in SETTINGS:
            raise ConfigError(_no_setting(key, value or _first_value(waiting), flags))
        if SETTINGS[key].record:
            raise ConfigError(f"{key} is a record, which is filled in; it cannot be set")
        words = [value] if equals else _values(key, waiting)
        if not any(words):
            raise ConfigError(f"{key} lacks its value; allowed: {SETTINGS[key].allowed}")
        given[key] = Given(_value(key, words), "")
    return rest, given


def _no_setting(key: str, value: str, flags: Flags) -> str:
    """The message for ``--key value``, which is no setting of today and no flag."""
    if key in KEYS:
        return f"{key} {what_took_its_place(key)}"
    if key in SECTIONS or key in GONE_SECTIONS:
        return not_a_section(key, value)
    if "." in key:
        return unknown_key(key, value, sections=False)
    names = [name.removeprefix("--") for name in flags if name.startswith("--")]
    closest = closest_key(key, names)
    if likeness(key, closest) >= _LIKE:
        return f"unknown option --{key}; did you mean --{closest}?"
    own = ", ".join(f"--{name}" for name in names if not name.startswith("help"))
    return f"unknown option --{key}; options here are {own}, and the settings that --help-all lists"


def _first_value(waiting: Sequence[str]) -> str:
    return waiting[0] if waiting and not _OPTION.match(waiting[0]) else ""


def _values(key: str, waiting: list[str]) -> list[str]:
    """Takes the words that are the value of ``key`` off the front of ``waiting``."""
    end = next((i for i, token in enumerate(waiting) if _OPTION.match(token)), len(waiting))
    words = waiting[:end]
    if words:
        words = words[: _how_many(key, words)]
    del waiting[: len(words)]
    return words


def _how_many(key: str, words: Sequence[str]) -> int:
    """How many of the ``words`` that follow ``key`` are its value."""
    tuples = [typing.get_args(part) for part in _containers(key) if typing.get_origin(part) is tuple]
    if words[0][:1] in "[{" and _containers(key):  # {shorter: 480} without quotes comes in two words
        closed = (count for count in range(1, len(words) + 1) if _balanced(" ".join(words[:count])))
        return next(closed, len(words))
    if not tuples or "," in words[0]:
        return 1
    (kinds,) = tuples
    if kinds[0] is not str:
        words = words[: next((i for i, word in enumerate(words) if not _is_number(word)), len(words))]
    return max(1, len(words) if Ellipsis in kinds else min(len(words), len(kinds)))


def _containers(key: str) -> list[Any]:
    return [part for part in parts_of(SETTINGS[key].kind) if typing.get_origin(part) in (tuple, dict)]


def _balanced(text: str) -> bool:
    return all(text.count(a) == text.count(b) for a, b in ("[]", "{}"))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _value(key: str, words: Sequence[str]) -> Any:
    """What ``convert`` takes, of the words that were typed."""
    text, containers = " ".join(words), _containers(key)
    if text[:1] in "'\"" or (containers and text[:1] in "[{"):
        try:
            return parse(text, f"--{key}")
        except ConfigError:
            return Scalar(text)
    variadic = any(Ellipsis in typing.get_args(part) for part in containers)
    listed = any(typing.get_origin(part) is tuple for part in containers)
    if listed and (len(words) > 1 or "," in text or variadic):
        parts = [part.strip() for word in words for part in word.split(",")]
        return [Scalar(part) for part in parts if part]
    return Scalar(text)
