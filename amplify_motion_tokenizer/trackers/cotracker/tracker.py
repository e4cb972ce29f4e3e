"""Windows to tracks with CoTracker's model, several windows in one forward pass."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from amplify_motion_tokenizer.config import Config, CoTrackerConfig
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.trackers.batches import BatchedTracker, Floats, Predict, frame_size
from amplify_motion_tokenizer.trackers.checkouts import device_without_mps, weights_hash
from amplify_motion_tokenizer.trackers.cotracker.features import ClipFrames, SharedEncoder
from amplify_motion_tokenizer.trackers.cotracker.loading import load_predictor
from amplify_motion_tokenizer.trackers.windows import FrameWindow

ITERATIONS = 6
"""How often the model updates the tracks of a window; CoTracker's predictors do so as often."""
AUTOCAST = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class CoTracker(BatchedTracker):
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

    title = "CoTracker"
    section = "cotracker"
    not_finite = "set tracking.cotracker.autocast to bf16 or no if it is fp16, or check the weights"

    def __init__(self, entry: str, config: CoTrackerConfig, device: str = "auto") -> None:
        """Loads code and weights.

        Raises:
            TrackerError: code or weights are not there, or do not fit; the message says which keys to set.
            ConfigError: there is no such device, or it cannot compute in fp16.
        """
        super().__init__(entry, config.window_batch_size)
        self._device = device_without_mps(
            device, "CoTracker runs on the CPU: it samples with border padding, which MPS does not have"
        )
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

    @classmethod
    def from_config(cls, config: Config) -> CoTracker:
        """The hub entry ``tracking.tracker`` as ``tracking.cotracker`` and ``tracking.device`` say.

        Raises:
            TrackerError: code or weights are not there, or do not fit.
            ConfigError: there is no such device, or it cannot compute in fp16.
        """
        return cls(config.tracking.tracker, config.tracking.cotracker, config.tracking.device)

    def predictor(self) -> Predict:
        """How the batches of one clip are tracked; its frames are sent and encoded once."""
        return functools.partial(self._predict, ClipFrames(self._device, self._model_size))

    @torch.inference_mode()
    def _predict(
        self, clip: ClipFrames, batch: list[FrameWindow], queries_xy_px: Floats
    ) -> tuple[Floats, Floats]:
        """Tracks (B, T, N, 2), (x, y) in pixels of the frames, and visibility (B, T, N) of B windows."""
        clip.forget_before(batch[0].start)
        steps, points = len(batch[0].frames), len(queries_xy_px)
        padded = max(steps, self._least_steps)
        indices = [
            [window.start + min(step, len(window.real_frames) - 1) for step in range(padded)]
            for window in batch
        ]
        # The model's pixels run from 0 to size - 1 between the centres of the border pixels, as ours do.
        (height, width), (model_height, model_width) = frame_size(batch[0]), self._model_size
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
        self.expect_shapes(tracks, visibility, expected)
        has_confidence = len(rest) > 1  # version 3: confidence, training data; version 2: training data
        return tracks, visibility * rest[0] if self._online and has_confidence else visibility


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
