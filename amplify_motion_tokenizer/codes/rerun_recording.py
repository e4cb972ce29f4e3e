"""Clips as a Rerun recording: frames, tracks, the tracks that their codes tell, codes and segments.

Letters: S windows, N points, d ids of a window.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amplify_motion_tokenizer.codes.decode_folder import (
    check_video,
    config_of_codes,
    source_record,
)
from amplify_motion_tokenizer.codes.decoded_files import FORMAT, write_decoded
from amplify_motion_tokenizer.codes.made_with import tokenizer_of
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.reading import MotionCodeSet, read_codes
from amplify_motion_tokenizer.codes.rerun_codes import check_segments, log_codes, log_segments
from amplify_motion_tokenizer.codes.rerun_file import (
    ENDING,
    ClipLayout,
    Entities,
    Recording,
    Times,
    blueprint_of,
    library,
    recording,
)
from amplify_motion_tokenizer.codes.segment_files import read_segments
from amplify_motion_tokenizer.codes.segmentation import Segment
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation.draw import Pairs, chosen_windows, paired
from amplify_motion_tokenizer.evaluation.drawn_view import (
    DrawnView,
    DrawnWindow,
    Style,
    chained,
    check_source,
    config_of,
)
from amplify_motion_tokenizer.files import remove_unfinished_beside, unfinished_folder
from amplify_motion_tokenizer.jobs.loop import Summary, run_clips
from amplify_motion_tokenizer.jobs.manifest import NoManifest
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.tracks.stored import RecordedClip
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.reading import Video
from amplify_motion_tokenizer.video.sources import open_views

logger = logging.getLogger(__name__)

LARGEST_PX = (480, 640)
"""(height, width) that frames are shrunk to fit into; smaller ones stay as they are."""


@dataclass(frozen=True)
class Beside:
    """What is recorded beside the tracks."""

    codes: Path | None = None
    """Codes of any format, or a folder of them."""
    checkpoint: str | None = None
    """The tokenizer that made them; None where it came with the package."""
    segments: Path | None = None
    """A JSON file of segments."""


def record_tracked(tracks: Path, source: Path, target: Path, style: Style, beside: Beside) -> Summary:
    """Writes one Rerun recording of every clip that has both tracks below ``tracks`` and its video.

    Frames are logged as they are decoded, so memory does not grow with the clips' length. A clip that fails
    is told, and what was logged of it before stays.

    Args:
        tracks: folder of track files, or one of them.
        source: what was preprocessed: a video, or the folder of the clips.
        target: the recording, whose name ends in .rrd; written whole or not at all.
        style: which windows and points are shown.
        beside: codes and segments.

    Raises:
        UsageError: rerun-sdk is missing, nothing belongs together, codes are of an unknown tokenizer, or
            ``target`` cannot be written.
        TrackFileError: a track file is damaged or not of this project.
    """
    rerun = library()
    if target.suffix != ENDING:
        raise UsageError(f"--rerun {target}: expected a file name that ends in {ENDING}")
    pairs = paired(tracks, source)
    decoder = None if beside.codes is None else Decoder.of(beside.codes, beside.checkpoint)
    segments = {} if beside.segments is None else read_segments(beside.segments)
    if decoder is not None:
        _check_named(pairs, decoder.codes, beside.codes, "codes")
    if beside.segments is not None:
        _check_named(pairs, segments, beside.segments, "segments")
    layouts = [_layout(clip, file, decoder, segments, style) for clip, file in pairs.values()]
    remove_unfinished_beside(target)
    with (
        recording(target, rerun, blueprint_of(rerun, layouts)) as opened,
        unfinished_folder(target) as scratch,
    ):
        job = RecordingJob(opened, rerun, pairs, style, decoder, segments, scratch)
        summary = run_clips([clip for clip, _ in pairs.values()], NoManifest(target), lambda _: False, job)
        if not summary.done:
            raise UsageError(f"{target}: none of its clips could be recorded; what was there is kept")
    return summary


def _check_named(pairs: Pairs, found: Mapping[str, Any], path: Path | None, what: str) -> None:
    """Raises UsageError where none of the clips is in ``found``, and warns where some are not."""
    missing = [name for name in pairs if name not in found]
    if len(missing) == len(pairs):
        raise UsageError(
            f"{path}: holds {what} of none of the clips (clips: {', '.join(list(pairs)[:3])}; {what}: "
            f"{', '.join(list(found)[:3])}); give these clips' {what}"
        )
    if missing:
        logger.warning("%s: has no %s of %d clips, such as %s", path, what, len(missing), missing[0])


def _layout(
    clip: Clip, file: RecordedClip, decoder: Decoder | None, segments: Mapping[str, Any], style: Style
) -> ClipLayout:
    codes = None if decoder is None else decoder.codes.get(clip.name)
    decoded = [] if codes is None else _views(codes, clip)
    title = "" if codes is None else f"decoded from {codes.ids.shape[1]} codes"
    steps = max(style.trail - 0.5, 0)
    seconds = None if not file.fps else steps / file.fps
    return ClipLayout(
        name=clip.name,
        views={view: title if view in decoded else None for view in clip.views},
        codes=codes is not None,
        segments=clip.name in segments,
        trail_seconds=seconds,
        trail_source_frames=seconds and file.source_fps and seconds * file.source_fps,
    )


def _views(codes: MotionCodes, clip: Clip) -> list[str]:
    """The views that codes are of; where they do not say, the clip's."""
    return list(codes.meta.get("views", clip.views))


@dataclass(frozen=True)
class Decoder:
    """Codes, and what makes tracks of them."""

    codes: MotionCodeSet
    tokenizer: Tokenizer
    config: Config
    """That their clips were tracked with."""

    @staticmethod
    def of(path: Path, checkpoint: str | None) -> Decoder:
        """Reads codes and finds their tokenizer.

        Raises:
            UsageError: codes are missing or damaged, or their tokenizer is not known.
        """
        codes = read_codes(path)
        tokenizer = tokenizer_of(codes, checkpoint)
        return Decoder(codes, tokenizer, config_of_codes(codes, path, tokenizer.checkpoint))

    def tracks(self, clip: Clip, folder: Path) -> RecordedClip:
        """The tracks that the codes of a clip tell, as a file in ``folder``.

        Raises:
            TrackFileError: codes do not say in frames of which size their tracks are.
        """
        codes, target = self.codes[clip.name], FORMAT.target(folder, "decoded")
        record = source_record(codes, clip)
        if len(write_decoded(codes, self.tokenizer.model, self.config, target, record)) > 1:
            logger.warning("%s: its pictures change their size; only the first are decoded", clip.source)
        return TrackFile(target, _views(codes, clip))


@dataclass(frozen=True)
class RecordingJob:
    """What is recorded of each clip."""

    recording: Recording
    rerun: Any
    pairs: Pairs
    style: Style
    decoder: Decoder | None
    segments: Mapping[str, Sequence[Segment]]
    scratch: Path
    """Folder for files that are only needed while a clip is recorded."""

    def __call__(self, clip: Clip) -> dict[str, Any]:
        """Records ``clip``; returns how many windows are shown."""
        file = self.pairs[clip.name][1].with_views(list(clip.views))
        check_source(file, clip)
        entities = Entities(self.rerun, clip.name)
        codes = None if self.decoder is None else self.decoder.codes.get(clip.name)
        with ExitStack() as stack:
            videos = open_views(clip, dataclasses.replace(config_of(file).video, size=None))
            for video in videos:
                stack.callback(video.close)
            sources = [Source(file, list(clip.views), stack.enter_context(file.open()), ())]
            if codes is not None and self.decoder is not None:
                decoded = self._decoded(self.decoder, clip, codes, file)
                opened = stack.enter_context(decoded.open())
                sources.append(Source(decoded, _views(codes, clip), opened, ("decoded",)))
            windows = _windows(sources, self.style)
            times = [
                self._record_view(entities, view, video, sources, windows)
                for view, video in zip(clip.views, videos, strict=True)
            ]
        if codes is not None:
            log_codes(self.recording, entities, codes, times[0])
        if clip.name in self.segments:
            check_segments(clip, self.segments[clip.name], times[0])
            log_segments(self.recording, entities, self.segments[clip.name], times[0])
        self.recording.flush()
        return {"windows": len(windows[0])}

    def _decoded(self, decoder: Decoder, clip: Clip, codes: MotionCodes, true: RecordedClip) -> RecordedClip:
        check_video(codes, clip, true)
        views = _views(codes, clip)
        if not set(views) & set(clip.views):
            raise TrackFileError(
                f"{true.path}: has tracks of {', '.join(clip.views)}, and the codes are of "
                f"{', '.join(views)}; give tracks of the same views"
            )
        return decoder.tracks(clip, self.scratch)

    def _record_view(
        self,
        entities: Entities,
        view: str,
        video: Video,
        sources: Sequence[Source],
        windows: Sequence[Mapping[int, int]],
    ) -> Times:
        """Records the frames of one view; returns when they are."""
        layers = [
            _Layer(self.recording, entities, view, source.drawn(view, video), rows, self.style)
            for source, rows in zip(sources, windows, strict=True)
            if view in source.views
        ]
        seconds, frames, shown = [], [], layers[0].drawn
        other_size = False
        for index, frame in enumerate(itertools.islice(video, sources[0].num_frames)):
            seconds.append(frame.time_s)
            frames.append(frame.source_frame)
            self.recording.at(frame.time_s, frame.source_frame)
            if frame.source_size != shown.source_size:  # its tracks are in another file
                if not other_size:
                    self.recording.clear(entities.of(view))
                other_size = True
                continue
            other_size = False
            self.recording.picture(entities.of(view, "image"), shown.picture(frame.rgb))
            for layer in layers:
                layer.record(index)
        return Times(np.array(seconds, np.float64), np.array(frames, np.int64))


@dataclass(frozen=True)
class Source:
    """An open track file, and the folder of its entities below the view's."""

    file: RecordedClip
    views: Sequence[str]
    """Names of its views, in its order."""
    opened: Any
    """What ``file.open`` gave."""
    folder: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Tracked frames of the clip."""
        return int(self.file.attributes["num_frames"])

    def drawn(self, view: str, video: Video) -> Drawn:
        """The tracks of a view, over its video."""
        place = self.views.index(view)
        drawn = DrawnView(self.file, self.opened, place, video, config_of(self.file), _zoom)
        return Drawn(drawn, self.file.valid_steps(self.opened), self.folder)


@dataclass(frozen=True)
class Drawn:
    """Tracks of a view over its video, and what is to be known of them."""

    view: DrawnView
    valid_steps: Any
    """(S,) steps of each window that are real."""
    folder: tuple[str, ...]


def _windows(sources: Sequence[Source], style: Style) -> list[dict[int, int]]:
    """For each source the row of each window that is shown, by its start frame.

    Windows that all sources have are shown end to end, so that the same points are beside each other. Where
    they have none in common, each has its own.
    """
    own = [chosen_windows(source.file, source.opened, style) for source in sources]
    if style.starts or len(sources) == 1:
        return own
    rows = [{int(start): row for row, start in enumerate(each.file.starts(each.opened))} for each in sources]
    starts = chained(set.intersection(*map(set, rows)), max(each.file.length for each in sources))
    return [{start: each[start] for start in starts} for each in rows] if starts else own


class _Layer:
    """Points and trails of one track file over the frames of a view."""

    def __init__(
        self,
        recording: Recording,
        entities: Entities,
        view: str,
        drawn: Drawn,
        rows: Mapping[int, int],
        style: Style,
    ) -> None:
        self._recording, self._rows, self._style = recording, rows, style
        self.drawn, self._valid_steps = drawn.view, drawn.valid_steps
        self._points, self._trails = (entities.of(view, *drawn.folder, name) for name in ("points", "trails"))
        self._window: DrawnWindow | None = None
        self._last = 0

    def record(self, index: int) -> None:
        """Logs the points at frame ``index`` of the clip, and clears them after a window's last frame."""
        if index in self._rows:
            row = self._rows[index]
            self._window = self.drawn.window(index, row, self._style)
            self._last = index + int(self._valid_steps[row])
        window = self._window
        if window is None:
            return
        if index > self._last:
            self._window = None
            self._recording.clear(self._points)
            if self._style.trail:
                self._recording.clear(self._trails)
            return
        at = index - window.start
        xy_px, visible = window.tracks_xy_px, window.visible
        self._recording.points(self._points, xy_px[at], visible[at], window.colours, window.points)
        if self._style.trail and at:
            step = slice(at - 1, at + 1)
            self._recording.steps(self._trails, xy_px[step], visible[step], window.colours)
        elif self._style.trail:
            self._recording.clear(self._trails)


def _zoom(source_size: tuple[int, int]) -> float:
    return min(1.0, *(most / side for most, side in zip(LARGEST_PX, source_size, strict=True)))
