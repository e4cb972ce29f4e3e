"""Every setting, its meaning and its default.

``schema`` holds all sections; ``keys`` knows settings by their dotted keys; ``checks`` what values are
allowed; ``loading`` reads files.
"""

from __future__ import annotations

from amplify_motion_tokenizer.config.keys import (
    ALLOWED_LEVELS,
    AMPLIFY_LEVELS,
    DERIVED_KEYS,
    LEAF_DICTS,
    MAX_CODES,
    VELOCITY_KEYS,
    changes,
    flatten,
    levels_allowed,
    settings_hash,
    to_dict,
    track_settings,
    unflatten,
)
from amplify_motion_tokenizer.config.model import (
    AmplifyConfig,
    AugmentationConfig,
    DataConfig,
    KeypointConfig,
    ModelConfig,
    StaticFilterConfig,
    VisionConfig,
)
from amplify_motion_tokenizer.config.schema import Config
from amplify_motion_tokenizer.config.tracks import (
    CoTrackerConfig,
    FlowConfig,
    GateConfig,
    TrackingConfig,
    VideoConfig,
)
from amplify_motion_tokenizer.config.training import (
    CollapseConfig,
    InferenceConfig,
    LossConfig,
    TrainingConfig,
    UsageConfig,
)

__all__ = [
    "ALLOWED_LEVELS",
    "AMPLIFY_LEVELS",
    "DERIVED_KEYS",
    "LEAF_DICTS",
    "MAX_CODES",
    "VELOCITY_KEYS",
    "AmplifyConfig",
    "AugmentationConfig",
    "CoTrackerConfig",
    "CollapseConfig",
    "Config",
    "DataConfig",
    "FlowConfig",
    "GateConfig",
    "InferenceConfig",
    "KeypointConfig",
    "LossConfig",
    "ModelConfig",
    "StaticFilterConfig",
    "TrackingConfig",
    "TrainingConfig",
    "UsageConfig",
    "VideoConfig",
    "VisionConfig",
    "changes",
    "flatten",
    "levels_allowed",
    "settings_hash",
    "to_dict",
    "track_settings",
    "unflatten",
]
