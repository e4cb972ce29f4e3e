"""Transformer layers shared by models."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class EncoderLayer(nn.TransformerEncoderLayer):
    """torch's post-norm encoder layer, causal, where asked for, without a mask.

    Parameters, their names and initial values are torch's. Only the computation differs: the fused
    kernels know what causal means, so memory stays linear in the length S instead of the S * S of
    ``torch.nn.TransformerEncoder`` with an explicit mask. (On the CPU the fused kernel has no dropout;
    training there with dropout falls back to torch's plain one.)

    Args:
        dim: width D.
        num_heads: attention heads; must divide D.
        dropout: rate on attention weights, attention output and both feed-forward layers.
        causal: whether token s sees tokens 0 to s only, instead of all.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float, causal: bool = True) -> None:
        super().__init__(dim, num_heads, 4 * dim, dropout, activation="gelu", batch_first=True)
        self.causal = causal

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """(B, S, D) to (B, S, D).

        ``torch.nn.TransformerEncoder`` passes the other arguments; the layer is what it was built as,
        whatever ``is_causal`` says.

        Raises:
            ValueError: when given a mask.
        """
        if src_mask is not None or src_key_padding_mask is not None:
            raise ValueError("EncoderLayer takes no mask: it is built causal or not, and has no padding")
        tokens = self.norm1(src + self.dropout1(self._attention(src)))
        hidden = self.dropout(F.gelu(self.linear1(tokens)))
        output: Tensor = self.norm2(tokens + self.dropout2(self.linear2(hidden)))
        return output

    def _attention(self, tokens: Tensor) -> Tensor:
        attention, split = self.self_attn, (*tokens.shape[:2], self.self_attn.num_heads, -1)
        projected = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = (part.reshape(split).transpose(1, 2) for part in projected.chunk(3, dim=-1))
        dropout = attention.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=self.causal)
        output: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
        return output
