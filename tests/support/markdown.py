"""Markdown pages as tests look at them: lines, paragraphs, links, headings and blocks of code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_ITEM = re.compile(r"\s*([-*]|\d+\.) ")


@dataclass(frozen=True)
class Page:
    """A page, and what stands in it."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> list[str]:
        """Its lines, those of code blocks left empty."""
        inside, lines = False, []
        for line in self.text.splitlines():
            fence = line.lstrip().startswith("```")
            lines.append("" if inside or fence or line.startswith("    ") else line)
            inside ^= fence
        return lines

    @property
    def paragraphs(self) -> list[str]:
        """Paragraphs and items of lists; no headings, no tables, no code."""
        found: list[list[str]] = [[]]
        for line in self.prose:
            if not line.strip() or line.startswith(("#", "|")):
                found.append([])
            elif _ITEM.match(line):
                found.append([line])
            else:
                found[-1].append(line)
        return [" ".join(lines) for lines in found if lines]

    @property
    def links(self) -> list[str]:
        """Targets of its links and pictures."""
        return _LINK.findall("\n".join(re.sub(r"`[^`]*`", "", line) for line in self.prose))

    @property
    def anchors(self) -> set[str]:
        """What a link to a heading ends with."""
        headings = [line.lstrip("#").strip() for line in self.prose if line.startswith("#")]
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    def blocks(self, language: str) -> list[str]:
        """The code of its blocks in ``language``."""
        found = re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)
        return [code for name, code in found if name == language]

    def commands(self) -> Iterator[list[str]]:
        """The words of each command line in its bash blocks, comments left out."""
        for block in self.blocks("bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield words
