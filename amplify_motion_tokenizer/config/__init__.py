"""Every setting, its meaning and its default.

``settings`` is how a field says what it decides and allows; ``schema`` holds all sections; ``keys`` knows
settings by their dotted keys; ``checks`` what they must be together; ``loading`` reads files, and ``gone``
knows the settings that there were.
"""

from __future__ import annotations

from amplify_motion_tokenizer.config.keys import (
    SETTINGS,
    changes,
    decides,
    flatten,
    free_on_resume,
    in_use,
    may_differ,
    settings_hash,
    to_dict,
    track_settings,
    unflatten,
    velocity_settings,
)
from amplify_motion_tokenizer.config.levels import ALLOWED_LEVELS, MAX_CODES, levels_allowed
from amplify_motion_tokenizer.config.model import (
    AmplifyConfig,
    AugmentationConfig,
    DataConfig,
    KeypointConfig,
    ModelConfig,
    QuantizerConfig,
    StaticFilterConfig,
    VisionConfig,
)
from amplify_motion_tokenizer.config.schema import Config
from amplify_motion_tokenizer.config.tracks import (
    AllTrackerConfig,
    BootsTapirConfig,
    CoTrackerConfig,
    FlowConfig,
    GateConfig,
    TapNextConfig,
    TrackingConfig,
    VideoConfig,
)
from amplify_motion_tokenizer.config.training import (
    InferenceConfig,
    LossConfig,
    TrainingConfig,
    UsageConfig,
)

__all__ = [
    "ALLOWED_LEVELS",
    "MAX_CODES",
    "SETTINGS",
    "AllTrackerConfig",
    "AmplifyConfig",
    "AugmentationConfig",
    "BootsTapirConfig",
    "CoTrackerConfig",
    "Config",
    "DataConfig",
    "FlowConfig",
    "GateConfig",
    "InferenceConfig",
    "KeypointConfig",
    "LossConfig",
    "ModelConfig",
    "QuantizerConfig",
    "StaticFilterConfig",
    "TapNextConfig",
    "TrackingConfig",
    "TrainingConfig",
    "UsageConfig",
    "VideoConfig",
    "VisionConfig",
    "changes",
    "decides",
    "flatten",
    "free_on_resume",
    "in_use",
    "levels_allowed",
    "may_differ",
    "settings_hash",
    "to_dict",
    "track_settings",
    "unflatten",
    "velocity_settings",
]
