"""Transformer stacks of AMPLIFY: GPT-2's pre-norm blocks without biases, with or without a memory.

Module names are AMPLIFY's, so that weights exchange by name. Its files also hold the attention masks;
a mask that forbids nothing is kept as a buffer for them, and is not given to the attention kernel.

Letters: B windows, L tokens, S tokens of the memory, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Causal = bool | Literal["diag"]
"""An encoder's mask: True the lower triangle, False none, "diag" the diagonal and the first columns."""


class BlockSizes(NamedTuple):
    """What the layers of one stack have in common."""

    dim: int
    """D."""
    num_heads: int
    """Attention heads; must divide D."""
    dropout: float
    """Rate on embedded inputs, attention weights, attention outputs and MLP outputs."""


def encoder_mask(causal: Causal, length: int, num_cond_tokens: int = 0) -> Tensor:
    """Which tokens of the encoder may attend to which.

    Args:
        causal: as in ``Causal``.
        length: L.
        num_cond_tokens: with "diag", every token may also attend to this many first tokens. AMPLIFY
            counts condition tokens here, though the columns are tokens of the sequence itself.

    Returns:
        (L, L) bool, True where the row's token may attend to the column's.

    Raises:
        ValueError: when ``causal`` is neither a bool nor "diag".
    """
    if causal == "diag":
        mask = torch.eye(length, dtype=torch.bool)
        mask[:, :num_cond_tokens] = True
        return mask
    if not isinstance(causal, bool):
        raise ValueError(f"causal is {causal!r}; expected True, False or 'diag'")
    full = torch.ones(length, length, dtype=torch.bool)
    return full.tril() if causal else full


class Stack(nn.Module):
    """Position embedding, blocks and a final norm, initialised as GPT-2.

    Args:
        blocks: all ``EncoderBlock``, or all ``DecoderBlock``.
        num_tokens: L.
        sizes: what the blocks have in common.
    """

    def __init__(self, blocks: Sequence[nn.Module], num_tokens: int, sizes: BlockSizes) -> None:
        super().__init__()
        self.dropout = nn.Dropout(sizes.dropout)
        self.pos_emb = nn.Embedding(num_tokens, sizes.dim)
        self.h = nn.ModuleList(blocks)
        self.ln_f = _norm(sizes)
        for name, weight in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * len(blocks)))
            elif weight.ndim == 2:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens: Tensor, *memory: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D); decoder blocks need one memory, (B, S, D)."""
        hidden = self.dropout(tokens + self.pos_emb.weight)
        for block in self.h:
            hidden = block(hidden, *memory)
        output: Tensor = self.ln_f(hidden)
        return output


class EncoderBlock(nn.Module):
    """Self-attention, then an MLP.

    Args:
        sizes: what the blocks have in common.
        mask: (L, L) bool, True where attention is allowed.
    """

    def __init__(self, sizes: BlockSizes, mask: Tensor) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = _norm(sizes), _norm(sizes)
        self.attn = _SelfAttention(sizes, mask)
        self.mlp = _Mlp(sizes)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        tokens = tokens + self.attn(self.ln_1(tokens))
        output: Tensor = tokens + self.mlp(self.ln_2(tokens))
        return output


class DecoderBlock(nn.Module):
    """Self-attention, an MLP, attention to a memory that is not normalised, and another MLP.

    Args:
        sizes: what the blocks have in common.
        mask: (L, L) bool of the self-attention, True where attention is allowed.
        memory_slots: columns of the stored mask of the cross-attention, which forbids nothing; at
            least S.
    """

    def __init__(self, sizes: BlockSizes, mask: Tensor, memory_slots: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.ln_3, self.ln_4 = (_norm(sizes) for _ in range(4))
        self.self_attn = _SelfAttention(sizes, mask)
        self.mlp = _Mlp(sizes)
        self.cross_attn = _CrossAttention(sizes, torch.ones(len(mask), memory_slots, dtype=torch.bool))
        self.mlp_2 = _Mlp(sizes)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """(B or 1, L, D), 1 for the same tokens in all windows, and memory (B, S, D) to (B, L, D)."""
        tokens = tokens + self.self_attn(self.ln_1(tokens))
        tokens = tokens + self.mlp(self.ln_2(tokens))
        tokens = tokens.expand(len(memory), -1, -1)
        tokens = tokens + self.cross_attn(self.ln_3(tokens), memory)
        output: Tensor = tokens + self.mlp_2(self.ln_4(tokens))
        return output


def _norm(sizes: BlockSizes) -> nn.LayerNorm:
    return nn.LayerNorm(sizes.dim, bias=False)


class _Attention(nn.Module):
    attn_mask: Tensor

    def __init__(self, sizes: BlockSizes, mask: Tensor) -> None:
        super().__init__()
        self.num_heads, self.rate = sizes.num_heads, sizes.dropout
        self.masked = not bool(mask.all())
        self.is_causal = self.masked and torch.equal(mask, torch.ones_like(mask).tril())
        self.c_proj = nn.Linear(sizes.dim, sizes.dim, bias=False)
        self.dropout = nn.Dropout(sizes.dropout)
        self.register_buffer("attn_mask", mask[None, None])

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (
            x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2) for x in (query, key, value)
        )
        rate = self.rate if self.training else 0.0
        mask = self.attn_mask if self.masked and not self.is_causal else None
        mixed = F.scaled_dot_product_attention(
            query, key, value, mask, dropout_p=rate, is_causal=self.is_causal
        )
        output: Tensor = self.dropout(self.c_proj(mixed.transpose(1, 2).flatten(2)))
        return output


class _SelfAttention(_Attention):
    def __init__(self, sizes: BlockSizes, mask: Tensor) -> None:
        super().__init__(sizes, mask)
        self.c_attn = nn.Linear(sizes.dim, 3 * sizes.dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mix(*self.c_attn(tokens).chunk(3, dim=-1))


class _CrossAttention(_Attention):
    def __init__(self, sizes: BlockSizes, mask: Tensor) -> None:
        super().__init__(sizes, mask)
        self.q_proj = nn.Linear(sizes.dim, sizes.dim, bias=False)
        self.kv_proj = nn.Linear(sizes.dim, 2 * sizes.dim, bias=False)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        return self.mix(self.q_proj(tokens), *self.kv_proj(memory).chunk(2, dim=-1))


class _Mlp(nn.Module):
    def __init__(self, sizes: BlockSizes) -> None:
        super().__init__()
        self.c_fc = nn.Linear(sizes.dim, 4 * sizes.dim, bias=False)
        self.c_proj = nn.Linear(4 * sizes.dim, sizes.dim, bias=False)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.dropout(self.c_proj(F.gelu(self.c_fc(tokens))))
        return output
