"""Settings of the stages from tracks to codes: windows, labels and the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class StaticFilterConfig:
    """Leaves points that hardly move out of the loss."""

    enable: bool = True
    """Whether static points are masked."""
    metric: Literal["max", "mean", "p95"] = "p95"
    """Score of a point: this statistic over time of its speed, W-normalised."""
    threshold: float = 0.1
    """Points that score at least this are kept."""
    min_keep: int = 16
    """When fewer points are kept, this many of the highest scores are kept instead."""


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes of training windows (track files only); the defaults make none."""

    flip_horizontal: float = 0.0
    """Probability that left and right change places, in all views of a window and their first frames."""
    flip_vertical: float = 0.0
    """Probability that top and bottom do."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Lowest and highest factor of the displacements since a window's first frame: its speed."""
    reverse: float = 0.0
    """Probability that a window runs backwards."""
    point_dropout: float = 0.0
    """Probability that a point of a view does not move and does not count."""
    temporal_stride: tuple[int, int] | None = None
    """Lowest and highest number of tracked frames to a step; a window is then part of its true_horizon
    frames, from a random start. null takes them all, interpolated to sequence_length."""

    @property
    def enabled(self) -> bool:
        """Whether anything is changed."""
        return self != AugmentationConfig()


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Windows and how tracks become the model's input."""

    tracks_dir: str = "data/tracks"
    """Folder of track files that training reads (the output of preprocess_videos.py)."""
    dataset: str | None = None
    """Part of it: libero_10:traj0.9 is the first 0.9 of each task's demos, traj-0.1 the last; null is all."""
    sequence_length: int = 16
    """T, frames of a window; a window has T - 1 velocity steps."""
    grid_size: int = 20
    """Side of the query grid; a window has grid_size^2 points."""
    num_points: int | None = None
    """Derived (grid_size^2); checked when given."""
    reference_size: tuple[int, int] | dict[str, int] | None = field(default_factory=lambda: {"shorter": 480})
    """Size that all tracks are rescaled to before they are normalised: [height, width], or
    {shorter: pixels} for one scale on both axes; null takes each clip's own pixels (keypoint, one size)."""
    views: tuple[str, ...] = ("default",)
    """Views of a clip that the model takes, in this order: the groups root/<view> of a track file."""
    true_horizon: int | None = None
    """Frames of a tracked window, which are interpolated to sequence_length; null tracks sequence_length."""
    interpolation: Literal["linear", "spline"] = "linear"
    """How true_horizon frames become sequence_length: linear, or a cubic spline (needs scipy)."""
    val_split: float = 0.1
    """Share of the clips, not windows, held out for validation; 0 trains on all."""
    static_filter: StaticFilterConfig = field(default_factory=StaticFilterConfig)
    """Static-point mask."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """Random changes of training windows."""


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Conditions the amplify model's encoder on each view's first frame."""

    encoder: Literal["resnet18", "dinov2-small", "dinov2-base", "dinov2-large"] | None = None
    """Network that makes tokens of the frames (needs transformers and tracking.first_frames); null: none."""
    weights: str | None = None
    """Weights to begin training with: a folder that transformers saved, or an id on the Hugging Face hub;
    null is random. Checkpoints hold the weights themselves."""
    frozen: bool = True
    """Whether its weights stay as they are."""
    pooled: bool = False
    """Whether an image's tokens are averaged into one."""
    lr_multiplier: float = 1.0
    """Its learning rate relative to training.learning_rate, when it is not frozen."""


@dataclass(frozen=True, kw_only=True)
class KeypointConfig:
    """What only the keypoint model has."""

    tokens: Literal["point_step", "point"] = "point_step"
    """What the encoder mixes: a token for each point and step (causal), or one for each point (cheaper)."""
    decoder: Literal["replicate", "per_step"] = "replicate"
    """Whether all steps of a window share one distribution per point, or each step has its own."""


@dataclass(frozen=True, kw_only=True)
class AmplifyConfig:
    """What only the amplify model has."""

    per_view: bool = False
    """Whether every view has tokens of its own, instead of one token a step for all views."""
    mask: Literal["causal", "none", "diag"] = "causal"
    """The encoder's attention: causal, none (all see all), or diag (each token itself)."""
    mlp_dim: int = 256
    """Hidden width of the decoder's head."""
    class_grid: tuple[int, int] | None = None
    """[rows, columns] of the velocity classes in pixels, both odd; null is decoder_window_size square."""
    vision: VisionConfig = field(default_factory=VisionConfig)
    """Conditioning on images."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The tokenizer network."""

    name: str = "keypoint"
    """Which model: keypoint (compact, one distribution per point) or amplify (the source's)."""
    num_layers: int = 2
    """Transformer layers of the encoder, and of the decoder (amplify: half as many in the decoder)."""
    num_heads: int = 8
    """Attention heads; must divide hidden_dim."""
    hidden_dim: int = 768
    """Width D of the tokens."""
    dropout: float = 0.1
    """Dropout rate in [0, 1)."""
    encoder_sequence_len: int = 16
    """d, codes per window (keypoint; amplify has one per step, and per view with per_view)."""
    fsq_levels: tuple[int, ...] = (8, 8, 8, 4)
    """FSQ levels; the codebook has as many codes as their product."""
    nominal_codebook_size: int | None = None
    """AMPLIFY's name of a table of FSQ levels (16, 64, 256 ... 4096), which then replaces fsq_levels."""
    decoder_window_size: int = 15
    """W, side of the square of velocity classes in pixels of the reference size; odd."""
    num_classes: int | None = None
    """Derived (decoder_window_size^2); checked when given."""
    codebook_size: int | None = None
    """Derived (product of fsq_levels); checked when given."""
    latent_noise: float = 0.0
    """Standard deviation of normal noise on the tokens before they are quantised, in training only."""
    keypoint: KeypointConfig = field(default_factory=KeypointConfig)
    """Settings of the keypoint model."""
    amplify: AmplifyConfig = field(default_factory=AmplifyConfig)
    """Settings of the amplify model."""

    @property
    def own(self) -> Any:
        """The section of the model in use, ``model.<name>``; None where it has no settings of its own."""
        return getattr(self, self.name, None)

    @property
    def has_class_grid(self) -> bool:
        """Whether the model in use has a class_grid of its own, which then replaces decoder_window_size."""
        return hasattr(self.own, "class_grid")
