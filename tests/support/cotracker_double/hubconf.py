"""A stand-in with the parts and arguments of CoTracker that the adapter relies on, and trivial arithmetic.

A frame's map is its mean brightness, a point moves with the brightness that its window gains, and is
seen where that is bright. Sizes are a toy's.
"""

import torch
from torch import nn

SIZE = (24, 32)
WINDOW = 8


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.frames_seen = []

    def forward(self, frames):
        self.frames_seen.append(frames.clone())
        return self.weight * frames.mean((1, 2, 3))[:, None, None, None]


class Model(nn.Module):
    """Sees a whole window."""

    def __init__(self):
        super().__init__()
        self.fnet = Encoder()
        self.updateformer = nn.Linear(1, 2, bias=False)
        self.updateformer.weight.data = torch.tensor([[0.2], [-0.1]])
        self.calls = []
        self.full_above = None

    def forward(self, video, queries, iters=4):
        assert not torch.is_grad_enabled() and not self.training and iters == 6
        self.calls.append((video.clone(), queries.clone(), torch.is_autocast_enabled("cpu")))
        if self.full_above is not None and len(video) > self.full_above:
            raise torch.OutOfMemoryError("CUDA out of memory")
        batch, steps, _, height, width = video.shape
        assert (height, width) == SIZE
        # CoTracker views an expanded tensor like so, which plain torch refuses for several windows.
        points = queries[:, None, :, 1:].expand(-1, steps, -1, -1).view(batch * steps, -1, 2)
        maps = self.fnet(self.padded(video).reshape(-1, 3, height, width))
        light = maps.reshape(batch, -1)[:, :steps]
        moved = self.updateformer(light[..., None] - light[:, :1, None]).float()
        tracks = points.reshape(batch, steps, -1, 2) + moved[:, :, None]
        seen = (light[:, :, None] / 255).expand(tracks.shape[:3])
        return self.outputs(tracks, seen)

    def padded(self, video):
        return video

    def outputs(self, tracks, seen):
        return tracks, seen, seen * 0 + 0.5, None


class SlidingModel(Model):
    """Slides its own window over a clip, padded with the last frame; gives nothing for half a window."""

    window_len = WINDOW

    def init_video_online_processing(self):
        raise NotImplementedError("windows are tracked whole")

    def padded(self, video):
        more = -video.shape[1] % WINDOW
        return torch.cat([video, video[:, -1:].expand(-1, more, -1, -1, -1)], 1)

    def outputs(self, tracks, seen):
        nothing = 0 if tracks.shape[1] <= WINDOW // 2 else 1
        return super().outputs(tracks * nothing, seen * nothing)


class SecondModel(SlidingModel):
    """Version 2 has no confidence."""

    def outputs(self, tracks, seen):
        tracks, seen, _, rest = super().outputs(tracks, seen)
        return tracks, seen, rest


class Predictor(nn.Module):
    interp_shape = SIZE
    support_grid_size = 2

    def __init__(self, model):
        super().__init__()
        self.model = model


class OnlinePredictor(Predictor):
    step = WINDOW // 2


def cotracker3_offline(*, pretrained=True):
    if pretrained:
        torch.hub.load_state_dict_from_url("https://amt.invalid/weights.pth")
    return Predictor(Model())


def cotracker3_online(*, pretrained=True):
    return OnlinePredictor(SlidingModel())


def cotracker2(*, pretrained=True):
    return Predictor(SecondModel())


def cotracker_of_a_fork(*, pretrained=True):
    return Predictor(Model())


def cotracker_without_parts(*, pretrained=True):
    return nn.Linear(1, 1)
