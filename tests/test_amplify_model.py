"""The AMPLIFY model against golden vectors of the source implementation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from amplify_motion_tokenizer.models.amplify import AmplifySizes, AmplifyTokenizer, Causal, encoder_mask

GOLDEN = Path(__file__).parent / "golden"
NAMES = ["amplify_two_views_joint", "amplify_two_views_per_view", "amplify_nonsquare_three_views_full"]
LEVELS = {256: (8, 6, 5), 1024: (8, 5, 5, 5), 2048: (8, 8, 6, 5)}

Case = tuple[AmplifyTokenizer, dict[str, Tensor], list[float]]


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    with safe_open(GOLDEN / f"{request.param}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    sizes = AmplifySizes(
        num_views=len(config["cond_cameraviews"]),
        num_steps=config["track_pred_horizon"] - 1,
        num_points=config["num_tracks"],
        hidden_dim=config["hidden_dim"],
        num_heads=config["num_heads"],
        num_layers=config["num_layers"],
        dropout=config["attn_pdrop"],
        mlp_dim=config["decoder_mlp_hidden_dim"],
        fsq_levels=LEVELS[config["codebook_size"]],
        class_grid=tuple(config["loss"]["rel_cls_img_size"]),
        per_view=config["per_view"],
        causal=config["causal_encoder"],
    )
    weights = [config["loss"]["loss_weights"][view] for view in config["cond_cameraviews"]]
    return AmplifyTokenizer(sizes), tensors, weights


def state_of(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("state."): value for key, value in golden.items() if key.startswith("state.")}


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
    assert torch.equal(model.tokenize(golden["out.velocities"]), output.indices)
    torch.testing.assert_close(model.decode_indices(output.indices), output.logits, atol=1e-5, rtol=0)


def test_golden_loss_and_gradients(case: Case) -> None:
    model, golden, weights = case
    model.load_state_dict(state_of(golden))
    logits = model(golden["out.velocities"]).logits
    losses = torch.nn.functional.cross_entropy(logits.movedim(-1, 1), golden["out.labels"], reduction="none")
    loss = (losses.mean(dim=(0, 2, 3)) * torch.tensor(weights)).sum()
    torch.testing.assert_close(loss, golden["out.loss"][0], atol=1e-5, rtol=0)
    loss.backward()
    norms = {name: p.grad.norm() for name, p in model.named_parameters() if p.grad is not None}
    expected = {k.removeprefix("grad_norm."): v[0] for k, v in golden.items() if k.startswith("grad_norm.")}
    assert norms.keys() == expected.keys()
    for name, norm in expected.items():
        torch.testing.assert_close(norms[name], norm, rtol=1e-4, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


def small(num_views: int, per_view: bool, causal: Causal) -> AmplifyTokenizer:
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
    return AmplifyTokenizer(sizes).eval()


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


def test_unknown_mask() -> None:
    with pytest.raises(ValueError, match="True, False or 'diag'"):
        encoder_mask("diagonal", 3)  # type: ignore[arg-type]


def test_wrong_shapes() -> None:
    model = small(2, False, True)
    with pytest.raises(ValueError, match=r"\(B, 2, 3, 4, 2\), found \(1, 3, 3, 4, 2\)"):
        model(torch.rand(1, 3, 3, 4, 2))
    with pytest.raises(ValueError, match=r"\(B, 3, 16\), found \(1, 6, 16\)"):
        model.decode(torch.rand(1, 6, 16))


def test_initial_values() -> None:
    torch.manual_seed(0)
    model = AmplifyTokenizer(AmplifySizes(hidden_dim=128, num_points=4, num_layers=4))
    state = model.state_dict()
    std = {name: value.float().std().item() for name, value in state.items()}
    stacks = {"encoder.encoder.transformer.": 4, "decoder.decoder.transformer.": 2}
    for prefix, blocks in stacks.items():
        assert std[f"{prefix}pos_emb.weight"] == pytest.approx(0.02, rel=0.1)
        assert std[f"{prefix}h.0.mlp.c_fc.weight"] == pytest.approx(0.02, rel=0.1)
        assert std[f"{prefix}h.0.mlp.c_proj.weight"] == pytest.approx(0.02 / (2 * blocks) ** 0.5, rel=0.1)
    assert std["decoder.view_emb.weight"] == pytest.approx(1, rel=0.2)
