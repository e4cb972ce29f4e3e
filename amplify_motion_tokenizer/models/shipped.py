"""The tokenizers that the package ships, by name: a safetensors file each, read with no network.

A file holds the weights and, as its metadata, what our own checkpoints hold beside them::

    format, format_version   as of ``models.checkpoint``
    config                   the resolved config, JSON
    versions, metrics        JSON

How each was made and what it reaches stands in ``<name>.json`` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.files import write_safetensors
from amplify_motion_tokenizer.foreign_json import parse_json

FOLDER = Path(__file__).parents[1] / "pretrained"
"""Where the shipped files lie, in the package."""

DEFAULT = "default"
"""Stands for the shipped tokenizer that is best: the name of ``DEFAULT_NAME``."""

DEFAULT_NAME = "codec"
"""The tokenizer that ``DEFAULT`` stands for."""

SUFFIX = ".safetensors"


def names() -> list[str]:
    """What ``load_tokenizer`` takes instead of a path."""
    return [DEFAULT, *sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))]


def place_of(path: str | Path) -> Path:
    """The file of a shipped tokenizer's name; a path as it is. A file in the way of a name comes first."""
    if str(path) not in names() or Path(path).exists():
        return Path(path)
    return FOLDER / f"{DEFAULT_NAME if str(path) == DEFAULT else path}{SUFFIX}"


def write_shipped(path: Path, model: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Writes weights and plain values as a safetensors file, atomically."""
    write_safetensors(path, model, {key: json.dumps(value) for key, value in content.items()})


def read_shipped(path: Path) -> dict[str, Any]:
    """Weights, in float32, under ``model``, and the plain values of the metadata by their names.

    Raises:
        CheckpointError: the file is missing, damaged or no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: _in_float32(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        content = {key: parse_json(value) for key, value in metadata.items()}
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged, or not written by this project ({error})") from None
    return {**content, "model": weights}


def _in_float32(weight: Tensor) -> Tensor:
    """Whole numbers stay so: they are no weights, which whoever loads them tells."""
    return weight.float() if weight.is_floating_point() else weight
