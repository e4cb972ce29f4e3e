"""The frozen list of commands, their flags and how many settings each one's ``--help`` tells.

python -m tests.support.commands_file    # after a flag or a command has been added on purpose
"""

import importlib
from collections.abc import Iterator
from pathlib import Path

from amplify_motion_tokenizer.commands import COMMANDS
from amplify_motion_tokenizer.commands.help_text import told_settings

PATH = Path(__file__).parents[1] / "commands.txt"


def text() -> str:
    return "\n".join(line for name in COMMANDS for line in _lines(name)) + "\n"


def _lines(name: str) -> Iterator[str]:
    module = importlib.import_module(f"amplify_motion_tokenizer.commands.{name}")
    flags = module.FLAGS
    kinds = all(isinstance(keyword, dict) for own in flags.values() for keyword in own.values())
    for kind, own in flags.items() if kinds else [("", flags)]:  # such as evaluate tracking
        yield " ".join([f"{name} {kind}".strip() + ":", *own])
    if hasattr(module, "shows"):
        yield f"  settings: {len(told_settings(module.shows))}"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
