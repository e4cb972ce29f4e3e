"""Writes the motion codes of a video, or of every video of a folder, with a trained or shipped tokenizer."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config import Config, may_differ
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.config.settings import Setting

if TYPE_CHECKING:
    from amplify_motion_tokenizer.models.checkpoint import Checkpoint

FLAGS: Flags = {
    "--checkpoint": {
        "type": str,
        "default": "default",
        "help": "best.pth, another checkpoint, or the name of a shipped tokenizer (default: default)",
    },
    "--input": {
        "type": str,
        "required": True,
        "help": "video file, or folder of videos (subfolders and links too); two of one name with "
        "different extensions are refused",
    },
    "--output": {"type": str, "required": True, "help": "folder for the codes"},
    "--save": {
        "nargs": "+",
        "choices": ["latents", "labels"],
        "default": [],
        "help": "also write <clip>.pt with the codes' vectors, after quantising, and/or decoded labels",
    },
    "--overwrite": {"action": "store_true", "help": "redo clips that are complete"},
}


def shows(setting: Setting) -> bool:
    """The settings that ``--help`` tells: what may be another than in training, and inference's own."""
    return may_differ(setting.key)


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    loaded: list[Checkpoint] = []

    def trained_with(flags: argparse.Namespace) -> Config:
        from amplify_motion_tokenizer.models.checkpoint import load_checkpoint

        loaded.append(load_checkpoint(flags.checkpoint))
        return loaded[0].config

    told = "the checkpoint's"
    config, flags = cli.parse(
        argv, "infer", __doc__ or "", FLAGS, defaults=trained_with, shows=shows, defaults_are=told
    )
    from amplify_motion_tokenizer.codes.inference import tokenize_folder
    from amplify_motion_tokenizer.codes.overrides import check_overrides

    (checkpoint,) = loaded
    for change in check_overrides(checkpoint, config):
        logging.warning("differs from the checkpoint's training: %s", change)
    summary = tokenize_folder(
        Path(flags.input), Path(flags.output), checkpoint, config, flags.save, flags.overwrite
    )
    sys.stdout.write(f"codes in {flags.output}: {summary}\n")
    return summary.exit_status
