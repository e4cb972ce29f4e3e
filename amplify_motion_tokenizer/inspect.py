"""Tells what the motion in a folder of tracks is like, before a model is trained on it.

    python -m amplify_motion_tokenizer.inspect DIR [--config FILE] [--section.key value]

Without --config the settings are those of DIR/config.yaml, or, where it is missing, what the tracks say of
their making; --picture names the file of the label map, DIR/label_map.png by default.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import jsonargparse
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer import cli
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.files import Flags, config_from_dict, config_from_settings, load_yaml
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import EXIT_OK, UsageError
from amplify_motion_tokenizer.file_names import OUTPUT_CONFIG, is_pack
from amplify_motion_tokenizer.files import atomic_path
from amplify_motion_tokenizer.motion_statistics import MotionStatistics, Suggestion, measure, suggest
from amplify_motion_tokenizer.trackers.windows import SEEN
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.open_files import Clips
from amplify_motion_tokenizer.tracks.packs import read_pack

FLAGS: Flags = {
    "DIR": {"type": str, "help": "folder of tracks, or a pack"},
    "--picture": {"type": str, "help": "PNG of the label map; DIR/label_map.png by default"},
}
CELL_PX = 24
VELOCITIES_NOTE = (
    "velocity files hold speeds up to the edge of the classes alone; another W or data.reference_size takes "
    "preprocessing again"
)


def label_map(counts: Tensor) -> NDArray[np.uint8]:
    """A picture of how often each class occurs, on a logarithmic scale; black never does.

    Args:
        counts: (rows, columns), right is to the right and down is down.

    Returns:
        (rows * 24, columns * 24, 3) BGR; the centre class has a white frame.
    """
    scaled = np.log1p(counts.double().numpy())
    grey = (255 * scaled / max(scaled.max(), 1e-9)).astype(np.uint8)
    picture = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)
    picture = cv2.resize(picture, None, fx=CELL_PX, fy=CELL_PX, interpolation=cv2.INTER_NEAREST)
    row, column = (side // 2 * CELL_PX for side in counts.shape)
    cv2.rectangle(picture, (column, row), (column + CELL_PX - 1, row + CELL_PX - 1), (255, 255, 255), 1)
    return np.asarray(picture, np.uint8)


def report(found: MotionStatistics, suggestions: Sequence[Suggestion], config: Config) -> str:
    """The findings in lines of text."""
    sizes = ", ".join(f"{size} ({clips})" for size, clips in found.sizes.items())
    rates = ", ".join(f"{rate:g}" for rate in found.fps) or "unknown"
    percents = " ".join(f"{percent:>7g}%" for percent in found.speed_px)
    threshold = config.data.static_filter.threshold
    grid = " x ".join(map(str, config.class_grid))
    shares = [
        ("static points", found.static_share, f"data.static_filter.threshold {threshold:g}"),
        ("visible", found.visible_share, f"confidence of at least {SEEN:g}"),
        ("finite", found.finite_share, "no NaN or infinity in the track"),
        ("clamped labels", found.clamped_share, f"of moving points {found.moving_clamped_share:.1%}"),
        ("centre class", found.center_share, f"of moving points {found.moving_center_share:.1%}"),
    ]
    lines = [
        f"{found.clips} clips, {found.windows} windows ({found.windows_read} of them read), {rates} fps",
        f"tracked sizes (clips): {sizes}",
        f"reference size: {_reference(config.data.reference_size)}",
        f"classes: {grid}",
        "",
        *[VELOCITIES_NOTE] * found.stored_clamped,
        "speed in reference pixels per step",
        f"  percentile    {percents}",
        f"  all points    {_numbers(found.speed_px)}",
        f"  moving points {_numbers(found.moving_speed_px)}",
        "",
        *(f"{name:<16}{share:7.1%}  ({note})" for name, share, note in shares),
        "",
    ]
    fine = "nothing moves" if found.nothing_moves else "the settings suit this motion"
    lines += [_suggested(suggestion) for suggestion in suggestions] or [fine]
    return "\n".join(lines)


def _reference(size: tuple[int, int] | dict[str, int] | None) -> str:
    if size is None:
        return "each clip's own (data.reference_size null)"
    text = f"{size[0]} x {size[1]}" if isinstance(size, tuple) else f"shorter side {size['shorter']}"
    return f"{text} px (data.reference_size)"


def _numbers(values: dict[float, float]) -> str:
    return " ".join(f"{value:8.2f}" for value in values.values())


def _suggested(suggestion: Suggestion) -> str:
    better = "" if suggestion.better is None else f" -> {suggestion.better:g}"
    now = "null" if suggestion.now is None else f"{suggestion.now:g}"
    return f"suggestion: {suggestion.key} {now}{better}: {suggestion.reason}"


def _made_with(flags: jsonargparse.Namespace) -> Config | None:
    """The settings of the tracks, where they are known and no others are asked for."""
    if flags.config:
        return None
    folder = Path(flags.DIR)
    path = folder / OUTPUT_CONFIG
    if path.is_file():
        return config_from_dict(load_yaml(path), f"in {path}")
    clips: Clips = read_pack(folder, ()) if is_pack(folder) else find_tracks(folder, None)
    settings = next((clip.settings for clip in clips.values() if clip.settings is not None), None)
    return None if settings is None else config_from_settings(settings, f"in the settings of {folder}")


def main(argv: Sequence[str]) -> int:
    """Runs the command line ``argv``; returns the exit status."""
    config, flags = cli.parse(argv, __doc__ or "", FLAGS, _made_with)
    folder = Path(flags.DIR)
    found = measure(load_clips(folder, config), config)
    picture = Path(flags.picture) if flags.picture else folder / "label_map.png"
    with atomic_path(picture) as temporary:
        if not cv2.imwrite(str(temporary), label_map(found.label_counts)):
            raise UsageError(f"{picture}: cannot be written as a picture; give a name that ends in .png")
    sys.stdout.write(f"{report(found, suggest(found, config), config)}\nlabel map: {picture}\n")
    return EXIT_OK


if __name__ == "__main__":
    cli.run(main)
