"""Codes as JSON lines: in each the object that ``json_file`` writes of a clip."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from amplify_motion_tokenizer.codes.files.base import CodeFormat, damaged, missing
from amplify_motion_tokenizer.codes.files.json_file import codes_of_json, json_of
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.file_names import CODES
from amplify_motion_tokenizer.files import atomic_path
from amplify_motion_tokenizer.foreign_json import parse_json, read_regular


class _JsonLines(CodeFormat):
    name = "jsonl"
    ending = ".jsonl"
    table = CODES

    def write(self, path: Path, clips: Iterable[MotionCodes]) -> None:
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as lines:
            for codes in clips:
                lines.write(json.dumps(json_of(codes), allow_nan=False) + "\n")

    def read(self, path: Path) -> list[MotionCodes]:
        try:
            lines = [parse_json(line) for line in read_regular(path).splitlines()]
        except OSError as error:
            raise missing(path, error) from None
        except ValueError as error:
            raise damaged(path, error) from None
        where = f"{path}: is damaged or of another version"
        return [codes_of_json(line, f"{where} (line {number})") for number, line in enumerate(lines, start=1)]


FORMAT = _JsonLines()
