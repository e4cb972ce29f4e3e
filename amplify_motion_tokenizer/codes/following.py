"""Codes of a live video: each window's as soon as its last frame has come."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from amplify_motion_tokenizer.codes.clip_codes import load_model
from amplify_motion_tokenizer.codes.encoding import ClipBatches, codes_of_arrays, encode_views
from amplify_motion_tokenizer.codes.files.json_stream import ENDED, CodeLines
from amplify_motion_tokenizer.codes.record import frames_meta, run_meta
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_SOME_FAILED,
    TrackerError,
    UsageError,
    VideoError,
)
from amplify_motion_tokenizer.models import MotionTokenizer
from amplify_motion_tokenizer.models.checkpoint import Checkpoint
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker, record_weights
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW
from amplify_motion_tokenizer.video.live import LiveVideo, open_live

logger = logging.getLogger(__name__)


def follow(source: str, checkpoint: Checkpoint, config: Config, write: Callable[[bytes], object]) -> int:
    """Writes the codes of a live video as ``json_stream`` has them, a line as each window completes.

    Windows are tracked and encoded one by one. The same frames have the same codes as from a file.

    Args:
        source: a camera's number or device, ``-`` for standard input, a pipe, a file or a URL.
        checkpoint: from ``load_checkpoint``.
        config: the checkpoint's config, or one that ``check_overrides`` allows.
        write: takes the bytes of a line, and must have passed them on when it returns.

    Returns:
        0 when the video came to its end; 3 when it broke off or was damaged, and 130 when it was interrupted
        (Ctrl-C), after windows were written.

    Raises:
        UsageError: nothing is at ``source``, or the tokenizer takes several views.
        VideoError: no window could be made of it.
        TokenizerError: the tracker cannot run, or the weights do not fit.
    """
    _check_views(config)
    tracker = make_tracker(config)
    config = record_weights(config, tracker)
    model = load_model(checkpoint, config)
    meta = run_meta(checkpoint, config, tracker.name, model)
    with open_live(source, config.video) as live:
        return _Following(live, tracker, model, config, meta, write).run()


def _check_views(config: Config) -> None:
    views = list(config.data.views)
    if len(views) > 1:
        raise UsageError(
            f"--follow takes a video of one view, and the tokenizer takes {len(views)} ({', '.join(views)}); "
            "record them, and give the folder as --input"
        )
    if config.tracking.view_files or config.video.source != "files":
        raise UsageError(
            "--follow takes one video, and tracking.view_files and video.source say where in a folder clips "
            "are; leave them out, or give the folder as --input"
        )


class _Following:
    """One live video on its way to lines of codes."""

    def __init__(
        self,
        live: LiveVideo,
        tracker: PointTracker,
        model: MotionTokenizer,
        config: Config,
        meta: dict[str, Any],
        write: Callable[[bytes], object],
    ) -> None:
        self._live, self._model, self._config = live, model, config
        self._tracked = TrackedClip({DEFAULT_VIEW: live.video}, config, tracker)
        self._batches = ClipBatches(self._tracked, batch_size=1)
        known = {"source": live.place.label, "saved": [], **frames_meta(self._tracked.infos)}
        self._lines = CodeLines(write, live.place.name, meta | known)

    def run(self) -> int:
        """Writes all windows and how they ended; returns the exit status."""
        try:
            with self._tracked:
                self._write_windows()
        except KeyboardInterrupt:
            self._end("interrupted")
            logger.warning("interrupted; %s windows are written, every line is whole", self._lines.windows)
            return EXIT_INTERRUPTED
        except (VideoError, TrackerError) as error:
            self._end(str(error))
            if not self._lines.windows:
                raise
            logger.error("%s; %s windows before that are written", error, self._lines.windows)
            return EXIT_SOME_FAILED
        self._end("the video's end")
        if self._live.lost:
            logger.error(
                "%s: %s pictures came damaged; windows around them may tell of motion that was not there",
                self._live.place.label, self._live.lost,
            )  # fmt: skip
            return EXIT_SOME_FAILED
        return EXIT_OK

    def _write_windows(self) -> None:
        warned = False
        for batch in self._batches:
            codes = {**batch.places, **encode_views(batch.views, self._model, self._config)}
            facts = self._batches.facts
            lists = {key: value for key, value in facts.items() if isinstance(value, list)}
            self._lines.tell(lists | self._missing)
            self._lines.add(codes_of_arrays(codes, self._live.place.name, {}))
            if self._live.dropped and not warned:
                warned = True
                logger.warning(
                    "%s: pictures come faster than they are tracked, and some are dropped; lower video.size "
                    "or raise tracking.window_stride", self._live.place.label,
                )  # fmt: skip

    @property
    def _missing(self) -> dict[str, int]:
        """Pictures that are in no window, where there are any."""
        counts = {"pictures_dropped": self._live.dropped, "pictures_lost": self._live.lost}
        return {key: count for key, count in counts.items() if count}

    def _end(self, why: str) -> None:
        self._lines.tell(self._batches.facts | self._missing | {ENDED: why})
