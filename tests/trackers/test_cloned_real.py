"""The adapters of TAPIR, TAPNext and AllTracker against plain calls of their own code with random weights.

``AMT_TAPNET`` and ``AMT_ALLTRACKER`` name local clones; without them, or without the packages that the code
in them imports, these tests are skipped. They take minutes.
"""

import importlib
import os
import sys

import cv2
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.config import AllTrackerConfig, BootsTapirConfig, TapNextConfig
from amplify_motion_tokenizer.trackers.alltracker import AllTracker
from amplify_motion_tokenizer.trackers.bootstapir import BootsTapir
from amplify_motion_tokenizer.trackers.tapnext import TapNext
from tests.support.tracked import windows_of

SIZE = (120, 200)
QUERIES = np.float32([[12.25, 20], [180, 100.5], [100, 60], [0, 119]])


@pytest.fixture
def code(monkeypatch):
    """Imports a module of the clone that an environment variable names, as its own scripts would."""

    def imported(variable, *modules):
        folder = os.environ.get(variable)
        if not folder:
            pytest.skip(f"{variable} names no clone")
        monkeypatch.syspath_prepend(folder)
        try:
            return folder, *[importlib.import_module(module) for module in modules]
        except ModuleNotFoundError as missing:
            pytest.skip(f"the code in {variable} needs {missing.name}")

    yield imported
    for name in [name for name in sys.modules if name.split(".")[0] in ("tapnet", "nets", "utils")]:
        del sys.modules[name]


def spread(model):
    """Random weights that move points; some are made as zeros, TAPNext's as whatever memory held."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        start = 0 if "ssm_block" in name else parameter.data
        parameter.data = start + 0.02 * torch.randn(parameter.shape, generator=generator)
    return model.eval().requires_grad_(False)


def resized(frames, size):
    method = cv2.INTER_AREA if size < SIZE else cv2.INTER_LINEAR
    return [cv2.resize(frame, size[::-1], interpolation=method) for frame in frames]


def compared(tracker, video, steps, plain, threshold, tolerance=0.01):
    """Each window's tracks against ``plain(window)``: tracks (T, N, 2) and what is visible (T, N)."""
    windows = list(windows_of(video, 1, steps))
    moved = 0.0
    for window, result in zip(windows, tracker.track(windows, QUERIES), strict=True):
        tracks, seen = plain(window)
        assert np.abs(result.tracks_xy_px - tracks)[1:].max() <= tolerance
        clear = np.abs(result.visibility - threshold) > 1e-3
        assert ((result.visibility > threshold) == seen)[1:][clear[1:]].all() and clear[1:].mean() > 0.5
        assert (result.tracks_xy_px[0] == QUERIES).all() and (result.visibility[0] == 1).all()
        assert result.visibility.min() >= 0 and result.visibility.max() <= 1
        moved = max(moved, np.abs(result.tracks_xy_px - QUERIES).max())
    assert moved > 0.5, "a wrong order of axes or scale would not show"


@pytest.mark.parametrize("resolution", [256, 512])
@pytest.mark.parametrize("batch", [1, 2])
def test_bootstapir(code, tmp_path, batch, resolution):
    folder, tapir_model = code("AMT_TAPNET", "tapnet.torch.tapir_model")
    torch.manual_seed(0)
    model = spread(tapir_model.TAPIR(pyramid_level=1))
    torch.save(model.state_dict(), tmp_path / "random.pt")
    settings = BootsTapirConfig(
        checkout=folder,
        weights=str(tmp_path / "random.pt"),
        window_batch_size=batch,
        resolution=resolution,
    )

    @torch.no_grad()
    def plain(window):
        frames = torch.from_numpy(np.stack(resized(window.frames, (resolution, resolution))))
        scale = resolution / np.array(SIZE)  # (y, x)
        y, x = (QUERIES[:, 1] + 0.5) * scale[0], (QUERIES[:, 0] + 0.5) * scale[1]
        queries = torch.from_numpy(np.float32(np.stack([0 * y, y, x], 1)))
        out = model(frames[None].float() / 255 * 2 - 1, queries[None])
        hidden, far = torch.sigmoid(out["occlusion"][0]), torch.sigmoid(out["expected_dist"][0])
        tracks = out["tracks"][0].numpy() / scale[::-1] - 0.5
        return tracks.transpose(1, 0, 2), ((1 - hidden) * (1 - far) > 0.5).numpy().T

    video, _ = scenes.render_clip("pan", 0, SIZE, 5)
    compared(BootsTapir("bootstapir", settings, "cpu"), video, 4, plain, 0.5)
    assert "tapnet" in sys.modules and sys.modules["tapnet.torch.tapir_model"] is tapir_model


def test_tapnextpp(code, tmp_path):
    folder, tapnext_torch, wrapper = code(
        "AMT_TAPNET", "tapnet.tapnext.tapnext_torch", "tapnet.tapnextpp.votsp2026.model"
    )
    torch.manual_seed(0)
    model = spread(tapnext_torch.TAPNext(image_size=(256, 256)))
    weights = {"state_dict": {f"tapnext.{name}": value for name, value in model.state_dict().items()}}
    torch.save(weights, tmp_path / "random.pt")
    settings = TapNextConfig(checkout=folder, weights=str(tmp_path / "random.pt"), window_batch_size=2)
    theirs = wrapper.TAPNextPP.from_checkpoint(tmp_path / "random.pt", device="cpu")

    def plain(window):
        # It takes BGR, and would stretch frames without rounding to whole levels.
        rows, state = [], None
        scale = np.float32([256 / SIZE[1], 256 / SIZE[0]])
        for frame in resized(window.frames, (256, 256)):
            queries = (QUERIES + 0.5) * scale if state is None else None
            xy, seen, state = theirs.track_frame(frame[..., ::-1], queries, state)
            rows.append((xy / scale - 0.5, seen))
        return tuple(np.stack(part) for part in zip(*rows, strict=True))

    video, _ = scenes.render_clip("pan", 0, SIZE, 4)
    compared(TapNext("tapnextpp", settings, "cpu"), video, 3, plain, 0.5)


def test_tapnext_from_arrays(code, tmp_path):
    folder, tapnext_torch, utils = code(
        "AMT_TAPNET", "tapnet.tapnext.tapnext_torch", "tapnet.tapnext.tapnext_torch_utils"
    )
    model = spread(tapnext_torch.TAPNext(image_size=(256, 256)))
    np.savez(tmp_path / "random.npz", **utils.convert_pytorch_model_to_jax_checkpoint(model))
    settings = TapNextConfig(checkout=folder, weights=str(tmp_path / "random.npz"))
    restored = TapNext("tapnext", settings, "cpu")
    torch.save(model.state_dict(), tmp_path / "random.pt")
    settings = TapNextConfig(checkout=folder, weights=str(tmp_path / "random.pt"))
    assert restored.weights_sha256 == TapNext("tapnextpp", settings, "cpu").weights_sha256


@pytest.mark.parametrize(
    ("name", "steps", "batch", "options"),
    [
        ("alltracker", 4, 2, {"init_weights": False}),
        ("alltracker_tiny", 18, 1, {"use_basicencoder": True, "no_split": True}),
        ("alltracker_tiny", 5, 2, {"use_basicencoder": True, "no_split": True}),
    ],
)
def test_alltracker(code, tmp_path, monkeypatch, name, steps, batch, options):
    folder, nets = code("AMT_ALLTRACKER", "nets.alltracker")
    torch.manual_seed(0)
    model = spread(nets.Net(16, **options))
    torch.save({"model": model.state_dict(), "global_step": 1}, tmp_path / "random.pth")
    settings = AllTrackerConfig(
        checkout=folder, weights=str(tmp_path / "random.pth"), window_batch_size=batch, longer_side=180
    )

    @torch.no_grad()
    def plain(window):
        # Their evaluation, which moves frames to a GPU by itself: here they stay.
        monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
        height, width = 104, 176  # of 108 and 180, down to a multiple of 8
        frames = torch.from_numpy(np.stack(resized(window.frames, (height, width)))).permute(0, 3, 1, 2)
        flow, seen, *_ = model(frames[None].float(), iters=4, is_training=False)
        at = (QUERIES + 0.5) * [width / SIZE[1], height / SIZE[0]] - 0.5
        x, y = np.round(at).astype(int).T
        moved = flow[0][:, :, y, x].permute(0, 2, 1).numpy() * [SIZE[1] / width, SIZE[0] / height]
        return QUERIES + moved, (seen[0][:, 0, y, x] * seen[0][:, 1, y, x] > 0.6).numpy()

    video, _ = scenes.render_clip("pan", 0, SIZE, steps + 1)
    compared(AllTracker(name, settings, "cpu"), video, steps, plain, 0.6)
