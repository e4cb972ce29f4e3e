"""The compact keypoint tokenizer: one set of codes for a window.

Letters: B windows, t steps, N points, S tokens, d codes, D width, C classes.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config, ModelConfig
from amplify_motion_tokenizer.geometry import px_from_labels, wnorm_from_px
from amplify_motion_tokenizer.models.base import MotionTokenizer, check_images, check_shape, check_velocities
from amplify_motion_tokenizer.models.heads import DenseHead, FactorisedHead, Head
from amplify_motion_tokenizer.models.keypoint.blocks import DecoderLayer, EncoderLayer
from amplify_motion_tokenizer.models.quantizer import build_fsq

JOIN_DIM = 256
"""M, hidden width of the head that joins points and steps; AMPLIFY's head has the same."""


class KeypointTokenizer(MotionTokenizer):
    """The keypoint reproduction's model, and variants of both its ends (``model.keypoint``).

    With tokens ``point_step`` every velocity is a token, time-major, and a causal transformer mixes the
    S = t * N of them; with ``point`` every point's whole velocity sequence is one of S = N tokens, and
    all see all, as tokens then have no order in time. A linear layer along the sequence turns S tokens
    into d, FSQ makes them codes, and a transformer decoder reads the codes with one learnt query per
    point. With the decoder ``replicate`` that gives one distribution per point for all steps; with
    ``per_step`` t more queries, one per step, are decoded beside them, and a factorised head joins each
    point with each step.

    ``point_step`` with ``replicate`` is the reproduction; weights exchange with its files by name.

    Args:
        config: sizes of the model and of its input.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.quantizer = build_fsq(config.model.fsq_levels, config.model.hidden_dim)
        model, dim = config.model, config.model.hidden_dim
        self.per_point = model.keypoint.tokens == "point"
        self.per_step = model.keypoint.decoder == "per_step"
        num_tokens = config.num_points * (1 if self.per_point else config.num_steps)
        self.input_projection = nn.Linear(2 * config.num_steps if self.per_point else 2, dim)
        self.pos_embed = nn.Parameter(torch.randn(1, num_tokens, dim))
        self.encoder = _Encoder(model, causal=not self.per_point)
        self.encoder_output_projection = nn.Linear(num_tokens, model.encoder_sequence_len)
        self.decoder_queries = nn.Parameter(torch.randn(1, config.num_points, dim))
        self.decoder = _Decoder(model)
        if self.per_step:
            self.step_queries = nn.Parameter(torch.randn(1, config.num_steps, dim))
            self.join = nn.ModuleDict(
                {
                    "points": nn.Linear(dim, JOIN_DIM),
                    "steps": nn.Linear(dim, JOIN_DIM, bias=False),
                    "classes": nn.Linear(JOIN_DIM, config.num_classes, bias=False),
                }
            )
        self.output_projection = nn.Linear(dim, config.num_classes)
        self.register_load_state_dict_pre_hook(_drop_causal_mask)  # type: ignore[no-untyped-call]

    def _fsq(self) -> nn.Module:
        return self.quantizer

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(t, N, 2)."""
        return self.config.num_steps, self.config.num_points, 2

    @property
    def num_codes(self) -> int:
        """Number of codes d of a window, ``model.encoder_sequence_len``."""
        return self.config.model.encoder_sequence_len

    @property
    def class_velocities(self) -> Tensor:
        """(C, 2), (x, y), W-normalised."""
        width = self.config.model.decoder_window_size
        return wnorm_from_px(px_from_labels(torch.arange(width**2), width), width)

    def encode(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        """Tokens (B, d, D) of velocities (B, t, N, 2), (x, y), W-normalised.

        Raises:
            ValueError: naming the expected and the found shape, type or, in evaluation mode, values; or
                images are given.
        """
        velocities = self._as_weights(velocities)
        check_images(images, velocities, conditioned=False)
        check_velocities(velocities, "(B, t, N, 2)", self.input_shape, self, wnorm=True)
        features = velocities.transpose(1, 2).flatten(2) if self.per_point else velocities.flatten(1, 2)
        tokens = self.encoder(self.input_projection(features) + self.pos_embed)
        latents: Tensor = self.encoder_output_projection(tokens.transpose(1, 2)).transpose(1, 2)
        return latents

    def head(self, codes: Tensor) -> Head:
        """What makes the logits of codes (B, d, D): (B, t, N, C), or (B, 1, N, C) with ``replicate``.

        Raises:
            ValueError: naming the expected and the found shape.
        """
        model = self.config.model
        check_shape("codes", codes, "(B, d, D)", (model.encoder_sequence_len, model.hidden_dim))
        queries: Tensor = self.decoder_queries
        if self.per_step:
            queries = torch.cat([queries, self.step_queries], dim=1)
        # Without dropout the queries are the same for all windows until they see codes.
        if self.training and model.dropout > 0:
            queries = queries.expand(len(codes), -1, -1)
        decoded = self.decoder(queries, codes)
        points, steps = decoded.tensor_split([self.config.num_points], dim=1)
        if not self.per_step:
            return DenseHead(self.output_projection(points).unsqueeze(1))
        weight = cast(nn.Linear, self.join["classes"]).weight
        return FactorisedHead(
            self.join["steps"](steps), self.join["points"](points), weight, self.output_projection(steps)
        )


class _Encoder(nn.Module):
    def __init__(self, model: ModelConfig, causal: bool) -> None:
        super().__init__()
        layer = EncoderLayer(model.hidden_dim, model.num_heads, model.dropout, causal)
        self.transformer_encoder = nn.TransformerEncoder(layer, model.num_layers, enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.transformer_encoder(tokens)
        return output


class _Decoder(nn.Module):
    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        layer = DecoderLayer(model.hidden_dim, model.num_heads, model.dropout)
        self.transformer_decoder = nn.TransformerDecoder(layer, model.num_layers)

    def forward(self, queries: Tensor, codes: Tensor) -> Tensor:
        output: Tensor = self.transformer_decoder(queries, codes)
        return output


def _drop_causal_mask(_: nn.Module, state_dict: dict[str, Any], prefix: str, *__: Any) -> None:
    # The reproduction stores its (S, S) mask, which follows from S; here the kernel is told instead.
    state_dict.pop(f"{prefix}causal_mask", None)
