"""CoTracker (Karaev et al. 2024, "CoTracker3") through torch.hub.

Its code and weights are non-commercial, so neither is shipped: torch.hub downloads them, or the
config names a local clone and a weights file.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import re
import textwrap
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from amplify_motion_tokenizer.config import CoTrackerConfig
from amplify_motion_tokenizer.datatypes import FrameWindow, WindowTracks
from amplify_motion_tokenizer.devices import resolve_device
from amplify_motion_tokenizer.errors import TrackerError
from amplify_motion_tokenizer.trackers.base import inside

log = logging.getLogger(__name__)

ENTRY = "cotracker3_offline"
WEIGHTS_URL = "https://huggingface.co/facebook/cotracker3/resolve/main/scaled_offline.pth"
HOW_TO = (
    "Without network, set tracking.cotracker.checkout to a folder made by 'git clone "
    "https://github.com/facebookresearch/co-tracker', and tracking.cotracker.weights to a file "
    f"downloaded from {WEIGHTS_URL}"
)
LOAD_ERRORS = (OSError, HTTPException, BadZipFile, RuntimeError, pickle.UnpicklingError, EOFError)
"""What torch.hub and torch.load raise for a missing network, a failed or a damaged download."""


class CoTracker:
    """CoTracker3 offline on explicit queries, several windows in one forward pass.

    Visibility is the predictor's own yes or no, as 1 or 0.
    """

    name = ENTRY

    def __init__(self, config: CoTrackerConfig, device: str = "auto") -> None:
        """Loads code and weights.

        Raises:
            TrackerError: code or weights are not there; the message says which keys to set.
            ConfigError: there is no such device.
        """
        self._batch_size = config.window_batch_size
        self._device = _device(device)
        predictor = _load_predictor(config)
        if config.weights is not None:
            _load_weights(predictor.model, Path(config.weights).expanduser())
        self._predictor = predictor.to(self._device).eval()

    def track(
        self, windows: Iterable[FrameWindow], queries_xy_px: NDArray[np.float32]
    ) -> Iterator[WindowTracks]:
        """Tracks of each window; see ``PointTracker.track``.

        Reads ``window_batch_size`` windows ahead.

        Raises:
            TrackerError: the GPU is full, or the predictor returned something that is not tracks.
        """
        for _, same_length in itertools.groupby(windows, key=lambda window: len(window.frames)):
            while batch := list(itertools.islice(same_length, self._batch_size)):
                yield from self._track_batch(batch, queries_xy_px)

    def _track_batch(
        self, batch: list[FrameWindow], queries_xy_px: NDArray[np.float32]
    ) -> Iterator[WindowTracks]:
        frames = np.stack([np.stack(window.frames) for window in batch])
        tracks, visibility = self._predict(frames, queries_xy_px)
        # CoTracker rescales the queries to its own size and back, which changes their last digits.
        tracks[:, 0] = queries_xy_px
        visibility[:, 0] = inside(queries_xy_px, (frames.shape[2], frames.shape[3]))
        for window, xy, seen in zip(batch, tracks, visibility, strict=True):
            yield WindowTracks(window.start, window.time_s, xy, seen)

    @torch.inference_mode()
    def _predict(
        self, frames: NDArray[np.uint8], queries_xy_px: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, T, H, W, 3) RGB and (N, 2) -> tracks (B, T, N, 2) in (x, y) pixels, visibility (B, T, N)."""
        steps, points = frames.shape[1], len(queries_xy_px)
        # 0..255 and not 0..1: the model rescales by itself.
        video = torch.from_numpy(frames).to(self._device).permute(0, 1, 4, 2, 3).float()
        xy = torch.as_tensor(queries_xy_px, dtype=torch.float32, device=self._device)
        queries = torch.cat([torch.zeros_like(xy[:, :1]), xy], dim=1)  # (frame 0, x, y)
        queries = queries.expand(len(frames), -1, -1).contiguous()
        try:
            with _ViewOrCopy():
                tracks, visibility = self._predictor(video, queries=queries)
        except torch.OutOfMemoryError as error:
            raise TrackerError(
                f"the GPU is too small for {len(frames)} windows of {steps} frames and {points} points; "
                f"lower tracking.cotracker.window_batch_size (now {self._batch_size}) or data.grid_size"
            ) from error
        expected = (len(frames), steps, points)
        if tracks.shape != (*expected, 2) or visibility.shape != expected:
            raise TrackerError(
                f"CoTracker returned tracks {tuple(tracks.shape)} and visibility {tuple(visibility.shape)}, "
                f"but {(*expected, 2)} and {expected} are needed; this version of its "
                "code does not fit, set tracking.cotracker.checkout or hub_repo to another"
            )
        return tracks.float().cpu().numpy(), visibility.float().cpu().numpy()


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


def _device(name: str) -> torch.device:
    device = resolve_device(name, "tracking.device")
    if device.type == "mps":
        log.warning("CoTracker runs on the CPU: it samples with border padding, which MPS does not have")
        return torch.device("cpu")
    return device


def _load_predictor(config: CoTrackerConfig) -> Any:
    """The predictor from torch.hub, with downloaded weights where the config names no file."""
    pretrained = config.weights is None
    if config.checkout is not None:
        repo, source = str(Path(config.checkout).expanduser()), "local"
        if not (Path(repo) / "hubconf.py").is_file():
            raise TrackerError(
                f"tracking.cotracker.checkout = {config.checkout!r} is not a clone of CoTracker (it has no "
                f"hubconf.py). {HOW_TO}"
            )
    else:
        repo, source = config.hub_repo, "github"
        if not re.fullmatch(r"[^/:\s]+/[^/:\s]+(:[^:\s]+)?", repo):
            raise TrackerError(
                f"tracking.cotracker.hub_repo = {repo!r} is not owner/name or owner/name:ref, such as "
                "facebookresearch/co-tracker"
            )
    try:
        return torch.hub.load(  # type: ignore[no-untyped-call]
            repo,
            ENTRY,
            source=source,
            pretrained=pretrained,
            # torch.hub would ask on the terminal; naming the repository in the config is the answer.
            trust_repo=True,
            skip_validation=True,
            verbose=False,
        )
    except ImportError as error:
        raise TrackerError(f"CoTracker's code in {repo} cannot be imported: {_one_line(error)}") from error
    except LOAD_ERRORS as error:
        wanted = (
            "code and weights" if source == "github" and pretrained else "weights" if pretrained else "code"
        )
        raise TrackerError(f"no CoTracker {wanted} from {repo}: {_one_line(error)}. {HOW_TO}") from error


def _load_weights(model: torch.nn.Module, path: Path) -> None:
    """Fills ``model`` from a state-dict file."""
    if not path.is_file():
        raise TrackerError(f"tracking.cotracker.weights = {str(path)!r} is not a file. {HOW_TO}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state.get("model", state))
    except (*LOAD_ERRORS, AttributeError, TypeError) as error:
        raise TrackerError(
            f"tracking.cotracker.weights = {str(path)!r} is not a state dict of {ENTRY}: "
            f"{_one_line(error)}. It is at {WEIGHTS_URL}"
        ) from error


def _one_line(error: BaseException) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300)
