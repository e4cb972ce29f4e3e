"""The loop over clips that preprocessing and inference share: find, skip, process, record."""

from __future__ import annotations

import logging
from collections import Counter
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
    UsageError,
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
class Clip:
    """One input file."""

    path: Path
    """The file."""
    name: str
    """Its path relative to the input folder, without the extension, with forward slashes."""


def find_clips(source: Path, extensions: Sequence[str]) -> list[Clip]:
    """The files below ``source`` with one of ``extensions``, sorted; or ``source`` itself, a file.

    Hidden files and folders are passed over.

    Raises:
        UsageError: the source is missing, empty, or holds no such file; or two files would share
            one output name.
    """
    if source.is_file():
        return [Clip(source, source.stem)]
    if not source.is_dir():
        raise UsageError(f"input {source} does not exist; expected a file or folder")
    paths = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file()
        and path.suffix.lower() in extensions
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
    ]
    if not paths:
        state = "holds no video" if any(source.iterdir()) else "is empty"
        raise UsageError(f"input folder {source} {state}; looked for {' '.join(extensions)}")
    clips = [Clip(path, path.relative_to(source).with_suffix("").as_posix()) for path in paths]
    shared = [name for name, count in Counter(clip.name for clip in clips).items() if count > 1]
    if shared:
        raise UsageError(
            f"input folder {source} has several files named {shared[0]} with different extensions, "
            "which would share one output; rename all but one"
        )
    return clips


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
    record: dict[str, Any] = {"clip": clip.name, "source": str(clip.path)}
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
        message = str(error) if str(clip.path) in str(error) else f"{clip.path}: {error}"
        logger.error("%s", message)
        stage = next(stage for kind, stage in STAGES.items() if isinstance(error, kind))
        return {**record, "status": "failed", "stage": stage, "error": message}
    summary.done += 1
    summary.windows += result["windows"]
    return {**record, "status": "done", **result}
