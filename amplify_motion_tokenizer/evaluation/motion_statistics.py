"""What the motion in a folder of tracks is like, measured as a model would see it, and settings that suit it.

Letters: B windows, V views, t steps, N points. Lengths are pixels of the reference size per step.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.camera import camera_apart
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.inputs import ModelInput, beyond_window, from_tracks, from_velocities
from amplify_motion_tokenizer.data.interpolation import interpolate_time
from amplify_motion_tokenizer.data.masks import motion_score
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.geometry import px_from_wnorm, reference_velocities, wnorm_from_px
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.trackers.windows import SEEN
from amplify_motion_tokenizer.tracks.stored import Clips, positions

MAX_WINDOWS = 2000
"""Windows that are looked at, spread evenly over a larger folder."""

PERCENTILES = (5, 25, 50, 75, 90, 95, 99, 99.9)

MOVING_PX = 0.5
"""Speed above which a step's class can be another than the centre."""

LARGEST_WINDOW = 31
"""W above which there are so many classes (W * W) that slower motion is the better cure."""

MAX_SLOWER = 8.0
"""Factor by which a lower frame rate is suggested at most."""

_RATE_TOLERANCE = 1e-3
"""Relative difference of two frame rates that are the same, with three digits."""

MAX_CLAMPED, MAX_CENTER = 0.01, 0.8
"""Shares of moving points' steps, clamped and in the centre class, above which something should change."""


@dataclass(frozen=True, kw_only=True)
class MotionStatistics:
    """Measured over ``windows_read`` windows; shares are of real steps of points whose track is finite.

    A share or percentile of nothing is NaN.
    """

    clips: int
    windows: int
    windows_read: int
    sizes: dict[str, int]
    """Tracked size, "height x width", to the number of clips; "unknown" where files do not say."""
    fps: tuple[float, ...]
    """Frame rates of the tracks, where files say."""
    source_fps: tuple[float, ...]
    """Frame rates of the clips themselves, where all files say."""
    stored_clamped: bool
    """Whether velocities were read, which are stored clamped to the window of classes."""
    label_counts: Tensor
    """(rows, columns) int64, how often each class occurs."""
    speed_px: dict[float, float]
    """Percentile to the speed of a step."""
    moving_speed_px: dict[float, float]
    """``speed_px`` of moving points alone, which reach ``MOVING_PX`` in a step of their window."""
    axis_99_px: float
    """99th percentile of the larger component of moving points' steps; W must hold it twice."""
    static_share: float
    """Points of a window below the static filter's threshold."""
    visible_share: float
    """Frames of points with a confidence of at least 0.5."""
    finite_share: float
    """Points whose track is finite."""
    clamped_share: float
    """Steps as large as the window of classes or larger."""
    center_share: float
    """Steps in the centre class."""
    moving_clamped_share: float
    """Clamped steps, of moving points alone."""
    moving_center_share: float
    """Steps in the centre class, of moving points alone."""

    @property
    def nothing_moves(self) -> bool:
        """Whether no point reaches ``MOVING_PX`` in any step."""
        return not self.axis_99_px > 0  # also where no point is finite: it is NaN then


class Suggestion(NamedTuple):
    """A setting that would suit the motion better."""

    key: str
    now: float | str | None
    better: float | None
    """A value that suits better; None where only a direction is known, which ``reason`` says."""
    reason: str


class _Elements(NamedTuple):
    """Flat columns; the first five have a row for each step of a finite point."""

    speed_px: Tensor
    axis_px: Tensor
    moving: Tensor
    clamped: Tensor
    labels: Tensor
    score: Tensor
    """Score of the static filter, a row for each finite point."""
    visible: Tensor
    finite: Tensor


def measure(clips: Clips, config: Config) -> MotionStatistics:
    """Reads windows of ``clips``, from ``load_clips``, and measures them.

    Raises:
        TrackFileError: a file is damaged.
    """
    data = WindowDataset(clips, config)
    parts = [_elements(inputs, velocity_px, config) for inputs, velocity_px in _windows(data, config)]
    found = _Elements(*(torch.cat(column) for column in zip(*parts, strict=True)))
    center, moving = found.labels == config.num_classes // 2, found.moving
    return MotionStatistics(
        clips=len(clips),
        windows=len(data),
        windows_read=min(len(data), MAX_WINDOWS),
        sizes=_sizes(clips),
        fps=_rates(clip.fps for clip in positions(clips).values()),
        source_fps=_source_rates(clips),
        stored_clamped=any(clip.stores == "velocities" for clip in clips.values()),
        label_counts=found.labels.bincount(minlength=config.num_classes).view(config.class_grid),
        speed_px=_percentiles(found.speed_px),
        moving_speed_px=_percentiles(found.speed_px[moving]),
        axis_99_px=_percentile(found.axis_px[moving], 99),
        static_share=_share(found.score < config.data.static_filter.threshold),
        visible_share=_share(found.visible),
        finite_share=_share(found.finite),
        clamped_share=_share(found.clamped),
        center_share=_share(center),
        moving_clamped_share=_share(found.clamped[moving]),
        moving_center_share=_share(center[moving]),
    )


def _elements(inputs: ModelInput, velocity_px: Tensor, config: Config) -> _Elements:
    real = inputs.real_steps.unsqueeze(-1)
    finite = inputs.finite.unsqueeze(-2) & real
    velocity_px = velocity_px * real[..., None]
    speed = torch.linalg.vector_norm(velocity_px, dim=-1)
    wnorm = wnorm_from_px(velocity_px, config.model.decoder_window_size).flatten(0, -4)
    score = motion_score(wnorm, config.data.static_filter.metric, inputs.valid_steps.flatten())
    of_steps = inputs.finite & (inputs.valid_steps > 0).unsqueeze(-1)
    return _Elements(
        speed_px=speed[finite],
        axis_px=velocity_px.abs().amax(dim=-1)[finite],
        moving=(speed.amax(dim=-2, keepdim=True) >= MOVING_PX).expand_as(speed)[finite],
        clamped=beyond_window(inputs, config)[finite],
        labels=inputs.labels[finite],
        score=score[of_steps.flatten(0, -2)],
        visible=(inputs.visibility >= SEEN)[_real_frames(inputs)].flatten(),
        finite=inputs.finite.flatten(),
    )


def _real_frames(inputs: ModelInput) -> Tensor:
    """(B, [V, ]T) bool, False for frames that repeat the last real one."""
    frames = torch.arange(inputs.visibility.shape[-2])
    return frames <= inputs.valid_steps[..., None]


def suggest(found: MotionStatistics, config: Config) -> list[Suggestion]:
    """Settings that suit the motion better, the most pressing first; empty where all is well."""
    window = _suggest_window(found, config)
    width = min(config.class_grid)
    if window is not None and window.key != _FPS and window.better is not None:
        width = int(window.better)
    return [each for each in (window, _suggest_threshold(width, config)) if each is not None]


_FPS = "video.target_fps"


def _suggest_window(found: MotionStatistics, config: Config) -> Suggestion | None:
    """Another W, or another frame rate where no W suits."""
    own_grid = config.model.has_class_grid and config.model.own.class_grid is not None
    key = f"model.{config.model.name}.class_grid" if own_grid else "model.decoder_window_size"
    width, reach = min(config.class_grid), found.axis_99_px
    if found.nothing_moves:
        return None
    wanted = 2 * math.ceil(reach - 1e-3) + 1  # of a whole number, rounding must not make the next
    left = f"{found.moving_clamped_share:.1%} of moving points' steps leave the {width} x {width} px"
    if found.moving_clamped_share > MAX_CLAMPED and found.stored_clamped:
        return Suggestion(key, width, None, f"{left}, a larger one is due; only track files tell how large")
    if found.moving_clamped_share > MAX_CLAMPED and wanted <= LARGEST_WINDOW:
        return Suggestion(key, width, wanted, f"{left}; 99% stay within {reach:.1f} px on each axis")
    if found.moving_clamped_share > MAX_CLAMPED:
        reason = f"1% of moving points' steps exceed {reach:.1f} px, which takes {wanted**2} classes: rather "
        return _more_frames(found, config, reach / (LARGEST_WINDOW // 2), reason)
    if found.moving_center_share > MAX_CENTER:
        typical = max(found.moving_speed_px[50], 1 / MAX_SLOWER)
        reason = (
            f"{found.moving_center_share:.1%} of moving points' steps are in the centre class, half of them "
            f"below {typical:.2f} px: {1 / typical:.1f} times fewer frames, or a larger data.reference_size"
        )
        rate = _rate(found, config)
        return Suggestion(_FPS, config.video.target_fps, rate and _rounded(rate * typical), reason)
    if wanted < width // 2:
        unused = f"99% of moving points' steps stay within {reach:.1f} px, so most classes never occur"
        return Suggestion(key, width, max(5, wanted), unused)
    return None


def _suggest_threshold(width: int, config: Config) -> Suggestion | None:
    """Below half a pixel a point has nothing but the centre class, for which static points are left out."""
    filter_ = config.data.static_filter
    better = float(f"{2 * MOVING_PX / (width - 1):.2g}")
    if not filter_.enable or 0.5 * better <= filter_.threshold <= 2 * better:
        return None
    reason = f"half a pixel per step at W = {width}: slower points have no class but the centre"
    return Suggestion("data.static_filter.threshold", filter_.threshold, better, reason)


def _more_frames(found: MotionStatistics, config: Config, factor: float, reason: str) -> Suggestion:
    """A rate up to ``factor`` times as high, but none that the slowest clip lacks; else smaller frames."""
    now, rate = config.video.target_fps, _rate(found, config)
    most = min(found.source_fps, default=None)
    if rate is None or most is None:
        reason += (
            f"{factor:.1f} times the frame rate, where the clips have it, or a smaller data.reference_size"
        )
        return Suggestion(_FPS, now, None, reason)
    if most <= rate * (1 + _RATE_TOLERANCE):
        reason += (
            f"a {factor:.1f} times smaller data.reference_size, for the clips have no more than {most:g} fps"
        )
        return Suggestion("data.reference_size", _in_words(config.data.reference_size), None, reason)
    better = min(_rounded(rate * factor), most)
    reason += f"{better / rate:.1f} times the frame rate, or a smaller data.reference_size"
    if rate * factor > most * (1 + _RATE_TOLERANCE):
        reason += f"; {factor:.1f} times would do, but the clips have no more than {most:g} fps"
    return Suggestion(_FPS, now, better, reason)


def _in_words(size: tuple[int, int] | dict[str, int] | None) -> str | None:
    """A reference size as a config has it."""
    if size is None:
        return None
    return str(list(size)) if isinstance(size, tuple) else f"{{shorter: {size['shorter']}}}"


def _rate(found: MotionStatistics, config: Config) -> float | None:
    """Frames a second of the slowest tracks: clips slower than ``video.target_fps`` keep their own."""
    return min(found.fps, default=config.video.target_fps)


def _rounded(fps: float) -> float:
    return float(f"{fps:.3g}")


def _windows(data: WindowDataset, config: Config) -> Iterator[tuple[ModelInput, Tensor]]:
    """Batches of one clip's windows: the model's input, and velocities (B, [V, ]t, N, 2), (x, y) px."""
    count = min(len(data), MAX_WINDOWS)
    chosen = np.linspace(0, len(data) - 1, count).round().astype(int)
    windows: dict[str, list[int]] = {}
    for index in chosen.tolist():
        windows.setdefault(data.locate(index)[0], []).append(index)
    with Progress(len(windows), "clip") as progress:
        for wanted in progress.each(windows.values()):
            views = data.stored(np.array(wanted))
            if isinstance(views, Tensor):
                inputs = from_velocities(views, config)
                yield inputs, px_from_wnorm(inputs.velocities, config.model.decoder_window_size)
                continue
            views = [camera_apart(view, config) for view in views]
            velocities = [_velocities_px(view, config) for view in views]
            several = config.input_kind.view_axis
            yield from_tracks(views, config), torch.stack(velocities, dim=1) if several else velocities[0]


def _velocities_px(view: ViewTracks, config: Config) -> Tensor:
    data = config.data
    tracks = interpolate_time(view.tracks_xy_px, data.sequence_length, data.interpolation)
    return reference_velocities(tracks, view.size, data.reference_size).nan_to_num(0.0, 0.0, 0.0)


def _sizes(clips: Clips) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for clip in clips.values():
        known = [size for size in clip.sizes if size is not None]
        sizes.update({f"{height} x {width}" for height, width in known} or {"unknown"})
    return dict(sizes.most_common())


def _rates(rates: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(sorted({round(rate, 3) for rate in rates if rate is not None}))


def _source_rates(clips: Clips) -> tuple[float, ...]:
    """Empty where a file does not say: its clip may be slower than all others."""
    rates = [clip.source_fps for clip in positions(clips).values()]
    return () if None in rates else _rates(rates)


def _percentiles(values: Tensor) -> dict[float, float]:
    return {percent: _percentile(values, percent) for percent in PERCENTILES}


def _percentile(values: Tensor, percent: float) -> float:
    return float(np.percentile(values.numpy(), percent)) if values.numel() else math.nan


def _share(flags: Tensor) -> float:
    return float(flags.float().mean()) if flags.numel() else math.nan
