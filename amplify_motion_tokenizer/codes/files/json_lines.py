"""Codes as JSON lines: in each the object that ``json_file`` writes of a clip.

Codes that were written as they were made, a line for each window, are read too.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from amplify_motion_tokenizer.codes.files.base import CodeFormat, damaged, missing
from amplify_motion_tokenizer.codes.files.json_file import codes_of_json, json_pieces, write_pieces
from amplify_motion_tokenizer.codes.files.json_stream import codes_of_lines, is_stream
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.file_names import CODES
from amplify_motion_tokenizer.foreign_json import parse_json, read_regular


class _JsonLines(CodeFormat):
    name = "jsonl"
    ending = ".jsonl"
    table = CODES

    def write(self, path: Path, clips: Iterable[MotionCodes]) -> None:
        write_pieces(path, (piece for codes in clips for piece in json_pieces(codes)))

    def read(self, path: Path) -> list[MotionCodes]:
        try:
            text = read_regular(path).decode("utf-8")
            whole, _, _ = text.rpartition("\n")
            first, _, _ = text.partition("\n")
            if is_stream(parse_json(first) if first else None):  # it may be read while it grows
                return [codes_of_lines([parse_json(line, finite=True) for line in whole.split("\n")], path)]
            lines = [parse_json(line, finite=True) for line in text.rstrip("\n").split("\n") if line]
        except OSError as error:
            raise missing(path, error) from None
        except ValueError as error:
            raise damaged(path, error) from None
        where = f"{path}: is damaged or of another version"
        return [codes_of_json(line, f"{where} (line {number})") for number, line in enumerate(lines, start=1)]


FORMAT = _JsonLines()
