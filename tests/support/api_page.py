"""The text of docs/api.md, made of the public names, their signatures and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import amplify_motion_tokenizer
from tests.support.settings_page import paragraphs, wrapped

HEAD = """\
# The Python API

Which names may I import, and what do they take and give? All public names of `amplify_motion_tokenizer`
with their signatures and docstrings. [quickstart](quickstart.md) shows them at work.

Deeper module paths are private until version 1.0: they may change with any version. Letters in shapes: S
windows of a clip, B of a batch, V views, T frames of a window, t = T - 1 steps, N points, d ids of a
window, D numbers of an id's vector. Points are (x, y) where nothing else is said.

This page is made of the docstrings by `python -m tests.support.doc_pages`.
"""
SECTIONS = re.compile(r"^(Args|Returns|Raises|Attributes|Yields):$", re.MULTILINE)


def text() -> str:
    return HEAD + "".join(part for name in _names() for part in _entry(name))


def _names() -> list[str]:
    """Functions first, then classes, as a reader looks for what to call."""
    names = [name for name in amplify_motion_tokenizer.__all__ if name != "__version__"]
    return sorted(names, key=lambda name: (inspect.isclass(_named(name)), name.lower()))


def _named(name: str) -> Any:
    return getattr(amplify_motion_tokenizer, name)


def _entry(name: str) -> Iterator[str]:
    found = _named(name)
    yield f"\n## {name}\n\n"
    if not inspect.isclass(found):
        yield f"```python\n{signature(name, found)}\n```\n\n{markdown(found.__doc__)}"
        return
    if not issubclass(found, tuple):
        shown = signature(name, found.__init__)
        yield f"```python\n{shown if not dataclasses.is_dataclass(found) else f'class {name}'}\n```\n\n"
    yield markdown(found.__doc__)
    yield from _fields(found)
    for method, function in vars(found).items():
        own = function.fget if isinstance(function, property) else function
        own = getattr(own, "func", getattr(own, "__func__", own))
        if method.startswith("_") or not inspect.isfunction(own):
            continue
        yield f"\n### {name}.{method}\n\n"
        if not isinstance(function, property):
            yield f"```python\n{signature(method, own)}\n```\n\n"
        yield markdown(own.__doc__)


def _fields(found: type) -> Iterator[str]:
    """What the fields of a dataclass or a NamedTuple mean, by the text below each."""
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(found))).body
    assert isinstance(made, ast.ClassDef)
    body = made.body
    lines = [
        wrapped(f"**`{field.target.id}: {ast.unparse(field.annotation)}`**: {_plain(_constant(told))}", "- ")
        for field, told in zip(body, body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _constant(told)
    ]
    if lines:
        yield "\n" + "\n".join(lines) + "\n"


def _constant(node: ast.stmt) -> str:
    """The text of a statement that is one; else nothing."""
    value = node.value if isinstance(node, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def signature(name: str, function: Any) -> str:
    """``name(...) -> ...`` with an argument on each line where one line would be too long."""
    found = inspect.signature(function)
    kept = [part for key, part in found.parameters.items() if key not in ("self", "cls")]
    parts = [_argument(part) for part in kept]
    keyword = next((i for i, part in enumerate(kept) if part.kind is part.KEYWORD_ONLY), None)
    if keyword is not None and not any(part.kind is part.VAR_POSITIONAL for part in kept):
        parts.insert(keyword, "*")
    returned = found.return_annotation
    arrow = "" if returned is found.empty else f" -> {_type(returned)}"
    whole = f"{name}({', '.join(parts)}){arrow}"
    if len(whole) <= 100:
        return whole
    lines = "".join(f"    {part},\n" for part in parts)
    return f"{name}(\n{lines}){arrow}"


def _argument(part: inspect.Parameter) -> str:
    stars = {part.VAR_POSITIONAL: "*", part.VAR_KEYWORD: "**"}.get(part.kind, "")
    told = f"{stars}{part.name}"
    if part.annotation is not part.empty:
        told += f": {_type(part.annotation)}"
    return told if part.default is part.empty else f"{told} = {part.default!r}"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def markdown(docstring: str | None) -> str:
    """A docstring of Google's style as Markdown: its sections as lists."""
    clean = inspect.cleandoc(docstring or "")
    parts = SECTIONS.split(clean)
    given = parts[0].strip().split("\n\n")
    told = [wrapped(_plain(part)) for each in given for part in paragraphs(each)]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        told.append(f"{title}:\n\n{_listed(textwrap.dedent(body).strip(), title)}")
    return "\n\n".join(told) + "\n"


def _listed(body: str, title: str) -> str:
    if title in ("Returns", "Yields"):
        return wrapped(_plain(body), "- ")
    items = re.split(r"\n(?=\S)", body)
    return "\n".join(wrapped(re.sub(r"^(\S+):", r"**`\1`**:", _plain(item)), "- ") for item in items)


def _plain(told: str) -> str:
    """Double backquotes as single ones, and no letter that Markdown takes for markup."""
    parts = re.split(r"(``.*?``)", told, flags=re.DOTALL)
    return "".join(
        f"`{part[2:-2]}`" if part.startswith("``") else part.replace("*", "\\*").replace("<", "&lt;")
        for part in parts
    )
