"""The loss without logits equals the loss of the logits, and so do its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from amplify_motion_tokenizer.config import LossConfig
from amplify_motion_tokenizer.models import factorised_loss as module
from amplify_motion_tokenizer.models import heads
from amplify_motion_tokenizer.models.amplify.network import AmplifyNetwork, AmplifySizes
from amplify_motion_tokenizer.models.factorised_loss import chunk_loss, factorised_loss
from amplify_motion_tokenizer.models.heads import DenseHead, FactorisedHead, head_answers
from amplify_motion_tokenizer.models.losses import class_weights, masked_loss
from benchmarks.support.references import amplify_logits

BATCH, VIEWS, STEPS, POINTS, WIDTH, GRID = 5, 2, 3, 7, 6, (3, 5)
CLASSES = 15


def make_head(seed: int, points_by_window: bool = False) -> FactorisedHead:
    torch.manual_seed(seed)
    parts = FactorisedHead(
        torch.randn(BATCH, VIEWS, STEPS, WIDTH),
        torch.randn(BATCH if points_by_window else 1, POINTS, WIDTH),
        torch.randn(CLASSES, WIDTH),
        torch.randn(BATCH, VIEWS, STEPS, CLASSES),
    )
    return FactorisedHead(*(part.requires_grad_() for part in parts))


def make_targets(seed: int, per_element: bool) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    labels = torch.randint(CLASSES, (BATCH, VIEWS, STEPS, POINTS))
    shape = labels.shape if per_element else (BATCH, VIEWS, POINTS)
    return labels, torch.rand(shape) < 0.6


def relative(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm() / expected.norm()).detach())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("points_by_window", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1, 4 * STEPS * POINTS * CLASSES * 2, 1 << 20])
def test_equals_the_loss_of_the_logits(
    monkeypatch: pytest.MonkeyPatch, gamma: float, points_by_window: bool, chunk_bytes: int
) -> None:
    monkeypatch.setitem(heads.CHUNK_BYTES, "cpu", chunk_bytes)
    head = make_head(0, points_by_window)
    labels, mask = make_targets(1, per_element=gamma > 0)
    weights = class_weights(LossConfig(alpha_center=0.25), GRID)
    upstream = torch.tensor([0.3, 1.7])

    logits = head.logits()
    expected, _ = masked_loss(logits, labels, mask, weights, gamma)
    expected_grads = torch.autograd.grad((expected * upstream).sum(), head)
    found, answers = factorised_loss(head, labels, mask, weights, gamma)
    grads = torch.autograd.grad((found * upstream).sum(), head)

    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert torch.equal(answers, logits.argmax(dim=-1))
    for name, mine, theirs in zip(FactorisedHead._fields, grads, expected_grads, strict=True):
        assert relative(mine, theirs) < 1e-6, name


def test_a_compiled_chunk_gives_the_same() -> None:
    labels, mask = make_targets(1, per_element=True)
    weights = class_weights(LossConfig(alpha_center=0.25), GRID)
    traced = torch.compile(chunk_loss, backend="aot_eager", dynamic=False, fullgraph=True)
    found = []
    for of_chunk in (None, traced):
        head = make_head(0)
        loss = factorised_loss(head, labels, mask, weights, 2.0, of_chunk)
        found.append([*loss, *torch.autograd.grad(loss.sums.sum(), head)])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("views", [True, False])
def test_answers_are_those_of_the_logits(monkeypatch: pytest.MonkeyPatch, views: bool) -> None:
    monkeypatch.setitem(heads.CHUNK_BYTES, "cpu", 4 * STEPS * POINTS * CLASSES * 2)
    head = make_head(16)
    if not views:
        head = head._replace(steps=head.steps[:, 0], base=head.base[:, 0])
    logits = head.logits()
    assert torch.equal(head_answers(head), logits.argmax(dim=-1))
    assert torch.equal(head_answers(DenseHead(logits)), logits.argmax(dim=-1))


def test_a_view_in_which_nothing_counts_gives_zeros() -> None:
    head, (labels, mask) = make_head(2), make_targets(3, per_element=True)
    mask[:, 1] = False
    sums, _ = factorised_loss(head, labels, mask, torch.ones(CLASSES), 2.0)
    sums.sum().backward()
    assert sums[0] > 0 and sums[1] == 0
    assert head.steps.grad is not None and not head.steps.grad[:, 1].any() and head.steps.grad[:, 0].any()


def test_sure_and_hopeless_elements_stay_finite() -> None:
    head = make_head(4)
    with torch.no_grad():
        head.base.zero_()[..., 3] = 200.0
    labels, mask = make_targets(5, per_element=True)
    labels[0], labels[1] = 3, 4  # certain, and 200 nats away
    expected, _ = masked_loss(head.logits(), labels, mask, torch.ones(CLASSES), 0.5)
    sums, _ = factorised_loss(head, labels, mask, torch.ones(CLASSES), 0.5)
    sums.sum().backward()
    torch.testing.assert_close(sums, expected, rtol=1e-6, atol=0)
    assert all(part.grad is not None and part.grad.isfinite().all() for part in head)


def test_without_gradients_none_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    head, (labels, mask) = make_head(6), make_targets(7, per_element=False)
    expected, _ = factorised_loss(head, labels, mask, torch.ones(CLASSES), 0.0)
    monkeypatch.setattr(module._Gradients, "zero", lambda head: pytest.fail("gradients are made"))
    with torch.no_grad():
        sums, _ = factorised_loss(head, labels, mask, torch.ones(CLASSES), 0.0)
    assert not sums.requires_grad and torch.equal(sums, expected)


def test_autocast_computes_in_its_type_and_sums_in_float32() -> None:
    head, (labels, mask) = make_head(8), make_targets(9, per_element=False)
    exact, _ = factorised_loss(head, labels, mask, torch.ones(CLASSES), 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, _ = factorised_loss(head, labels, mask, torch.ones(CLASSES), 2.0)
        (rough.sum()).backward()
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    assert relative(rough, exact) < 0.01
    assert head.weight.grad is not None and head.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("per_view", [False, True])
def test_the_networks_parameters_get_the_gradients_of_the_plain_head(per_view: bool) -> None:
    torch.manual_seed(10)
    sizes = AmplifySizes(
        num_views=VIEWS, num_steps=STEPS, num_points=POINTS, hidden_dim=16, num_heads=2, mlp_dim=8,
        class_grid=GRID, dropout=0.0, fsq_levels=(3, 3), per_view=per_view,
    )  # fmt: skip
    network = AmplifyNetwork(sizes)
    codes = torch.randn(BATCH, sizes.num_tokens, 16)
    labels, mask = make_targets(11, per_element=False)
    logits = amplify_logits(network, codes)
    torch.testing.assert_close(network.head(codes).logits(), logits, rtol=1e-5, atol=1e-6)
    expected, _ = masked_loss(logits, labels, mask, torch.ones(CLASSES), 0.0)
    expected.sum().backward()
    theirs = gradients(network)
    network.zero_grad()
    factorised_loss(network.head(codes), labels, mask, torch.ones(CLASSES), 0.0).sums.sum().backward()
    for name, mine in gradients(network).items():
        assert (mine - theirs[name]).norm() <= 1e-5 * theirs[name].norm() + 1e-7, name


def gradients(network: AmplifyNetwork) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in network.decoder.named_parameters() if p.grad is not None}


def test_labels_of_another_shape_are_refused() -> None:
    head, (labels, mask) = make_head(12), make_targets(13, per_element=False)
    with pytest.raises(ValueError, match=r"labels are \(5, 2, 2, 7\); expected \(5, 2, 3, 7\)"):
        factorised_loss(head, labels[:, :, :2], mask, torch.ones(CLASSES), 0.0)


def test_float16_autocast_sums_what_float16_cannot_hold() -> None:
    head, (labels, _) = make_head(14), make_targets(15, per_element=False)
    with torch.no_grad():
        head.steps.abs_().mul_(2e3)
        head.weight.mul_(1e-4)
    target = torch.zeros_like(labels), torch.ones_like(labels, dtype=torch.bool), torch.ones(CLASSES), 0.0
    grads = []
    for half in (False, True):
        with torch.autocast("cpu", dtype=torch.float16, enabled=half):
            given = FactorisedHead(*(part.half() for part in head)) if half else head
            sums = factorised_loss(given, *target).sums
        grads.append(torch.autograd.grad(1e-3 * sums.sum(), head.weight)[0])
    exact, found = grads
    assert exact.abs().max() > 1e-3 * torch.finfo(torch.float16).max
    assert relative(found, exact) < 0.01
