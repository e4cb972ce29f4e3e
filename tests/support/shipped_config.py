"""The text of configs/tokenizer_config.yaml, made of the settings themselves.

python -m tests.support.shipped_config    # after a setting has changed
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

from amplify_motion_tokenizer.config.keys import SECTIONS, SETTINGS, unflatten

PATH = Path(__file__).parents[2] / "configs/tokenizer_config.yaml"
WIDTH = 110
HEAD = """\
# The compact keypoint tokenizer: every setting, with its default. A config of yours need only hold what
# differs. What follows each meaning is what the setting may be. This file is made by
# python -m tests.support.shipped_config.
"""


def text() -> str:
    own = {key: setting.default for key, setting in SETTINGS.items() if not setting.record}
    return HEAD + "\n".join(_lines(unflatten(own), "")) + "\n"


def _lines(tree: dict[str, object], prefix: str) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if key in SECTIONS:
            told = (SECTIONS[key].__doc__ or "").strip().splitlines()[0]
            yield from [] if indent else [""]
            yield f"{indent}{name}:  # {told}"
            yield from _lines(value, f"{key}.")
            continue
        plain = list(value) if isinstance(value, tuple) else value
        written = yaml.safe_dump(plain, default_flow_style=True).replace("...\n", "").strip()
        told = f"{SETTINGS[key].help} ({SETTINGS[key].allowed})"
        begin = f"{indent}# "
        yield from textwrap.wrap(told, WIDTH, initial_indent=begin, subsequent_indent=begin)
        yield f"{indent}{name}: {written.replace(chr(39), chr(34))}"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
