"""A Rerun recording on disk: its clock, what an entity looks like, and how the viewer first shows it.

Rerun's pixels are squares whose corners are at whole numbers, where the rest of this package has their
centres, so positions are written half a pixel further right and down.

Letters: N points, S windows, d ids of a window.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.code_strip import code_colours
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.evaluation.overlay import RGB
from amplify_motion_tokenizer.files import atomic_path

SECONDS, SOURCE_FRAME = "seconds", "source_frame"
"""The two timelines: seconds since the clip's first frame, and index of the frame in the source file."""
ENDING = ".rrd"
OLDEST_SDK = "0.34.1"
"""The oldest version that was tried with success: from it on the wall clock can be left out."""
_JPEG_QUALITY = 75
_SEEN, _HIDDEN, _TRAIL = 3.0, 1.5, 1.0
"""Radii of a visible and of a hidden point, and of a trail, in units of the viewer's screen."""


def library() -> Any:
    """The module ``rerun``.

    Raises:
        UsageError: it is not installed, or too old; says how to get it.
    """
    install = f"pip install 'rerun-sdk>={OLDEST_SDK}' (or this package with the extra rerun)"
    try:
        found = importlib.import_module("rerun")
    except ImportError:
        raise UsageError(f"--rerun needs rerun-sdk, which is not installed; {install}") from None
    if not hasattr(getattr(found, "RecordingStream", None), "set_log_time_enabled"):
        version = getattr(found, "__version__", "of another package")
        raise UsageError(f"--rerun needs rerun-sdk {OLDEST_SDK} or later, found {version}; {install}")
    return found


class Times(NamedTuple):
    """When things are: on both timelines."""

    seconds: NDArray[np.float64]
    """(S,) since the clip's first frame."""
    source_frames: NDArray[np.int64]
    """(S,) index among the frames of the source file."""


class Entities:
    """The paths of what is recorded of a clip."""

    def __init__(self, rerun: Any, clip: str) -> None:
        self._rerun, self._clip = rerun, clip.split("/")

    def of(self, *parts: str) -> str:
        """The path of the entity ``parts`` below the clip's, with what Rerun reserves escaped."""
        path: str = self._rerun.new_entity_path([*self._clip, *parts])
        return path


@contextmanager
def recording(path: Path, rerun: Any, blueprint: Any) -> Iterator[Recording]:
    """Yields a recording that is written to ``path`` as things are logged, and is there when it is whole.

    Args:
        path: the file.
        rerun: from ``library``.
        blueprint: how the viewer first shows it, from ``blueprint_of``.

    Raises:
        UsageError: ``path`` cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.touch()  # tells why, where it cannot be written
        stream = rerun.RecordingStream("amplify_motion_tokenizer")
        lenient = not rerun.strict_mode()
        rerun.set_strict_mode(True)  # else what cannot be logged is passed over
        try:
            stream.set_log_time_enabled(False)  # of this computer's clock, not of the clips
            stream.set_log_tick_enabled(False)
            stream.save(temporary, default_blueprint=blueprint)
            made = Recording(rerun, stream, path)
            yield made
            made.flush()
        finally:
            stream.disconnect()
            rerun.set_strict_mode(not lenient)


class Recording:
    """Logs to a recording; see ``recording``.

    Args:
        rerun: the module.
        stream: where to.
        path: the file, for messages.
    """

    def __init__(self, rerun: Any, stream: Any, path: Path) -> None:
        self._rerun, self._stream, self._path = rerun, stream, path

    def flush(self) -> None:
        """Waits until all that was logged is in the file.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            self._stream.flush()
        except RuntimeError as error:  # Rerun's writer ends at its first error, which it prints itself
            raise UsageError(
                f"{self._path}: cannot be written ({error}); what was there is kept; see Rerun's own line "
                "above, and whether the disk is full"
            ) from None

    def at(self, seconds: float, source_frame: int) -> None:
        """What is logged next is at this time."""
        self._stream.set_time(SECONDS, duration=seconds)
        self._stream.set_time(SOURCE_FRAME, sequence=source_frame)

    def picture(self, path: str, rgb: RGB) -> None:
        """Logs a frame (H, W, 3) uint8, RGB, as JPEG."""
        image = self._rerun.Image(rgb, color_model="RGB")
        self._stream.log(path, image.compress(jpeg_quality=_JPEG_QUALITY))

    def points(
        self,
        path: str,
        xy_px: NDArray[np.float32],
        visible: NDArray[np.bool_],
        colours: RGB,
        numbers: NDArray[np.int64],
    ) -> None:
        """Logs points; one that is not visible is small and of half the brightness, a lost one is left out.

        Args:
            path: the entity.
            xy_px: (N, 2) positions, (x, y) pixels of the picture; not finite where a point is lost.
            visible: (N,).
            colours: (N, 3), RGB.
            numbers: (N,) index of each point, which the viewer shows.
        """
        known = np.isfinite(xy_px).all(axis=-1)
        seen = visible[known]
        found = self._rerun.Points2D(
            xy_px[known] + np.float32(0.5),
            colors=np.where(seen[:, None], colours[known], colours[known] // 2),
            radii=-np.where(seen, _SEEN, _HIDDEN),  # negative ones are units of the screen
            keypoint_ids=numbers[known].astype(np.uint16),
        )
        self._stream.log(path, found)

    def steps(self, path: str, xy_px: NDArray[np.float32], visible: NDArray[np.bool_], colours: RGB) -> None:
        """Logs the last step of the trails, a line for each point that is known at both ends.

        Args:
            path: the entity.
            xy_px: (2, N, 2) positions before and now, (x, y) pixels of the picture.
            visible: (2, N); a step to or from where a point is not is of half the brightness.
            colours: (N, 3), RGB.
        """
        known = np.isfinite(xy_px).all(axis=(0, 2))
        seen = (visible[0] & visible[1])[known]
        lines = self._rerun.LineStrips2D(
            xy_px[:, known].swapaxes(0, 1) + np.float32(0.5),
            colors=np.where(seen[:, None], colours[known], colours[known] // 2),
            radii=-_TRAIL,
        )
        self._stream.log(path, lines)

    def clear(self, path: str) -> None:
        """From now on there is nothing at ``path`` and below it."""
        self._stream.log(path, self._rerun.Clear(recursive=True))

    def ids(self, path: str, names: Sequence[str], times: Times, ids: NDArray[np.int64]) -> None:
        """Logs the ids (S, d) of windows as points over time; the same colour is the same id.

        Args:
            path: the entity.
            names: (d,) of the series.
            times: of the S windows.
            ids: (S, d).
        """
        rerun, lengths = self._rerun, [ids.shape[1]] * len(ids)
        self._stream.log(path, rerun.SeriesPoints(names=list(names), markers="square"), static=True)
        colours = code_colours(ids).reshape(-1, 3)
        # In one row: the viewer gives an id the colours of the same row or of one before.
        columns = [
            *rerun.Scalars.columns(scalars=ids.ravel().astype(np.float64)).partition(lengths),
            *rerun.SeriesPoints.columns(colors=colours).partition(lengths),
        ]
        self._stream.send_columns(path, self._columns(times), columns)

    def curve(self, path: str, name: str, times: Times, values: NDArray[np.float32]) -> None:
        """Logs a number (S,) over time; windows whose number is not finite are left out."""
        rerun, known = self._rerun, np.isfinite(values)
        self._stream.log(path, rerun.SeriesLines(names=name), static=True)
        columns = self._columns(Times(times.seconds[known], times.source_frames[known]))
        self._stream.send_columns(path, columns, rerun.Scalars.columns(scalars=values[known]))

    def texts(self, path: str, times: Times, texts: Sequence[str]) -> None:
        """Logs Markdown texts, each of which stands until the next."""
        columns = self._rerun.TextDocument.columns(text=texts, media_type=["text/markdown"] * len(texts))
        self._stream.send_columns(path, self._columns(times), columns)

    def states(self, path: str, times: Times, states: Sequence[str]) -> None:
        """Logs states, each of which holds until the next; the empty one is none."""
        columns = self._rerun.StateChange.columns(state=states)
        self._stream.send_columns(path, self._columns(times), columns)

    def _columns(self, times: Times) -> list[Any]:
        return [
            self._rerun.TimeColumn(SECONDS, duration=times.seconds),
            self._rerun.TimeColumn(SOURCE_FRAME, sequence=times.source_frames),
        ]


@dataclass(frozen=True)
class ClipLayout:
    """What there is to show of a clip."""

    name: str
    views: Mapping[str, str | None]
    """Title of the decoded tracks by view; None for a view that has none."""
    codes: bool
    segments: bool
    trail_seconds: float | None
    """How long steps of trails are shown; None shows the last one alone."""
    trail_source_frames: float | None


def blueprint_of(rerun: Any, clips: Sequence[ClipLayout]) -> Any:
    """How the viewer first shows a recording: a tab for each clip.

    In it are a picture of each view with the tracks, beside it one with the decoded tracks; below the codes
    over time, their motion energy and the present window as text; then the segments.
    """
    show = importlib.import_module("rerun.blueprint")
    tabs = [_tab(rerun, show, clip) for clip in clips]
    return show.Blueprint(
        tabs[0] if len(tabs) == 1 else show.Tabs(*tabs),
        show.BlueprintPanel(state="collapsed"),
        show.SelectionPanel(state="collapsed"),
        show.TimePanel(timeline=SECONDS, state="collapsed"),
    )


def _tab(rerun: Any, show: Any, clip: ClipLayout) -> Any:
    entities = Entities(rerun, clip.name)
    pictures = []
    for view, decoded in clip.views.items():
        title = "tracks" if len(clip.views) == 1 else f"tracks of {view}"
        pictures.append(_picture(rerun, show, entities.of(view), (), title, clip))
        if decoded is not None:
            pictures.append(_picture(rerun, show, entities.of(view), ("decoded",), decoded, clip))
    rows, shares = [show.Horizontal(*pictures)], [4.0]
    if clip.codes:
        curves = {"ids": "code ids", "motion_energy": "motion energy"}
        plots = [
            show.TimeSeriesView(
                origin=entities.of("codes", part), name=name, plot_legend=show.PlotLegend(visible=False)
            )
            for part, name in curves.items()
        ]
        text = show.TextDocumentView(origin=entities.of("codes", "text"), name="codes of this window")
        rows.append(show.Horizontal(*plots, text))
        shares.append(2.0)
    if clip.segments:
        rows.append(show.StateTimelineView(origin=entities.of("segments"), name="segments"))
        shares.append(0.8)
    return show.Vertical(*rows, row_shares=shares, name=clip.name)


def _picture(rerun: Any, show: Any, view: str, folder: tuple[str, ...], title: str, clip: ClipLayout) -> Any:
    """A view's frames and over them the points and trails in ``folder``, the latter for some time."""
    points, trails = ("/".join(("", *folder, name)) for name in ("points", "trails"))
    lasting = {SECONDS: clip.trail_seconds, SOURCE_FRAME: clip.trail_source_frames}
    ranges = [
        rerun.VisibleTimeRange(name, start=_before(rerun, name, length), end=_before(rerun, name, 0))
        for name, length in lasting.items()
        if length is not None
    ]
    return show.Spatial2DView(
        origin=view,
        contents=["$origin/image", f"$origin{points}", f"$origin{trails}"],
        name=title,
        overrides={f"{view}{trails}": show.VisibleTimeRanges(ranges)} if ranges else None,
    )


def _before(rerun: Any, timeline: str, length: float) -> Any:
    if timeline == SECONDS:
        return rerun.TimeRangeBoundary.cursor_relative(seconds=-length)
    return rerun.TimeRangeBoundary.cursor_relative(seq=-int(length))
