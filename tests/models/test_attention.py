"""Attention a block at a time is attention, with a dropout that backward finds again."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from amplify_motion_tokenizer.models import attention as module
from amplify_motion_tokenizer.models.attention import BlockAttention, attention

BATCH, HEADS, LENGTH, WIDTH = 3, 2, 7, 5
ROW_BYTES = 4 * HEADS * LENGTH
BLOCKS = [1, 3 * ROW_BYTES, 2 * LENGTH * ROW_BYTES, 1 << 20]
"""A row, three rows, two windows, everything."""


def inputs(length: int = LENGTH, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    query, key, value = (torch.randn(BATCH, HEADS, length, width).requires_grad_() for _ in range(3))
    return query, key, value


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block_bytes", BLOCKS)
def test_without_dropout_it_is_torchs(
    monkeypatch: pytest.MonkeyPatch, causal: bool, block_bytes: int
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    parts = inputs()
    expected = F.scaled_dot_product_attention(*parts, is_causal=causal)
    found = BlockAttention.apply(*parts, 0.0, causal)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, parts, upstream), torch.autograd.grad(expected, parts, upstream)
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block_bytes", BLOCKS)
def test_gradients_are_those_of_the_weights_that_were_dropped(
    monkeypatch: pytest.MonkeyPatch, causal: bool, block_bytes: int
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    query, key, _ = inputs()
    unit = torch.eye(LENGTH).expand(BATCH, HEADS, LENGTH, LENGTH)
    torch.manual_seed(1)
    dropped = attention(query, key, unit, 0.25, causal).detach()  # the weights themselves
    scores = query @ key.mT / WIDTH**0.5
    if causal:
        scores = scores.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), -torch.inf)
    weights = scores.softmax(dim=-1)
    factors = (dropped > 0) / 0.75
    torch.testing.assert_close(dropped, weights.detach() * factors)
    assert 0 < int((dropped == 0).sum()) - int((weights == 0).sum()) < weights.numel() / 2

    value = torch.randn(BATCH, HEADS, LENGTH, WIDTH, requires_grad=True)
    torch.manual_seed(1)
    found = attention(query, key, value, 0.25, causal)
    expected = (weights * factors) @ value
    torch.testing.assert_close(found, expected)
    parts, upstream = (query, key, value), torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, parts, upstream), torch.autograd.grad(expected, parts, upstream)
    )


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_rate_is_met_and_weights_keep_their_mean(rate: float) -> None:
    length = 300
    query, key, _ = inputs(length)
    unit = torch.eye(length).expand(BATCH, HEADS, length, length)
    dropped = attention(query, key, unit, rate).detach()
    # Of 540,000 draws the share strays by 7e-4.
    assert float((dropped == 0).float().mean()) == pytest.approx(rate, abs=3e-3)
    assert float(dropped.sum(dim=-1).mean()) == pytest.approx(1, abs=5e-3)


def test_every_call_draws_anew_from_torchs_generator() -> None:
    parts = inputs()
    torch.manual_seed(2)
    first, second = attention(*parts, 0.5), attention(*parts, 0.5)
    assert not torch.equal(first, second)
    torch.manual_seed(2)
    assert torch.equal(attention(*parts, 0.5), first)


def test_half_precision_stays_within_its_rounding() -> None:
    parts = inputs(64)
    half = [part.detach().bfloat16().requires_grad_() for part in parts]
    results = []
    for given in (parts, half):
        torch.manual_seed(3)
        found = attention(*given, 0.1, causal=True)
        results.append((found, *torch.autograd.grad(found.square().sum(), given)))
    for exact, rough in zip(*results, strict=True):
        assert rough.dtype == torch.bfloat16
        assert (rough - exact).norm() < 0.02 * exact.norm()


def test_any_rate_below_one_keeps_weights_finite() -> None:
    assert attention(*inputs(), dropout=0.999999).isfinite().all()
