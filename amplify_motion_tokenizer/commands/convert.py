"""Converts checkpoints and tracks to the files of other systems: AMPLIFY's and the keypoint reproduction's.

IN is any checkpoint that load_tokenizer reads. The state of training is not carried over. What the other
system's file has no place for, such as how the training tracks were made, is kept under a key of its own. Or
IN is a track file or a folder of them, with --to amplify: OUT has the same tracks in AMPLIFY's layout, as
preprocessing writes them with tracking.store: float32.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK, TrackFileError, UsageError

FLAGS: Flags = {
    "IN": {"type": Path, "help": "checkpoint, track file or folder of track files to read"},
    "OUT": {"type": Path, "help": "checkpoint to write; of tracks a folder"},
    "--to": {"choices": ("amplify", "keypoint", "native"), "required": True, "help": "whose file to write"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    flags = cli.parse_flags(argv, "convert", __doc__ or "", FLAGS)
    from amplify_motion_tokenizer.tracks.find import holds_tracks

    if holds_tracks(flags.IN):
        return _convert_tracks(flags.IN, flags.OUT, flags.to)
    from amplify_motion_tokenizer.models.convert import convert

    written = convert(flags.IN, flags.OUT, flags.to)
    sys.stdout.write(f"wrote {' and '.join(map(str, written))}\n")
    return EXIT_OK


def _convert_tracks(source: Path, output: Path, to: str) -> int:
    from amplify_motion_tokenizer.tracks.find import clips_to_open
    from amplify_motion_tokenizer.tracks.hdf5_plain import write_plain_tracks

    if to != "amplify":
        raise UsageError(f"--to {to}: is for checkpoints; tracks are converted --to amplify")
    clips = {name: opened.paths[0] for name, opened in clips_to_open(source).items()}
    if any(path.suffix not in (".hdf5", ".h5") for path in clips.values()):
        raise TrackFileError(f"{source}: holds no HDF5 track files, which are what is converted")
    write_plain_tracks(clips, output)
    sys.stdout.write(f"wrote the tracks of {len(clips)} clips to {output}\n")
    return EXIT_OK
