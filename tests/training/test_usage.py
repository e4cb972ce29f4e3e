"""The code-usage term: its numbers, its gradient, and what that gradient does to a collapsed model."""

import dataclasses
import math
from typing import NamedTuple

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from amplify_motion_tokenizer.config import Config, UsageConfig
from amplify_motion_tokenizer.evaluation.metrics import code_histogram, code_usage
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.losses import class_weights, masked_loss
from amplify_motion_tokenizer.models.quantizer import build_fsq, quantize_float32, unrounded_digits
from amplify_motion_tokenizer.training.usage_term import UsageTerm, soft_assignments, usage_of, usage_sums
from tests.support.configs import small_config

LEVELS = (8, 5, 3)


@pytest.mark.parametrize("dim", [3, 16], ids=["no projection", "projection"])
def test_rounded_digits_are_those_of_the_ids(dim: int) -> None:
    torch.manual_seed(0)
    fsq = build_fsq(LEVELS, dim)
    latents = torch.randn(64, 2, dim) * 4
    indices = quantize_float32(fsq, latents)[1]
    expected = torch.stack([indices % 8, indices // 8 % 5, indices // 40], dim=-1)
    digits = unrounded_digits(fsq, latents)
    assert digits.dtype == torch.float32
    assert torch.equal(digits.round().long(), expected)
    assert expected.amax(dim=(0, 1)).tolist() == [7, 4, 2], "else the extremes are not tested"


def test_digits_are_float32_under_autocast() -> None:
    fsq, latents = build_fsq(LEVELS, 16), torch.randn(4, 2, 16)
    with torch.autocast("cpu", torch.bfloat16):
        digits = unrounded_digits(fsq, latents)
    assert torch.equal(digits, unrounded_digits(fsq, latents))


def test_assignments_by_hand() -> None:
    # Digit 0 has levels 0 and 1 (and 2 that it lacks), half-way between them; digit 1 lies at its level 2.
    p = soft_assignments(torch.tensor([0.5, 2.0]), (2, 3), temperature=0.5).exp()
    near, far = math.exp(-1 / 0.5), math.exp(-4 / 0.5)
    total = 1 + near + far
    torch.testing.assert_close(p, torch.tensor([[0.5, 0.5, 0.0], [far / total, near / total, 1 / total]]))


def usage(digits: list[list[list[float]]]) -> tuple[float, float]:
    given = torch.tensor(digits)
    sums = usage_sums(given, torch.ones(len(given)).bool(), (4, 4), temperature=0.01)
    return tuple(float(value) for value in usage_of(sums, (4, 4)))  # type: ignore[return-value]


def test_entropies_by_hand() -> None:
    # One code, two digits: the first spreads over all four levels, the second over two.
    spread = [[[0.0, 1.0]], [[1.0, 1.0]], [[2.0, 3.0]], [[3.0, 3.0]]]
    assert usage(spread) == pytest.approx((0.75, 0.0), abs=1e-6)
    # Half-way between two levels, all windows alike.
    assert usage([[[0.5, 0.5]]] * 4) == pytest.approx((0.5, 0.5), abs=1e-6)


def test_codes_that_differ_from_each_other_but_not_between_windows_earn_nothing() -> None:
    assert usage([[[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]] * 5) == pytest.approx((0, 0), abs=1e-6)


def with_usage(config: Config, weight: float, accumulation: int = 1) -> Config:
    loss = dataclasses.replace(config.loss, usage=UsageConfig(weight=weight))
    training = dataclasses.replace(config.training, gradient_accumulation_steps=accumulation)
    return dataclasses.replace(config, loss=loss, training=training)


def term_of(config: Config) -> UsageTerm:
    return UsageTerm(config, Accelerator(cpu=True))


ALL = torch.ones(6, dtype=torch.bool)


def test_padding_does_not_count() -> None:
    config, digits = with_usage(small_config(), 2.0), torch.rand(6, 3, 2) * 4
    real = torch.tensor([True, True, False, True, False, True])
    assert torch.equal(term_of(config)(digits, real), term_of(config)(digits[real], ALL[:4]))
    assert term_of(config)(digits, ~ALL).item() == 0


def test_micro_batches_share_the_weight() -> None:
    digits = torch.rand(6, 3, 2) * 4
    one, two = (term_of(with_usage(small_config(), 2.0, number))(digits, ALL) for number in (1, 2))
    assert one.item() == pytest.approx(2 * two.item()) != 0


def test_weight_0_leaves_the_term_out() -> None:
    term = term_of(small_config())
    assert term(torch.rand(6, 3, 2, requires_grad=True), ALL).grad_fn is None
    assert term.logged() == {}


def test_entropies_are_logged() -> None:
    term = term_of(with_usage(small_config(), 1.0))
    value = term(torch.rand(6, 3, 2, requires_grad=True) * 4, ALL).item()
    logged = term.logged()
    assert logged.keys() == {"usage_batch_entropy", "usage_sample_entropy"}
    assert logged["usage_sample_entropy"] - logged["usage_batch_entropy"] == pytest.approx(value)
    assert 0 < logged["usage_batch_entropy"] < 1


def collapsed(config: Config) -> MotionTokenizer:
    """A model whose windows all have the same codes."""
    torch.manual_seed(0)
    model = build_model(config)
    fsq = model._fsq()
    with torch.no_grad():
        fsq.get_parameter("project_in.weight").mul_(0.02)
        fsq.get_parameter("project_in.bias").zero_()
    return model


def moving_windows(shape: tuple[int, ...]) -> Tensor:
    """48 windows; in each all points keep one velocity, of three values on either axis."""
    generator = torch.Generator().manual_seed(1)
    velocity = torch.randint(-1, 2, (48, *[1] * (len(shape) - 1), 2), generator=generator)
    return (velocity * 0.5).expand(48, *shape)


@pytest.mark.parametrize("name", ["keypoint", "amplify"])
def test_a_collapsed_model_gets_a_gradient(name: str) -> None:
    config = with_usage(small_config(name=name), 1.0)
    model = collapsed(config)
    output = model(moving_windows(model.input_shape)[:6])
    assert code_usage(code_histogram(output.indices[:, 0], 20)).unique == 1
    term_of(config)(output.digits, ALL).backward()
    before = [name for name, _ in model.named_parameters() if "decoder" not in name and "project" not in name]
    still = [name for name in before if not model.get_parameter(name).grad.any()]  # type: ignore[union-attr]
    assert before
    # A bias of keys changes no attention.
    assert not still


class Trained(NamedTuple):
    codes: int
    """Different first codes of windows."""
    spread: float
    """Standard deviation of a digit over windows, in level steps."""
    loss: float


def trained(weight: float) -> Trained:
    """What a collapsed model has become after 40 steps."""
    config = with_usage(small_config(), weight)
    model, term = collapsed(config), term_of(config)
    velocities = moving_windows(model.input_shape)
    labels = (velocities[..., 1] * 2 + 2).long() * 5 + (velocities[..., 0] * 2 + 2).long()
    mask, weights = torch.ones(labels.shape, dtype=torch.bool), class_weights(config.loss, (5, 5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(40):
        output = model(velocities)
        loss, count = masked_loss(output.distinct_logits, labels, mask, weights, gamma=0.0)
        optimizer.zero_grad()
        ((loss / count).sum() + term(output.digits, torch.ones(48, dtype=torch.bool))).backward()
        optimizer.step()
    codes = code_usage(code_histogram(output.indices[:, 0], 20)).unique
    return Trained(codes, output.digits.std(dim=0).mean().item(), (loss / count).sum().item())


def test_the_term_uncollapses_faster_than_the_plain_loss_at_no_loss_of_its_own() -> None:
    plain, term = trained(weight=0.0), trained(weight=1.0)
    assert plain.codes <= 2
    assert plain.spread < 0.5, "less than rounding sees"
    assert term.codes > plain.codes
    assert term.spread > 2 * plain.spread
    assert term.loss < plain.loss + 0.02


@pytest.mark.parametrize("name", ["keypoint", "amplify"])
def test_latent_noise_acts_in_training_only(name: str) -> None:
    config = small_config(name=name, latent_noise=3.0)
    torch.manual_seed(0)
    model = build_model(config)
    velocities = torch.rand(6, *model.input_shape)
    noisy, quiet = model.train()(velocities), model.eval()(velocities)
    assert torch.equal(noisy.latents, quiet.latents)
    assert torch.equal(noisy.digits, quiet.digits)
    assert not torch.equal(noisy.indices, quiet.indices)
    assert torch.equal(quiet.indices, model.tokenize(velocities))
