"""Command lines to a checked ``Config``, and errors to exit statuses."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jsonargparse

from amplify_motion_tokenizer.config import DERIVED_KEYS, Config, flatten, to_dict
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.loading import Flags, check_keys, load_yaml, make_parser, one_line
from amplify_motion_tokenizer.errors import EXIT_BAD_USAGE, EXIT_INTERRUPTED, ConfigError, TokenizerError


def parse(
    argv: Sequence[str],
    description: str,
    flags: Flags,
    defaults: Config | Callable[[jsonargparse.Namespace], Config | None] | None = None,
    short_for: Mapping[str, str] | None = None,
) -> tuple[Config, jsonargparse.Namespace]:
    """Reads flags, ``--config`` files (later ones win) and ``--section.key value`` overrides.

    Args:
        argv: arguments without the program name; ``--help`` prints every key and exits.
        description: first line of the help.
        flags: the script's own flags.
        defaults: values of keys that are not given, or what makes them of the script's flags; where it is
            or gives None, those of ``Config``.
        short_for: flags that stand for a config key, such as ``--input`` for ``--data.tracks_dir``.

    Returns:
        The checked config, and a namespace that holds the flags.

    Raises:
        ConfigError: unknown key, wrong type or impossible value, in one line with the closest key.
    """
    parser = make_parser(description, flags)
    argv = [_written_out(argument, short_for or {}) for argument in argv]
    for path in _config_paths(argv):
        check_keys(load_yaml(path), source=f"in {path}")
    try:
        if callable(defaults):
            defaults = defaults(parser.parse_args(list(argv)))
        if defaults is not None:
            # Derived numbers follow the keys that are given now, not those that they came from.
            parser.set_defaults(flatten(to_dict(defaults)) | dict.fromkeys(DERIVED_KEYS))
        namespace = parser.parse_args(list(argv))
        instantiated = parser.instantiate(namespace)
    except (argparse.ArgumentError, jsonargparse.ArgumentError) as error:
        raise ConfigError(_with_dashes(one_line(str(error), flags), flags)) from None
    sections = {field.name: instantiated[field.name] for field in dataclasses.fields(Config)}
    return validate(Config(**sections)), namespace


def _with_dashes(message: str, flags: Flags) -> str:
    """Names missing flags as they are typed; jsonargparse leaves their dashes out."""
    told, required, names = message.partition("arguments are required: ")
    typed = (f"--{name}" if f"--{name}" in flags else name for name in names.split(", "))
    return f"{told}{required}{', '.join(typed)}" if required else message


def _written_out(argument: str, short_for: Mapping[str, str]) -> str:
    name, equals, value = argument.partition("=")
    return f"{short_for.get(name, name)}{equals}{value}" if name in short_for else argument


def _config_paths(argv: Sequence[str]) -> list[Path]:
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--config", action="append", type=Path, default=[])
    try:
        paths: list[Path] = finder.parse_known_args(list(argv))[0].config
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from None
    return paths


def peek(argv: Sequence[str], flag: str) -> str | None:
    """The value of ``flag`` in ``argv``, before the rest is parsed; None when it is not given."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument(flag, dest="value")
    try:
        value: str | None = finder.parse_known_args(list(argv))[0].value
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from None
    return value


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Runs a script's ``main`` on the command line and exits with its status.

    An error that the user can act on is one line on standard error and status 2.
    """
    # Of several training processes one tells the user; all of them tell errors.
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR
    logging.basicConfig(format="%(levelname)s: %(message)s", level=level)
    logging.captureWarnings(True)
    warnings.formatwarning = lambda message, *_args, **_kwargs: str(message)
    try:
        status = main(sys.argv[1:])
    except TokenizerError as error:
        sys.stderr.write(f"error: {error}\n")
        status = EXIT_BAD_USAGE
    except KeyboardInterrupt:
        sys.stderr.write(
            "interrupted; every file written so far is whole, run again to go on (train.py: --resume auto)\n"
        )
        status = EXIT_INTERRUPTED
    sys.exit(status)
