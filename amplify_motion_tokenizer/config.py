"""Every setting, its meaning, its default, and the values it allows.

The defaults are those of ``configs/tokenizer_config.yaml``, the compact keypoint tokenizer.
Numbers that follow from others (points, classes, codebook size) are derived; a config may name
them, and they are then checked. Reading files and the command line is ``cli``'s job.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """How a video becomes frames."""

    source: Literal["files", "libero"] = "files"
    """What the input holds: video files, or LIBERO's demos (<suite>/<task>_demo.hdf5)."""
    reader: Literal["auto", "decord", "opencv"] = "auto"
    """Decoder. auto is decord where it is installed, else OpenCV; both return the same frames."""
    threads: int = 2
    """Decoder and optical-flow threads of one process, at least 1."""
    target_fps: float | None = 20.0
    """Frames per second after resampling by time; null keeps every frame."""
    resize_shorter: int | None = 480
    """Shorter side of the tracked frames in pixels, aspect kept; null keeps the source size."""
    fit: Literal["shorter", "letterbox"] = "shorter"
    """shorter resizes by resize_shorter, letterbox fits the frame into target_size and pads it black."""
    target_size: tuple[int, int] | None = None
    """[height, width] of the tracked frames in pixels with fit: letterbox; null for shorter."""


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Drops windows in which nothing moves, before they are tracked."""

    enable: bool = False
    """Whether still windows are dropped (and counted)."""
    resize_shorter: int = 128
    """Shorter side in pixels of the grey copy that is compared."""
    pixel_threshold: float = 0.02
    """A pixel is active when it changes by more than this between two frames, of a 0..1 range."""
    min_mean_difference: float = 0.005
    """A window is kept when its mean absolute difference, of a 0..1 range, reaches this ..."""
    min_active_share: float = 0.05
    """... or when its share of active pixels reaches this."""


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """The embedded tracker: dense optical flow, chained over each window."""

    preset: Literal["ultrafast", "fast", "medium"] = "ultrafast"
    """OpenCV DIS preset."""
    scale: float = 0.5
    """Size of the frames that flow is computed on, relative to the tracked size, in (0, 1]."""
    finest_scale: int = 1
    """Finest pyramid level that DIS solves, 0 being full size; higher is faster and coarser."""


@dataclass(frozen=True, kw_only=True)
class CoTrackerConfig:
    """Where CoTracker comes from. Its code and weights are non-commercial and are not shipped."""

    hub_repo: str = "facebookresearch/co-tracker"
    """torch.hub repository, owner/name or owner/name:ref; used when checkout is null."""
    checkout: str | None = None
    """Folder of a local clone; no network is needed for the code then."""
    weights: str | None = None
    """Local weights file (a state dict); null lets torch.hub download them."""
    window_batch_size: int = 1
    """Windows in one forward pass."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How frames become point tracks."""

    tracker: str = "flow"
    """flow (embedded, no weights) or cotracker3_offline (torch.hub)."""
    device: str = "auto"
    """Where a neural tracker runs: auto, cpu, cuda, cuda:0 ..."""
    window_stride: int = 1
    """Frames between the starts of two windows."""
    query_order: Literal["row_major", "uniform"] = "row_major"
    """Order of the query grid: row by row, or AMPLIFY's uniform order, a column at a time."""
    view_files: dict[str, str] = field(default_factory=dict)
    """Files of a clip's views below the input folder, such as {agentview: "{clip}/agentview.mp4"}; {}: each
    file is a clip with the view default. For LIBERO the images below obs; {}: agentview and eye_in_hand."""
    gate: GateConfig = field(default_factory=GateConfig)
    """Motion gate."""
    flow: FlowConfig = field(default_factory=FlowConfig)
    """Embedded tracker."""
    cotracker: CoTrackerConfig = field(default_factory=CoTrackerConfig)
    """CoTracker."""


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
    reference_size: tuple[int, int] | dict[str, int] = field(default_factory=lambda: {"shorter": 480})
    """Size that all tracks are rescaled to before they are normalised: [height, width], or
    {shorter: pixels} for one scale on both axes."""
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


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The tokenizer network."""

    name: str = "keypoint"
    """Which model: keypoint (compact, one distribution per point) or amplify (the source's)."""
    num_layers: int = 2
    """Transformer layers of the encoder, and of the decoder."""
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
    amplify: AmplifyConfig = field(default_factory=AmplifyConfig)
    """Settings of the amplify model."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Focal loss (Lin et al. 2017) over what counts; gamma 0 and weights of 1 are plain cross entropy."""

    gamma: float = 2.0
    """Focusing exponent; 0 is cross entropy."""
    alpha_center: float = 0.25
    """Weight of the centre class (no motion)."""
    alpha_other: float = 1.0
    """Weight of every other class."""
    radial_strength: float = 0.0
    """s of the factor 1 + s (r / r_max)^p on a class's weight, r its distance from no motion."""
    radial_power: float = 1.0
    """p of that factor."""
    view_weights: dict[str, float] = field(default_factory=lambda: {"agentview": 0.9, "eye_in_hand": 0.1})
    """Weight of each view's mean loss; views that are not named weigh 1."""
    min_visibility: float = 0.0
    """Steps count only where the point's confidence at both ends reaches this; 0 counts all."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Optimisation, logging and checkpoints. Steps are optimiser steps."""

    output_dir: str = "runs/tokenizer"
    """Folder of checkpoints, logs and the resolved config."""
    batch_size: int = 256
    """Windows per process in one forward pass."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimiser step."""
    learning_rate: float = 1e-4
    """AdamW learning rate."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW moment decay rates."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning-rate schedule after the warm-up."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    clip_grad_norm: float | None = None
    """Largest gradient norm; null does not clip."""
    epochs: int = 100
    """Passes over the training windows."""
    max_steps: int | None = None
    """Stop after this many steps, even within an epoch; null trains all epochs."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    """Autocast type; quantising always stays float32. fp16 needs CUDA."""
    num_workers: int = 2
    """Loader processes per training process."""
    log_every_steps: int = 10
    """Steps between two log entries."""
    save_every_epochs: int = 10
    """Epochs between two epoch_N.pth; best.pth and last.pth are written every epoch."""
    save_every_steps: int | None = None
    """Also write last.pth every so many steps; null only at the end of an epoch."""
    seed: int = 0
    """Seed of initialisation, data order and split."""


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How clips are turned into codes."""

    batch_size: int = 32
    """Windows in one forward pass."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0, mps ..."""


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
        own = self.model.amplify.class_grid if self.model.name == "amplify" else None
        return own or (side, side)

    @property
    def num_classes(self) -> int:
        """C, velocity classes."""
        return math.prod(self.class_grid)

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


def to_dict(config: Config) -> dict[str, Any]:
    """``config`` as plain nested dicts and lists, ready for YAML, JSON and checkpoints."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict of dotted keys; lists and the mappings of ``LEAF_DICTS`` are leaves."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in LEAF_DICTS:
            flat.update(flatten(value, f"{key}."))
        else:
            flat[key] = value
    return flat


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of ``flatten``."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return tree


LEAF_DICTS = {"data.reference_size", "loss.view_weights", "tracking.view_files"}
"""Dotted keys whose value is itself a mapping."""

AMPLIFY_LEVELS: dict[int, tuple[int, ...]] = {
    16: (5, 3),
    64: (8, 8),
    256: (8, 6, 5),
    512: (8, 8, 8),
    1024: (8, 5, 5, 5),
    2048: (8, 8, 6, 5),
    4096: (7, 5, 5, 5, 5),
}
"""AMPLIFY's ``codebook_size`` to its FSQ levels; the true number of codes is the levels' product."""

DERIVED_KEYS = ("data.num_points", "model.num_classes", "model.codebook_size")
"""Dotted keys whose numbers follow from others."""

_TRACK_KEYS = ("video.", "tracking.", "data.sequence_length", "data.grid_size")
VELOCITY_KEYS = ("data.reference_size", "model.decoder_window_size")
"""Dotted keys that, besides ``track_settings``, decide W-normalised velocities."""
_NOT_RESULTS = ("video.reader", "video.threads", "tracking.device", "tracking.cotracker.window_batch_size")


def track_settings(config: Config) -> dict[str, Any]:
    """The dotted keys that decide what a clip's tracks are: video, tracking, T and grid.

    Keys that change only speed or place (reader, threads, device, batch) are left out, and so are the
    settings of trackers that are not in use.
    """
    unused = "tracking.cotracker." if config.tracking.tracker == "flow" else "tracking.flow."
    flat = flatten(to_dict(config)) | {"data.sequence_length": config.tracked_length}
    return {
        key: value
        for key, value in flat.items()
        if key.startswith(_TRACK_KEYS) and key not in _NOT_RESULTS and not key.startswith(unused)
    }


def settings_hash(settings: dict[str, Any]) -> str:
    """Sixteen hex digits that are equal for equal settings, whatever their order."""
    canonical = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """``key old -> new`` for each dotted key whose value differs, sorted; absent keys are None."""
    return [
        f"{key} {before.get(key)} -> {now.get(key)}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
