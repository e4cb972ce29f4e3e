"""Settings of the stages from a video to its tracks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """How a video becomes frames."""

    source: Literal["files", "libero"] = "files"
    """What the input holds: videos and image sequences, or LIBERO's demos (<suite>/<task>_demo.hdf5)."""
    reader: Literal["auto", "pyav", "decord", "opencv"] = "auto"
    """Decoder of video files. auto is pyav; a clip that decord or opencv reads otherwise is read by pyav."""
    fps: float | None = None
    """Pictures per second of image sequences, which have no rate of their own."""
    threads: int = 2
    """Decoder and optical-flow threads of one process, at least 1; fewer where workers share the cores."""
    target_fps: float | None = 20.0
    """Frames per second after resampling by time; null keeps every frame."""
    below_target_fps: Literal["keep", "repeat", "refuse"] = "keep"
    """What becomes of a clip whose nominal rate is under target_fps: it keeps its own rate, made even, or
    frames are repeated to reach target_fps, or the clip fails."""
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
    resize_shorter: int = 48
    """Shorter side in pixels of the copy that is compared."""
    pixel_threshold: float = 0.02
    """A pixel is active when it differs from its mean over the window by more than this, of a 0..1 range."""
    min_mean_difference: float = 0.01
    """A window is kept when its mean absolute difference, of a 0..1 range, reaches this ..."""
    min_active_share: float = 0.001
    """... or when its share of active pixels reaches this."""


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """The embedded tracker: dense optical flow, chained over each window, and what holds points in place."""

    preset: Literal["ultrafast", "fast", "medium"] = "ultrafast"
    """OpenCV DIS preset; the slower ones gain little where refine is on."""
    scale: float | None = None
    """Size of the images that flow and patches are taken from, relative to the tracked size, in (0, 1]; null:
    1 for frames of 240 rows and less, 0.5 for 480 and more, 240 rows between."""
    finest_scale: int = 2
    """Finest pyramid level that DIS solves, 0 being full size; higher is faster and coarser; 1 is
    worth its time where refine is off."""
    refine: bool = True
    """Whether each point is held to its first-frame patch and carried by its neighbours where hidden."""


@dataclass(frozen=True, kw_only=True)
class CoTrackerConfig:
    """Where CoTracker comes from. Its code and weights are non-commercial and are not shipped."""

    hub_repo: str = "facebookresearch/co-tracker"
    """torch.hub repository, owner/name; used when checkout is null."""
    hub_ref: str | None = "82e02e8029753ad4ef13cf06be7f4fc5facdda4d"
    """Its branch, tag or commit; null is the newest."""
    checkout: str | None = None
    """Folder of a local clone; no network is needed for the code then."""
    weights: str | None = None
    """Local weights file (a state dict); null lets torch.hub download them."""
    weights_sha256: str | None = None
    """Hash of the weights' values, filled in; other weights are refused where it is set."""
    window_batch_size: int = 1
    """Windows in one forward pass; halved by itself when the GPU is full."""
    autocast: Literal["no", "bf16", "fp16"] = "no"
    """Type that the model computes in; fp16 needs CUDA."""
    compile: bool = False
    """Whether torch.compile speeds up the model's update step; the first windows then take minutes."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How frames become point tracks."""

    tracker: str = "flow"
    """flow (embedded, no weights), or a CoTracker: cotracker3_offline, cotracker3_online, cotracker2 ..."""
    device: str = "auto"
    """Where a neural tracker runs: auto, cpu, cuda, cuda:0 ..."""
    num_workers: int | None = None
    """Processes that preprocessing tracks clips in, side by side; 1 needs none beside its own. null is one
    per core for flow, and 1 for a neural tracker, of which each worker would load a copy."""
    window_stride: int = 1
    """Frames between the starts of two windows."""
    query_order: Literal["row_major", "uniform"] = "row_major"
    """Order of the query grid: row by row, or AMPLIFY's uniform order, a column at a time."""
    view_files: dict[str, str] = field(default_factory=dict)
    """Files of a clip's views below the input folder, such as {agentview: "{clip}/agentview.mp4"}; {}: each
    file is a clip with the view default. For LIBERO the images below obs; {}: agentview and eye_in_hand."""
    first_frames: int | None = None
    """Side in pixels of each window's first frame, kept in track files as a square: 224 is what vision
    encoders take, the frames' own side keeps square ones as they are; null keeps none."""
    gate: GateConfig = field(default_factory=GateConfig)
    """Motion gate."""
    flow: FlowConfig = field(default_factory=FlowConfig)
    """Embedded tracker."""
    cotracker: CoTrackerConfig = field(default_factory=CoTrackerConfig)
    """CoTracker."""
