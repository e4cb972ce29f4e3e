"""Writes the motion codes of a video, or of every video of a folder, with a trained or shipped tokenizer.

Instead of videos it takes tracks that are stored: a folder of track files, a pack or one track file. The same
windows have the same codes either way. Several checkpoints share one tracking pass, and each has a subfolder.
"""

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
        "action": "append",
        "help": "best.pth, another checkpoint, or the name of a shipped tokenizer (default: default); "
        "given several times, each gets a subfolder of the output, named after it",
    },
    "--input": {
        "type": str,
        "required": True,
        "help": "video file, or folder of videos (subfolders and links too); two of one name with "
        "different extensions are refused; or track file, folder of track files, or pack",
    },
    "--output": {"type": str, "required": True, "help": "folder for the codes"},
    "--save": {
        "nargs": "+",
        "choices": ["latents", "labels"],
        "default": [],
        "help": "also write <clip>.pt with the codes' vectors, after quantising, and/or decoded labels",
    },
    "--formats": {
        "type": str,
        "default": "json,jsonl",
        "help": "formats of the codes, joined by commas: json, npz, safetensors, reproduction (a file for "
        "each clip); jsonl, parquet (one file of all clips) (default: json,jsonl)",
    },
    "--overwrite": {"action": "store_true", "help": "redo clips that are complete"},
}


def shows(setting: Setting) -> bool:
    """The settings that ``--help`` tells: what may be another than in training, and inference's own."""
    return may_differ(setting.key)


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    parsed: list[tuple[Checkpoint, Config]] = []

    def parse(number: int) -> argparse.Namespace:
        def trained_with(flags: argparse.Namespace) -> Config:
            from amplify_motion_tokenizer.models.checkpoint import load_checkpoint

            loaded.append(load_checkpoint((flags.checkpoint or ["default"])[number]))
            return loaded[0].config

        loaded: list[Checkpoint] = []
        told = "the checkpoint's"
        config, flags = cli.parse(
            argv, "infer", __doc__ or "", FLAGS, defaults=trained_with, shows=shows, defaults_are=told
        )
        parsed.append((loaded[0], config))
        return flags

    flags = parse(0)
    names = flags.checkpoint or ["default"]
    for number in range(1, len(names)):
        parse(number)
    from amplify_motion_tokenizer.codes.inference import Target, folders_of, tokenize_together
    from amplify_motion_tokenizer.codes.overrides import check_overrides, warn_of_what_is_not_followed

    for checkpoint, config in parsed:
        for change in check_overrides(checkpoint, config):
            logging.warning("differs from the checkpoint's training: %s", change)
        warn_of_what_is_not_followed(checkpoint, config)
    folders = folders_of(Path(flags.output), names)
    targets = [Target(folder, *made) for folder, made in zip(folders, parsed, strict=True)]
    formats = [name.strip() for name in flags.formats.split(",")]
    summary = tokenize_together(Path(flags.input), targets, flags.save, flags.overwrite, formats)
    sys.stdout.write(f"codes in {', '.join(map(str, folders))}: {summary}\n")
    return summary.exit_status
