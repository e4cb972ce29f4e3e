"""A tokenizer to use at once: videos, frames or tracks to ``MotionCodes``, and back to tracks.

Letters: S windows, F frames of a clip, V views, T frames of a window, N points, d ids of a window.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from amplify_motion_tokenizer.codes.decoding import decoded
from amplify_motion_tokenizer.codes.encoding import (
    ClipBatches,
    Extra,
    GatheredBatches,
    codes_of_arrays,
    encode_views,
    no_windows,
)
from amplify_motion_tokenizer.codes.given import (
    Array,
    given_fps,
    given_frames,
    given_ids,
    given_starts,
    given_tracks,
)
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.on_hub import OnHub
from amplify_motion_tokenizer.codes.overrides import overridden
from amplify_motion_tokenizer.codes.record import frames_meta, run_meta, source_meta
from amplify_motion_tokenizer.codes.tracks import check_one_view, encode_view
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.input_kinds import FRAME, WNORM
from amplify_motion_tokenizer.devices import resolve_device
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.evaluation.code_length import digits_of
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_weights,
)
from amplify_motion_tokenizer.models.torch_files import file_hash
from amplify_motion_tokenizer.trackers import PointTracker, make_tracker, record_weights
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.video.memory import frames_in_memory
from amplify_motion_tokenizer.video.reading import make_videos
from amplify_motion_tokenizer.video.sources import find_clips, model_views

_LARGEST = {WNORM: (1.0, "W-normalised, in [-1, 1]"), FRAME: (2.0, "normalised positions a step, in [-2, 2]")}
"""Kind of input: the largest velocity that it has, and its unit. The others' models check it themselves."""


def load_tokenizer(
    path: str | Path = "default",
    device: str | torch.device = "auto",
    settings: Mapping[str, Any] | None = None,
) -> Tokenizer:
    """A tokenizer from any file that ``load_checkpoint`` reads, or a shipped one by name.

    Args:
        path: the file; the name of a shipped tokenizer: "default", "transform", "codec"; a folder that
            ``save_pretrained`` wrote; or a name on the Hugging Face Hub, ``user/name`` or
            ``user/name@revision``.
        device: where its weights are to be: auto, cpu, mps, cuda, cuda:N, or a device of torch.
        settings: settings by dotted key that inference may change, such as ``{"tracking.window_stride": 4}``;
            what ``--tracking.window_stride 4`` is on the command line.

    Raises:
        ConfigError: there is no such device here; or a setting is unknown, impossible, or fixed by the
            checkpoint.
        CheckpointError: as ``load_checkpoint``; or the weights do not fit the config.
    """
    placed = resolve_device(str(device), "device")
    checkpoint = load_checkpoint(path)
    config = overridden(checkpoint, settings or {})
    model = build_model(checkpoint.config)
    load_weights(model, checkpoint.model, str(path))
    return Tokenizer(
        model.to(placed).eval(), config, dataclasses.replace(checkpoint, model={}, training=None)
    )


class Tokenizer(OnHub):
    """A ``MotionTokenizer`` with all that it needs to make codes of videos, frames and tracks.

    What is not defined here is the model's: ``num_codes``, ``parameters()``, ``codes_of()`` and so on.

    Args:
        model: in evaluation mode, on its device.
        config: the checkpoint's, or one that ``check_overrides`` allows.
        checkpoint: that the model was made of; its weights may be left out.

    Attributes:
        model: the ``MotionTokenizer``, an ``nn.Module``.
        config: decides frames, tracker, windows and input.
    """

    def __init__(self, model: MotionTokenizer, config: Config, checkpoint: Checkpoint) -> None:
        self.model, self.config = model, config
        self._checkpoint = checkpoint

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "model":  # copying asks before there is a model
            raise AttributeError(name)
        return getattr(self.model, name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The model's forward pass."""
        return self.model(*arguments, **named)

    def __repr__(self) -> str:
        made = f"{self.config.model.name} of {self._checkpoint.path.name}"
        return f"Tokenizer({made}, {self.num_codes} ids of {self.codebook_size} a window, {self.device})"

    @classmethod
    def from_pretrained(
        cls, name: str | Path, device: str | torch.device = "auto", settings: Mapping[str, Any] | None = None
    ) -> Tokenizer:
        """``load_tokenizer``, by the name that the Hugging Face Hub's users know."""
        return load_tokenizer(name, device, settings)

    def to(self, device: str | torch.device) -> Tokenizer:
        """Moves the model; returns this tokenizer."""
        self.model.to(resolve_device(str(device), "device"))
        return self

    def encode_video(self, path: str | Path, latents: bool = False) -> MotionCodes:
        """Codes of every window of a clip, equal to what the command ``infer`` writes of it.

        Args:
            path: a video, or another clip that ``infer --input`` takes, as a folder of numbered pictures.
            latents: whether the codes hold their vectors, too.

        Raises:
            ValueError: ``path`` holds several clips.
            TokenizerError: the clip cannot be read, is too short, or the tracker cannot run.
        """
        clips = find_clips(Path(path), self.config, model_views(Path(path), self.config))
        if len(clips) != 1:
            raise ValueError(f"{path} holds {len(clips)} clips; expected one, or use tokenize_folder")
        with TrackedClip(clips[0], self._config_of_tracks, self._tracker) as tracked:
            return self._codes_of(tracked, clips[0].name, source_meta(tracked.infos), latents)

    def encode_frames(
        self, frames: Array | Mapping[str, Array], *, fps: float, clip: str = "frames", latents: bool = False
    ) -> MotionCodes:
        """Codes of every window of frames in memory, resampled and resized as those of a video are.

        Args:
            frames: uint8 (F, H, W, 3), RGB, 0 to 255, upright, in square pixels; for a tokenizer of several
                views a mapping of each view's name to such frames.
            fps: frames per second.
            clip: what the codes and messages call them.
            latents: whether the codes hold their vectors, too.

        Raises:
            ValueError: naming the shape, type or number that was expected and what was found.
            TrackerError: the tracker cannot run.
        """
        rate, views = given_fps(fps), list(self.config.data.views)
        given = frames if isinstance(frames, Mapping) else {views[0]: frames}
        if set(given) != set(views):
            raise ValueError(f"frames are of the views {', '.join(given)}; expected {', '.join(views)}")
        sources = [frames_in_memory(given_frames(given[view]), rate, clip) for view in views]
        try:
            videos = dict(zip(views, make_videos(sources, self._config_of_tracks.video), strict=True))
            with TrackedClip(videos, self._config_of_tracks, self._tracker) as tracked:
                return self._codes_of(tracked, clip, {"source": None, **frames_meta(tracked.infos)}, latents)
        except VideoError as error:  # there is no file that could be at fault
            raise ValueError(str(error)) from None

    def encode_tracks(
        self,
        tracks_xy_px: Array,
        visibility: Array,
        *,
        size: tuple[int, int],
        fps: float,
        starts: Sequence[int] | Array | None = None,
        clip: str = "tracks",
        latents: bool = False,
    ) -> MotionCodes:
        """Codes of windows of tracks of one view, each of which begins on the query grid.

        Args:
            tracks_xy_px: (S, T, N, 2) or (T, N, 2), (x, y) pixels of the frames, NaN where a point is lost.
            visibility: (S, T, N) or (T, N), confidence 0 to 1, or bool.
            size: (height, width) of the frames in pixels.
            fps: frames per second of the T frames; a warning tells where the tokenizer was made for others.
            starts: (S,) first frame of each window, ascending; None: one every ``tracking.window_stride``.
            clip: what the codes call them.
            latents: whether the codes hold their vectors, too.

        Raises:
            ValueError: naming the shape, unit or order that was expected and what was found.
        """
        check_one_view(self)
        rate = given_fps(fps)
        view = given_tracks(tracks_xy_px, visibility, size, self.config)
        windows, length = view.visibility.shape[:2]
        first = given_starts(starts, windows, self.config.tracking.window_stride)
        save: list[Extra] = ["latents"] if latents else []
        made = (
            encode_view(self.model, self.config, view, save)
            if windows
            else no_windows(self.model, self.config, save)
        )
        self._warn_of_rate(rate, length)
        facts = {
            "window_starts": first,
            "start_seconds": first.double() / rate,
            "end_seconds": (first + length - 1).double() / rate,
            "step_seconds": torch.full((windows,), 1 / rate, dtype=torch.float64),
            "source_frames": torch.full((windows,), -1),
            "end_source_frames": torch.full((windows,), -1),
        }
        meta = run_meta(self._checkpoint, self.config, None, self.model)
        frames = {"source": None, "source_fps": rate, "fps": rate, "tracked_size": list(view.size or ())}
        return codes_of_arrays(made | facts, clip, meta | frames)

    @overload
    def decode(
        self, codes: MotionCodes, size: tuple[int, int] | None = None, camera: bool = True
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def decode(self, codes: Tensor) -> Tensor: ...

    def decode(
        self, codes: MotionCodes | Tensor, size: tuple[int, int] | None = None, camera: bool = True
    ) -> tuple[Tensor, Tensor] | Tensor:
        """Tracks that codes tell, from the query grid on.

        Args:
            codes: of this tokenizer. (Vectors (S, d, D) instead give the model's logits, as its ``decode``.)
            size: (height, width) of the frames to show tracks in, in pixels; None: the tracked frames' own.
            camera: whether the camera's motion, where it was taken out and kept beside the ids, is put back;
                tracks are NaN, and not visible, in frames where it is not known. False: the tracks of a
                camera that stays where it was in the window's first frame.

        Returns:
            tracks (S, [V, ]T, N, 2) float32, (x, y) pixels, and visibility (S, [V, ]T, N) bool: whether the
            point is within the picture then, as codes do not tell what is hidden; both on the CPU.

        Raises:
            ValueError: codes are of another tokenizer, or neither.
        """
        if isinstance(codes, Tensor) and codes.is_floating_point():
            return self.model.decode(codes)
        if not isinstance(codes, MotionCodes):
            raise ValueError(
                f"codes are a {type(codes).__name__}; expected MotionCodes; for ids alone use decode_tracks"
            )
        self._check_made_here(codes)
        return decoded(self, codes, size, camera)

    def digits(self, ids: Array) -> Tensor:
        """FSQ digits (..., K) int64 of ids (...), of any shape: each from 0 to its level less 1.

        An id is the sum of its digits, each times the product of the levels before it
        (``config.model.fsq_levels``).

        Raises:
            ValueError: ids are no whole numbers, or outside of the codebook.
        """
        return digits_of(given_ids(ids, self.codebook_size, "expected ids"), self.config.model.fsq_levels)

    def encode(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        """``MotionTokenizer.encode`` of velocities on any device; tokens (B, d, D) are on the model's.

        Raises:
            ValueError: as there; or velocities are larger than their unit allows, as pixels are.
        """
        self._check_unit(velocities)
        return self.model.encode(*self._placed(velocities, images))

    def tokenize(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        """``MotionTokenizer.tokenize`` of velocities on any device; ids (B, d) int64 are on the model's.

        Raises:
            ValueError: as there; or velocities are larger than their unit allows, as pixels are.
        """
        self._check_unit(velocities)
        return self.model.tokenize(*self._placed(velocities, images))

    @functools.cached_property
    def _tracker(self) -> PointTracker:
        return make_tracker(self.config)

    @functools.cached_property
    def _config_of_tracks(self) -> Config:
        """The config with the hash of the tracker's weights."""
        return record_weights(self.config, self._tracker)

    def _codes_of(
        self, tracked: TrackedClip, clip: str, facts: Mapping[str, Any], latents: bool
    ) -> MotionCodes:
        save: list[Extra] = ["latents"] if latents else []
        config = self._config_of_tracks
        batches = ClipBatches(tracked, config.inference.batch_size)
        made = GatheredBatches()
        for each in batches:
            made.add({**each.places, **encode_views(each.views, self.model, config, save)})
        arrays = made.taken() if len(made) else no_windows(self.model, config, save)
        meta = run_meta(self._checkpoint, config, self._tracker.name, self.model)
        return codes_of_arrays(arrays, clip, {**meta, **facts, **batches.facts})

    def _placed(self, velocities: Tensor, images: Tensor | None) -> tuple[Tensor, Tensor | None]:
        device = self.model.device
        return velocities.to(device), None if images is None else images.to(device)

    def _check_unit(self, velocities: Any) -> None:
        """Raises ValueError for pixels where another unit is expected."""
        if not isinstance(velocities, Tensor):
            raise ValueError(f"velocities: expected a tensor, found a {type(velocities).__name__}")
        most, unit = _LARGEST.get(self.config.input_kind, (math.inf, ""))
        if velocities.numel() and float(velocities.abs().max()) > most + 1e-4:
            raise ValueError(
                f"velocities reach {float(velocities.abs().max()):g}; expected {unit}; of tracks in pixels "
                "encode_tracks makes codes"
            )

    def _check_made_here(self, codes: MotionCodes) -> None:
        own, found = self.checkpoint_sha256, codes.meta.get("checkpoint_sha256")
        if found is not None and found != own:
            raise ValueError(
                f"codes of {codes.clip or 'a clip'} were made with {codes.meta.get('checkpoint')} (SHA-256 "
                f"{found[:8]}...), expected {self._checkpoint.path.name} ({own[:8]}...); load that one"
            )

    @functools.cached_property
    def checkpoint_sha256(self) -> str:
        """SHA-256, in hex, of the file that the tokenizer was loaded from, which its codes name."""
        return file_hash(self._checkpoint.path)

    def _warn_of_rate(self, fps: float, length: int) -> None:
        """Warns where T frames of this rate span another time than the windows of the tokenizer do."""
        made_for = self.config.video.target_fps
        if made_for is None:
            return
        given, wanted = (length - 1) / fps, (self.config.tracked_length - 1) / made_for
        if abs(given - wanted) > 0.01 * wanted:
            warnings.warn(
                f"windows of {length} frames at {fps:g} fps span {given:.3f} s; the tokenizer was made for "
                f"{wanted:.3f} s ({self.config.tracked_length} at {made_for:g}), so their motion is told as "
                f"{given / wanted:.2f} times as fast",
                stacklevel=3,
            )
