"""Tracks points in every clip of a folder, of one view or several, and writes one track file per clip."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.commands.arguments import ENGINE, SHARD, engine
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.config.settings import Setting
from amplify_motion_tokenizer.tracks.formats import DEFAULT_FORMAT, FORMATS

FLAGS: Flags = {
    "--input": {
        "type": str,
        "required": True,
        "help": "video file, or folder of clips (subfolders and links too); two of one name with "
        "different extensions are refused; or a URL of them, such as s3://bucket/clips",
    },
    "--output": {"type": str, "required": True, "help": "folder for the track files"},
    "--format": {
        "choices": list(FORMATS),
        "default": DEFAULT_FORMAT,
        "help": "; ".join(f"{name}: {what}" for name, (_, what) in FORMATS.items()),
    },
    "--overwrite": {"action": "store_true", "help": "redo clips that are complete"},
    **SHARD,
    **ENGINE,
}


def shows(setting: Setting) -> bool:
    """The settings that ``--help`` tells: of tracks, of their speed, and of velocities (--format pt)."""
    made = setting.decides.intersection(("tracks", "velocities")) or setting.key == "data.views"
    return bool(made) or setting.section in ("video", "tracking")


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    config, flags = cli.parse(argv, "preprocess", __doc__ or "", FLAGS, shows=shows)
    from amplify_motion_tokenizer.jobs.shards import parse_shard
    from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
    from amplify_motion_tokenizer.video.remote import input_of

    shard = None if flags.shard is None else parse_shard(flags.shard)
    ray = engine(flags)
    summary = preprocess_folder(
        input_of(flags.input), Path(flags.output), config, flags.format, flags.overwrite, shard, ray
    )
    sys.stdout.write(f"tracks in {flags.output}: {summary}\n")
    return summary.exit_status
