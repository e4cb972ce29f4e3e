"""The keypoint model's other ends: a token per point, and logits per step."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.config import Config, KeypointConfig, StaticFilterConfig
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.evaluation.metrics import accuracy_counts
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.convert import convert
from amplify_motion_tokenizer.models.losses import class_weights, masked_loss
from amplify_motion_tokenizer.training.usage_term import usage_of, usage_sums
from tests.support.checkpoints import save_native
from tests.support.command_lines import error_of
from tests.support.configs import small_config

VARIANTS = list(itertools.product(("point_step", "point"), ("replicate", "per_step")))


def variant(tokens: str = "point_step", decoder: str = "replicate", **model: object) -> Config:
    config = small_config(keypoint=KeypointConfig(tokens=tokens, decoder=decoder), **model)  # type: ignore[arg-type]
    data = dataclasses.replace(config.data, static_filter=StaticFilterConfig(enable=False))
    return dataclasses.replace(config, data=data)


@pytest.mark.parametrize(("tokens", "decoder"), VARIANTS)
def test_shapes_and_gradients(tokens: str, decoder: str) -> None:
    torch.manual_seed(0)
    model = build_model(variant(tokens, decoder)).eval()
    output = model(torch.rand(2, 3, 4, 2))
    assert output.distinct_logits.shape == (2, 3 if decoder == "per_step" else 1, 4, 25)
    assert output.logits.shape == (2, 3, 4, 25)
    assert (output.latents.shape, output.digits.shape) == ((2, 3, 16), (2, 3, 2))
    torch.testing.assert_close(model.decode_indices(output.indices), output.logits)
    output.logits.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("tokens", ["point_step", "point"])
def test_the_encoder_mixes_the_tokens_it_is_said_to(tokens: str) -> None:
    config = dataclasses.replace(variant(tokens), data=dataclasses.replace(small_config().data, grid_size=5))
    model = build_model(config).eval()
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda *args: seen.append(args[2]))  # type: ignore[operator]
    velocities = torch.rand(1, 3, 25, 2)
    changed = velocities.clone()
    changed[:, -1, -1] = -1
    model(velocities), model(changed)
    assert seen[0].shape[1] == (25 if tokens == "point" else 75)
    first = [tokens[:, 0] for tokens in seen]
    # In order of time the first token cannot know the last; points have no order.
    assert torch.equal(*first) == (tokens == "point_step")


def test_a_step_s_logits_are_its_own() -> None:
    torch.manual_seed(0)
    logits = build_model(variant(decoder="per_step"))(torch.rand(2, 3, 4, 2)).logits
    assert all((logits[:, i] != logits[:, j]).any() for i, j in ((0, 1), (0, 2), (1, 2)))


def accuracy_on_two_phases(decoder: str) -> float:
    """Of four windows, in each of which all points go one way for two steps and then back."""
    torch.manual_seed(0)
    config = variant("point", decoder)
    model, weights = build_model(config), class_weights(config.loss, (5, 5))
    directions = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]) * 0.5
    velocities = torch.stack([directions, directions, -directions], dim=1)
    velocities = velocities[:, :, None].expand(-1, 3, 4, 2)
    labels = (velocities[..., 1] * 2 + 2).long() * 5 + (velocities[..., 0] * 2 + 2).long()
    mask = torch.ones(labels.shape, dtype=torch.bool)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(160):
        output = model(velocities)
        loss, count = masked_loss(output.distinct_logits, labels, mask, weights, gamma=0.0)
        sums = usage_sums(output.digits, torch.ones(4).bool(), config.model.fsq_levels, temperature=1.0)
        usage = usage_of(sums, (5, 4))
        optimizer.zero_grad()
        ((loss / count).sum() - usage.batch_entropy + usage.sample_entropy).backward()
        optimizer.step()
    correct, count = accuracy_counts(model.eval()(velocities).distinct_logits.argmax(dim=-1), labels, mask)
    return float(correct / count)


def test_only_per_step_learns_a_motion_of_two_phases() -> None:
    # The first phase is two steps of three: all that one distribution for the window can get right.
    assert accuracy_on_two_phases("replicate") <= 2 / 3 + 1e-6
    assert accuracy_on_two_phases("per_step") > 0.9


@pytest.mark.parametrize(("tokens", "decoder"), VARIANTS[1:])
def test_only_the_reproduction_s_own_becomes_its_file(tmp_path: Path, tokens: str, decoder: str) -> None:
    config = variant(tokens, decoder)
    model = save_native(tmp_path / "ours.pth", config)
    with pytest.raises(CheckpointError, match=f"tokens: {tokens} and decoder: {decoder} cannot become"):
        convert(tmp_path / "ours.pth", tmp_path / "theirs.pth", "keypoint")
    assert not (tmp_path / "theirs.pth").exists()
    loaded, velocities = load_tokenizer(tmp_path / "ours.pth"), torch.rand(2, 3, 4, 2)
    assert torch.equal(loaded(velocities).logits, model(velocities).logits)


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--model.keypoint.tokens", "step"], ["model.keypoint.tokens = step", "point_step", "point"]),
        (["--model.keypoint.decoder", "each"], ["model.keypoint.decoder = each", "replicate", "per_step"]),
        (["--model.latent_noise", "-1"], ["model.latent_noise = -1", "0 or more"]),
        (["--loss.usage.weight", "-1"], ["loss.usage.weight = -1", "0 or more"]),
        (["--loss.usage.temperature", "0"], ["loss.usage.temperature is no setting any more: it is 1.0"]),
        (["--loss.usage.wieght", "1"], ["loss.usage.wieght = 1", "loss.usage.weight"]),
    ],
)
def test_config_errors(argv: list[str], parts: list[str]) -> None:
    message = error_of(*argv)
    for part in parts:
        assert part in message
