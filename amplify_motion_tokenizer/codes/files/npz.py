"""Codes as a numpy archive: the tensors of ``MotionCodes`` by name, ``clip``, and ``meta`` as JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from amplify_motion_tokenizer.codes.files.base import (
    COLUMNS,
    CodeFormat,
    check_meta,
    checked_codes,
    columns_of,
    damaged,
    missing,
)
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.damaged_files import NUMPY_DAMAGE, check_unfolded
from amplify_motion_tokenizer.files import atomic_path
from amplify_motion_tokenizer.foreign_json import parse_json


class NpzFormat(CodeFormat):
    """An archive of each clip, with the tensors by their names."""

    name = "npz"
    ending = ".npz"
    names: ClassVar[Mapping[str, str]] = {}
    """What tensors are called that have another name in the file than in ``MotionCodes``."""

    def write(self, path: Path, clips: Iterable[MotionCodes]) -> None:
        """See ``CodeFormat``."""
        (codes,) = clips
        columns = columns_of(codes).items()
        arrays = {self.names.get(name, name): column.numpy() for name, column in columns}
        texts = {"clip": np.array(codes.clip), "meta": np.array(json.dumps(dict(codes.meta)))}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **(arrays | texts))  # type: ignore[arg-type]

    def read(self, path: Path) -> list[MotionCodes]:
        """See ``CodeFormat``."""
        try:
            check_unfolded(path)
            with np.load(path, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
            clip, meta = str(found["clip"]), parse_json(str(found["meta"]), finite=True)
            own = {name: self.names.get(name, name) for name in COLUMNS}
            columns = {name: torch.from_numpy(found[key]) for name, key in own.items() if key in found}
        except FileNotFoundError as error:
            raise missing(path, error) from None
        except (OSError, KeyError, TypeError, *NUMPY_DAMAGE) as error:
            raise damaged(path, error) from None
        return [checked_codes(columns, clip, check_meta(meta, str(path)), str(path))]


FORMAT = NpzFormat()
