"""The AMPLIFY motion tokenizer (pairlab/AMPLIFY): a distribution per view, step and point.

Letters: B windows, V views, t steps, N points, D width, C classes, L tokens: t, or V * t (t fast) when
every view has its own. Velocities are differences of normalised (row, col) positions, ``_rc_norm``.
The encoder may be conditioned on the first frame of each view: P tokens an image, of width E.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.geometry import rc_norm_from_labels
from amplify_motion_tokenizer.models.amplify.blocks import (
    BlockSizes,
    Causal,
    DecoderBlock,
    EncoderBlock,
    Stack,
    encoder_mask,
)
from amplify_motion_tokenizer.models.amplify.vision import build_vision_encoder, image_shape, load_pretrained
from amplify_motion_tokenizer.models.base import (
    MotionTokenizer,
    TokenizerOutput,
    check_images,
    check_shape,
    check_velocities,
)
from amplify_motion_tokenizer.models.heads import FactorisedHead
from amplify_motion_tokenizer.models.quantizer import (
    build_fsq,
    quantize_float32,
    unrounded_digits,
)

logger = logging.getLogger(__name__)

__all__ = ["AmplifyNetwork", "AmplifySizes", "AmplifyTokenizer", "Causal", "amplify_sizes", "encoder_mask"]

_MASKS: dict[str, Causal] = {"causal": True, "none": False, "diag": "diag"}


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
    """The encoder's mask; see ``encoder_mask``."""
    image_tokens: int = 0
    """P; 0 is a model without image conditioning."""
    image_dim: int = 512
    """E; means nothing without image conditioning."""

    @property
    def num_tokens(self) -> int:
        """L."""
        return self.num_steps * (self.num_views if self.per_view else 1)

    @property
    def num_classes(self) -> int:
        """C."""
        return math.prod(self.class_grid)

    @property
    def num_cond_tokens(self) -> int:
        """AMPLIFY's count of condition tokens, V * P, whether or not views share tokens."""
        return self.num_views * self.image_tokens

    @property
    def block_sizes(self) -> BlockSizes:
        """What all transformer blocks have in common."""
        return BlockSizes(self.hidden_dim, self.num_heads, self.dropout)


def amplify_sizes(config: Config) -> AmplifySizes:
    """The network's sizes as the config says."""
    model, own = config.model, config.model.amplify
    vision, image = own.vision, (0, AmplifySizes.image_dim)
    if vision.encoder is not None:
        image = image_shape(vision.encoder, vision.pooled)
    return AmplifySizes(
        num_views=len(config.data.views),
        num_steps=config.num_steps,
        num_points=config.num_points,
        hidden_dim=model.hidden_dim,
        num_heads=model.num_heads,
        num_layers=model.num_layers,
        dropout=model.dropout,
        mlp_dim=own.mlp_dim,
        fsq_levels=model.fsq_levels,
        class_grid=config.class_grid,
        per_view=own.per_view,
        causal=_MASKS[own.mask],
        image_tokens=image[0],
        image_dim=image[1],
    )


class AmplifyTokenizer(MotionTokenizer):
    """AMPLIFY's model as a ``MotionTokenizer``: velocities (B, V, t, N, 2), logits (B, V, t, N, C).

    A model that is conditioned on images holds its vision encoder, so its state dict is complete.

    Args:
        config: sizes of the model and of its input.

    Raises:
        ConfigError: it is conditioned on images, and transformers is not installed.
    """

    tokens_are_steps = True
    unused_settings = ("model.encoder_sequence_len",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.network = AmplifyNetwork(amplify_sizes(config))
        vision = config.model.amplify.vision
        self.vision = (
            None
            if vision.encoder is None
            else build_vision_encoder(vision.encoder, frozen=vision.frozen, pooled=vision.pooled)
        )

    def load_pretrained(self) -> None:
        """Gives the vision encoder the weights that ``model.amplify.vision.weights`` names, if any.

        Warns of an encoder that would stay as random as it is, and of a decoder that would never see codes.

        Raises:
            CheckpointError: they cannot be read, or are of another architecture.
        """
        if self.config.model.num_layers < 2:
            logger.warning(
                "model.num_layers = 1 leaves the decoder, which has half as many, no layer that sees the "
                "codes: they will not matter; give 2 or more"
            )
        own = self.config.model.amplify.vision
        if self.vision is not None and own.weights is not None:
            load_pretrained(self.vision, own.weights)
        elif self.vision is not None and own.frozen:
            logger.warning(
                "the vision encoder %s has random weights and is frozen, so that it never learns: give "
                "model.amplify.vision.weights, or set model.amplify.vision.frozen to false",
                own.encoder,
            )

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """What an optimiser is given; a vision encoder that trains has a learning rate of its own."""
        own = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [{"params": own, "lr": learning_rate}]
        vision = self.config.model.amplify.vision
        if self.vision is not None and not vision.frozen:
            theirs = [parameter for parameter in self.vision.parameters() if parameter.requires_grad]
            groups.append({"params": theirs, "lr": learning_rate * vision.lr_multiplier})
        return groups

    def _fsq(self) -> nn.Module:
        return self.network.quantize

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(V, t, N, 2)."""
        return self.network.input_shape

    @property
    def num_codes(self) -> int:
        """L: a code for each step, or for each step of each view."""
        return self.network.sizes.num_tokens

    @property
    def codes_per_view(self) -> bool:
        """``model.amplify.per_view``."""
        return self.network.sizes.per_view

    @property
    def class_velocities(self) -> Tensor:
        """(C, 2), (row, col), normalised by the frame of ``data.reference_size``."""
        size, grid = self.config.data.reference_size, self.config.class_grid
        assert isinstance(size, tuple)  # a rule of the config for this kind of input
        return rc_norm_from_labels(torch.arange(self.config.num_classes), size, grid)

    def encode(self, velocities: Tensor, images: Tensor | None = None) -> Tensor:
        """Tokens (B, L, D) of velocities (B, V, t, N, 2), rc_norm.

        Args:
            velocities: as above.
            images: (B, V, H, W, 3) float in [0, 1], RGB, the first frames, if the model is conditioned on
                them; stretched to 224 x 224.

        Raises:
            ValueError: naming the expected and the found shape, type or, in evaluation mode, values; or
                images are missing, or not taken.
        """
        velocities, images = self._as_weights(velocities), self._as_weights(images)
        check_images(images, velocities, conditioned=self.vision is not None)
        if self.vision is None:
            return self.network.encode(velocities)
        return self.network.encode(velocities, self.vision(images))

    def head(self, codes: Tensor) -> FactorisedHead:
        """What makes the logits (B, V, t, N, C) of codes (B, L, D).

        Raises:
            ValueError: naming the expected and the found shape.
        """
        return self.network.head(codes)


class AmplifyNetwork(nn.Module):
    """AMPLIFY's tokenizer; its state dict has exactly the keys of AMPLIFY's, buffers included.

    Image tokens are an input; ``models.amplify.vision`` makes them. ``encode`` and ``forward`` take them as a
    second argument, ``cond``, exactly when ``sizes.image_tokens`` is not 0.

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
    def input_shape(self) -> tuple[int, ...]:
        """(V, t, N, 2)."""
        return self.sizes.num_views, self.sizes.num_steps, self.sizes.num_points, 2

    def encode(self, velocities: Tensor, cond: Tensor | None = None) -> Tensor:
        """Tokens of velocities.

        Args:
            velocities: (B, V, t, N, 2), rc_norm.
            cond: (B, V, P, E), tokens of each view's first frame.

        Returns:
            (B, L, D).

        Raises:
            ValueError: naming the expected and the found shape, type or, in evaluation mode, values; or
                image tokens are missing, or given to a model without conditioning.
        """
        check_velocities(velocities, "(B, V, t, N, 2)", self.input_shape, self, wnorm=False)
        sizes = self.sizes
        if (cond is not None) != bool(sizes.image_tokens):
            expected = f"(B, {sizes.num_views}, {sizes.image_tokens}, {sizes.image_dim})"
            found = "None" if cond is None else str(tuple(cond.shape))
            raise ValueError(
                f"cond: expected {expected if sizes.image_tokens else 'None'}, found {found}; a model is "
                "conditioned on images exactly when image_tokens is not 0"
            )
        if cond is not None:
            check_shape("cond", cond, "(B, V, P, E)", (sizes.num_views, sizes.image_tokens, sizes.image_dim))
        latents: Tensor = self.encoder(velocities, cond)
        return latents

    def head(self, codes: Tensor) -> FactorisedHead:
        """What makes the logits (B, V, t, N, C) of codes (B, L, D).

        Raises:
            ValueError: naming the expected and the found shape.
        """
        check_shape("codes", codes, "(B, L, D)", (self.sizes.num_tokens, self.sizes.hidden_dim))
        head: FactorisedHead = self.decoder(codes)
        return head

    def forward(self, velocities: Tensor, cond: Tensor | None = None) -> TokenizerOutput:
        """All of it; logits are (B, V, t, N, C)."""
        latents = self.encode(velocities, cond)
        codes, indices = quantize_float32(self.quantize, latents)
        digits = unrounded_digits(self.quantize, latents)
        return TokenizerOutput(self.head(codes), indices, latents, codes, digits, self.sizes.num_steps)


class _Encoder(nn.Module):
    def __init__(self, sizes: AmplifySizes) -> None:
        super().__init__()
        self.per_view = sizes.per_view
        views_in_token = 1 if sizes.per_view else sizes.num_views
        self.encoder_proj = nn.Linear(sizes.num_points * 2 * views_in_token, sizes.hidden_dim)
        mask = encoder_mask(sizes.causal, sizes.num_tokens, sizes.num_cond_tokens)
        if sizes.image_tokens:
            self.cond_proj = nn.Linear(sizes.image_dim * views_in_token, sizes.hidden_dim)
        blocks = [
            DecoderBlock(sizes.block_sizes, mask, sizes.num_cond_tokens)
            if sizes.image_tokens
            else EncoderBlock(sizes.block_sizes, mask)
            for _ in range(sizes.num_layers)
        ]
        self.encoder = nn.ModuleDict({"transformer": Stack(blocks, sizes.num_tokens, sizes.block_sizes)})

    def forward(self, velocities: Tensor, cond: Tensor | None = None) -> Tensor:
        # (V, t, N, 2) as L tokens: (v t) (n d), or t (v n d).
        features = velocities.flatten(1, 2) if self.per_view else velocities.transpose(1, 2)
        memory = []
        if cond is not None:
            # (V, P, E) as (v p) e, or p (v e).
            images = cond.flatten(1, 2) if self.per_view else cond.transpose(1, 2).flatten(2)
            memory = [self.cond_proj(images)]
        tokens: Tensor = self.encoder["transformer"](self.encoder_proj(features.flatten(2)), *memory)
        return tokens


class _Decoder(nn.Module):
    def __init__(self, sizes: AmplifySizes) -> None:
        super().__init__()
        self.sizes, dim = sizes, sizes.hidden_dim
        full = encoder_mask(False, sizes.num_tokens)
        blocks = [
            DecoderBlock(sizes.block_sizes, full, sizes.num_tokens) for _ in range(sizes.num_layers // 2)
        ]
        self.decoder = nn.ModuleDict({"transformer": Stack(blocks, sizes.num_tokens, sizes.block_sizes)})
        self.track_pos_emb = nn.Embedding(sizes.num_points, dim)
        self.view_emb = nn.Embedding(sizes.num_views, dim)
        self.decoder_mlp = nn.Sequential(
            nn.Linear(3 * dim, sizes.mlp_dim), nn.ReLU(), nn.Linear(sizes.mlp_dim, dim)
        )
        self.decoder_proj = nn.Linear(dim, sizes.num_classes)
        self.fixed_positional_emb = _UnusedSinusoid(dim)

    def forward(self, codes: Tensor) -> FactorisedHead:
        """The head of codes (B, L, D); ``decoder_mlp`` and ``decoder_proj`` act through it alone."""
        sizes = self.sizes
        # The queries are zero, so without dropout they are the same for all windows until they see codes.
        dropping = self.training and sizes.dropout > 0
        queries = codes.new_zeros(len(codes) if dropping else 1, *codes.shape[1:])
        tokens = self.decoder["transformer"](queries, codes).expand(len(codes), -1, -1)
        # (B, V or 1, t, D)
        hidden = tokens.reshape(len(codes), -1, sizes.num_steps, sizes.hidden_dim)
        first, _, second = cast(Iterable[nn.Linear], self.decoder_mlp)
        of_token, of_point, of_view = first.weight.chunk(3, dim=1)
        views = F.linear(self.view_emb.weight, of_view, first.bias)[:, None]
        base = F.linear(second.bias, self.decoder_proj.weight, self.decoder_proj.bias)
        base = F.linear(hidden, self.decoder_proj.weight) + base
        return FactorisedHead(
            steps=F.linear(hidden, of_token) + views,
            points=F.linear(self.track_pos_emb.weight, of_point)[None],
            weight=self.decoder_proj.weight @ second.weight,
            base=base.expand(-1, sizes.num_views, -1, -1),
        )


class _UnusedSinusoid(nn.Module):
    """Holds a buffer that AMPLIFY stores and does not use, so that its strict loading succeeds."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        channels = dim + dim % 2
        frequencies = 1 / 10_000 ** (torch.arange(0, channels, 2).float() / channels)
        self.register_buffer("inv_freq", frequencies)
