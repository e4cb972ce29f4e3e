"""Windows of tracks to codes, whether they come from a tracker, from files or from memory.

Letters: b windows of a batch, V views, T frames, t steps of the model, N points, d ids of a window, D numbers
of an id's vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.record import size_meta
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.camera import camera_alone, camera_apart, camera_moves
from amplify_motion_tokenizer.data.inputs import EncoderInput, encoder_input
from amplify_motion_tokenizer.data.views import ViewTracks, stack_views
from amplify_motion_tokenizer.models import MotionTokenizer
from amplify_motion_tokenizer.models.heads import head_answers
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.trackers.windows import SEEN, WindowTracks

Extra = Literal["latents", "labels"]
"""What can be saved besides the codes, in ``<clip>.pt``."""
EXTRAS: tuple[Extra, ...] = ("latents", "labels")


def encode_windows(
    windows: Iterable[tuple[WindowTracks, ...]],
    sizes: Sequence[tuple[int, int] | None],
    model: MotionTokenizer,
    config: Config,
    save: Sequence[Extra] = (),
) -> Iterator[dict[str, Tensor]]:
    """Batches of tracked windows to codes; stops after quantising unless labels are asked for.

    Args:
        windows: tracks of each window in each of the model's views.
        sizes: (height, width) of each view's frames, whose pixels the tracks are in; None: not known.
        model: in evaluation mode, on its device.
        config: decides reference size and batch size.
        save: extra arrays to compute.

    Yields:
        CPU tensors of a batch of b windows: window_starts (b,) int64, start_seconds, end_seconds (of the
        last real frame) and step_seconds (b,) float64, source_frames and end_source_frames (b,) int64 (NaN
        and a frame of -1 are not known), and what ``encode_views`` gives.
    """
    for batch in tracked_batches(windows, sizes, config.inference.batch_size):
        yield {**batch.places, **encode_views(batch.views, model, config, save)}


class WindowBatch(NamedTuple):
    """Windows that become codes together."""

    views: Sequence[ViewTracks] | Tensor
    """Tracks of each of the model's views; or stored velocities (b, t, N, 2), W-normalised."""
    places: dict[str, Tensor]
    """Where the windows are: the columns of ``encode_windows`` that do not depend on the model."""


def tracked_batches(
    windows: Iterable[tuple[WindowTracks, ...]], sizes: Sequence[tuple[int, int] | None], batch_size: int
) -> Iterator[WindowBatch]:
    """Windows as a tracker yields them, in batches; arguments as those of ``encode_windows``."""
    stream = iter(windows)
    while batch := list(islice(stream, batch_size)):
        firsts = [views[0] for views in batch]
        places = {
            "window_starts": torch.tensor([window.start for window in firsts]),
            "start_seconds": _float64([window.time_s for window in firsts]),
            "end_seconds": _float64([_end_s(window) for window in firsts]),
            "step_seconds": _float64([window.step_seconds or torch.nan for window in firsts]),
            "source_frames": torch.tensor([(*window.source_frames, -1)[0] for window in firsts]),
            "end_source_frames": torch.tensor([(-1, *window.source_frames)[-1] for window in firsts]),
        }
        yield WindowBatch(stack_views(batch, sizes), places)


class ClipBatches:
    """The windows of a clip that is tracked while they are asked for, in batches; iterate it once.

    Args:
        tracked: the clip.
        batch_size: windows of a batch, at most.
    """

    def __init__(self, tracked: TrackedClip, batch_size: int) -> None:
        self._tracked, self._size = tracked, batch_size
        self._changes: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[WindowBatch]:
        for infos, windows in self._tracked.stretches():
            changed = bool(self._changes) or infos != self._tracked.infos
            for batch in tracked_batches(windows, [info.size for info in infos.values()], self._size):
                if changed:
                    begins = int(batch.places["window_starts"][0])
                    self._changes.append({"start_frame": begins, **size_meta(infos)})
                    changed = False
                yield batch

    @property
    def facts(self) -> dict[str, Any]:
        """What ``meta`` has of the clip once it has ended: its frames, its parts, where its size changes."""
        tracked = self._tracked
        facts = {
            "num_frames": tracked.num_frames,
            "windows_dropped": tracked.windows_dropped,
            "parts": tracked.parts,
        }
        return facts | ({"size_changes": self._changes} if self._changes else {})


@torch.no_grad()
def encode_views(
    views: Sequence[ViewTracks] | Tensor, model: MotionTokenizer, config: Config, save: Sequence[Extra] = ()
) -> dict[str, Tensor]:
    """Codes of a batch of windows, and what is said of each.

    Args:
        views: as in ``WindowBatch``.
        model: in evaluation mode, on its device.
        config: decides how tracks become the model's input.
        save: extra arrays to compute.

    Returns:
        CPU tensors: valid_steps (b,) int64 (the first of the t steps, which are real; the rest is padding),
        motion_energy and visible_share (b,) float32 as in ``MotionCodes``, code_sequences (b, d) int64, with
        ``save`` latent_tokens (b, d, D) float32 and labels_per_point (b, [V, ]t, N) int32, and where
        ``data.camera`` takes the camera's motion out of tracks camera_moves (b, V, t, 4, 2) float32, with
        both also camera_sequences (b, d) int64.
    """
    energy, share = motion_of(views)
    if not isinstance(views, Tensor):
        views = [camera_apart(view, config) for view in views]
    inputs = encoder_input(views, config)
    codes, indices = _quantized(model, inputs)
    result = {
        "valid_steps": inputs.window_steps,
        "motion_energy": energy,
        "visible_share": share,
        "code_sequences": indices.cpu(),
    }
    if "latents" in save:
        result["latent_tokens"] = codes.float().cpu()
    if "labels" in save:
        labels = head_answers(model.head(codes)).expand(-1, *model.input_shape[:-1])
        result["labels_per_point"] = labels.to(torch.int32).cpu()
    if config.data.camera != "keep" and not isinstance(views, Tensor):
        result["camera_moves"] = camera_moves(views, config)
        if config.data.camera == "both":
            alone = encoder_input([camera_alone(view) for view in views], config)
            result["camera_sequences"] = _quantized(model, alone)[1].cpu()
    return result


def _quantized(model: MotionTokenizer, inputs: EncoderInput) -> tuple[Tensor, Tensor]:
    """Codes (b, d, D) and ids (b, d), on the model's device."""
    on_device = inputs.to(model.device)
    return model.quantize(model.encode(on_device.velocities, on_device.images))


def no_windows(model: MotionTokenizer, config: Config, save: Sequence[Extra]) -> dict[str, Tensor]:
    """A batch of ``encode_windows`` with b = 0: a clip may have no windows, and its arrays still a shape."""
    *labels, _ = model.input_shape
    whole = ("window_starts", "source_frames", "end_source_frames", "valid_steps")
    seconds = ("start_seconds", "end_seconds", "step_seconds")
    empty: dict[str, Tensor] = {
        **{name: torch.empty(0, dtype=torch.int64) for name in whole},
        **{name: torch.empty(0, dtype=torch.float64) for name in seconds},
        **{name: torch.empty(0) for name in ("motion_energy", "visible_share")},
        "code_sequences": torch.empty(0, model.num_codes, dtype=torch.int64),
    }
    if "latents" in save:
        empty["latent_tokens"] = torch.empty(0, model.num_codes, model.code_width)
    if "labels" in save:
        empty["labels_per_point"] = torch.empty(0, *labels, dtype=torch.int32)
    if config.data.camera != "keep":
        empty["camera_moves"] = torch.empty(0, len(config.data.views), config.num_steps, 4, 2)
    if config.data.camera == "both":
        empty["camera_sequences"] = empty["code_sequences"]
    return empty


class GatheredBatches:
    """Batches of ``encode_windows``, one after another in columns that grow.

    Thousands of small tensors instead, each kept among the large ones that come and go, would keep the memory
    of those from being used again: it grew by 25 KB a window.
    """

    def __init__(self) -> None:
        self._columns: dict[str, Tensor] = {}
        self._count = 0

    def __len__(self) -> int:
        """Number of windows."""
        return self._count

    def add(self, batch: Mapping[str, Tensor]) -> None:
        """Takes the next batch, of the same columns as the first."""
        count = self._count + len(next(iter(batch.values())))
        for name, new in batch.items():
            column = self._columns.get(name, new[:0])
            if len(column) < count:
                longer = new.new_empty((2 * count, *new.shape[1:]))
                longer[: self._count] = column[: self._count]
                self._columns[name] = column = longer
            column[self._count : count] = new
        self._count = count

    def taken(self) -> dict[str, Tensor]:
        """All windows' arrays, which are held here no longer."""
        return {name: self._columns.pop(name)[: self._count].clone() for name in list(self._columns)}


def codes_of_arrays(arrays: Mapping[str, Tensor], clip: str, meta: Mapping[str, Any]) -> MotionCodes:
    """The windows of one clip, from the arrays that ``encode_windows`` gives."""
    return MotionCodes(
        ids=arrays["code_sequences"],
        starts=arrays["window_starts"],
        seconds=torch.stack([arrays["start_seconds"], arrays["end_seconds"]], dim=1),
        step_seconds=arrays["step_seconds"],
        source_frames=torch.stack([arrays["source_frames"], arrays["end_source_frames"]], dim=1),
        valid_steps=arrays["valid_steps"],
        motion_energy=arrays["motion_energy"],
        visible_share=arrays["visible_share"],
        latents=arrays.get("latent_tokens"),
        camera=arrays.get("camera_moves"),
        camera_ids=arrays.get("camera_sequences"),
        clip=clip,
        meta=meta,
    )


def motion_of(views: Sequence[ViewTracks] | Tensor) -> tuple[Tensor, Tensor]:
    """``motion_energy`` and ``visible_share`` (b,) float32 of windows, over all their views together.

    A view whose size is not known makes the energy NaN; of stored velocities neither is known.
    """
    if isinstance(views, Tensor):
        return torch.full((len(views),), torch.nan), torch.full((len(views),), torch.nan)
    squares, moves, seen, points = (torch.zeros(len(views[0].visibility)) for _ in range(4))
    for view in views:
        tracks, (frames, count) = view.tracks_xy_px.float(), view.visibility.shape[1:]
        steps = torch.full_like(seen, frames - 1) if view.valid_steps is None else view.valid_steps
        real = torch.arange(frames) <= steps[:, None]
        visible = (view.visibility >= SEEN) & real[..., None]
        visible &= (tracks[..., 0] + tracks[..., 1]).isfinite()
        both = visible[:, 1:] & visible[:, :-1]
        move = tracks.diff(dim=1)
        squared = move[..., 0].square() + move[..., 1].square()
        side = torch.nan if view.size is None else min(view.size)
        squares += torch.where(both, squared, 0.0).sum(dim=(1, 2)) / side**2
        moves += both.sum(dim=(1, 2))
        seen += visible.sum(dim=(1, 2))
        points += real.sum(dim=1) * count
    return (squares / moves).sqrt(), seen / points


def _float64(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _end_s(window: WindowTracks) -> float:
    """Seconds from the clip's first frame to the window's last real one."""
    if not window.valid_steps:
        return window.time_s
    return window.time_s + (window.step_seconds or torch.nan) * window.valid_steps
