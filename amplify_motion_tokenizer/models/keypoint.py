"""The compact keypoint tokenizer: one set of codes, and one distribution per point, for a window.

Letters: B windows, t steps, N points, S = t * N tokens, d codes, D width, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config, ModelConfig
from amplify_motion_tokenizer.models.base import MotionTokenizer, check_images, check_shape
from amplify_motion_tokenizer.models.blocks import CausalEncoderLayer
from amplify_motion_tokenizer.models.quantizer import build_fsq


class KeypointTokenizer(MotionTokenizer):
    """The keypoint reproduction's model; weights exchange with its files by name.

    Every velocity is a token, time-major; a causal transformer mixes them, a linear layer along the
    sequence turns S tokens into d, FSQ makes them codes, and a transformer decoder reads the codes with
    one learnt query per point. All steps of a window share the logits (see ``decode_distinct``).

    Args:
        config: sizes of the model and of its input.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.quantizer = build_fsq(config.model.fsq_levels, config.model.hidden_dim)
        model, dim = config.model, config.model.hidden_dim
        num_tokens = config.num_steps * config.num_points
        self.input_projection = nn.Linear(2, dim)
        self.pos_embed = nn.Parameter(torch.randn(1, num_tokens, dim))
        self.encoder = _Encoder(model)
        self.encoder_output_projection = nn.Linear(num_tokens, model.encoder_sequence_len)
        self.decoder_queries = nn.Parameter(torch.randn(1, config.num_points, dim))
        self.decoder = _Decoder(model)
        self.output_projection = nn.Linear(dim, config.num_classes)
        self.register_load_state_dict_pre_hook(_drop_causal_mask)  # type: ignore[no-untyped-call]

    def _fsq(self) -> nn.Module:
        return self.quantizer

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(t, N, 2)."""
        return self.config.num_steps, self.config.num_points, 2

    def encode(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        """Tokens (B, d, D) of velocities (B, t, N, 2), (x, y), W-normalised.

        Raises:
            ValueError: naming the expected and the found shape; or images are given.
        """
        check_images(images, velocities, conditioned=False)
        check_shape("velocities", velocities, "(B, t, N, 2)", self.input_shape)
        tokens = self.encoder(self.input_projection(velocities.flatten(1, 2)) + self.pos_embed)
        latents: Tensor = self.encoder_output_projection(tokens.transpose(1, 2)).transpose(1, 2)
        return latents

    def decode_distinct(self, codes: Tensor) -> Tensor:
        """Logits (B, 1, N, C) of codes (B, d, D), the same at every step.

        Raises:
            ValueError: naming the expected and the found shape.
        """
        model = self.config.model
        check_shape("codes", codes, "(B, d, D)", (model.encoder_sequence_len, model.hidden_dim))
        points = self.decoder(self.decoder_queries.expand(len(codes), -1, -1), codes)
        logits: Tensor = self.output_projection(points).unsqueeze(1)
        return logits


class _Encoder(nn.Module):
    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        layer = CausalEncoderLayer(model.hidden_dim, model.num_heads, model.dropout)
        self.transformer_encoder = nn.TransformerEncoder(layer, model.num_layers, enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.transformer_encoder(tokens)
        return output


class _Decoder(nn.Module):
    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(
            model.hidden_dim,
            model.num_heads,
            4 * model.hidden_dim,
            model.dropout,
            activation="gelu",
            batch_first=True,
        )
        self.transformer_decoder = nn.TransformerDecoder(layer, model.num_layers)

    def forward(self, queries: Tensor, codes: Tensor) -> Tensor:
        output: Tensor = self.transformer_decoder(queries, codes)
        return output


def _drop_causal_mask(_: nn.Module, state_dict: dict[str, Any], prefix: str, *__: Any) -> None:
    # The reproduction stores its (S, S) mask, which follows from S; here the kernel is told instead.
    state_dict.pop(f"{prefix}causal_mask", None)
