"""The two published training steps as their sources compute them, with our weights' names; and attention.

All are plain on purpose: everything is made for every (view, step, point), masks are stored, and the loss
takes all logits. What they compute is what the package computes.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models.amplify.network import AmplifyNetwork
from amplify_motion_tokenizer.models.quantizer import build_fsq, quantize_float32


def amplify_logits(network: AmplifyNetwork, codes: Tensor) -> Tensor:
    """Logits (B, V, t, N, C) of codes (B, L, D): a perceptron over [h_t, p_n, q_v] of each element."""
    decoder, sizes = network.decoder, network.sizes
    tokens = decoder.decoder["transformer"](torch.zeros_like(codes), codes)
    shape = (len(codes), sizes.num_views, sizes.num_steps, sizes.num_points, sizes.hidden_dim)
    hidden = tokens.reshape(len(codes), -1, sizes.num_steps, sizes.hidden_dim)[:, :, :, None].expand(shape)
    points = decoder.track_pos_emb.weight.expand(shape)
    views = decoder.view_emb.weight[:, None, None].expand(shape)
    joined = torch.cat([hidden, points, views], dim=-1)
    logits: Tensor = decoder.decoder_proj(hidden + decoder.decoder_mlp(joined))
    return logits


class PlainKeypoint(nn.Module):
    """The keypoint reproduction: torch's layers, a stored (S, S) mask, logits copied to every step.

    Args:
        config: sizes; ``model.keypoint`` must be the reproduction's, point_step and replicate.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        model, dim = config.model, config.model.hidden_dim
        self.num_steps, tokens = config.num_steps, config.num_steps * config.num_points
        sizes = dim, model.num_heads, 4 * dim, model.dropout, "gelu"
        encoder = nn.TransformerEncoderLayer(*sizes, batch_first=True)
        decoder = nn.TransformerDecoderLayer(*sizes, batch_first=True)
        self.input_projection = nn.Linear(2, dim)
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, dim))
        self.encoder = nn.ModuleDict(
            {"transformer_encoder": nn.TransformerEncoder(encoder, model.num_layers)}
        )
        self.encoder_output_projection = nn.Linear(tokens, model.encoder_sequence_len)
        self.quantizer = build_fsq(model.fsq_levels, dim)
        self.decoder_queries = nn.Parameter(torch.randn(1, config.num_points, dim))
        self.decoder = nn.ModuleDict(
            {"transformer_decoder": nn.TransformerDecoder(decoder, model.num_layers)}
        )
        self.output_projection = nn.Linear(dim, config.num_classes)
        self.register_buffer("causal_mask", nn.Transformer.generate_square_subsequent_mask(tokens))

    def forward(self, velocities: Tensor) -> Tensor:
        """Logits (B, t, N, C) of velocities (B, t, N, 2)."""
        tokens = self.input_projection(velocities.flatten(1, 2)) + self.pos_embed
        tokens = self.encoder["transformer_encoder"](tokens, mask=self.causal_mask)
        latents = self.encoder_output_projection(tokens.transpose(1, 2)).transpose(1, 2)
        codes, _ = quantize_float32(self.quantizer, latents)
        queries = self.decoder_queries.repeat(len(codes), 1, 1)
        logits = self.output_projection(self.decoder["transformer_decoder"](queries, codes))
        return cast(Tensor, logits).unsqueeze(1).repeat(1, self.num_steps, 1, 1)


def focal_sums(logits: Tensor, labels: Tensor, mask: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Sum over the elements where ``mask`` is True of -w_y (1 - p_y)^gamma log p_y, of all logits."""
    log_p = logits.float().log_softmax(dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    losses = -weights[labels] * (1 - log_p.exp()) ** gamma * log_p
    return (losses * mask).sum()


def plain_attention(query: Tensor, key: Tensor, value: Tensor, dropout: float, mask: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(E) + mask) value of (B, H, S, E), with dropout on the whole softmax."""
    scores = query @ key.mT * query.shape[-1] ** -0.5 + mask.to(query.dtype)
    return F.dropout(scores.softmax(dim=-1), dropout) @ value
