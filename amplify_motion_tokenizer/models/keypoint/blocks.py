"""Transformer layers of the keypoint model: torch's post-norm layers, which never make a mask.

Parameters, their names and initial values are torch's; only the computation differs. Memory stays linear
in the tokens (``attention``), where ``torch.nn.TransformerEncoder`` is given an (S, S) mask.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from amplify_motion_tokenizer.models.attention import attention


class EncoderLayer(nn.TransformerEncoderLayer):
    """``torch.nn.TransformerEncoderLayer`` with GELU, causal where asked for.

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
        mixed = _multihead(self.self_attn, src, src, self.training, self.causal)
        tokens = self.norm1(src + self.dropout1(mixed))
        hidden = self.dropout(F.gelu(self.linear1(tokens)))
        output: Tensor = self.norm2(tokens + self.dropout2(self.linear2(hidden)))
        return output


class DecoderLayer(nn.TransformerDecoderLayer):
    """``torch.nn.TransformerDecoderLayer`` with GELU, without masks.

    Args:
        dim: width D.
        num_heads: attention heads; must divide D.
        dropout: rate on attention weights, attention outputs and both feed-forward layers.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__(dim, num_heads, 4 * dim, dropout, activation="gelu", batch_first=True)

    def forward(self, tgt: Tensor, memory: Tensor, *masks: Any, **more_masks: Any) -> Tensor:
        """(B or 1, N, D), 1 for the same queries in all windows, and memory (B, d, D) to (B, N, D).

        ``torch.nn.TransformerDecoder`` passes the other arguments.

        Raises:
            ValueError: when given a mask.
        """
        if any(mask is not None and mask is not False for mask in (*masks, *more_masks.values())):
            raise ValueError("DecoderLayer takes no mask: all queries see each other and the whole memory")
        mixed = _multihead(self.self_attn, tgt, tgt, self.training)
        tokens = self.norm1(tgt + self.dropout1(mixed)).expand(len(memory), -1, -1)
        mixed = _multihead(self.multihead_attn, tokens, memory, self.training)
        tokens = self.norm2(tokens + self.dropout2(mixed))
        hidden = self.dropout(F.gelu(self.linear1(tokens)))
        output: Tensor = self.norm3(tokens + self.dropout3(self.linear2(hidden)))
        return output


def _multihead(
    module: nn.MultiheadAttention, tokens: Tensor, memory: Tensor, training: bool, causal: bool = False
) -> Tensor:
    """What ``module`` makes of tokens (B, S, D) that look at memory (B, K, D)."""
    weight, bias = module.in_proj_weight, module.in_proj_bias
    if tokens is memory:
        query, key, value = F.linear(tokens, weight, bias).chunk(3, dim=-1)
    else:
        width = module.embed_dim
        query = F.linear(tokens, weight[:width], bias[:width])
        key, value = F.linear(memory, weight[width:], bias[width:]).chunk(2, dim=-1)
    query, key, value = (
        part.reshape(*part.shape[:2], module.num_heads, -1).transpose(1, 2) for part in (query, key, value)
    )
    mixed = attention(query, key, value, module.dropout if training else 0.0, causal)
    output: Tensor = module.out_proj(mixed.transpose(1, 2).flatten(2))
    return output
