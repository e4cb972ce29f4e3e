"""Tells what the motion in a folder of tracks is like, before a model is trained on it.

Without --config the settings come from DIR/config.yaml, or, where it is missing, from what the tracks say of
their making; --picture names the file of the label map, DIR/label_map.png by default.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import Flags, config_from_dict, config_from_settings, load_yaml
from amplify_motion_tokenizer.config.settings import Setting
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError
from amplify_motion_tokenizer.file_names import OUTPUT_CONFIG
from amplify_motion_tokenizer.files import atomic_path

FLAGS: Flags = {
    "DIR": {"type": str, "help": "folder of tracks, or a pack"},
    "--picture": {"type": str, "help": "PNG of the label map; DIR/label_map.png by default"},
}


def shows(setting: Setting) -> bool:
    """The settings that ``--help`` tells: of windows, masks and velocity classes."""
    classes = ("model.name", "model.amplify.class_grid")
    training = ("data.augmentation.", "data.source", "data.synthetic")
    windows = setting.section == "data" and not setting.key.startswith(training)
    return windows or "velocities" in setting.decides or setting.key in classes


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    config, flags = cli.parse(argv, "inspect", __doc__ or "", FLAGS, _made_with, shows=shows)
    import cv2

    from amplify_motion_tokenizer.data.loading import load_clips
    from amplify_motion_tokenizer.evaluation.label_map import label_map
    from amplify_motion_tokenizer.evaluation.motion_report import counted, report
    from amplify_motion_tokenizer.evaluation.motion_statistics import measure, suggest

    folder = Path(flags.DIR)
    picture = Path(flags.picture) if flags.picture else folder / "label_map.png"
    if not cv2.haveImageWriter(picture.name):
        raise UsageError(f"--picture {picture} is no name of a picture; give one that ends in .png")
    found = measure(load_clips(folder, config, config.data.dataset), config)
    with atomic_path(picture) as temporary:
        if not cv2.imwrite(str(temporary), label_map(found.label_counts, counted(found, config))):
            raise UsageError(f"{picture}: cannot be written; is there room, and is the folder writable?")
    sys.stdout.write(f"{report(found, suggest(found, config), config)}\nlabel map: {picture}\n")
    return EXIT_OK


def _made_with(flags: argparse.Namespace) -> Config | None:
    """The settings of the tracks, where they are known and no others are asked for."""
    if flags.config:
        return None
    folder = Path(flags.DIR)
    path = folder / OUTPUT_CONFIG
    if path.is_file():
        return config_from_dict(load_yaml(path), f"in {path}")
    from amplify_motion_tokenizer.tracks.find import open_tracks

    clips = open_tracks(folder, None)
    settings = next((clip.settings for clip in clips.values() if clip.settings is not None), None)
    return None if settings is None else config_from_settings(settings, f"in the settings of {folder}")
