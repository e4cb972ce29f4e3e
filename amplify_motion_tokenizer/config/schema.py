"""Every setting of a run, a section per stage; the sections are in modules of their own.

The defaults are those of ``configs/tokenizer_config.yaml``, the compact keypoint tokenizer.
Numbers that follow from others (points, classes, codebook size) are derived.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from amplify_motion_tokenizer.config.input_kinds import MODEL_INPUTS, InputKind
from amplify_motion_tokenizer.config.model import (
    DataConfig,
    ModelConfig,
)
from amplify_motion_tokenizer.config.tracks import (
    TrackingConfig,
    VideoConfig,
)
from amplify_motion_tokenizer.config.training import (
    InferenceConfig,
    LossConfig,
    TrainingConfig,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of one run, a section per stage."""

    video: VideoConfig = field(default_factory=VideoConfig)
    """Video to frames."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Frames to tracks."""
    data: DataConfig = field(default_factory=DataConfig)
    """Tracks to model input."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Model."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Loss."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Training."""
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    """Inference."""

    @property
    def num_points(self) -> int:
        """N, points of a window."""
        return self.data.grid_size**2

    @property
    def num_steps(self) -> int:
        """t, velocity steps of a window."""
        return self.data.sequence_length - 1

    @property
    def class_grid(self) -> tuple[int, int]:
        """(rows, columns) of the velocity classes."""
        side = self.model.decoder_window_size
        own = self.model.own.class_grid if self.model.has_class_grid else None
        return own or (side, side)

    @property
    def input_kind(self) -> InputKind:
        """How tracks become the model's input."""
        return MODEL_INPUTS[self.model.name]

    @property
    def num_classes(self) -> int:
        """C, velocity classes."""
        return math.prod(self.class_grid)

    @property
    def conditioned(self) -> bool:
        """Whether the model takes each view's first frame besides velocities."""
        return self.model.amplify.vision.encoder is not None

    @property
    def tracked_length(self) -> int:
        """Frames of a tracked window, before interpolation in time."""
        return self.data.true_horizon or self.data.sequence_length

    @property
    def view_weights(self) -> tuple[float, ...]:
        """Weight of each view's loss, in the order of ``data.views``."""
        return tuple(float(self.loss.view_weights.get(view, 1.0)) for view in self.data.views)

    @property
    def codebook_size(self) -> int:
        """True number of codes: the product of the FSQ levels."""
        return math.prod(self.model.fsq_levels)
