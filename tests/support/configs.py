"""Configs that tests share."""

from __future__ import annotations

import dataclasses
from typing import Any

from amplify_motion_tokenizer.config import Config, DataConfig, ModelConfig
from amplify_motion_tokenizer.config.loading import config_from_dict
from tests.support.run_scripts import (
    TINY,
)


def with_training(config: Config, **values: Any) -> Config:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **values))


def small_config(**model: object) -> Config:
    sizes = {"hidden_dim": 16, "num_heads": 2, "num_layers": 1, "encoder_sequence_len": 3, "dropout": 0.0}
    return Config(
        model=ModelConfig(**{**sizes, "fsq_levels": (5, 4), "decoder_window_size": 5, **model}),  # type: ignore[arg-type]
        data=DataConfig(sequence_length=4, grid_size=2),
    )


def amplify_config(mask: str = "causal", per_view: bool = False, views: int = 2) -> Config:
    tree = {
        **TINY,
        "data": {**TINY["data"], "views": ["a", "b", "c"][:views], "reference_size": [48, 64]},
        "model": {
            **TINY["model"],
            "name": "amplify",
            "num_layers": 2,
            "fsq_levels": [8, 8],
            "amplify": {"mask": mask, "per_view": per_view, "mlp_dim": 12, "class_grid": [5, 7]},
        },
    }
    return config_from_dict(tree, "in the tests")
