"""The page itself: sections, style and script in one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from amplify_motion_tokenizer.report.markup import Markup, join, tag

_FOLDER = Path(__file__).parent
_ALLOWED = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'"
)
"""What a browser may load for the page: nothing from elsewhere."""


class Section(NamedTuple):
    """A section of the page."""

    anchor: str
    """Its name in addresses: letters and ``-``."""
    title: str
    body: Markup


def page(title: str, head: Markup, sections: Sequence[Section]) -> str:
    """The whole file.

    Args:
        title: of the window.
        head: above the sections.
        sections: in their order.
    """
    style = Markup((_FOLDER / "page.css").read_text(encoding="utf-8"))
    script = Markup((_FOLDER / "page.js").read_text(encoding="utf-8"))
    links = [tag("li", tag("a", each.title, href=f"#{each.anchor}")) for each in sections]
    body = [
        tag("section", tag("h2", each.title, id=f"{each.anchor}-title"), each.body, id=each.anchor,
            aria_labelledby=f"{each.anchor}-title")
        for each in sections
    ]  # fmt: skip
    theme = tag("button", "Dark or light", type="button", id="theme", hidden=True)
    document = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_ALLOWED),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", style),
        ),
        tag(
            "body",
            tag("header", head, theme),
            tag("nav", tag("ul", links), aria_label="Sections"),
            tag("main", body),
            tag("script", script),
        ),
        lang="en",
    )
    return join(Markup("<!doctype html>\n"), document, "\n")
