"""The text of docs/commands.md, made of the commands' help and flags."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from amplify_motion_tokenizer.commands import COMMANDS, cli
from amplify_motion_tokenizer.commands.help_text import told_settings
from tests.support.settings_page import paragraphs, plain, wrapped

HEAD = """\
# Commands

What can be typed, and what does each flag do? `motion-tokenizer COMMAND`, or `python -m
amplify_motion_tokenizer COMMAND`, with the commands and flags below; `COMMAND --help` tells the same, and
the settings that the command uses.

`preprocess_videos.py`, `train.py` and `inference_short_clip.py` in the repository are `preprocess`, `train`
and `infer`. Commands that use settings also take `--config FILE` (a YAML file, or the name of a shipped
config; may be repeated, later ones win), `--help-all`, and any `--section.key VALUE` of
[settings](settings.md).

Every command takes `--quiet`, which leaves warnings, errors and the result. The exit status is 0 when all
is done, 3 when some clips failed, 2 when nothing could start (one line says why), 130 after Ctrl-C, 143
after SIGTERM.

This page is made of the commands themselves by `python -m tests.support.doc_pages`.
"""


def text() -> str:
    return HEAD + "".join(part for name in COMMANDS for part in _command(name))


def _command(name: str) -> Iterator[str]:
    module = importlib.import_module(f"amplify_motion_tokenizer.commands.{name}")
    yield f"\n## {name}\n"
    for paragraph in (module.__doc__ or "").strip().split("\n\n"):
        yield from (f"\n{wrapped(plain(part))}\n" for part in paragraphs(paragraph))
    flags: dict[str, Any] = module.FLAGS
    kinds = all(isinstance(of_flag, dict) for told in flags.values() for of_flag in told.values())
    for kind, own in flags.items() if kinds else [("", flags)]:
        if kinds:
            yield f"\n### {name} {kind}\n"
        yield f"\n```\n{_usage(f'{name} {kind}'.strip(), own)}\n```\n\n"
        yield from (_flag(flag, told) for flag, told in own.items() if flag not in cli.FOR_ALL)
    if hasattr(module, "shows"):
        count = len(told_settings(module.shows))
        yield f"\n`{name}` uses {count} settings: [settings](settings.md) says which.\n"


def _value(flag: str, told: dict[str, Any]) -> str:
    """How the flag's value is written; empty where it takes none."""
    if told.get("action") == "store_true":
        return ""
    own = flag.lstrip("-").replace("-", "_").upper()
    word = "|".join(map(str, told["choices"])) if told.get("choices") else told.get("metavar") or own
    return f" {word} ..." if told.get("nargs") in ("+", "*") else f" {word}"


def _written(flag: str, told: dict[str, Any]) -> str:
    positional = not flag.startswith("-")
    name = (told.get("metavar") or flag) if positional else f"{flag}{_value(flag, told)}"
    return f"{name} ..." if positional and told.get("nargs") in ("+", "*") else name


def _usage(name: str, flags: dict[str, Any]) -> str:
    """The command with its flags, optional ones in brackets, in lines of less than 110 columns."""
    words = []
    for flag, told in flags.items():
        written = _written(flag, told)
        needed = told.get("required") or not flag.startswith("-")
        words.append(written if needed else f"[{written}]")
    begin = f"motion-tokenizer {name}"
    lines = [begin]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > 108:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {word}"
    return "\n".join(lines)


def _flag(flag: str, told: dict[str, Any]) -> str:
    help_text = plain(str(told.get("help", "")).replace("%%", "%"))
    needed = " (needed)" if told.get("required") else ""
    return wrapped(f"**`{_written(flag, told)}`**{needed}: {help_text}.", "- ") + "\n"
