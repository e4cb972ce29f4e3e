"""Folders of the Hugging Face Hub, which huggingface_hub fetches and keeps in its cache.

``HF_HUB_OFFLINE=1`` takes what is in the cache alone; ``HF_HOME``, ``HF_TOKEN`` and ``HF_ENDPOINT`` count as
everywhere.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from amplify_motion_tokenizer.errors import TokenizerError, UsageError

_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")

_FILES = {".pth", ".pt", ".safetensors", ".hdf5", ".h5", ".mp4", ".json", ".jsonl", ".parquet", ".yaml"}
"""Endings of files: a path with one that is not there is a slip, not a name on the Hub."""


def is_name(text: str | Path) -> bool:
    """Whether ``text`` can be a name on the Hub, ``user/name`` or ``user/name@revision``, and is no path."""
    path = Path(text)
    if path.exists() or path.parent.exists() and str(path.parent) != ".":
        return False
    return bool(_NAME.fullmatch(str(text))) and path.suffix not in _FILES


@cache
def folder_of(
    name: str, kind: Literal["model", "dataset"], files: Sequence[str], error: type[TokenizerError]
) -> Path:
    """The folder of a name on the Hub, fetched where it is not in the cache; asked once in a process.

    Args:
        name: ``user/name``, or ``user/name@revision`` with a branch, tag or commit; else the newest.
        kind: what it is there.
        files: patterns of the files that are wanted, a tuple.
        error: what to raise.

    Raises:
        TokenizerError: ``error``; there is no such name, or it cannot be reached and is not in the cache.
        UsageError: huggingface_hub is not installed.
    """
    hub = library(f"{name} is no file or folder here, and")
    match = _NAME.fullmatch(name)
    if match is None:
        raise error(f"{name}: is no name on the Hub; expected user/name or user/name@revision")
    # The last is of the HTTP library that it uses, which is another from version to version.
    transport = getattr(hub.errors, "HTTPError", OSError)
    faults = (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError, transport)
    try:
        found = hub.snapshot_download(
            match["repo"], repo_type=kind, revision=match["revision"], allow_patterns=list(files)
        )
    except faults as fault:
        first = next((line for line in str(fault).splitlines() if line.strip()), type(fault).__name__)
        said = textwrap.shorten(first, 200, placeholder=" ...")
        raise error(
            f"{name}: cannot be fetched from the Hugging Face Hub as a {kind} ({said}); check the name, "
            "the network and HF_TOKEN, or give a local folder"
        ) from None
    return Path(found)


def library(why: str) -> Any:
    """The module ``huggingface_hub``.

    Raises:
        UsageError: it is not installed; begins with ``why`` it is needed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise UsageError(
            f"{why} the Hugging Face Hub needs huggingface_hub, which is not installed; "
            "pip install huggingface_hub (or this package with the extra hub)"
        ) from None
    return huggingface_hub
