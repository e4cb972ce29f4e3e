"""The settings in ``--help``: meaning, allowed values and default of each."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from amplify_motion_tokenizer.config.convert import show
from amplify_motion_tokenizer.config.keys import SECTIONS, SETTINGS
from amplify_motion_tokenizer.config.settings import Setting

_WIDTH = 100

Shows = Callable[[Setting], bool]
"""Whether a command's ``--help`` tells a setting."""


def told_settings(shows: Shows) -> list[Setting]:
    """The settings that ``--help`` of a command tells."""
    return [setting for setting in SETTINGS.values() if shows(setting) and not setting.record]


def settings_help(shows: Shows, everything: bool, defaults: str | None = None) -> str:
    """The settings of a command, a section at a time.

    Args:
        shows: the command's own.
        everything: tell all others too.
        defaults: what the defaults are, where they are not the package's.
    """
    chosen = [
        setting for setting in SETTINGS.values() if not setting.record and (everything or shows(setting))
    ]
    more = len(told_settings(lambda _: True)) - len(chosen)
    lines = ["settings, here as --section.key VALUE or in a --config file as section: {key: VALUE}"]
    lines += [f"(--help-all: {more} more, which this command does not use)"] if more else []
    lines[-1] += ":"
    within = ""
    for setting in chosen:
        section = setting.key.rpartition(".")[0]
        if section != within:
            within = section
            lines += ["", f"{section}: {_first_line(SECTIONS[section])}"]
        told = f"{setting.help} ({setting.allowed}; default: {defaults or show(setting.default)})"
        lines += [
            f"  --{setting.key}",
            *textwrap.wrap(told, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6),
        ]
    return "\n".join(lines) + "\n"


def _first_line(section: type) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]
