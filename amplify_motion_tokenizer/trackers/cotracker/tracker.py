"""Windows to tracks with CoTracker's model, several windows in one forward pass."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from amplify_motion_tokenizer.config import Config, CoTrackerConfig
from amplify_motion_tokenizer.devices import resolve_device
from amplify_motion_tokenizer.errors import ConfigError, TrackerError
from amplify_motion_tokenizer.geometry import inside
from amplify_motion_tokenizer.trackers.base import PointTracker
from amplify_motion_tokenizer.trackers.cotracker.features import ClipFrames, SharedEncoder
from amplify_motion_tokenizer.trackers.cotracker.loading import load_predictor, weights_hash
from amplify_motion_tokenizer.trackers.windows import FrameWindow, WindowTracks

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

ITERATIONS = 6
"""How often the model updates the tracks of a window; CoTracker's predictors do so as often."""
AUTOCAST = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class CoTracker(PointTracker):
    """Any of CoTracker's hub entries on explicit queries, each window tracked by itself.

    The predictor's model is called directly, because the predictor keeps of its scores only whether
    they pass a threshold, and sends every frame of every window through the encoder. Tracks equal the
    predictor's. Visibility is the score that the predictor compares: visibility (above 0.9) for the offline
    entries, which see a whole clip, and visibility times confidence (above 0.6) for the online entries.

    Attributes:
        name: the hub entry.
        weights_sha256: hash of the weights in use.
        owns_device: True, as every process would load a copy of the model.
    """

    owns_device = True

    def __init__(self, entry: str, config: CoTrackerConfig, device: str = "auto") -> None:
        """Loads code and weights.

        Raises:
            TrackerError: code or weights are not there, or do not fit; the message says which keys to set.
            ConfigError: there is no such device, or it cannot compute in fp16.
        """
        self.name = entry
        self._device = _device(device)
        self._dtype = AUTOCAST[config.autocast]
        if config.autocast == "fp16" and self._device.type != "cuda":
            raise ConfigError(
                "tracking.cotracker.autocast = fp16 needs a CUDA device; allowed here: no, bf16"
            )
        predictor = load_predictor(entry, config)
        self._model = predictor.model
        self.weights_sha256 = weights_hash(self._model)
        self._model_size: tuple[int, int] = tuple(predictor.interp_shape)
        self._online = hasattr(predictor, "step")
        # Models that slide over a clip return zeros, silently, for one much shorter than their own window.
        slides = hasattr(self._model, "init_video_online_processing")
        self._least_steps: int = self._model.window_len if slides else 1
        self._support = support_grid(0 if self._online else predictor.support_grid_size, self._model_size)
        self._model.fnet = SharedEncoder(self._model.fnet)
        if config.compile:
            self._model.updateformer.compile()
        self._model.to(self._device)
        self._batch_size = config.window_batch_size

    @classmethod
    def from_config(cls, config: Config) -> CoTracker:
        """The hub entry ``tracking.tracker`` as ``tracking.cotracker`` and ``tracking.device`` say.

        Raises:
            TrackerError: code or weights are not there, or do not fit.
            ConfigError: there is no such device, or it cannot compute in fp16.
        """
        return cls(config.tracking.tracker, config.tracking.cotracker, config.tracking.device)

    @property
    def windows_ahead(self) -> int:
        """How many windows one forward pass takes."""
        return self._batch_size

    def track(self, windows: Iterable[FrameWindow], queries_xy_px: Floats) -> Iterator[WindowTracks]:
        """Tracks of each window; see ``PointTracker.track``.

        Reads ``window_batch_size`` windows ahead. When the GPU is full the batch is halved, for this
        clip and all that follow.

        Raises:
            TrackerError: the GPU is too small for one window, the frames differ in size, or the model
                returned something that is not tracks.
        """
        clip = ClipFrames(self._device, self._model_size)
        for _, same_length in itertools.groupby(windows, key=lambda window: len(window.frames)):
            waiting: list[FrameWindow] = []
            while waiting := _filled(waiting, same_length, self._batch_size):
                clip.forget_before(waiting[0].start)
                batch = waiting[: self._batch_size]
                result = self._predict_if_it_fits(batch, clip, queries_xy_px)
                if result is None:
                    self._halve(len(batch))
                    continue
                waiting = waiting[len(batch) :]
                yield from _window_tracks(batch, *result, queries_xy_px)

    def _halve(self, batch_size: int) -> None:
        self._batch_size = batch_size // 2
        log.warning(
            "the GPU is full with %d windows in one forward pass: from here on %d; "
            "set tracking.cotracker.window_batch_size to that",
            batch_size,
            self._batch_size,
        )
        torch.cuda.empty_cache()

    def _predict_if_it_fits(
        self, batch: list[FrameWindow], clip: ClipFrames, queries_xy_px: Floats
    ) -> tuple[Floats, Floats] | None:
        """``_predict``, or None when memory does not suffice for several windows.

        The next try is the caller's: within the handler the error would hold the memory of what failed.
        """
        try:
            return self._predict(batch, clip, queries_xy_px)
        except torch.OutOfMemoryError as error:
            if len(batch) > 1:
                return None
            raise TrackerError(
                f"the GPU is too small for one window of {len(batch[0].frames)} frames and "
                f"{len(queries_xy_px)} points; lower data.grid_size, or set tracking.device to cpu"
            ) from error

    @torch.inference_mode()
    def _predict(
        self, batch: list[FrameWindow], clip: ClipFrames, queries_xy_px: Floats
    ) -> tuple[Floats, Floats]:
        """Tracks (B, T, N, 2), (x, y) in pixels of the frames, and visibility (B, T, N) of B windows."""
        steps, points = len(batch[0].frames), len(queries_xy_px)
        padded = max(steps, self._least_steps)
        indices = [
            [window.start + min(step, len(window.real_frames) - 1) for step in range(padded)]
            for window in batch
        ]
        # The model's pixels run from 0 to size - 1 between the centres of the border pixels, as ours do.
        (height, width), (model_height, model_width) = _size(batch[0]), self._model_size
        scale = torch.tensor([(model_width - 1) / (width - 1), (model_height - 1) / (height - 1)])
        xy = torch.from_numpy(queries_xy_px).float() * scale
        xy = torch.cat([xy, self._support]).to(self._device)
        queries = torch.nn.functional.pad(xy, (1, 0))  # (frame 0, x, y)
        queries = queries.repeat(len(batch), 1, 1)
        video = clip.video(batch, indices)
        self._model.fnet.expect(clip, indices)
        with _ViewOrCopy(), torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None):
            outputs = self._model(video=video, queries=queries, iters=ITERATIONS)
        tracks, visibility = self._scores(outputs, (len(batch), padded, len(xy)))
        tracks = tracks[:, :steps, :points].float().cpu() / scale
        return tracks.numpy(), visibility[:, :steps, :points].float().cpu().contiguous().numpy()

    def _scores(self, outputs: Sequence[Any], expected: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Tracks (B, T, N, 2) and the score (B, T, N) in [0, 1] of what the model returned."""
        tracks, visibility, *rest = outputs
        found = tuple(tracks.shape), tuple(visibility.shape)
        if found != ((*expected, 2), expected):
            raise TrackerError(
                f"CoTracker returned tracks {found[0]} and visibility {found[1]}, but {(*expected, 2)} and "
                f"{expected} are needed; this version of its code does not fit, set "
                "tracking.cotracker.checkout to a clone of another"
            )
        has_confidence = len(rest) > 1  # version 3: confidence, training data; version 2: training data
        return tracks, visibility * rest[0] if self._online and has_confidence else visibility


def _filled(waiting: list[FrameWindow], more: Iterator[FrameWindow], size: int) -> list[FrameWindow]:
    """``waiting`` and as many windows of ``more`` as are lacking to ``size``."""
    return waiting + list(itertools.islice(more, max(0, size - len(waiting))))


def _window_tracks(
    batch: list[FrameWindow], tracks: Floats, visibility: Floats, queries_xy_px: Floats
) -> Iterator[WindowTracks]:
    # CoTracker rescales the queries to its own size and back, which changes their last digits.
    tracks[:, 0] = queries_xy_px
    visibility[:, 0] = inside(queries_xy_px, _size(batch[0]))
    for window, xy, seen in zip(batch, tracks, visibility, strict=True):
        if len(xy) > 1 and not np.isfinite(xy[1:]).any():
            raise TrackerError(
                f"CoTracker gave no finite track for the window at frame {window.start}; set "
                "tracking.cotracker.autocast to bf16 or no if it is fp16, or check the weights"
            )
        yield WindowTracks(window.start, window.time_s, xy, seen)


class _ViewOrCopy(TorchFunctionMode):
    """Lets ``Tensor.view`` copy where it has to, as ``reshape`` does.

    CoTracker3 takes a view of an expanded tensor, which fails for more than one window in a batch:
    https://github.com/facebookresearch/co-tracker/issues/163.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        is_shape = func is torch.Tensor.view and not isinstance(args[-1], torch.dtype)
        return (torch.Tensor.reshape if is_shape else func)(*args, **(kwargs or {}))


def support_grid(side: int, size: tuple[int, int]) -> Tensor:
    """The (side^2, 2) points, (x, y) row by row, that CoTracker tracks beside the queries.

    They are spread evenly over a frame of ``size`` (height, width), with a 64th of its width as margin.
    """
    height, width = size
    margin = width / 64
    y = torch.linspace(margin, height - margin, side)
    x = torch.linspace(margin, width - margin, side)
    return torch.cartesian_prod(y, x).flip(-1)


def _size(window: FrameWindow) -> tuple[int, int]:
    height, width = window.frames[0].shape[:2]
    return height, width


def _device(name: str) -> torch.device:
    device = resolve_device(name, "tracking.device")
    if device.type == "mps":
        log.warning("CoTracker runs on the CPU: it samples with border padding, which MPS does not have")
        return torch.device("cpu")
    return device
