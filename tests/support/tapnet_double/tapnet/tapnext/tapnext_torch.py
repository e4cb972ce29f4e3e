"""A stand-in with the arguments and outputs of TAPNext's torch model that the adapter relies on.

A point moves with the brightness that its window gains, and is seen where that is bright. It takes a frame
at a time, and a state from one to the next.
"""

import torch
from torch import nn


class TAPNext(nn.Module):
    def __init__(self, image_size):
        super().__init__()
        assert tuple(image_size) == (256, 256)
        self.speed = nn.Parameter(torch.tensor([-4.0, 8.0]))  # (y, x)
        self.calls = []

    def forward(self, video, query_points=None, state=None):
        assert not torch.is_grad_enabled() and not self.training
        assert (query_points is None) != (state is None), "queries come with the first frame alone"
        self.calls.append((video.clone(), None if query_points is None else query_points.clone()))
        assert video.shape[1] == 1 and video.shape[-1] == 3 and video.abs().max() <= 1
        light = video.mean((2, 3, 4))
        state = (query_points, light) if state is None else state
        queries, first = state
        moved = (light - first)[..., None, None] * self.speed
        tracks = queries[:, None, :, 1:] + moved
        visible = 4 * light[..., None, None].expand(*tracks.shape[:3], 1)
        return tracks, torch.zeros(*tracks.shape[:3], 512), visible, state
