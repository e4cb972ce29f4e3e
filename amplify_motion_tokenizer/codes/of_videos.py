"""Codes of videos for commands that take codes or videos: made on the way, and not kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

from amplify_motion_tokenizer.codes.inference import tokenize_folder
from amplify_motion_tokenizer.codes.overrides import overridden
from amplify_motion_tokenizer.codes.reading import MotionCodeSet, read_codes
from amplify_motion_tokenizer.jobs.loop import Summary
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.models.shipped import DEFAULT

STRIDE = 4
"""Tracked frames between windows."""


def codes_of_videos(source: Path, checkpoint: str | Path | None = None) -> tuple[MotionCodeSet, Summary]:
    """The codes of a video, or of every video of a folder, every ``STRIDE`` frames, as ``infer`` writes them.

    Args:
        source: as ``infer --input`` takes it.
        checkpoint: file or shipped name; None is the tokenizer that comes with the package.

    Returns:
        the codes of the clips that could be read, and how many could not.

    Raises:
        TokenizerError: as ``tokenize_folder``.
    """
    loaded = load_checkpoint(checkpoint or DEFAULT)
    config = overridden(loaded, {"tracking.window_stride": STRIDE})
    with tempfile.TemporaryDirectory() as folder:
        summary = tokenize_folder(source, Path(folder) / "codes", loaded, config)
        found = read_codes(Path(folder) / "codes")
    return MotionCodeSet(found.values(), source), summary
