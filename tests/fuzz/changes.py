"""Changes that make a good file a hostile one. All take a ``random.Random``: equal seeds give equal files."""

import copy
import json
import math
import random
import re
import struct
from collections.abc import Callable
from typing import Any

Change = Callable[[random.Random, bytes], bytes]

NUMBERS: list[Any] = [
    0, -1, 1, 2, 0.5, -0.0, 1e308, 5e-324, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**70, 10**400,
    -(2**63), -(10**400), math.nan, math.inf, -math.inf, 10**9, 10**6, 1.5, 1e18,
]  # fmt: skip
TEXTS = [
    "",
    "x",
    "../outside",
    "/etc/passwd",
    "a\nb",
    "a\0b",
    "\ud800",
    "é" * 300,
    "NaN",
    "1e5",
    "true",
    "{}",
    "-1",
]
OTHERS: list[Any] = [
    None,
    True,
    False,
    [],
    [[]],
    {},
    {"a": 1},
    [0] * 1000,
    [None],
    ["a", 1],
    [[[[0]]]],
    [1, 2],
]


def deep(levels: int) -> Any:
    """A list within a list, and so on."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def hostile(rng: random.Random) -> Any:
    """A value that nobody expects."""
    kind = rng.random()
    if kind < 0.02:
        return deep(400)
    values = NUMBERS if kind < 0.5 else TEXTS if kind < 0.7 else OTHERS
    return copy.deepcopy(rng.choice(values))


def places(tree: Any, limit: int = 400) -> list[tuple[Any, Any]]:
    """(container, key) of every value within nested dicts and lists, at most ``limit``."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < limit:
        node = waiting.pop(0)
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
        for key in keys:
            found.append((node, key))
            waiting.append(node[key])
    return found


def change_tree(rng: random.Random, tree: Any, value: Callable[[random.Random], Any] = hostile) -> Any:
    """A copy of nested dicts and lists with one to three changes."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        spots = places(tree)
        if not spots or rng.random() < 0.01:
            return value(rng)
        node, key = rng.choice(spots)
        _change_at(rng, node, key, spots, value)
    return tree


def _change_at(
    rng: random.Random, node: Any, key: Any, spots: list[Any], value: Callable[[random.Random], Any]
) -> None:
    old, way = node[key], rng.randrange(9)
    if way == 0:
        del node[key]
    elif way == 1:
        node[key] = [old]
    elif way == 2 and isinstance(old, int | float) and not isinstance(old, bool):
        node[key] = rng.choice((-old, old + 1, old - 1, old * 2, str(old), 0.5))
    elif way == 3 and isinstance(old, list) and old:
        old.insert(rng.randrange(len(old)), copy.deepcopy(rng.choice(old)))
    elif way == 4:
        other, name = rng.choice(spots)
        try:
            node[key] = copy.deepcopy(other[name])
        except (KeyError, IndexError):  # that part went with an earlier change
            node[key] = None
    elif way == 5 and isinstance(node, dict):
        node[rng.choice((*TEXTS[:7], f"{key}x"))] = node.pop(key)
    else:
        node[key] = value(rng)


def change_bytes(rng: random.Random, data: bytes) -> bytes:
    """One to four damages of bytes."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        size = len(content)
        if not size:
            return bytes(content)
        # Heads of files say most.
        at = rng.randrange(min(size, 4096)) if rng.random() < 0.5 else rng.randrange(size)
        length = rng.choice((1, 2, 4, 8, 16, 64, 512))
        way = rng.randrange(9)
        if way <= 1:
            content[at] ^= 1 << rng.randrange(8)
        elif way == 2:
            content[at] = rng.randrange(256)
        elif way == 3:
            del content[at:]
        elif way == 4:
            del content[at : at + length]
        elif way == 5:
            content[at:at] = rng.randbytes(length)
        elif way == 6:
            content[at : at + length] = bytes([rng.choice((0, 255))]) * length
        elif way == 7:
            number = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 2**16, 2**24))
            form = rng.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
            packed = struct.pack(form, number & (256 ** struct.calcsize(form) - 1))
            content[at : at + len(packed)] = packed
        else:
            other = rng.randrange(size)
            content[at : at + length] = content[other : other + length]
    return bytes(content)


def change_text(rng: random.Random, data: bytes) -> bytes:
    """Damages of a text that is JSON or YAML, which no tree can say."""
    text = data.decode("utf-8")
    numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
    lines = text.split("\n")
    way = rng.randrange(10)
    if way == 0 and numbers:
        match = rng.choice(numbers)
        worse = rng.choice(
            ("1" * 5000, "1e999", "-1e999", "0x7f", "1_000", "0.1.2", "[" * 100_000, "NaN", "-0")
        )
        text = text[: match.start()] + worse + text[match.end() :]
    elif way == 1:
        at = rng.randrange(len(text) + 1)
        text = (
            text[:at]
            + rng.choice(("\0", "\x1b", "\ufeff", "\u2028", "\t", "{", "[", '"', ":", "- ", "&a ", "*a"))
            + text[at:]
        )
    elif way == 2:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
        text = "\n".join(lines)
    elif way == 3:
        del lines[rng.randrange(len(lines))]
        text = "\n".join(lines)
    elif way == 4:
        rng.shuffle(lines)
        text = "\n".join(lines)
    elif way == 5:
        text = rng.choice(("[", '{"a":', "- ", "? ")) * rng.choice((500, 50_000))
    elif way == 6:
        begin = rng.randrange(len(text) + 1)
        text = text[:begin]
    elif way == 7:
        text = rng.choice(("", "null", "0", "[]", "{}", '"x"', "\n\n", "\ufeff" + text, "~", "---\n---\n"))
    elif way == 8:
        return text.encode("utf-16" if rng.random() < 0.5 else "latin-1", errors="replace")
    else:
        return change_bytes(rng, data)
    return text.encode("utf-8", errors="surrogatepass")


def change_json(rng: random.Random, data: bytes) -> bytes:
    """Changes values of a JSON file, of one of its lines where it has several, or its text."""
    if not data.strip():
        return rng.choice((b"{}\n", b"[]\n", b"x", b"\0", b'{"clip": "x"}\n'))
    if rng.random() < 0.3:
        return change_text(rng, data)
    letters = rng.random() < 0.8
    lines = data.decode("utf-8").rstrip("\n").split("\n")
    if len(lines) > 1 and not lines[0].endswith(("}", "]")):  # one value, with line breaks for people
        lines = [json.dumps(json.loads(data))]
    at = rng.randrange(len(lines))
    lines[at] = json.dumps(change_tree(rng, json.loads(lines[at])), ensure_ascii=letters)
    return ("\n".join(lines) + "\n").encode("utf-8", errors="surrogatepass")
