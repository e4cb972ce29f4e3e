"""A stand-in with the arguments and outputs of TAPIR's torch model that the adapter relies on.

A point moves with the brightness that its window gains, and is hidden where that is dark. Frames that are
not of the range that TAPIR takes give no number.
"""

import torch
from torch import nn


class TAPIR(nn.Module):
    def __init__(self, pyramid_level=1, extra_convs=True):
        super().__init__()
        assert pyramid_level == 1 and extra_convs
        self.speed = nn.Parameter(torch.tensor([8.0, -4.0]))  # (x, y) on the raster of the frames given
        self.calls = []
        self.full_above = None

    def forward(self, video, query_points, is_training=False, query_chunk_size=64):
        assert not torch.is_grad_enabled() and not self.training
        self.calls.append((video.clone(), query_points.clone()))
        if self.full_above is not None and len(video) > self.full_above:
            raise torch.OutOfMemoryError("CUDA out of memory")
        batch, steps, height, width, channels = video.shape
        assert channels == 3 and height == width and height % 8 == 0 and video.abs().max() <= 1
        assert query_points.shape == (batch, len(query_points[0]), 3) and (query_points[..., 0] == 0).all()
        torch.randperm(query_points.shape[1])  # as TAPIR shuffles its queries
        light = video.mean((2, 3, 4))
        moved = (light - light[:, :1])[:, None, :, None] * self.speed * height / 256
        tracks = query_points[:, :, None, [2, 1]] + moved
        hidden = -4 * light[:, None].expand(tracks.shape[:3])
        return {"tracks": tracks, "occlusion": hidden, "expected_dist": hidden - 1}
