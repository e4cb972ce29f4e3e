"""A stand-in with the arguments and outputs of AllTracker's network that the adapter relies on.

The pixel at (x, y) of a window's first frame moves with the brightness that the window gains, the right half
twice as far and the lower half the other way; it is seen where its frame is bright, with half the confidence.
"""

import torch
import utils.misc
from torch import nn


class Net(nn.Module):
    def __init__(self, seqlen, use_basicencoder=False, no_split=False, init_weights=True):
        super().__init__()
        assert use_basicencoder or not init_weights, "would download the weights of another network"
        assert use_basicencoder == no_split
        self.seqlen = seqlen
        width = 1 if use_basicencoder else 2
        self.speed = nn.Parameter(torch.tensor([8.0, -4.0]).repeat(width) / width)
        self.calls = []

    def forward(self, images, iters=4, is_training=False):
        assert not torch.is_grad_enabled() and not self.training and iters == 4
        assert is_training, "would need a GPU"
        self.calls.append(images.clone())
        batch, steps, channels, height, width = images.shape
        assert channels == 3 and height % 8 == width % 8 == 0 and images.max() > 1
        assert steps >= self.seqlen and (steps - self.seqlen) % (self.seqlen // 2) == 0
        light = images.mean((2, 3, 4)) / 255 * utils.misc.SCALE
        gained = (light - light[:, :1])[..., None, None, None]
        flow = gained * self.speed.reshape(-1, 2).sum(0)[:, None, None].expand(2, height, width)
        flow[..., width // 2 :] *= 2
        flow[..., height // 2 :, :] *= -1
        seen = light[..., None, None, None] * torch.tensor([1.0, 0.5])[:, None, None].expand(2, height, width)
        return flow, seen, [], []
