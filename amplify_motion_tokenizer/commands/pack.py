"""Packs a folder of track files into a few arrays, smaller and somewhat faster to train from.

``train.py --input PACK`` takes the result as it takes the folder: the same clips, windows and order.
Positions are rounded to a fraction of a pixel, which is printed; clips with positions that are off by more
than 1/16 px are named. Confidences are rounded down to 1/200, so that the same points count as visible at
any min_visibility that is a multiple of 0.005 (unless windows are resampled in time). The folder's
config.yaml goes along.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config.loading import Flags
from amplify_motion_tokenizer.errors import EXIT_OK, TrackFileError, UsageError
from amplify_motion_tokenizer.file_names import OUTPUT_CONFIG

FLAGS: Flags = {
    "--input": {"type": Path, "required": True, "help": "folder of track files, searched through"},
    "--output": {"type": Path, "required": True, "help": "new folder for the pack"},
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    flags = cli.parse_flags(argv, "pack", __doc__ or "", FLAGS)
    from amplify_motion_tokenizer.tracks.find import find_tracks
    from amplify_motion_tokenizer.tracks.pack_writing import write_pack
    from amplify_motion_tokenizer.tracks.stored import positions

    clips = positions(find_tracks(flags.input, views=None))
    if not clips:
        raise TrackFileError(
            f"{flags.input}: holds velocity files, expected track files (preprocess with --format hdf5)"
        )
    made_with = flags.input / OUTPUT_CONFIG
    texts = {OUTPUT_CONFIG: _text(made_with)} if made_with.is_file() else {}
    index = write_pack(clips, flags.output, texts)
    windows = sum(clip["windows"] for clip in index["clips"])
    sys.stdout.write(
        f"packed {windows} windows of {len(clips)} clips into {flags.output}; "
        f"positions are off by at most {index['max_error_px']:g} px\n"
    )
    return EXIT_OK


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); mend or remove it") from None
