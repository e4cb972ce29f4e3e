"""What a tracker makes of exact tracks: bias, jitter, jumps, points that it loses or thinks it sees.

The errors are as large as the embedded flow tracker's against the truth of one rendered clip of each kind
(240 x 320, 13 windows of 16 frames each, 400 points): over points that are seen and said to be, a bias of
0.04 rows at the median and 0.7 in the worst hundredth, a jitter of 0.03 and 0.44; 0.6 % off by 3 rows or
more; an eighth of hidden points are said to be seen, up to two thirds in the kinds where things cover each
other, and are off by 3 to 5 rows; 2 % of seen points are said to be hidden, over a third in faint texture;
half of the points that come back are found in the frame in which they do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from amplify_motion_tokenizer.scenes.synthetic.draws import Draws


def tracked(draws: Draws, tracks: Tensor, visible: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Tracks and visibility with a tracker's errors; frame 0 stays exact and all points seen there.

    Args:
        draws: of B windows.
        tracks: (B, T, N, 2), rows of a frame of 240, (0, 0) in its middle.
        visible: (B, T, N) bool, the truth.
        half: (B, 2), half of the frame's width and height.
    """
    said = _said(draws, tracks, visible, half)
    frames, points = tracks.shape[1:3]
    bias = draws.log_uniform(0.01, 0.25, 1, 1, 1) * draws.normal(1, points, 2)
    jitter = draws.log_uniform(0.01, 0.25, 1, 1, 1) * draws.normal(frames, points, 2)
    error = (bias + jitter) * draws.happens(0.85, 1, 1, 1)  # still clips without noise are tracked to the bit
    # A point that jumps has slipped on to something else, and stays off.
    jumps = draws.happens(0.02, points) & draws.happens(0.6, 1)
    begins = draws.uniform(1, frames, points)
    slipped = jumps[:, None] & (torch.arange(frames)[:, None] >= begins[:, None])
    error += slipped[..., None] * (draws.log_uniform(1, 15, 1, points, 1) * draws.normal(1, points, 2))
    # Where nothing is seen a track is a guess, worse with each frame; held to what is seen once it is back.
    drift = draws.log_uniform(0.02, 3, 1, points, 1) * draws.normal(1, points, 2)
    error += drift * _runs(~visible)[..., None]
    error[:, 0] = 0
    return tracks + error, said


def _said(draws: Draws, tracks: Tensor, visible: Tensor, half: Tensor) -> Tensor:
    """(B, T, N) bool: what is said to be seen; late in seeing that a point is covered, or back."""
    frames, points = tracks.shape[1:3]
    inside = (tracks.abs() <= half[:, None, None]).all(dim=-1)
    misses = draws.uniform(0, 1, 1).square() * 0.9
    late = (draws.uniform(0, 1, points) < misses) * draws.log_uniform(1, 16, points)
    said = visible | (inside & (_runs(~visible) <= late[:, None]))
    blind = draws.happens(0.5, points) * draws.log_uniform(1, 16, points)
    was_hidden = (~visible).cumsum(dim=1) > 0
    said &= ~(was_hidden & visible & (_runs(visible) <= blind[:, None]))
    lost = draws.uniform(0, 1, points) < draws.log_uniform(0.002, 0.4, 1)
    begins, length = draws.uniform(1, frames, points), draws.log_uniform(1, 30, points)
    step = torch.arange(frames)[:, None]
    said &= ~(lost[:, None] & (step >= begins[:, None]) & (step < (begins + length)[:, None]))
    said[:, 0] = True
    return said


def _runs(flags: Tensor) -> Tensor:
    """(B, T, N) float32: how many frames in a row, up to and with this one, the flag is set."""
    count = torch.zeros_like(flags[:, 0], dtype=torch.float32)
    counts = []
    for flag in flags.unbind(dim=1):
        count = (count + 1) * flag
        counts.append(count)
    return torch.stack(counts, dim=1)
