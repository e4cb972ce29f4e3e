"""The AMPLIFY model against golden vectors of the source implementation."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config, DataConfig, LossConfig
from amplify_motion_tokenizer.models.amplify.network import AmplifyNetwork, AmplifySizes, Causal, encoder_mask
from tests.support.golden_models import (
    AMPLIFY,
    CONDITIONED,
    amplify_network,
    conditioned_network,
    read_golden,
    state_of,
)
from tests.support.reference_losses import relative_cross_entropy

Case = tuple[AmplifyNetwork, dict[str, Tensor], list[str]]


@pytest.fixture(params=AMPLIFY)
def case(request: pytest.FixtureRequest) -> Case:
    golden = read_golden(request.param)
    views = json.loads(golden.metadata["config"])["cond_cameraviews"]
    return amplify_network(golden), golden.tensors, views


def test_fresh_model_has_the_files_keys_and_buffers(case: Case) -> None:
    model, golden, _ = case
    ours, theirs = model.state_dict(), state_of(golden)
    assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {
        k: (v.shape, v.dtype) for k, v in theirs.items()
    }
    buffers = dict(model.named_buffers())
    stored = [name for name in theirs if name.endswith(("attn_mask", "inv_freq"))]
    assert stored
    for name in stored:
        torch.testing.assert_close(buffers[name], theirs[name])


def test_golden_outputs(case: Case) -> None:
    model, golden, _ = case
    model.load_state_dict(state_of(golden))
    output = model.eval()(golden["out.velocities"])
    torch.testing.assert_close(output.latents, golden["out.z"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.codes, golden["out.codes"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.logits.flatten(1, 3), golden["out.logits"], atol=1e-5, rtol=0)
    assert torch.equal(output.indices, golden["out.indices"])


def test_golden_loss_and_gradients(case: Case) -> None:
    model, golden, views = case
    model.load_state_dict(state_of(golden))
    logits = model(golden["out.velocities"]).logits
    loss_sum, count = relative_cross_entropy(logits, golden["out.labels"], weights_of(views))
    loss = loss_sum / count
    torch.testing.assert_close(loss, golden["out.loss"][0], atol=1e-5, rtol=0)
    loss.backward()
    norms = {name: p.grad.norm() for name, p in model.named_parameters() if p.grad is not None}
    expected = {k.removeprefix("grad_norm."): v[0] for k, v in golden.items() if k.startswith("grad_norm.")}
    assert norms.keys() == expected.keys()
    for name, norm in expected.items():
        torch.testing.assert_close(norms[name], norm, rtol=1e-4, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture(params=CONDITIONED)
def conditioned(request: pytest.FixtureRequest) -> tuple[AmplifyNetwork, dict[str, Tensor]]:
    golden = read_golden(request.param)
    return conditioned_network(golden), golden.tensors


def test_conditioned_encoder_has_the_files_keys_and_masks(
    conditioned: tuple[AmplifyNetwork, dict[str, Tensor]],
) -> None:
    model, golden = conditioned
    ours, theirs = model.encoder.state_dict(), state_of(golden)
    assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {
        k: (v.shape, v.dtype) for k, v in theirs.items()
    }
    masks = [name for name in theirs if name.endswith("attn_mask")]
    assert len(masks) == 4
    assert all(torch.equal(ours[name], theirs[name]) for name in masks)
    assert not all(theirs[name].all() for name in masks)


def test_golden_conditioned_encoder(conditioned: tuple[AmplifyNetwork, dict[str, Tensor]]) -> None:
    model, golden = conditioned
    model.encoder.load_state_dict(state_of(golden))
    velocities, cond = golden["in.velocities"], golden["in.cond"]
    latents = model.eval().encode(velocities, cond)
    torch.testing.assert_close(latents, golden["out.z"], atol=1e-5, rtol=0)
    moved = model.encode(velocities, -cond)
    assert not torch.allclose(moved, latents, atol=1e-2)
    assert torch.equal(model(velocities, cond).latents, latents)


def test_condition_tokens_are_asked_for_and_checked(
    conditioned: tuple[AmplifyNetwork, dict[str, Tensor]],
) -> None:
    model, golden = conditioned
    velocities, cond = golden["in.velocities"], golden["in.cond"]
    with pytest.raises(ValueError, match=r"expected \(B, 2, [12], 20\), found None"):
        model.encode(velocities)
    with pytest.raises(ValueError, match=r"cond: expected \(B, V, P, E\)"):
        model.encode(velocities, cond[..., :-1])
    with pytest.raises(ValueError, match=r"expected None, found \(1, 2, 1, 20\)"):
        small(2, False, True).encode(torch.rand(1, 2, 3, 4, 2), torch.rand(1, 2, 1, 20))


def weights_of(views: Sequence[str], **given: float) -> tuple[float, ...]:
    loss = LossConfig(view_weights=given) if given else LossConfig()
    return Config(data=DataConfig(views=tuple(views)), loss=loss).view_weights


def test_weights_of_views() -> None:
    assert weights_of(["front", "eye_in_hand", "agentview"]) == (1.0, 0.1, 0.9)
    assert weights_of(["front", "agentview"], front=0.25) == (0.25, 1.0)


def test_relative_cross_entropy_by_hand() -> None:
    # B = 1, t = 1, N = 2, C = 2: losses of log 2, log 2 in view 0 and log(4/3), log 4 in view 1.
    log3 = torch.tensor(3.0).log()
    logits = torch.zeros(1, 2, 1, 2, 2)
    logits[0, 1, 0, :, 1] = log3
    labels = torch.tensor([[[[0, 1]], [[1, 0]]]])
    loss_sum, count = relative_cross_entropy(logits.half(), labels, (2.0, 10.0))
    log2 = float(torch.tensor(2.0).log())
    expected = 2 * (2 * log2) + 10 * (4 * log2 - float(log3))
    assert loss_sum.dtype == torch.float32
    assert float(loss_sum) == pytest.approx(expected, rel=1e-3)
    assert int(count) == 2
    with pytest.raises(ValueError, match=r"expected \(1, 2, 1 or 1, 2, C\)"):
        relative_cross_entropy(logits[:, :1], labels, (2.0, 10.0))


def small(num_views: int, per_view: bool, causal: Causal) -> AmplifyNetwork:
    sizes = AmplifySizes(
        num_views=num_views,
        num_steps=3,
        num_points=4,
        hidden_dim=16,
        num_heads=2,
        mlp_dim=8,
        fsq_levels=(5, 4),
        class_grid=(3, 5),
        per_view=per_view,
        causal=causal,
    )
    return AmplifyNetwork(sizes).eval()


@pytest.mark.parametrize("num_views", [1, 2, 4])
@pytest.mark.parametrize("per_view", [False, True])
def test_any_number_of_views(num_views: int, per_view: bool) -> None:
    output = small(num_views, per_view, True)(torch.rand(2, num_views, 3, 4, 2))
    assert output.logits.shape == (2, num_views, 3, 4, 15)
    assert output.indices.shape == (2, 3 * num_views if per_view else 3)


@pytest.mark.parametrize(("causal", "seen"), [(True, [1, 2]), (False, [0, 1, 2]), ("diag", [1])])
def test_tokens_that_see_the_middle_step(causal: Causal, seen: list[int]) -> None:
    model = small(2, False, causal)
    velocities = torch.rand(1, 2, 3, 4, 2)
    changed = velocities.clone()
    changed[:, :, 1] *= -1
    moved = (model.encode(velocities) != model.encode(changed)).any(dim=-1)[0]
    assert moved.nonzero().flatten().tolist() == seen


def test_a_mask_that_forbids_nothing_is_stored_but_not_used() -> None:
    # Image conditioning as AMPLIFY has it: 49 * 2 columns are more than there are, so "diag" is full.
    assert encoder_mask("diag", 15, 98).all()
    model = small(2, False, False)
    masks = {name for name, _ in model.named_buffers() if name.endswith("attn_mask")}
    assert len(masks) == 4
    velocities = torch.rand(1, 2, 3, 4, 2)
    before = model(velocities).logits
    for name, buffer in model.named_buffers():
        if name in masks:
            buffer.zero_()
    assert torch.equal(model(velocities).logits, before)


def test_unknown_mask() -> None:
    with pytest.raises(ValueError, match="True, False or 'diag'"):
        encoder_mask("diagonal", 3)  # type: ignore[arg-type]


def test_wrong_shapes() -> None:
    model = small(2, False, True)
    with pytest.raises(ValueError, match=r"\(B, 2, 3, 4, 2\), found \(1, 3, 3, 4, 2\)"):
        model(torch.rand(1, 3, 3, 4, 2))
    with pytest.raises(ValueError, match=r"\(B, 3, 16\), found \(1, 6, 16\)"):
        model.head(torch.rand(1, 6, 16))


def test_initial_values() -> None:
    torch.manual_seed(0)
    model = AmplifyNetwork(AmplifySizes(hidden_dim=128, num_points=4, num_layers=4))
    state = model.state_dict()
    std = {name: value.float().std().item() for name, value in state.items()}
    stacks = {"encoder.encoder.transformer.": 4, "decoder.decoder.transformer.": 2}
    for prefix, blocks in stacks.items():
        assert std[f"{prefix}pos_emb.weight"] == pytest.approx(0.02, rel=0.1)
        assert std[f"{prefix}h.0.mlp.c_fc.weight"] == pytest.approx(0.02, rel=0.1)
        assert std[f"{prefix}h.0.mlp.c_proj.weight"] == pytest.approx(0.02 / (2 * blocks) ** 0.5, rel=0.1)
    assert std["decoder.view_emb.weight"] == pytest.approx(1, rel=0.2)
