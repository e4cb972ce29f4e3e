"""What a GPU must not change: codes, losses, resuming. Skipped where there is none."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer import read_codes
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.checkpoint import load_tokenizer
from amplify_motion_tokenizer.models.factorised_loss import head_loss
from amplify_motion_tokenizer.models.losses import class_weights
from benchmarks.model import host_waits
from benchmarks.resume_proof import largest_difference
from tests.support.configs import amplify_config
from tests.support.run_scripts import INFER, REPO, TINY, TRAIN, render, write_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

CONFIGS = {
    "keypoint": config_from_dict(TINY, "in the tests"),
    "point": config_from_dict({**TINY, "model": {**TINY["model"], "keypoint": {"tokens": "point"}}}, "here"),
    "amplify": amplify_config(),
}


def on_gpu(script: str, *arguments: object, cwd: Path) -> str:
    """A command in a new interpreter that sees the GPU; what it says on standard error."""
    line = [sys.executable, str(REPO / script), *map(str, arguments)]
    done = subprocess.run(line, cwd=cwd, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


def random_windows(model: MotionTokenizer, count: int = 64) -> torch.Tensor:
    """Motion of many sizes that all points of a window share, and a little of their own."""
    random = torch.Generator().manual_seed(0)
    shape = (count, *model.input_shape)
    shared = torch.randn(*shape[:-2], 1, 2, generator=random)
    sizes = torch.rand(count, generator=random).reshape(-1, *[1] * (len(shape) - 1))
    return (sizes * (shared + 0.2 * torch.randn(shape, generator=random))).clamp(-1, 1) * 0.4


@pytest.mark.parametrize("name", ["codec", "transform"])
def test_shipped_tokenizers_have_the_same_ids_and_motion(name: str) -> None:
    here, there = load_tokenizer(name), load_tokenizer(name, device="cuda")
    velocities = random_windows(here)
    ids, others = here.tokenize(velocities), there.tokenize(velocities.cuda())
    assert others.is_cuda
    # A digit on the border between two levels may fall to either side.
    assert (ids == others.cpu()).float().mean() >= 0.99
    decoded = there.reconstruct(there.codes_of(ids.cuda()))
    torch.testing.assert_close(decoded.cpu(), here.reconstruct(here.codes_of(ids)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_are_the_same(name: str) -> None:
    config = CONFIGS[name]
    torch.manual_seed(0)
    model = build_model(config)
    velocities = random_windows(model, 8)
    labels = torch.randint(config.num_classes, velocities.shape[:-1])
    mask = torch.rand(velocities.shape[:-1]) < 0.8
    found = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        weights = class_weights(config.loss, config.class_grid).to(device)
        head = model(velocities.to(device)).head
        value = head_loss(head, labels.to(device), mask.to(device), weights, config.loss.gamma).sums.sum()
        value.backward()
        grads = [p.grad.cpu().clone() for p in model.parameters() if p.grad is not None]
        found.append((value.detach().cpu(), torch.cat([grad.flatten() for grad in grads])))
    (loss, grads), (other, other_grads) = found
    torch.testing.assert_close(other, loss, rtol=1e-4, atol=0)
    assert (other_grads - grads).norm() <= 1e-3 * grads.norm()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_never_makes_the_host_wait(name: str) -> None:
    config = CONFIGS[name]
    model = build_model(config).cuda()
    velocities = random_windows(model, 8).cuda()
    labels = torch.randint(config.num_classes, velocities.shape[:-1]).cuda()
    weights = class_weights(config.loss, config.class_grid).cuda()

    def step() -> None:
        mask = velocities[..., 0] > -1
        head_loss(model(velocities).head, labels, mask, weights, 2.0).sums.sum().backward()

    step()
    assert host_waits(step) == 0


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_run_that_goes_on_ends_as_one_that_was_never_stopped(
    precision: str, tmp_path: Path, write_tracks: Callable[..., Path]
) -> None:
    for number in range(4):
        write_tracks(tmp_path / "tracks" / f"{number}.hdf5", 7, seed=number)
    settings = {"mixed_precision": precision, "deterministic": True, "epochs": 3}
    write_config(tmp_path / "tiny.yaml", model={"dropout": 0.2}, training=settings)
    line = ["--config", "tiny.yaml", "--input", "tracks", "--resume", "auto", "--output"]
    said = on_gpu(TRAIN, *line, "whole", cwd=tmp_path)
    assert "process(es) on cuda" in said, said
    on_gpu(TRAIN, *line, "parts", "--training.max_steps", 7, cwd=tmp_path)
    on_gpu(TRAIN, *line, "parts", cwd=tmp_path)
    for name in ("best.pth", "last.pth"):
        assert largest_difference(tmp_path / "whole" / name, tmp_path / "parts" / name) == 0.0


def test_codes_of_a_video_are_the_same(tmp_path: Path) -> None:
    render(tmp_path / "videos" / "pan.mp4", "pan", frames=60)
    render(tmp_path / "videos" / "mixed.mp4", "mixed", frames=60)
    ids = {}
    for device in ("cpu", "cuda"):
        line = ["--input", "videos", "--output", device, "--inference.device", device]
        on_gpu(INFER, *line, cwd=tmp_path)
        ids[device] = torch.cat([clip.ids for clip in read_codes(tmp_path / device).values()])
    assert len(ids["cpu"]) > 0
    assert (ids["cpu"] == ids["cuda"]).float().mean() >= 0.99
