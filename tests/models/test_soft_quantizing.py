"""Quantising that begins softly: which stage when, what codes are in each, and that ids never change."""

import pytest
import torch

from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.quantizer import Stage, stage_at
from tests.support.configs import amplify_config, small_config

NAMES = ["keypoint", "amplify"]


def model_and_input(name: str) -> tuple[MotionTokenizer, torch.Tensor]:
    torch.manual_seed(0)
    model = build_model(amplify_config(views=1) if name == "amplify" else small_config())
    return model.train(), (torch.rand(4, *model.input_shape) - 0.5) * 0.4


def test_the_stages_take_their_shares_of_a_training() -> None:
    stages = [stage_at("soft", step / 100) for step in range(100)]
    assert stages == ["none"] * 4 + ["noise"] * 40 + ["round"] * 56
    assert {stage_at("round", step / 100) for step in range(100)} == {"round"}


def digits_of(model: MotionTokenizer, codes: torch.Tensor) -> torch.Tensor:
    """The digits that codes (B, d, D) are made of, found by undoing the library's projection."""
    fsq = model._fsq()
    projection, levels = fsq.project_out, fsq._levels
    numbers = (codes - projection.bias).double() @ torch.linalg.pinv(projection.weight.double()).mT
    return numbers * (levels // 2) + levels // 2


@pytest.mark.parametrize("name", NAMES)
def test_codes_are_unrounded_then_within_half_a_level_and_ids_are_the_same(name: str) -> None:
    model, velocities = model_and_input(name)
    found = {stage: model(velocities, None, stage) for stage in ("none", "noise", "round")}
    plain = model(velocities)
    assert torch.equal(found["round"].codes, plain.codes)
    assert all(torch.equal(each.indices, plain.indices) for each in found.values())
    digits = plain.digits.double()
    torch.testing.assert_close(digits_of(model, found["none"].codes), digits, atol=1e-4, rtol=0)
    off = digits_of(model, found["noise"].codes) - digits
    assert 0.3 < off.abs().max() < 0.5 + 1e-4
    assert off.mean().abs() < 0.1
    torch.testing.assert_close(digits_of(model, plain.codes), digits.round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stage", ["none", "noise"])
def test_a_gradient_goes_through_every_stage(name: str, stage: Stage) -> None:
    model, velocities = model_and_input(name)
    velocities.requires_grad_()
    model(velocities, None, stage).codes.square().sum().backward()
    assert velocities.grad is not None
    assert velocities.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_without_rounding_the_gradient_is_the_slope(name: str) -> None:
    model, velocities = model_and_input(name)
    model, velocities = model.double(), velocities.double()
    direction = torch.randn_like(velocities)

    def loss(shift: float) -> torch.Tensor:
        return model(velocities + shift * direction, None, "none").codes.double().square().sum()

    velocities.requires_grad_()
    loss(0.0).backward()
    with torch.no_grad():
        slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
    assert velocities.grad is not None
    torch.testing.assert_close((velocities.grad * direction).sum(), slope, rtol=2e-2, atol=1e-4)
