"""Settings of the stages from tracks to codes: windows, labels and the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from amplify_motion_tokenizer.config.input_kinds import MODEL_INPUTS
from amplify_motion_tokenizer.config.settings import section, setting


@dataclass(frozen=True, kw_only=True)
class StaticFilterConfig:
    """The static filter, which leaves points that hardly move out of the loss."""

    enable: bool = setting(
        True, decides="weights", help="Whether points that hardly move are left out of the loss."
    )
    metric: Literal["max", "mean", "p95"] = setting(
        "p95",
        decides="weights",
        help="Score that the static filter gives a point: a statistic over time of its W-normalised speed.",
    )
    threshold: float = setting(
        0.1, decides="weights", at_least=0, help="Points whose static-filter score reaches this are kept."
    )
    min_keep: int = setting(
        16,
        decides="weights",
        at_least=0,
        help="Points of a window that the static filter keeps at least, those with the highest scores; at "
        "most as many as there are.",
    )


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes of training windows (track files only); the defaults make none."""

    flip_horizontal: float = setting(
        0.0,
        decides="weights",
        at_least=0,
        at_most=1,
        help="Probability that left and right change places in all views of a training window, first frames "
        "included.",
    )
    flip_vertical: float = setting(
        0.0,
        decides="weights",
        at_least=0,
        at_most=1,
        help="Probability that top and bottom change places in all views of a training window, first frames "
        "included.",
    )
    scale: tuple[float, float] = setting(
        (1.0, 1.0),
        decides="weights",
        above=0,
        help="Lowest and highest factor on the speed of a training window: on the displacements since its "
        "first frame.",
    )
    reverse: float = setting(
        0.0,
        decides="weights",
        at_least=0,
        at_most=1,
        help="Probability that a training window runs backwards.",
    )
    point_dropout: float = setting(
        0.0,
        decides="weights",
        at_least=0,
        below=1,
        help="Probability that a point of a view of a training window is made to rest and not counted.",
    )
    temporal_stride: tuple[int, int] | None = setting(
        None,
        decides="weights",
        at_least=1,
        help="Lowest and highest number of tracked frames to a velocity step of a training window, which is "
        "then part of the data.true_horizon frames, from a random start. null takes all those frames, "
        "interpolated to data.sequence_length.",
    )

    @property
    def enabled(self) -> bool:
        """Whether anything is changed."""
        return self != AugmentationConfig()


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """From tracks to the model's input and labels."""

    source: Literal["tracks", "synthetic", "both"] = setting(
        "tracks",
        decides="weights",
        help="What training takes: tracks, those of --input; synthetic, windows of made-up motion, new ones "
        "in every epoch and without --input; or both.",
    )
    synthetic_windows: int = setting(
        16000,
        decides="weights",
        at_least=1,
        help="Made-up windows of an epoch with data.source: synthetic; data.val_split times as many others, "
        "the same ones in every run, are held out for validation.",
    )
    synthetic_share: float = setting(
        0.5,
        decides="weights",
        above=0,
        below=1,
        help="Share of an epoch's windows that are made up with data.source: both; validation is of held-out "
        "tracks alone.",
    )
    dataset: str | None = setting(
        None,
        decides="weights",
        help="Part of the track folder to train on: libero_10:traj0.9 is the first 0.9 of each task's demos, "
        "libero_10:traj-0.1 the last 0.1; null is all of it.",
    )
    sequence_length: int = setting(
        16,
        decides="tracks codes",
        at_least=2,
        at_most=4096,
        help="Number T of frames of a window; a window has T - 1 velocity steps.",
    )
    grid_size: int = setting(
        20,
        decides="tracks codes",
        at_least=1,
        at_most=512,
        help="Side of the query grid; a window has grid_size^2 points.",
    )
    camera: Literal["keep", "remove", "both"] = setting(
        "keep",
        decides="velocities",
        help="What becomes of the camera's motion: keep leaves it in the tracks; remove takes it out, so "
        "that codes are of the objects' motion alone, and keeps it as numbers beside them; both also makes "
        "codes of it. Training takes both as remove.",
    )
    reference_size: tuple[int, int] | dict[str, int] | None = setting(
        {"shorter": 480},
        decides="velocities",
        at_least=2,
        names=("shorter",),
        help="Size in pixels that all tracks are rescaled to before they are normalised: [height, width], or "
        "{shorter: 480} for one scale on both axes; null takes each clip's own pixels (keypoint model, clips "
        "of one size).",
    )
    views: tuple[str, ...] = setting(
        ("default",),
        decides="codes",
        help="Views of a clip that the model takes, in this order: the groups root/<view> of a track file.",
    )
    true_horizon: int | None = setting(
        None,
        decides="tracks window",
        at_least=2,
        at_most=4096,
        help="Frames of a tracked window, which are interpolated to data.sequence_length; null tracks "
        "data.sequence_length frames.",
    )
    interpolation: Literal["linear", "spline"] = setting(
        "linear",
        decides="window",
        help="How the data.true_horizon frames of a tracked window become data.sequence_length: linear, or "
        "spline, a cubic one (needs scipy).",
    )
    val_split: float = setting(
        0.1,
        decides="weights",
        at_least=0,
        below=1,
        help="Share of the clips, not windows, that are held out for validation; 0 trains on all. With "
        "data.source: synthetic a share of the made-up windows.",
    )
    min_visibility: float = setting(
        0.5,
        decides="weights",
        at_least=0,
        at_most=1,
        help="A velocity step counts in the loss where its point's confidence reaches this at both ends; "
        "0 counts all. Tracks without confidence are visible everywhere.",
    )
    min_visible_share: float = setting(
        0.1,
        decides="weights",
        at_least=0,
        at_most=1,
        help="A window, or a view of it, counts for nothing where a smaller share of its steps reaches "
        "data.min_visibility.",
    )
    static_filter: StaticFilterConfig = section(StaticFilterConfig)
    augmentation: AugmentationConfig = section(AugmentationConfig)


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Conditions the amplify model's encoder on each view's first frame."""

    encoder: Literal["resnet18", "dinov2-small", "dinov2-base", "dinov2-large"] | None = setting(
        None,
        decides="codes",
        help="Network that makes tokens of first frames for the amplify model (needs transformers and "
        "tracking.first_frames); null takes velocities alone.",
    )
    weights: str | None = setting(
        None,
        decides="run",
        local=True,
        help="Weights that the vision encoder begins training with: a folder that transformers saved, or an "
        "id on the Hugging Face hub; null is random. Checkpoints hold the weights themselves.",
    )
    frozen: bool = setting(
        True, decides="weights", help="Whether the vision encoder's weights stay as they are in training."
    )
    pooled: bool = setting(
        False, decides="codes", help="Whether the vision encoder's tokens of an image are averaged into one."
    )
    lr_multiplier: float = setting(
        1.0,
        decides="weights",
        above=0,
        help="Learning rate of a vision encoder that is not frozen, relative to training.learning_rate.",
    )


@dataclass(frozen=True, kw_only=True)
class KeypointConfig:
    """What only the keypoint model has."""

    tokens: Literal["point_step", "point"] = setting(
        "point_step",
        decides="codes",
        help="Tokens that the keypoint model's encoder mixes: one for each point and step (causal), or one "
        "for each point (cheaper).",
    )
    decoder: Literal["replicate", "per_step"] = setting(
        "replicate",
        decides="codes",
        help="Whether all steps of a window share one distribution per point (replicate), or each step of "
        "the keypoint model has its own (per_step).",
    )


@dataclass(frozen=True, kw_only=True)
class AmplifyConfig:
    """What only the amplify model has."""

    per_view: bool = setting(
        False,
        decides="codes",
        help="Whether the amplify model has tokens for every view, not one token a step for all.",
    )
    mask: Literal["causal", "none", "diag"] = setting(
        "causal",
        decides="codes",
        help="Attention of the amplify model's encoder: causal, none (all tokens see all), or diag (each "
        "token sees itself).",
    )
    mlp_dim: int = setting(
        256,
        decides="codes",
        at_least=1,
        at_most=65536,
        help="Hidden width of the head of the amplify model's decoder.",
    )
    class_grid: tuple[int, int] | None = setting(
        None,
        decides="codes",
        at_least=1,
        at_most=1001,
        odd=True,
        help="Sides [rows, columns] in pixels of the amplify model's velocity classes; null is a square of "
        "model.decoder_window_size.",
    )
    vision: VisionConfig = section(VisionConfig)


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """How training quantises; what is trained always rounds."""

    start: Literal["round", "soft"] = setting(
        "round",
        decides="weights",
        help="How training begins to quantise: round from the first step, or soft: 4 % of the steps without "
        "rounding and 40 % with noise of one level in its place come first.",
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The tokenizer network."""

    name: str = setting(
        "keypoint",
        decides="codes",
        choices=MODEL_INPUTS,
        help="Tokenizer: keypoint (compact, one distribution per point), amplify (AMPLIFY's), transform (by "
        "formula, needs no training) or codec (learned on made-up motion).",
    )
    num_layers: int = setting(
        2,
        decides="codes",
        at_least=1,
        at_most=1000,
        help="Transformer layers of the encoder, and of the decoder (amplify: half as many in the decoder).",
    )
    num_heads: int = setting(
        8,
        decides="codes",
        at_least=1,
        at_most=1024,
        help="Attention heads; they must divide model.hidden_dim.",
    )
    hidden_dim: int = setting(
        768, decides="codes", at_least=1, at_most=65536, help="Width D of the network's tokens."
    )
    dropout: float = setting(
        0.1, decides="weights", at_least=0, below=1, help="Dropout rate of the network in training."
    )
    encoder_sequence_len: int = setting(
        16,
        decides="codes",
        at_least=1,
        at_most=65536,
        help="Number d of codes per window; the amplify model has one per step instead, and with "
        "model.amplify.per_view one per step and view.",
    )
    fsq_levels: tuple[int, ...] = setting(
        (8, 8, 8, 4),
        decides="codes",
        at_least=3,
        help="Levels of finite scalar quantisation (FSQ); the codebook has as many codes as their product.",
    )
    decoder_window_size: int = setting(
        15,
        decides="velocities codes",
        at_least=3,
        at_most=1001,
        odd=True,
        help="Side W of the square of velocity classes in pixels of data.reference_size; velocities are "
        "normalised by it.",
    )
    reconstruction: Literal["expected", "likeliest"] = setting(
        "expected",
        decides="run",
        help="Move that a point of a decoded window makes at a step: the mean over its distribution of "
        "velocity classes (expected), or the class that is likeliest, in whole pixels.",
    )
    latent_noise: float = setting(
        0.0,
        decides="weights",
        at_least=0,
        help="Standard deviation of normal noise that training adds to tokens before they are quantised.",
    )
    quantizer: QuantizerConfig = section(QuantizerConfig)
    keypoint: KeypointConfig = section(KeypointConfig)
    amplify: AmplifyConfig = section(AmplifyConfig)

    @property
    def own(self) -> Any:
        """The section of the model in use, ``model.<name>``; None where it has no settings of its own."""
        return getattr(self, self.name, None)

    @property
    def has_class_grid(self) -> bool:
        """Whether the model in use has a class_grid of its own, which then replaces decoder_window_size."""
        return hasattr(self.own, "class_grid")
