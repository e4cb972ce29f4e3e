"""Codes as the latent-action files of LARYBench (github.com/meituan-longcat/LARYBench), a numpy archive.

Its extraction saves, and its probes read, one archive for each video or pair of pictures, with ``tokens``
(..., D) float32, the vectors that its probes take (flattened by regression, D being ``--dim`` of
classification), and ``indices`` (...), their ids, which no probe reads. Here these are of the windows of a
clip: ``tokens`` (S, d, D), ``indices`` (S, d) int64. All else that ``MotionCodes`` has stands beside them
under its own name, which LARYBench passes over and without which codes could not be read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from amplify_motion_tokenizer.codes.files.npz import NpzFormat
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.errors import UsageError

NAMES = {"latents": "tokens", "ids": "indices"}
"""What LARYBench calls columns of ``MotionCodes``."""


class _Lary(NpzFormat):
    name = "lary"
    ending = ".lary.npz"
    names = NAMES
    needs_latents = True

    def write(self, path: Path, clips: Iterable[MotionCodes]) -> None:
        (codes,) = clips
        if codes.latents is None:
            raise UsageError(
                f"{path}: LARYBench's tokens are the codes' vectors, which the clip {codes.clip} comes "
                "without; run inference with --save latents"
            )
        super().write(path, [codes])


FORMAT = _Lary()
