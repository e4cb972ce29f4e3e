"""Draws tracks over the videos that they were made from: a video and a picture for each view of a clip.

A point has the colour of the row that it started in; one that is hidden is a dim ring. The bar below the
frames tells the fate of the windows that start there: green kept, red dropped by the motion gate, grey none;
white is the present frame.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation.against_truth import listed_starts
from amplify_motion_tokenizer.evaluation.drawn_view import (
    DrawnView,
    DrawnWindow,
    Style,
    chained,
    check_source,
    config_of,
)
from amplify_motion_tokenizer.evaluation.overlay import RGB
from amplify_motion_tokenizer.file_names import DRAWINGS
from amplify_motion_tokenizer.jobs.folder_run import FolderRun
from amplify_motion_tokenizer.jobs.loop import Summary
from amplify_motion_tokenizer.tracks.base import clip_of
from amplify_motion_tokenizer.tracks.find import find_recorded
from amplify_motion_tokenizer.tracks.stored import RecordedClip
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.sources import find_clips, open_views, tracked_views
from amplify_motion_tokenizer.video.writing import h264_writer, write_png

KEPT, DROPPED, NONE, NOW = (70, 180, 70), (210, 60, 60), (80, 80, 80), (255, 255, 255)
"""Colours of the bar."""
BAR_PX = 8
LEAST_ROWS = 480
"""Rows to which smaller pictures are enlarged."""

log = logging.getLogger(__name__)


Pairs = Mapping[str, tuple[Clip, RecordedClip]]
"""Clips and their tracks, by the clip's name."""


def draw_tracked(tracks: Path, source: Path, output: Path, style: Style) -> Summary:
    """Draws every clip that has both a track file below ``tracks`` and its video in ``source``.

    Clips drawn before are drawn again. One that fails is recorded in ``manifest.jsonl``.

    Args:
        tracks: folder of track files, or one of them.
        source: what was preprocessed: a video, or the folder of the clips.
        output: gets ``<clip>.mp4`` and ``<clip>.png``; of several views ``<clip>/<view>.mp4`` each.
        style: what is drawn.

    Raises:
        UsageError: nothing belongs together, or drawings would be written over or among the videos, or
            among what another command wrote.
        TrackFileError: a track file is damaged or not of this project, or velocities are stored.
    """
    pairs = paired(tracks, source)
    _check_output(output, source, tracks, pairs)

    run = FolderRun.open([clip for clip, _ in pairs.values()], output, "drawings", overwrite=True)
    job = DrawingJob(tracks, pairs, output, style)
    return run.run(job, job)


def paired(tracks: Path, source: Path) -> Pairs:
    """The clips that have both a track file below ``tracks`` and their video in ``source``.

    Args:
        tracks: folder of track files, or one of them.
        source: what was preprocessed: a video, or the folder of the clips.

    Raises:
        UsageError: nothing belongs together.
        TrackFileError: a track file is damaged or not of this project, or velocities are stored.
    """
    track_files = find_recorded(tracks)
    config = config_of(next(iter(track_files.values())))
    clips = _clips(source, config)
    pairs = _by_name(clips, track_files, alone=tracks.is_file())
    if not pairs:
        raise UsageError(
            f"{source}: none of its clips has tracks in {tracks} (clips: {_listed(clips)}; tracks: "
            f"{', '.join(list(track_files)[:3])}); give the input that was preprocessed"
        )
    if len(pairs) < len(track_files):
        log.warning("%s: %d clips are not in %s; left out", tracks, len(track_files) - len(pairs), source)
    return pairs


def _clips(source: Path, config: Config) -> list[Clip]:
    try:
        return find_clips(source, config, tracked_views(source, config))
    except UsageError:
        views = config.tracking.view_files
        if not views or not source.exists():
            raise
        # What may be set in preprocessing is fixed in tracks.
        raise UsageError(
            f"{source}: is no folder of clips with the views that were tracked; looked for "
            f"{', '.join(views.values())}; give the folder that was preprocessed"
        ) from None


def _by_name(clips: Sequence[Clip], files: dict[str, RecordedClip], alone: bool) -> Pairs:
    """Clips and their track files by clip name; ``alone``: one file, whose folder is not known."""
    if not alone:
        named = {clip.name: clip for clip in clips}
        pairs = {name: (named.get(name) or named.get(clip_of(name) or ""), files[name]) for name in files}
        return {
            name: (dataclasses.replace(clip, name=name), file) for name, (clip, file) in pairs.items() if clip
        }
    ((stem, file),) = files.items()
    found = [clip for clip in clips if PurePosixPath(clip.name).name in (stem, clip_of(stem))]
    if len(found) > 1:
        raise UsageError(
            f"{file.path}: the input has several clips of that name ({_listed(found)}); give the folder of "
            "the tracks, or the one video"
        )
    return {
        name: (dataclasses.replace(clip, name=name), file)
        for clip in found
        for name in [PurePosixPath(clip.name).with_name(stem).as_posix()]
    }


def _listed(clips: Sequence[Clip]) -> str:
    return ", ".join(clip.name for clip in clips[:3])


def _check_output(output: Path, source: Path, tracks: Path, pairs: Pairs) -> None:
    """Raises UsageError when a drawing would take the place of a video, or of the tracks' manifest.

    It does so too when drawings would lie in the folder of the videos, where the next run would track them.
    """
    videos = {path.resolve() for clip, _ in pairs.values() for path in clip.paths}
    targets = {target for clip, _ in pairs.values() for target in _targets(output, clip)}
    over = sorted(str(target) for target in targets if target.resolve() in videos)
    if over or output.resolve() == (tracks if tracks.is_dir() else tracks.parent).resolve():
        raise UsageError(
            f"{over[0] if over else output} would be written over by drawings; choose another --output"
        )
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{output} lies in the input {source}; choose an --output outside it")


def _targets(output: Path, clip: Clip) -> list[Path]:
    """The mp4 file of each view."""
    names = [clip.name] if len(clip.views) == 1 else [f"{clip.name}/{view}" for view in clip.views]
    return [output / f"{name}.mp4" for name in names]


@dataclass(frozen=True)
class DrawingJob:
    """What is drawn of each clip, in any process."""

    tracks: Path
    pairs: Pairs
    output: Path
    style: Style

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """What is drawn, and how."""
        how = {**asdict(self.style), "starts": list(self.style.starts)}
        return {DRAWINGS: {"tracks": str(self.tracks), **how}}

    def changed(self) -> list[str]:
        """Empty, as every drawing is made again."""
        return []

    def prepare(self, threads: int) -> DrawingJob:
        """The job itself, which decodes and draws on one thread."""
        return self

    def is_complete(self, clip: Clip) -> bool:
        """False, as every drawing is made again."""
        return False

    def __call__(self, clip: Clip) -> dict[str, Any]:
        """Draws ``clip``; returns what the manifest tells of it."""
        file = self.pairs[clip.name][1]
        check_source(file, clip)
        file = file.with_views(list(clip.views))  # in the order of the clip's
        config = config_of(file)
        videos = open_views(clip, dataclasses.replace(config.video, size=None))
        try:
            with file.open() as opened:
                windows = chosen_windows(file, opened, self.style)
                targets = zip(videos, _targets(self.output, clip), strict=True)
                for place, (video, target) in enumerate(targets):
                    view = DrawnView(file, opened, place, video, config, _zoom)
                    bar = _fates(file, opened, config)
                    _draw_view(view, bar, windows, target, self.style)
        finally:
            for video in videos:
                video.close()
        return {"output": clip.name, "windows": len(windows)}


def chosen_windows(file: RecordedClip, opened: Any, style: Style) -> dict[int, int]:
    """Row of each window to draw, by its start frame, in order.

    Args:
        file: the track file.
        opened: what ``file.open`` gave.
        style: names the windows, or none, for windows end to end.

    Raises:
        TrackFileError: no window starts where ``style`` says.
    """
    rows = {int(start): row for row, start in enumerate(file.starts(opened))}
    missing = [start for start in style.starts if start not in rows]
    if missing:
        raise TrackFileError(
            f"{file.path}: no window starts at frame {missing[0]}; they start at the frames "
            f"{listed_starts(sorted(rows))}"
        )
    return {start: rows[start] for start in sorted(style.starts) or chained(rows, file.length)}


def _zoom(source_size: tuple[int, int]) -> float:
    return max(1.0, LEAST_ROWS / source_size[0])


def _draw_view(view: DrawnView, fates: RGB, windows: dict[int, int], target: Path, style: Style) -> None:
    pictured = min(windows, default=0)
    window: DrawnWindow | None = None
    with h264_writer(target, view.video.info.fps) as write:
        for index, frame in enumerate(itertools.islice(view.video, len(fates))):
            if frame.source_size != view.source_size:
                continue  # its tracks are in another file
            if index in windows:
                window = view.window(index, windows[index], style)
            rgb = view.picture(frame.rgb)
            write(_with_bar(window.over(rgb, index, style.trail) if window else rgb, fates, index))
            if index == pictured:
                image = window.whole(rgb) if window else rgb
                write_png(target.with_suffix(".png"), _with_bar(image, fates, index))


def _fates(file: RecordedClip, opened: Any, config: Config) -> RGB:
    """(num_frames, 3): for each frame the colour of the window that starts there, or last started.

    Only a gate drops windows: where none starts without one, a part of the clip is too short for it.
    """
    num_frames, stride = int(file.attributes["num_frames"]), config.tracking.window_stride
    fates = np.full((num_frames, 3), NONE, np.uint8)
    if config.tracking.gate.enable:
        last = num_frames - (1 if config.tracking.pads_end else file.length)
        for start in range(0, last + 1, stride):
            fates[start : start + stride] = DROPPED
    for start in sorted(set(file.starts(opened).tolist())):
        fates[start : start + stride] = KEPT
    return fates


def _with_bar(image: RGB, fates: RGB, index: int) -> RGB:
    """``image`` on a canvas with even sides, the bar below it."""
    height, width = image.shape[:2]
    canvas = np.zeros((height + BAR_PX + height % 2, width + width % 2, 3), np.uint8)
    canvas[:height, :width] = image
    columns = np.arange(width) * len(fates) // width
    bar = fates[columns]
    bar[(columns == index) | (np.arange(width) == index * width // len(fates))] = NOW
    canvas[-BAR_PX:, :width] = bar
    return canvas
