"""Writes the motion codes of a video, or of every video of a folder, with a trained or shipped tokenizer.

Instead of videos it takes tracks that are stored: a folder of track files, a pack or one track file. The same
windows have the same codes either way. Several checkpoints share one tracking pass, and each has a subfolder.
With --follow it takes a live video, and writes each window's codes as a line of JSON as they are made.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.commands.arguments import ENGINE, SHARD, engine
from amplify_motion_tokenizer.config import Config, may_differ
from amplify_motion_tokenizer.config.loading import Flags, Given, build
from amplify_motion_tokenizer.config.settings import Setting
from amplify_motion_tokenizer.errors import UsageError

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
        "help": "video file, or folder of videos (subfolders and links too); two of one name with "
        "different extensions are refused; or a URL of them, such as s3://bucket/clips; or track file, "
        "folder of track files, or pack",
    },
    "--follow": {
        "type": str,
        "metavar": "SOURCE",
        "help": "instead of --input, a live video: a camera's number or device, - for standard input, a "
        "named pipe, a URL (rtsp://, http://) or a file",
    },
    "--output": {
        "type": str,
        "help": "folder for the codes; with --follow a file that ends in .jsonl (default there: standard "
        "output)",
    },
    "--save": {
        "nargs": "+",
        "choices": ["latents", "labels"],
        "default": [],
        "help": "also write <clip>.pt with the codes' vectors, after quantising, and/or decoded labels",
    },
    "--formats": {
        "type": str,
        "help": "formats of the codes, joined by commas: json, npz, safetensors, reproduction (a file for "
        "each clip); jsonl, parquet (one file of all clips) (default: json,jsonl)",
    },
    "--camera": {
        "choices": ["keep", "remove", "both"],
        "help": "what becomes of the camera's motion, as --data.camera: keep leaves it in the codes, remove "
        "takes it out and keeps it as numbers beside them, both also writes codes of it (default: the "
        "checkpoint's)",
    },
    "--overwrite": {
        "action": "store_true",
        "help": "redo clips that are complete; with --follow, replace the file",
    },
    **SHARD,
    **ENGINE,
}


def shows(setting: Setting) -> bool:
    """The settings that ``--help`` tells: what may be another than in training, and inference's own."""
    return may_differ(setting.key)


def _with_camera(config: Config, checkpoint: Checkpoint, camera: str | None) -> Config:
    """``config`` with the value of ``--camera``, where that is given.

    Raises:
        UsageError: the setting is given, too, with another value.
    """
    if camera is None:
        return config
    if config.data.camera not in (camera, checkpoint.config.data.camera):
        raise UsageError(f"--camera is {camera} and data.camera {config.data.camera}; give one of them")
    return build(config, {"data.camera": Given(camera, "")})


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
        parsed.append((loaded[0], _with_camera(config, loaded[0], flags.camera)))
        return flags

    flags = parse(0)
    names = flags.checkpoint or ["default"]
    _check_flags(flags)
    for number in range(1, len(names)):
        parse(number)
    from amplify_motion_tokenizer.codes.formats import DEFAULT_FORMATS
    from amplify_motion_tokenizer.codes.inference import Target, folders_of, tokenize_together
    from amplify_motion_tokenizer.codes.overrides import check_overrides, warn_of_what_is_not_followed
    from amplify_motion_tokenizer.jobs.shards import parse_shard

    for checkpoint, config in parsed:
        for change in check_overrides(checkpoint, config):
            logging.warning("differs from the checkpoint's training: %s", change)
        warn_of_what_is_not_followed(checkpoint, config)
    if flags.follow is not None:
        return _follow(flags, *parsed[0])
    ray = engine(flags)
    folders = folders_of(Path(flags.output), names)
    targets = [Target(folder, *made) for folder, made in zip(folders, parsed, strict=True)]
    formats = (
        DEFAULT_FORMATS if flags.formats is None else [name.strip() for name in flags.formats.split(",")]
    )
    shard = None if flags.shard is None else parse_shard(flags.shard)
    summary = tokenize_together(flags.input, targets, flags.save, flags.overwrite, formats, shard, ray)
    sys.stdout.write(f"codes in {', '.join(map(str, folders))}: {summary}\n")
    return summary.exit_status


def _check_flags(flags: argparse.Namespace) -> None:
    """Raises UsageError for flags that are missing, or that cannot stand together."""
    if flags.follow is None:
        missing = [name for name in ("input", "output") if getattr(flags, name) is None]
        if missing:
            names = ", ".join(f"--{name}" for name in missing)
            raise UsageError(f"the following arguments are required: {names}; --help tells what is allowed")
        return
    refused = {
        "--input": (flags.input is not None, "they are two sources; give one"),
        "--save": (flags.save, "arrays are written of a clip that has ended"),
        "--shard": (flags.shard is not None, "one run follows a video"),
        "--formats": (flags.formats not in (None, "jsonl"), "the format of codes that grow is jsonl"),
        "--engine ray": (flags.engine == "ray", "it is one clip, which one process follows"),
        "several --checkpoint": (len(flags.checkpoint or ()) > 1, "there is one output; give one"),
    }
    for name, (given, why) in refused.items():
        if given:
            raise UsageError(f"--follow cannot stand with {name}: {why}")
    if flags.output is not None and not flags.output.endswith(".jsonl"):
        raise UsageError(
            f"--output {flags.output}: with --follow it is a file; expected one that ends in .jsonl"
        )


def _follow(flags: argparse.Namespace, checkpoint: Checkpoint, config: Config) -> int:
    from amplify_motion_tokenizer.codes.following import follow
    from amplify_motion_tokenizer.files import growing_file

    if flags.output is None:
        return follow(flags.follow, checkpoint, config, _to_standard_output)
    with growing_file(Path(flags.output), flags.overwrite) as append:
        return follow(flags.follow, checkpoint, config, append)


def _to_standard_output(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Python would try once more, and tell of it, when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UsageError("standard output was closed by what reads it; no more codes are written") from None
