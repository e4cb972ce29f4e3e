"""Trackers that take several windows in one forward pass of a network."""

from __future__ import annotations

import itertools
import logging
import textwrap
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.errors import TrackerError
from amplify_motion_tokenizer.geometry import inside
from amplify_motion_tokenizer.trackers.base import PointTracker
from amplify_motion_tokenizer.trackers.windows import FrameWindow, WindowTracks
from amplify_motion_tokenizer.video.pixels import resize

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

Predict = Callable[[list[FrameWindow], Floats], tuple[Floats, Floats]]
"""B windows of T frames and queries (N, 2), (x, y) in pixels of the frames, to tracks (B, T, N, 2), (x, y) in
pixels of the frames, and visibility (B, T, N) in [0, 1]. The first row is put right afterwards."""


MISFITS = (AttributeError, LookupError, TypeError, ValueError)
"""What code of another version than the adapter knows raises: other arguments, other outputs."""


class BatchedTracker(PointTracker):
    """Gathers windows to batches, makes batches smaller when the GPU is full, and checks what comes back.

    A class that derives from this one says in ``predictor`` how a batch is tracked.

    Attributes:
        title: what the tracker is called in messages.
        section: its settings are ``tracking.<section>``.
        lighter: what to do when the GPU is too small for one window.
        not_finite: what to do when no track is finite.
    """

    owns_device = True

    title: ClassVar[str]
    section: ClassVar[str]
    lighter: ClassVar[str] = "lower data.grid_size, or set tracking.device to cpu"
    not_finite: ClassVar[str] = "check the weights"

    def __init__(self, name: str, batch_size: int) -> None:
        self.name = name
        self._batch_size = batch_size

    @property
    def windows_ahead(self) -> int:
        """How many windows one forward pass takes."""
        return self._batch_size

    @abstractmethod
    def predictor(self) -> Predict:
        """How the batches of one clip are tracked; a new one for each clip, so that it may keep frames."""

    def track(self, windows: Iterable[FrameWindow], queries_xy_px: Floats) -> Iterator[WindowTracks]:
        """Tracks of each window; see ``PointTracker.track``.

        Reads ``window_batch_size`` windows ahead. When the GPU is full the batch is halved, for this
        clip and all that follow.

        Raises:
            TrackerError: the GPU is too small for one window, the frames differ in size, or the model
                returned something that is not tracks.
        """
        predict = self.predictor()
        for _, same_length in itertools.groupby(_of_one_size(windows), key=lambda window: len(window.frames)):
            waiting: list[FrameWindow] = []
            while waiting := _filled(waiting, same_length, self._batch_size):
                batch = waiting[: self._batch_size]
                result = self._predict_if_it_fits(predict, batch, queries_xy_px)
                if result is None:
                    self._halve(len(batch))
                    continue
                waiting = waiting[len(batch) :]
                yield from self._window_tracks(batch, *result, queries_xy_px)

    def expect_shapes(self, tracks: Tensor, visibility: Tensor, expected: tuple[int, int, int]) -> None:
        """Raises TrackerError unless the model returned tracks and visibility of (B, T, N) = ``expected``."""
        found, needed = (tuple(tracks.shape), tuple(visibility.shape)), ((*expected, 2), expected)
        if found != needed:
            raise self._misfit(
                f"returned tracks {found[0]} and visibility {found[1]}, but {needed[0]} and {needed[1]} are "
                "needed"
            )

    def _misfit(self, what: str) -> TrackerError:
        return TrackerError(
            f"{self.title} {what}; this version of its code does not fit, set "
            f"tracking.{self.section}.checkout to a clone of another"
        )

    def _predict_if_it_fits(
        self, predict: Predict, batch: list[FrameWindow], queries_xy_px: Floats
    ) -> tuple[Floats, Floats] | None:
        """``predict``, or None when memory does not suffice for several windows.

        The next try is the caller's: within the handler the error would hold the memory of what failed.
        """
        try:
            return predict(batch, queries_xy_px)
        except MISFITS as error:
            what = textwrap.shorten(f"failed with {type(error).__name__}: {error}", 300)
            raise self._misfit(what) from error
        except torch.OutOfMemoryError as error:
            if len(batch) > 1:
                return None
            raise TrackerError(
                f"the GPU is too small for one window of {len(batch[0].frames)} frames and "
                f"{len(queries_xy_px)} points; {self.lighter}"
            ) from error

    def _halve(self, batch_size: int) -> None:
        self._batch_size = batch_size // 2
        log.warning(
            "the GPU is full with %d windows in one forward pass: from here on %d; "
            f"set tracking.{self.section}.window_batch_size to that",
            batch_size,
            self._batch_size,
        )
        torch.cuda.empty_cache()

    def _window_tracks(
        self, batch: list[FrameWindow], tracks: Floats, visibility: Floats, queries_xy_px: Floats
    ) -> Iterator[WindowTracks]:
        # Models come near their queries only, or rescale them, which changes their last digits.
        tracks[:, 0] = queries_xy_px
        visibility[:, 0] = inside(queries_xy_px, frame_size(batch[0]))
        for window, xy, seen in zip(batch, tracks, visibility, strict=True):
            if len(xy) > 1 and not np.isfinite(xy[1:]).any():
                raise TrackerError(
                    f"{self.title} gave no finite track for the window at frame {window.start}; "
                    f"{self.not_finite}"
                )
            yield WindowTracks(window.start, window.time_s, xy, seen)


class ResizedFrames:
    """One clip's frames at a model's size, on the CPU; a frame is resized once, and kept while needed."""

    def __init__(self) -> None:
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def of(self, windows: list[FrameWindow], size: tuple[int, int], steps: int) -> Tensor:
        """The windows' frames (B, steps, h, w, 3), RGB, uint8, at ``size`` (h, w).

        Beyond its real frames a window goes on with the last one. Windows of later calls start no earlier.
        """
        first = min(window.start for window in windows)
        self._kept = {index: rgb for index, rgb in self._kept.items() if index >= first}
        rows = []
        for window in windows:
            for step, rgb in enumerate(window.real_frames, window.start):
                if step not in self._kept:
                    self._kept[step] = np.ascontiguousarray(resize(rgb, size))
            last = len(window.real_frames) - 1
            rows.append(np.stack([self._kept[window.start + min(step, last)] for step in range(steps)]))
        return torch.from_numpy(np.stack(rows))


def frame_size(window: FrameWindow) -> tuple[int, int]:
    """(height, width) of a window's frames."""
    height, width = window.frames[0].shape[:2]
    return height, width


def _of_one_size(windows: Iterable[FrameWindow]) -> Iterator[FrameWindow]:
    """The windows of a clip; raises TrackerError at frames of another size than the clip's first."""
    expected: Any = None
    for window in windows:
        for rgb in window.frames:
            expected = expected or rgb.shape
            if rgb.shape != expected:
                raise TrackerError(
                    f"frames of one clip differ in size: {expected[:2]} and {rgb.shape[:2]} "
                    "(height, width); expected one size"
                )
        yield window


def _filled(waiting: list[FrameWindow], more: Iterator[FrameWindow], size: int) -> list[FrameWindow]:
    """``waiting`` and as many windows of ``more`` as are lacking to ``size``."""
    return waiting + list(itertools.islice(more, max(0, size - len(waiting))))
