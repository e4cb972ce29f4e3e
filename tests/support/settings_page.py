"""The text of docs/settings.md, made of the settings' fields."""

from __future__ import annotations

import importlib
import re
import textwrap
from collections.abc import Iterator

from amplify_motion_tokenizer.commands import COMMANDS
from amplify_motion_tokenizer.config.convert import show
from amplify_motion_tokenizer.config.keys import SECTIONS, SETTINGS
from amplify_motion_tokenizer.config.settings import DECIDES, Setting

WIDTH, WORDS = 110, 80
HEAD = """\
# Settings

What can be set, to what, and what happens if it is not? Every setting stands here with its meaning, the
values that it may have, its default, what it decides, and the commands that use it.

```bash
motion-tokenizer preprocess --config quickstart --video.target_fps 10 --input my_videos --output my/tracks
```

`--section.key VALUE` sets one on the command line, before or after `--config FILE`, and wins; in a file it
is `section: {key: VALUE}`. Lists may be typed `[8, 8]`, `8,8` or `8 8`. `configs/tokenizer_config.yaml`
names every setting; a file of your own need only hold what differs.

A misspelt key, one that is written twice or left blank, and an impossible value stop with one line: file,
line, key, and what is allowed. Config files are YAML 1.2, in which `no` and `on` are words.

What a setting decides says when it may change:

{decides}

This page is made of the settings themselves by `python -m tests.support.doc_pages`.
"""


def text() -> str:
    decides = "\n".join(f"- **{word}**: {meaning}." for word, meaning in DECIDES.items())
    return HEAD.replace("{decides}", decides) + "".join(_sections())


def _sections() -> Iterator[str]:
    within = ""
    users = {name: module.shows for name, module in _modules() if hasattr(module, "shows")}
    for setting in SETTINGS.values():
        section = setting.key.rpartition(".")[0]
        if section != within:
            within = section
            told = (SECTIONS[section].__doc__ or "").strip().split("\n\n")[0]
            yield f"\n## {section}\n\n{wrapped(told)}\n\n"
        used_by = [name for name, shows in users.items() if shows(setting) and not setting.record]
        yield _line(setting, used_by) + "\n"


def _modules() -> list[tuple[str, object]]:
    return [(name, importlib.import_module(f"amplify_motion_tokenizer.commands.{name}")) for name in COMMANDS]


def _line(setting: Setting, used_by: list[str]) -> str:
    kind = "a record, which is filled in" if setting.record else setting.allowed
    decides = ", ".join(word for word in DECIDES if word in setting.decides)
    use = f" Used by {', '.join(used_by)}." if used_by else ""
    default = "" if setting.record else f" Default: `{show(setting.default)}`."
    meaning = f"{plain(setting.help.rstrip('.'))}. *{plain(kind)}*."
    told = f"**`{setting.key}`**: {meaning}{default} Decides {decides}.{use}"
    return wrapped(told, "- ")


def plain(told: str) -> str:
    """Text in which no letter is markup, as Markdown."""
    return re.sub(r"([*`])", r"\\\1", told).replace("<", "&lt;")


def paragraphs(told: str) -> list[str]:
    """``told`` in paragraphs of at most ``WORDS`` words, each of whole sentences."""
    parts: list[str] = []
    for sentence in re.split(r"(?<=[.?!]) (?=[A-Z`-])", " ".join(told.split())):
        together = f"{parts[-1]} {sentence}" if parts else sentence
        if parts and len(together.split()) <= WORDS:
            parts[-1] = together
        else:
            parts.append(sentence)
    return parts


def wrapped(told: str, begin: str = "") -> str:
    """``told`` in lines of at most ``WIDTH`` columns, the first after ``begin``; words stay whole."""
    return textwrap.fill(
        " ".join(told.split()),
        WIDTH,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )
