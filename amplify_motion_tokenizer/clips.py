"""The loop over clips that preprocessing and inference share: skip, process, record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from amplify_motion_tokenizer.errors import (
    EXIT_OK,
    EXIT_SOME_FAILED,
    TokenizerError,
    TrackerError,
    TrackFileError,
    VideoError,
)
from amplify_motion_tokenizer.files import KeyedLines

logger = logging.getLogger(__name__)

MANIFEST = "manifest.jsonl"

STAGES: dict[type[TokenizerError], str] = {
    VideoError: "video",
    TrackerError: "tracking",
    TrackFileError: "files",
}
"""Errors that concern one clip, and the stage that they belong to; any other error ends the run."""


@dataclass(frozen=True)
class ViewSource:
    """Where the frames of one view of a clip are."""

    path: Path
    """The file."""
    dataset: str = ""
    """The frames' place in an HDF5 file; empty for a video file."""

    def __str__(self) -> str:
        return f"{self.path}:{self.dataset}" if self.dataset else str(self.path)


@dataclass(frozen=True)
class Clip:
    """What is tracked together: one video, or the views of one recording."""

    name: str
    """Its output's path below the output folder, without the extension, with forward slashes."""
    views: dict[str, ViewSource]
    """Frames by view name, one view or more; a file may turn out to be missing."""

    @property
    def paths(self) -> list[Path]:
        """The files that hold it."""
        return [source.path for source in self.views.values()]

    @property
    def source(self) -> str:
        """Where it is, for people: of several views the first that is there."""
        return str(next((v for v in self.views.values() if v.path.exists()), next(iter(self.views.values()))))


@dataclass
class Summary:
    """Counts of one run."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    windows: int = 0

    @property
    def exit_status(self) -> int:
        """0 when every clip is done or was done before, 3 when some failed."""
        return EXIT_SOME_FAILED if self.failed else EXIT_OK

    def __str__(self) -> str:
        return f"{self.done} done ({self.windows} windows), {self.skipped} skipped, {self.failed} failed"


def run_clips(
    clips: Sequence[Clip],
    manifest: KeyedLines,
    is_complete: Callable[[Clip], bool],
    process: Callable[[Clip], dict[str, Any]],
) -> Summary:
    """Processes each clip that is not complete, and records each in the manifest.

    A clip that fails with one of ``STAGES``' errors is recorded and does not stop the run.

    Args:
        clips: what to process, in this order.
        manifest: one record per clip: ``clip``, ``source``, ``status`` (done, skipped, failed),
            then what ``process`` returned, or ``stage`` and ``error``.
        is_complete: whether the clip's output is there already.
        process: makes the output; its result holds ``windows``, their number.
    """
    summary = Summary()
    with logging_redirect_tqdm(), tqdm(clips, unit="clip") as progress:
        for clip in progress:
            progress.set_postfix_str(clip.name, refresh=True)
            manifest.add(_run_clip(clip, manifest, is_complete, process, summary))
    manifest.compact()
    return summary


def _run_clip(
    clip: Clip,
    manifest: KeyedLines,
    is_complete: Callable[[Clip], bool],
    process: Callable[[Clip], dict[str, Any]],
    summary: Summary,
) -> dict[str, Any]:
    record: dict[str, Any] = {"clip": clip.name, "source": clip.source}
    if is_complete(clip):
        summary.skipped += 1
        before = manifest.records.get(clip.name, {})
        return (
            {k: v for k, v in before.items() if k not in ("stage", "error")} | record | {"status": "skipped"}
        )
    try:
        result = process(clip)
    except tuple(STAGES) as error:
        summary.failed += 1
        named = any(str(path) in str(error) for path in clip.paths)
        message = str(error) if named else f"{clip.source}: {error}"
        logger.error("%s", message)
        stage = next(stage for kind, stage in STAGES.items() if isinstance(error, kind))
        return {**record, "status": "failed", "stage": stage, "error": message}
    summary.done += 1
    summary.windows += result["windows"]
    return {**record, "status": "done", **result}
