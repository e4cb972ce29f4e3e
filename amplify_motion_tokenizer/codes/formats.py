"""The formats that codes are written in, by the names that ``infer --formats`` takes.

A format is a module that holds its ``CodeFormat`` as ``FORMAT``, and a line in the table. The table itself
imports none of them: a command line waits for no format's libraries.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amplify_motion_tokenizer.errors import UsageError

if TYPE_CHECKING:
    from amplify_motion_tokenizer.codes.files.base import CodeFormat

_FILES = "amplify_motion_tokenizer.codes.files"

FORMATS: dict[str, tuple[str, str]] = {
    "json": (f"{_FILES}.json_file", "<clip>.json for each clip"),
    "jsonl": (f"{_FILES}.json_lines", "codes.jsonl, a line for each clip"),
    "parquet": (f"{_FILES}.parquet", "codes.parquet, a row for each window"),
    "npz": (f"{_FILES}.npz", "<clip>.npz for each clip"),
    "safetensors": (f"{_FILES}.safetensors_file", "<clip>.safetensors for each clip"),
    "lary": (f"{_FILES}.lary", "<clip>.lary.npz for each clip, for LARYBench; needs --save latents"),
    "reproduction": (f"{_FILES}.reproduction", "<clip>.codes.json for each clip, with that system's keys"),
}
"""Name of each format to its module and what it writes, in one line."""

DEFAULT_FORMATS = ("json", "jsonl")


def code_format(name: str) -> CodeFormat:
    """The format that ``FORMATS`` has under ``name``."""
    found: CodeFormat = importlib.import_module(FORMATS[name][0]).FORMAT
    return found


def code_formats() -> list[CodeFormat]:
    """All formats, in the order of the table."""
    return [code_format(name) for name in FORMATS]


def check_formats(names: Sequence[str], save: Sequence[str] = ()) -> tuple[str, ...]:
    """The formats ``names``, each once, of which one at least is of a file for each clip.

    Args:
        names: of ``FORMATS``.
        save: the extra arrays that are saved.

    Raises:
        UsageError: one is unknown, lacks its library, needs latents that are not saved, or all are tables.
    """
    wanted = tuple(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        found = repr(unknown[0]) if unknown else "nothing"
        raise UsageError(f"--formats: {found} is no format; allowed: {', '.join(FORMATS)}, joined by commas")
    formats = [code_format(name) for name in wanted]
    for each in formats:
        each.check_available()
        if each.needs_latents and "latents" not in save:
            raise UsageError(f"--formats: {each.name} holds the codes' vectors; add --save latents")
    if all(each.table for each in formats):
        of_clips = [each.name for each in code_formats() if not (each.table or each.needs_latents)]
        raise UsageError(
            f"--formats: {', '.join(wanted)} is made of the files of single clips at the end of a run; name "
            f"one of {', '.join(of_clips)} too"
        )
    return wanted


def format_of(path: Path) -> CodeFormat:
    """The format of a file of codes, by the end of its name.

    Raises:
        UsageError: no format has it.
    """
    formats = code_formats()
    fitting = [each for each in formats if path.name.endswith(each.ending)]
    if not fitting:
        endings = ", ".join(each.ending for each in formats)
        raise UsageError(f"{path}: is no file of codes by its name; expected one that ends in {endings}")
    return max(fitting, key=lambda each: len(each.ending))
