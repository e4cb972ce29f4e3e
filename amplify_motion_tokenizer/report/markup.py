"""HTML by functions: whatever is no ``Markup`` is text and is escaped, so that no name can become code."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

_VOID = {"meta", "img", "input", "br"}
"""Elements without content."""
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Characters that no HTML may hold."""


class Markup(str):
    """Text that is HTML already."""


Content: TypeAlias = "str | int | float | None | Iterable[Content]"
"""What an element may hold; None is nothing."""


def escape(text: str) -> Markup:
    """``text`` as HTML that shows it, within elements and in attributes."""
    # Names of files may hold bytes that are no text, which UTF-8 cannot write.
    shown = _UNSEEN.sub("\ufffd", text).encode("utf-8", "replace").decode("utf-8")
    return Markup(html.escape(shown, quote=True))


def join(*content: Content) -> Markup:
    """Content one after the other; text is escaped."""
    parts = []
    for each in content:
        if isinstance(each, Markup):
            parts.append(each)
        elif isinstance(each, str | int | float):
            parts.append(escape(str(each)))
        elif each is not None:
            parts.append(join(*each))
    return Markup("".join(parts))


def tag(name: str, /, *content: Content, **attributes: Any) -> Markup:
    """An element.

    Args:
        name: of the element.
        content: text is escaped.
        attributes: by name; ``_`` at the end is left off, within it is ``-``. None and False leave one out,
            True is one without a value.
    """
    told = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown = key.rstrip("_").replace("_", "-")
        told.append(f" {shown}" if value is True else f' {shown}="{escape(str(value))}"')
    opened = f"<{name}{''.join(told)}>"
    return Markup(opened if name in _VOID else f"{opened}{join(*content)}</{name}>")


def data_script(value: Any) -> Markup:
    """A script element that holds ``value`` as JSON, in which no text can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return tag("script", Markup(text), type="application/json")


def data_uri(kind: str, content: bytes) -> str:
    """``content`` as an address of its own; ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def table(rows: Sequence[Sequence[Content]], caption: str | None = None, names: int = 1) -> Markup:
    """A table that scrolls sideways where it is too wide.

    Args:
        rows: of one length, the first one its head.
        caption: of the table.
        names: columns, the first ones, that are text; all others are numbers.
    """

    def row(cells: Sequence[Content], head: bool) -> Markup:
        of_row = []
        for place, cell in enumerate(cells):
            name = "th" if head or place == 0 else "td"
            scope = ("col" if head else "row") if name == "th" else None
            of_row.append(tag(name, cell, scope=scope, class_="number" if place >= names else None))
        return tag("tr", of_row)

    body = [
        tag("caption", caption) if caption else None,
        tag("thead", row(rows[0], True)),
        tag("tbody", [row(each, False) for each in rows[1:]]),
    ]
    return tag(
        "div",
        tag("table", body),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption or "table",
    )


def folded(summary: str, *content: Content) -> Markup:
    """Content that is shown on demand."""
    return tag("details", tag("summary", summary), content)


def paragraph(*content: Content, class_: str | None = None) -> Markup:
    """A paragraph."""
    return tag("p", content, class_=class_)


def missing(what: str) -> Markup:
    """What is said in the place of something that is not there: why, and what to give."""
    return paragraph(what, class_="missing")
