"""The AMPLIFY motion tokenizer (pairlab/AMPLIFY), unconditioned: a distribution per view, step and point.

Letters: B windows, V views, t steps, N points, D width, C classes, L tokens: t, or V * t (t fast) when
every view has its own. Velocities are differences of normalised (row, col) positions, ``_rc_norm``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amplify_motion_tokenizer.models.base import TokenizerOutput, check_shape
from amplify_motion_tokenizer.models.quantizer import build_fsq, codes_of_indices, quantize_float32

Causal = bool | Literal["diag"]


@dataclass(frozen=True, kw_only=True)
class AmplifySizes:
    """Hyperparameters of the model; the defaults are AMPLIFY's."""

    num_views: int = 2
    """V."""
    num_steps: int = 15
    """t, one less than the frames of a window."""
    num_points: int = 400
    """N."""
    hidden_dim: int = 768
    """D."""
    num_heads: int = 8
    """Attention heads; must divide D."""
    num_layers: int = 2
    """Blocks of the encoder; the decoder has half as many."""
    dropout: float = 0.1
    """Rate on embedded inputs, attention weights, attention outputs and MLP outputs."""
    mlp_dim: int = 256
    """M, hidden width of the head."""
    fsq_levels: tuple[int, ...] = (8, 8, 6, 5)
    """FSQ levels; the codebook has as many codes as their product."""
    class_grid: tuple[int, int] = (15, 15)
    """(rows, cols) of the window of velocity classes; C is their product."""
    per_view: bool = False
    """Whether tokens are (view, step) instead of steps with all views together."""
    causal: Causal = True
    """The encoder's mask: lower triangle, none, or the diagonal."""

    @property
    def num_tokens(self) -> int:
        """L."""
        return self.num_steps * (self.num_views if self.per_view else 1)

    @property
    def num_classes(self) -> int:
        """C."""
        return math.prod(self.class_grid)


class AmplifyTokenizer(nn.Module):
    """AMPLIFY's tokenizer; its state dict has exactly the keys of AMPLIFY's, buffers included.

    Args:
        sizes: hyperparameters.
    """

    def __init__(self, sizes: AmplifySizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = _Encoder(sizes)
        self.quantize = build_fsq(sizes.fsq_levels, sizes.hidden_dim)
        self.decoder = _Decoder(sizes)

    @property
    def codebook_size(self) -> int:
        """True number of codes: the product of the FSQ levels."""
        return math.prod(self.sizes.fsq_levels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(V, t, N, 2)."""
        return self.sizes.num_views, self.sizes.num_steps, self.sizes.num_points, 2

    def encode(self, velocities: Tensor) -> Tensor:
        """Tokens (B, L, D) of velocities (B, V, t, N, 2), rc_norm.

        Raises:
            ValueError: naming the expected and the found shape.
        """
        check_shape("velocities", velocities, "(B, V, t, N, 2)", self.input_shape)
        latents: Tensor = self.encoder(velocities)
        return latents

    def decode(self, codes: Tensor) -> Tensor:
        """Logits (B, V, t, N, C) of codes (B, L, D).

        Raises:
            ValueError: naming the expected and the found shape.
        """
        check_shape("codes", codes, "(B, L, D)", (self.sizes.num_tokens, self.sizes.hidden_dim))
        logits: Tensor = self.decoder(codes)
        return logits

    @torch.no_grad()
    def tokenize(self, velocities: Tensor) -> Tensor:
        """Code ids (B, L) int64 of velocities, without decoding; call ``eval()`` first."""
        return quantize_float32(self.quantize, self.encode(velocities))[1]

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Logits (B, V, t, N, C) of code ids (B, L)."""
        return self.decode(codes_of_indices(self.quantize, indices))

    def forward(self, velocities: Tensor) -> TokenizerOutput:
        """All of it, for training; logits are (B, V, t, N, C)."""
        latents = self.encode(velocities)
        codes, indices = quantize_float32(self.quantize, latents)
        return TokenizerOutput(self.decode(codes), indices, latents, codes, self.sizes.num_steps)


class _Encoder(nn.Module):
    def __init__(self, sizes: AmplifySizes) -> None:
        super().__init__()
        self.per_view = sizes.per_view
        width = sizes.num_points * 2 * (1 if sizes.per_view else sizes.num_views)
        self.encoder_proj = nn.Linear(width, sizes.hidden_dim)
        mask = encoder_mask(sizes.causal, sizes.num_tokens)
        blocks = [_EncoderBlock(sizes, mask) for _ in range(sizes.num_layers)]
        self.encoder = nn.ModuleDict({"transformer": _Stack(blocks, sizes)})

    def forward(self, velocities: Tensor) -> Tensor:
        # (V, t, N, 2) as L tokens: (v t) (n d), or t (v n d).
        features = velocities.flatten(1, 2) if self.per_view else velocities.transpose(1, 2)
        tokens: Tensor = self.encoder["transformer"](self.encoder_proj(features.flatten(2)))
        return tokens


class _Decoder(nn.Module):
    def __init__(self, sizes: AmplifySizes) -> None:
        super().__init__()
        self.sizes, dim = sizes, sizes.hidden_dim
        blocks = [_DecoderBlock(sizes) for _ in range(sizes.num_layers // 2)]
        self.decoder = nn.ModuleDict({"transformer": _Stack(blocks, sizes)})
        self.track_pos_emb = nn.Embedding(sizes.num_points, dim)
        self.view_emb = nn.Embedding(sizes.num_views, dim)
        self.decoder_mlp = nn.Sequential(
            nn.Linear(3 * dim, sizes.mlp_dim), nn.ReLU(), nn.Linear(sizes.mlp_dim, dim)
        )
        self.decoder_proj = nn.Linear(dim, sizes.num_classes)
        self.fixed_positional_emb = _UnusedSinusoid(dim)

    def forward(self, codes: Tensor) -> Tensor:
        sizes = self.sizes
        tokens = self.decoder["transformer"](torch.zeros_like(codes), codes)
        # (B, V or 1, t, D), then broadcast to every view, step and point.
        steps = tokens.reshape(len(codes), -1, sizes.num_steps, sizes.hidden_dim)
        shape = (len(codes), sizes.num_views, sizes.num_steps, sizes.num_points, sizes.hidden_dim)
        hidden = steps[:, :, :, None].expand(shape)
        points = self.track_pos_emb.weight.expand(shape)
        views = self.view_emb.weight[:, None, None].expand(shape)
        extra = self.decoder_mlp(torch.cat([hidden, points, views], dim=-1))
        logits: Tensor = self.decoder_proj(hidden + extra)
        return logits


class _UnusedSinusoid(nn.Module):
    """Holds a buffer that AMPLIFY stores and does not use, so that its strict loading succeeds."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        channels = dim + dim % 2
        frequencies = 1 / 10_000 ** (torch.arange(0, channels, 2).float() / channels)
        self.register_buffer("inv_freq", frequencies)


def encoder_mask(causal: Causal, length: int) -> Tensor:
    """(length, length) bool, True where the row's token may attend to the column's.

    Raises:
        ValueError: when ``causal`` is neither a bool nor "diag".
    """
    full = torch.ones(length, length, dtype=torch.bool)
    if causal == "diag":
        return torch.eye(length, dtype=torch.bool)
    if not isinstance(causal, bool):
        raise ValueError(f"causal is {causal!r}; expected True, False or 'diag'")
    return full.tril() if causal else full


class _Stack(nn.Module):
    """Position embedding, blocks and a final norm, initialised as GPT-2."""

    def __init__(self, blocks: Sequence[nn.Module], sizes: AmplifySizes) -> None:
        super().__init__()
        self.dropout = nn.Dropout(sizes.dropout)
        self.pos_emb = nn.Embedding(sizes.num_tokens, sizes.hidden_dim)
        self.h = nn.ModuleList(blocks)
        self.ln_f = _norm(sizes)
        for name, weight in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * len(blocks)))
            elif weight.ndim == 2:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens: Tensor, *memory: Tensor) -> Tensor:
        hidden = self.dropout(tokens + self.pos_emb.weight)
        for block in self.h:
            hidden = block(hidden, *memory)
        output: Tensor = self.ln_f(hidden)
        return output


def _norm(sizes: AmplifySizes) -> nn.LayerNorm:
    return nn.LayerNorm(sizes.hidden_dim, bias=False)


class _EncoderBlock(nn.Module):
    def __init__(self, sizes: AmplifySizes, mask: Tensor) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = _norm(sizes), _norm(sizes)
        self.attn = _SelfAttention(sizes, mask)
        self.mlp = _Mlp(sizes)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.ln_1(tokens))
        output: Tensor = tokens + self.mlp(self.ln_2(tokens))
        return output


class _DecoderBlock(nn.Module):
    def __init__(self, sizes: AmplifySizes) -> None:
        super().__init__()
        full = encoder_mask(False, sizes.num_tokens)
        self.ln_1, self.ln_2, self.ln_3, self.ln_4 = (_norm(sizes) for _ in range(4))
        self.self_attn = _SelfAttention(sizes, full)
        self.mlp = _Mlp(sizes)
        self.cross_attn = _CrossAttention(sizes, full)
        self.mlp_2 = _Mlp(sizes)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        tokens = tokens + self.self_attn(self.ln_1(tokens))
        tokens = tokens + self.mlp(self.ln_2(tokens))
        tokens = tokens + self.cross_attn(self.ln_3(tokens), memory)
        output: Tensor = tokens + self.mlp_2(self.ln_4(tokens))
        return output


class _Attention(nn.Module):
    attn_mask: Tensor

    def __init__(self, sizes: AmplifySizes, mask: Tensor) -> None:
        super().__init__()
        self.num_heads, self.rate = sizes.num_heads, sizes.dropout
        self.c_proj = nn.Linear(sizes.hidden_dim, sizes.hidden_dim, bias=False)
        self.dropout = nn.Dropout(sizes.dropout)
        self.register_buffer("attn_mask", mask[None, None])

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (
            x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2) for x in (query, key, value)
        )
        rate = self.rate if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, self.attn_mask, dropout_p=rate)
        output: Tensor = self.dropout(self.c_proj(mixed.transpose(1, 2).flatten(2)))
        return output


class _SelfAttention(_Attention):
    def __init__(self, sizes: AmplifySizes, mask: Tensor) -> None:
        super().__init__(sizes, mask)
        self.c_attn = nn.Linear(sizes.hidden_dim, 3 * sizes.hidden_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mix(*self.c_attn(tokens).chunk(3, dim=-1))


class _CrossAttention(_Attention):
    def __init__(self, sizes: AmplifySizes, mask: Tensor) -> None:
        super().__init__(sizes, mask)
        self.q_proj = nn.Linear(sizes.hidden_dim, sizes.hidden_dim, bias=False)
        self.kv_proj = nn.Linear(sizes.hidden_dim, 2 * sizes.hidden_dim, bias=False)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        return self.mix(self.q_proj(tokens), *self.kv_proj(memory).chunk(2, dim=-1))


class _Mlp(nn.Module):
    def __init__(self, sizes: AmplifySizes) -> None:
        super().__init__()
        self.c_fc = nn.Linear(sizes.hidden_dim, 4 * sizes.hidden_dim, bias=False)
        self.c_proj = nn.Linear(4 * sizes.hidden_dim, sizes.hidden_dim, bias=False)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.dropout(self.c_proj(F.gelu(self.c_fc(tokens))))
        return output
