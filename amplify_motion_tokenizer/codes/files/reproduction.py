"""Codes as JSON with the keypoint reproduction's keys.

As ``json_file``, but ``window_starts`` for ``start_frames`` and ``code_sequences`` for ``codes``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from amplify_motion_tokenizer.codes.files.json_file import (
    REPRODUCTION_KEYS,
    JsonFormat,
    json_pieces,
    write_pieces,
)
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes


class _Reproduction(JsonFormat):
    name = "reproduction"
    ending = ".codes.json"

    def write(self, path: Path, clips: Iterable[MotionCodes]) -> None:
        (codes,) = clips
        write_pieces(path, json_pieces(codes, REPRODUCTION_KEYS))


FORMAT = _Reproduction()
