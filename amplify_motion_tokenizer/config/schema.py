"""Every setting of a run, a section per stage; the sections are in modules of their own.

The defaults make the compact keypoint tokenizer; ``configs/tokenizer_config.yaml`` names them all.
Numbers that follow from settings (points, classes, codebook size) are properties of ``Config``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from amplify_motion_tokenizer.config.input_kinds import MODEL_INPUTS, InputKind
from amplify_motion_tokenizer.config.model import (
    DataConfig,
    ModelConfig,
)
from amplify_motion_tokenizer.config.settings import section
from amplify_motion_tokenizer.config.tracks import (
    TrackingConfig,
    VideoConfig,
)
from amplify_motion_tokenizer.config.training import (
    InferenceConfig,
    LossConfig,
    TrainingConfig,
)
from amplify_motion_tokenizer.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of one run, a section per stage."""

    video: VideoConfig = section(VideoConfig)
    tracking: TrackingConfig = section(TrackingConfig)
    data: DataConfig = section(DataConfig)
    model: ModelConfig = section(ModelConfig)
    loss: LossConfig = section(LossConfig)
    training: TrainingConfig = section(TrainingConfig)
    inference: InferenceConfig = section(InferenceConfig)

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
    def shorter_side(self) -> int:
        """Pixels of the reference frame's shorter side, which kinds of input with ``one_size`` have.

        Raises:
            ConfigError: clips have sizes of their own.
        """
        size = self.data.reference_size
        if size is None:
            raise ConfigError("data.reference_size is null; it must be [height, width] or {shorter: pixels}")
        return size["shorter"] if isinstance(size, dict) else min(size)

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
