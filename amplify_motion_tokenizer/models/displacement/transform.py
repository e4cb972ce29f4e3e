"""The tokenizer that needs no training: waves, gain, companding and shared-out digits, by formula."""

from __future__ import annotations

from amplify_motion_tokenizer.models.displacement.tokenizer import DisplacementTokenizer


class TransformTokenizer(DisplacementTokenizer):
    """``DisplacementTokenizer`` as it is: no weights. ``docs/transform.md`` defines its codes."""

    trained_by = None
    unused_settings = ("model.num_layers", "model.num_heads", "model.hidden_dim")
