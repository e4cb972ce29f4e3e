"""Copies a LeRobotDataset v3 with motion codes: lerobot export.

Every frame gets motion_tokens, the ids of the window that begins there, and motion_tokens_valid, whether one
does (with tracking.window_stride 1 at every frame but an episode's last ones); with codes that were made with
--save latents also motion_latents. Videos are linked where the file system allows it. The package lerobot
opens the copy as any other data set; it is not needed here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK

FLAGS: dict[str, Flags] = {
    "export": {
        "--dataset": {"type": Path, "required": True, "help": "folder of a LeRobotDataset v3"},
        "--codes": {
            "type": Path,
            "required": True,
            "help": "codes of its episodes: output folder of infer --video.source lerobot, or their file",
        },
        "--segments": {"type": Path, "help": "segments of its episodes, from segment --json, as subtasks"},
        "--output": {"type": Path, "required": True, "help": "folder for the copy, which must not exist"},
    }
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    return cli.run_kind(argv, "lerobot", __doc__ or "", FLAGS, {"export": _export})


def _export(flags: argparse.Namespace) -> int:
    from amplify_motion_tokenizer.codes.lerobot_copy import copy_with_codes
    from amplify_motion_tokenizer.codes.reading import read_codes
    from amplify_motion_tokenizer.codes.segment_files import read_segments

    segments = None if flags.segments is None else read_segments(flags.segments)
    codes = read_codes(flags.codes, latents=True)
    copied = copy_with_codes(flags.dataset, codes, flags.output, segments)
    sys.stdout.write(
        f"data set in {flags.output}: {copied.episodes} episodes, {copied.frames} frames, of which "
        f"{copied.windows} begin a window\n"
    )
    return EXIT_OK
