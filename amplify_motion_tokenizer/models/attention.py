"""Attention with dropout on its weights, in memory that is linear in the tokens on every device.

The fused kernels of ``scaled_dot_product_attention`` are linear too, but on the CPU they know no dropout:
torch falls back to a plain form, which holds several (S, S) matrices per head and computes what a causal mask
throws away. ``BlockAttention`` is that same function a few rows at a time. Backward makes the
weights of a block again, as FlashAttention (Dao et al. 2022) does, with the same dropout.

Letters: B windows, H heads, S tokens that look, K tokens that are looked at, E width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK_BYTES = 8 << 20
"""Float32 attention weights held at a time: what fits a CPU's caches."""


def attention(
    query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, causal: bool = False
) -> Tensor:
    """softmax(query key^T / sqrt(E)) value, (B, H, S, E), with dropout on the softmax.

    Args:
        query: (B, H, S, E).
        key: (B, H, K, E).
        value: (B, H, K, E).
        dropout: rate in [0, 1); give 0 for inference.
        causal: whether token s sees tokens 0 to s only, instead of all; then S is K.
    """
    if dropout and query.device.type == "cpu":
        blocks: Tensor = _block_attention(query, key, value, dropout, causal)
        return blocks
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=causal)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _block_attention(query: Tensor, key: Tensor, value: Tensor, dropout: float, causal: bool) -> Tensor:
    output: Tensor = BlockAttention.apply(query, key, value, dropout, causal)  # type: ignore[no-untyped-call]
    return output


class BlockAttention(torch.autograd.Function):
    """``attention`` a block of windows and rows at a time; see the module's docstring.

    The products are in the type of the inputs, softmax and sums in float32. The rate of dropout is met to
    within 2^-17.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, dropout: float, causal: bool) -> Tensor:
        """(B, H, S, E); the random numbers come from a seed that torch's generator gives."""
        query = query * query.shape[-1] ** -0.5
        drop = _Dropout(dropout, int(torch.randint(2**62, ())))
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        with torch.autocast("cpu", enabled=False):
            for windows, rows in _blocks(query, key):
                seen = slice(rows.stop if causal else None)
                weights = _weights(query[windows, :, rows], key[windows, :, seen], causal)
                weights = weights.mul_(drop.factors(weights)).to(value.dtype)
                output[windows, :, rows] = weights @ value[windows, :, seen]
        ctx.save_for_backward(query, key, value, output)
        ctx.drop, ctx.causal = drop, causal
        return output

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value.

        With weights P, factors F of the dropout, output O = (P F) V and gradient G of O: the gradient of
        P is (G V^T) F, and the gradient of the scores is P ((G V^T) F - sum(G O)).
        """
        query, key, value, output = ctx.saved_tensors
        (grad,), drop = upstream, ctx.drop.again()
        of_query = torch.empty_like(query)
        of_key, of_value = (torch.zeros_like(x, dtype=torch.float32) for x in (key, value))
        with torch.autocast("cpu", enabled=False):
            for windows, rows in _blocks(query, key):
                seen = slice(rows.stop if ctx.causal else None)
                here, there = (windows, slice(None), rows), (windows, slice(None), seen)
                weights = _weights(query[here], key[there], ctx.causal)
                factors = drop.factors(weights)
                mean = (grad[here] * output[here]).sum(dim=-1, keepdim=True, dtype=torch.float32)
                of_scores = (grad[here] @ value[there].mT).float().mul_(factors).sub_(mean).mul_(weights)
                of_scores = of_scores.to(query.dtype)
                dropped = weights.mul_(factors).to(grad.dtype)
                of_value[there] += dropped.mT @ grad[here]
                of_query[here] = of_scores @ key[there]
                of_key[there] += of_scores.mT @ query[here]
        of_query *= query.shape[-1] ** -0.5
        return of_query, of_key.to(key.dtype), of_value.to(value.dtype), None, None


def _blocks(query: Tensor, key: Tensor) -> Iterator[tuple[slice, slice]]:
    """(windows, rows) in turn whose weights fit ``BLOCK_BYTES``: whole windows, or rows of one."""
    batch, heads, length, _ = query.shape
    of_row = 4 * heads * key.shape[-2]
    size = max(1, BLOCK_BYTES // (of_row * length))
    rows = min(length, max(1, BLOCK_BYTES // of_row))
    for window in range(0, batch, size):
        for row in range(0, length, rows):
            yield slice(window, min(window + size, batch)), slice(row, min(row + rows, length))


def _weights(query: Tensor, key: Tensor, causal: bool) -> Tensor:
    """Softmax (b, H, s, K) float32 of a block; with ``causal`` its rows are the last s of K tokens."""
    scores = (query @ key.mT).float()
    if causal:
        rows = query.shape[-2]
        future = torch.ones(rows, rows, dtype=torch.bool).triu(1)
        scores[..., -rows:].masked_fill_(future, -math.inf)
    return torch.softmax(scores, dim=-1, out=scores)


class _Dropout:
    """The factors 0 or 1 / (1 - rate) of one pass after another over the same blocks.

    Args:
        rate: in [0, 1), rounded to a multiple of 2^-16: 16 random bits decide a weight, because drawing
            floats would take longer than the products.
        seed: the same gives the same factors.
    """

    def __init__(self, rate: float, seed: int) -> None:
        self.rate, self.seed = rate, seed
        self._dropped = min(round(rate * 2**16), 2**16 - 1)  # a rate below 1 keeps some
        self._generator = torch.Generator().manual_seed(seed)

    def again(self) -> _Dropout:
        """A new pass: the same factors from the first block on."""
        return _Dropout(self.rate, self.seed)

    def factors(self, like: Tensor) -> Tensor:
        """The factors of the next block, float32, in the shape of ``like``."""
        draws = torch.empty(-(-like.numel() // 4), dtype=torch.int64)
        draws.random_(-(2**63), None, generator=self._generator)
        bits = draws.view(torch.int16)[: like.numel()].view(like.shape)
        kept = torch.ge(bits, self._dropped - 2**15, out=torch.empty_like(like))
        return kept.mul_(2**16 / (2**16 - self._dropped))
