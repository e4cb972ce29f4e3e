"""Codes as safetensors: the tensors of ``MotionCodes`` by name; ``clip`` and ``meta`` (JSON) as metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from amplify_motion_tokenizer.codes.files.base import (
    CodeFormat,
    check_meta,
    checked_codes,
    columns_of,
    damaged,
    missing,
)
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.files import write_safetensors
from amplify_motion_tokenizer.foreign_json import parse_json


class _Safetensors(CodeFormat):
    name = "safetensors"
    ending = ".safetensors"

    def write(self, path: Path, clips: Iterable[MotionCodes]) -> None:
        (codes,) = clips
        metadata = {"clip": codes.clip, "meta": json.dumps(dict(codes.meta))}
        write_safetensors(path, columns_of(codes), metadata)

    def read(self, path: Path) -> list[MotionCodes]:
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            clip, meta = metadata["clip"], parse_json(metadata["meta"], finite=True)
        except FileNotFoundError as error:
            raise missing(path, error) from None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise damaged(path, error) from None
        return [checked_codes(columns, clip, check_meta(meta, str(path)), str(path))]


FORMAT = _Safetensors()
