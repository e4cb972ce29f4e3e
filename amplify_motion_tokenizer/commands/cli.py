"""Turns command lines into a checked ``Config``, and errors into exit statuses."""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from amplify_motion_tokenizer.commands import COMMANDS
from amplify_motion_tokenizer.commands.arguments import split
from amplify_motion_tokenizer.commands.help_text import Shows, settings_help
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import Flags, Given, build, find_config, read_settings
from amplify_motion_tokenizer.errors import (
    EXIT_BAD_USAGE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    TokenizerError,
    UsageError,
)
from amplify_motion_tokenizer.version import __version__

QUIET = "--quiet"

FOR_ALL: Flags = {
    QUIET: {
        "action": "store_true",
        "help": "tell warnings and errors only: no progress, no other lines of the log; the result stays",
    },
}
"""The flags of every command, which ``run`` reads itself."""


def parse(
    argv: Sequence[str],
    command: str,
    description: str,
    flags: Flags,
    defaults: Config | Callable[[argparse.Namespace], Config | None] | None = None,
    *,
    shows: Shows = lambda _: True,
    defaults_are: str | None = None,
) -> tuple[Config, argparse.Namespace]:
    """Reads flags, ``--config`` files (later ones win) and ``--section.key value`` settings, which win.

    Args:
        argv: arguments without the program name; ``--help`` and ``--help-all`` print and exit.
        command: its name.
        description: first lines of the help.
        flags: the command's own flags.
        defaults: values of keys that are not given, or what makes them of the command's flags; where it is
            or gives None, the defaults of ``Config``.
        shows: which settings ``--help`` tells; ``--help-all`` tells all.
        defaults_are: what the help says of all defaults, where they are others than ``Config``'s.

    Returns:
        The checked config, and a namespace that holds the flags.

    Raises:
        ConfigError: unknown key, wrong type or impossible value, in one line with the closest key.
        UsageError: a missing or impossible flag.
    """
    flags = {**_COMMON, **flags}
    rest, typed = split(argv, {**flags, **FOR_ALL, "--help": {}})
    parser = _parser(command, description, flags)
    if {"-h", "--help", "--help-all"}.intersection(rest):
        told = settings_help(shows, "--help-all" in rest, defaults_are)
        sys.stdout.write(f"{parser.format_help()}\n{told}")
        sys.exit(EXIT_OK)
    namespace = parser.parse_args(rest)
    given: dict[str, Given] = {}
    for name in namespace.config or ():
        given |= read_settings(find_config(name))
    if callable(defaults):
        defaults = defaults(namespace)
    return build(defaults or Config(), given | typed), namespace


def choose(argv: Sequence[str]) -> None:
    """Runs the command that ``argv`` begins with, and exits with its status; ``--help`` lists all."""
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {command:{width}}  {text}" for command, text in COMMANDS.items()]
        sys.stdout.write("\n".join([f"usage: {_program()} COMMAND ...", "", *lines, "", _MORE]) + "\n")
        sys.exit(EXIT_OK)
    if name == "--version":
        sys.stdout.write(f"{__version__}\n")
        sys.exit(EXIT_OK)
    if name not in COMMANDS:
        closest = difflib.get_close_matches(name, COMMANDS, 1, 0.0)[0]
        sys.stderr.write(f"error: unknown command {name}; closest: {closest}; --help lists all\n")
        sys.exit(EXIT_BAD_USAGE)
    run(name, argv[1:])


def run(command: str, argv: Sequence[str] | None = None) -> None:
    """Runs a command on ``argv``, by default the process's, and exits with its status.

    An error that the user can act on is one line on standard error and status 2.
    """
    argv = sys.argv[1:] if argv is None else argv
    level = logging.WARNING if QUIET in argv else logging.INFO
    # Of several training processes one tells the user; all of them tell errors.
    level = level if is_first_process() else logging.ERROR
    logging.basicConfig(format="%(levelname)s: %(message)s", level=level)
    logging.captureWarnings(True)
    warnings.formatwarning = lambda message, *_args, **_kwargs: str(message)
    module = importlib.import_module(f"amplify_motion_tokenizer.commands.{command}")
    try:
        status = module.main(argv)
    except TokenizerError as error:
        sys.stderr.write(f"error: {error}\n")
        status = EXIT_BAD_USAGE
    except KeyboardInterrupt:
        again = getattr(module, "AGAIN", "run again to go on")
        sys.stderr.write(f"interrupted; every file written so far is whole, {again}\n")
        status = EXIT_INTERRUPTED
    sys.exit(status)


def is_first_process() -> bool:
    """Whether this is the process that tells the user: of several that a launcher started, the first."""
    return os.environ.get("RANK", "0") == "0"


def parse_flags(argv: Sequence[str], command: str, description: str, flags: Flags) -> argparse.Namespace:
    """Reads the flags of a command that takes no settings; the flags of ``FOR_ALL`` are left out.

    Raises:
        UsageError: an unknown, missing or impossible flag, in one line.
    """
    own = _parser(command, description, flags).parse_args(list(argv))
    for name in FOR_ALL:
        delattr(own, name.lstrip("-"))
    return own


_COMMON: Flags = {
    "--config": {
        "action": "append",
        "help": "YAML file of settings, or the name of a shipped one; may be repeated",
    },
    "--help-all": {
        "action": "store_true",
        "help": "tell all settings, also the ones that the command does not use",
    },
}
"""Flags of every command that takes settings."""


def _parser(command: str, description: str, flags: Flags) -> argparse.ArgumentParser:
    parser = _FlagParser(
        prog=_program(command),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, keywords in {**flags, **FOR_ALL}.items():
        parser.add_argument(name, **keywords)
    return parser


def run_kind(
    argv: Sequence[str],
    command: str,
    description: str,
    flags: Mapping[str, Flags],
    run: Mapping[str, Callable[[argparse.Namespace], int]],
) -> int:
    """Runs a command of several kinds, each with flags and a function of its own; returns the exit status.

    Raises:
        UsageError: an unknown kind, or as ``parse_flags``.
    """
    kind = argv[0] if argv else ""
    if kind in flags:
        return run[kind](parse_flags(argv[1:], f"{command} {kind}", description, flags[kind]))
    if kind in ("-h", "--help"):
        sys.stdout.write(f"usage: {_program(command)} {{{','.join(flags)}}} ...\n\n{description}")
        sys.exit(EXIT_OK)
    found, expected = kind or "nothing", " or ".join(flags)
    raise UsageError(
        f"{command} does not say what: found {found}, expected {expected}; "
        f"{_program(command)} --help tells more"
    )


class _FlagParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {self.prog} --help tells what is allowed")


def _program(command: str = "") -> str:
    """What the user typed to get here: one of the three scripts, the package or the installed command."""
    name = Path(sys.argv[0]).name
    if name.endswith(".py") and name != "__main__.py":
        return name
    whole = "python -m amplify_motion_tokenizer" if name == "__main__.py" else "motion-tokenizer"
    return f"{whole} {command}".rstrip()


_MORE = "COMMAND --help tells its flags and settings; --version the version."
