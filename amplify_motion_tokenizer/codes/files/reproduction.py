"""Codes as JSON with the keypoint reproduction's keys.

As ``json_file``, but ``window_starts`` for ``start_frames`` and ``code_sequences`` for ``codes``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from amplify_motion_tokenizer.codes.files.json_file import REPRODUCTION_KEYS, JsonFormat, json_of
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.files import write_json


class _Reproduction(JsonFormat):
    name = "reproduction"
    ending = ".codes.json"

    def write(self, path: Path, clips: Iterable[MotionCodes]) -> None:
        (codes,) = clips
        write_json(path, {REPRODUCTION_KEYS.get(key, key): value for key, value in json_of(codes).items()})


FORMAT = _Reproduction()
