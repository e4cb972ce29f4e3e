"""Resamples point tracks along time, for windows whose length differs from the model's.

AMPLIFY does this to its normalised tracks, after clamping, and does not clamp again.
Letters: T frames, N points.
"""

from __future__ import annotations

import importlib

import torch
import torch.nn.functional as F
from torch import Tensor

from amplify_motion_tokenizer.errors import ConfigError


def interpolate_time(tracks: Tensor, num_frames: int, method: str) -> Tensor:
    """Tracks at ``num_frames`` times, evenly spaced from the first frame to the last, both included.

    Args:
        tracks: (..., T, N, 2) float, positions in any unit and axis order, T at least 2.
        num_frames: T of the result, at least 2. T itself gives a copy of the tracks.
        method: "linear", straight lines between frames; or "spline", scipy's ``CubicSpline`` with
            not-a-knot ends, computed in float64 on the CPU.

    Returns:
        (..., num_frames, N, 2) float32. NaN or infinity in a track spreads to NaN or infinity beside it;
        "spline", to which all frames matter, makes that coordinate NaN in every frame.

    Raises:
        ValueError: when the method is unknown, or a shape or length is impossible.
        ConfigError: "spline" without scipy; says how to install it.
    """
    if tracks.ndim < 3 or tracks.shape[-1] != 2 or min(tracks.shape[-3], num_frames) < 2:
        raise ValueError(
            f"tracks are {tuple(tracks.shape)}, to be resampled to {num_frames} frames; "
            "expected (..., T, N, 2) with at least 2 frames before and after"
        )
    series = tracks.float().movedim(-3, -1)
    if method not in ("linear", "spline"):
        raise ValueError(f"method is {method!r}; expected 'linear' or 'spline'")
    if num_frames == tracks.shape[-3]:
        resampled = series.clone()
    elif method == "linear":
        flat = series.reshape(1, -1, series.shape[-1])
        resampled = F.interpolate(flat, num_frames, mode="linear", align_corners=True)
        resampled = resampled.reshape(*series.shape[:-1], num_frames)
    else:
        resampled = _cubic_spline(series, num_frames)
    return resampled.movedim(-1, -3)


def _cubic_spline(series: Tensor, num_frames: int) -> Tensor:
    """(..., T) to (..., num_frames) float32."""
    try:
        spline_type = importlib.import_module("scipy.interpolate").CubicSpline
    except ImportError:
        raise ConfigError(
            "data.interpolation = spline needs scipy; install it with pip install scipy, or choose linear"
        ) from None
    old = torch.linspace(0, 1, series.shape[-1], dtype=torch.float64).numpy()
    new = torch.linspace(0, 1, num_frames, dtype=torch.float64).numpy()
    finite = series.isfinite().all(dim=-1, keepdim=True)  # scipy refuses what is not
    values = spline_type(old, series.where(finite, 0.0).detach().double().cpu().numpy(), axis=-1)(new)
    return torch.from_numpy(values).to(series).where(finite, torch.nan)
