"""Settings of the stages from a video to its tracks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from amplify_motion_tokenizer.config.settings import section, setting

Store = Literal["float32", "int16", "gzip"]
"""Forms of the tracks in a track file."""


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """From a video to frames."""

    source: Literal["files", "libero", "lerobot"] = setting(
        "files",
        decides="tracks",
        help="What the input folder holds: videos and image sequences; LIBERO's demos "
        "(<suite>/<task>_demo.hdf5); or a LeRobotDataset v3.",
    )
    reader: Literal["auto", "pyav", "decord", "opencv"] = setting(
        "auto",
        decides="speed",
        help="Decoder of video files. auto is pyav, which also reads a clip that decord or opencv would read "
        "otherwise.",
    )
    fps: float | None = setting(
        None,
        decides="tracks",
        above=0,
        help="Pictures per second of image sequences, which have no rate of their own.",
    )
    threads: int = setting(
        2,
        decides="speed",
        at_least=1,
        help="Threads that one process decodes and computes optical flow with; fewer where several worker "
        "processes share the cores.",
    )
    target_fps: float | None = setting(
        20.0,
        decides="tracks",
        above=0,
        help="Frames per second after resampling a video by time; null keeps every frame.",
    )
    below_target_fps: Literal["keep", "repeat", "refuse"] = setting(
        "keep",
        decides="tracks",
        help="What becomes of a clip whose nominal rate is under target_fps: it keeps its own rate, made "
        "even; frames are repeated to reach target_fps; or the clip fails.",
    )
    size: tuple[int, int] | dict[str, int] | None = setting(
        {"shorter": 480},
        decides="tracks",
        at_least=16,
        names=("shorter",),
        help="Size in pixels of the tracked frames: {shorter: 480} resizes the shorter side and keeps the "
        "aspect, [height, width] fits each frame into one size and pads it black, null keeps the source's.",
    )
    shots: Literal["auto", "off"] = setting(
        "off",
        decides="tracks",
        help="Whether hard cuts and dissolves split a clip into parts, which no window spans: auto looks for "
        "them, off takes each clip for one shot.",
    )


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The motion gate, which drops windows in which nothing moves before they are tracked."""

    enable: bool = setting(
        False,
        decides="tracks",
        help="Whether windows in which nothing moves are dropped before they are tracked, and counted.",
    )


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """Base of the sections that hold one tracker's settings.

    The section ``tracking.<name>`` serves the trackers whose names begin with ``<name>``, and only those.
    """


@dataclass(frozen=True, kw_only=True)
class FlowConfig(TrackerSettings):
    """The embedded tracker (tracking.tracker: flow): dense optical flow, chained over each window."""

    scale: float | None = setting(
        None,
        decides="tracks",
        above=0,
        at_most=1,
        help="Size of the images that the embedded tracker takes flow and patches from, relative to the "
        "tracked size. null: 1 for frames of 240 rows and less, 0.5 for 480 and more, 240 rows between.",
    )


@dataclass(frozen=True, kw_only=True)
class CheckoutSettings(TrackerSettings):
    """Base of the sections of trackers whose code and weights are not part of this package."""

    checkout: str | None = setting(
        None,
        decides="speed",
        local=True,
        help="Folder of a local clone of this tracker's repository, which its code is imported from.",
    )
    weights: str | None = setting(
        None,
        decides="speed",
        local=True,
        help="Local file of this tracker's weights, as its authors publish it; null downloads that. Tracks "
        "record a hash of the weights' values.",
    )
    weights_sha256: str | None = setting(
        None,
        decides="tracks",
        record=True,
        help="Hash of the values of the tracker's weights, filled in when it runs; other weights are then "
        "refused.",
    )
    window_batch_size: int = setting(
        1,
        decides="speed",
        at_least=1,
        help="Windows in one forward pass of this tracker; halved by itself when the GPU is full.",
    )


@dataclass(frozen=True, kw_only=True)
class CoTrackerConfig(CheckoutSettings):
    """Where CoTracker comes from and how it runs; its code and weights are non-commercial, not shipped."""

    checkout: str | None = setting(
        None,
        decides="speed",
        local=True,
        help="Folder of a local clone of CoTracker; null lets torch.hub fetch its code.",
    )
    autocast: Literal["no", "bf16", "fp16"] = setting(
        "no",
        decides="tracks",
        help="Number type that CoTracker computes in; bf16 and fp16 change tracks a little, fp16 needs CUDA.",
    )
    compile: bool = setting(
        False,
        decides="speed",
        help="Whether torch.compile speeds up CoTracker's update step; the first windows then take minutes.",
    )


@dataclass(frozen=True, kw_only=True)
class BootsTapirConfig(CheckoutSettings):
    """Where BootsTAPIR (code and weights Apache 2.0, not shipped) comes from and how it runs."""

    resolution: int = setting(
        256,
        decides="tracks",
        at_least=256,
        help="Side in pixels of the square that BootsTAPIR sees frames stretched to; a multiple of 8. "
        "Above 256 positions are refined at each size up to it, which its authors find best at 512.",
    )


@dataclass(frozen=True, kw_only=True)
class TapNextConfig(CheckoutSettings):
    """Where TAPNext and TAPNext++ (code and weights Apache 2.0, not shipped) come from and how they run."""

    resolution: int = setting(
        256,
        decides="tracks",
        at_least=256,
        help="Side in pixels of the square that TAPNext sees frames stretched to; a multiple of 8. 512 is "
        "for weights that were trained so, tapnextpp_512.ckpt.",
    )


@dataclass(frozen=True, kw_only=True)
class AllTrackerConfig(CheckoutSettings):
    """Where AllTracker (code MIT, not shipped) comes from and how it runs."""

    longer_side: int = setting(
        512,
        decides="tracks",
        at_least=64,
        help="Longer side in pixels of the frames that AllTracker sees, in their own aspect; its memory "
        "grows with the fourth power.",
    )


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """From frames to point tracks."""

    tracker: str = setting(
        "flow",
        decides="tracks",
        help="Point tracker: flow (embedded, needs no weights); bootstapir, tapnext, tapnextpp (Apache 2.0); "
        "alltracker, alltracker_tiny (MIT code; of weights see docs/trackers.md); or a CoTracker "
        "(non-commercial) such as cotracker3_offline, cotracker3_online, cotracker2.",
    )
    device: str = setting(
        "auto", decides="speed", help="Where a neural tracker runs: auto, cpu, cuda, cuda:0, mps."
    )
    num_workers: int | None = setting(
        None,
        decides="speed",
        at_least=1,
        help="Processes in which preprocessing, and inference on the CPU, run clips side by side; 1 runs "
        "clips in the process itself. "
        "null: one per core for flow, 1 for a neural tracker, as each worker would load a copy of it.",
    )
    clip_limit_s: float | None = setting(
        None,
        decides="speed",
        above=0,
        help="Seconds that a clip may take, with a decoder that hangs for example; then its process is ended "
        "and the clip recorded as failed. Clips run in worker processes then, even with num_workers: 1. "
        "null: any time.",
    )
    window_stride: int = setting(
        1, decides="tracks", at_least=1, help="Frames between the starts of two tracked windows."
    )
    pad_end: Literal["none", "repeat_last"] = setting(
        "none",
        decides="tracks",
        help="What comes after a clip's last frame: nothing, so that every window is whole; or that frame "
        "again, as AMPLIFY has it, so that every frame (every window_stride-th) starts a window.",
    )
    query_order: Literal["row_major", "uniform"] = setting(
        "row_major",
        decides="tracks",
        help="Order of the points of the query grid: row by row, or uniform, AMPLIFY's, column by column.",
    )
    view_files: dict[str, str] = setting(
        {},
        decides="tracks",
        help='Files of a clip\'s views below the input folder, such as {agentview: "{clip}/agentview.mp4"}; '
        "{}: each file is a clip with the view default. For LIBERO the images below obs; {}: agentview and "
        "eye_in_hand. For LeRobot the cameras; {}: all of them.",
    )
    first_frames: int | None = setting(
        None,
        decides="tracks",
        at_least=16,
        help="Side in pixels of each window's first frame, kept in track files as a square: 224 is what "
        "vision encoders take, the frames' own side keeps square frames as they are; null keeps no frames.",
    )
    store: Store = setting(
        "float32",
        decides="tracks",
        help="Form of the tracks in HDF5 files: float32, AMPLIFY's own, which its loader reads; int16, "
        "rounded to 1/64 pixel at worst, in two fifths of the bytes; or gzip, the same, smaller still and "
        "slower to train from.",
    )
    gate: GateConfig = section(GateConfig)
    flow: FlowConfig = section(FlowConfig)
    cotracker: CoTrackerConfig = section(CoTrackerConfig)
    bootstapir: BootsTapirConfig = section(BootsTapirConfig)
    tapnext: TapNextConfig = section(TapNextConfig)
    alltracker: AllTrackerConfig = section(AllTrackerConfig)

    @property
    def pads_end(self) -> bool:
        """Whether clips, and parts of clips, repeat their last frame so that every frame starts a window."""
        return self.pad_end == "repeat_last"

    @property
    def tracker_sections(self) -> tuple[str, ...]:
        """Names of the sections that hold one tracker's settings: flow, cotracker, bootstapir, and so on."""
        return tuple(
            each.name for each in fields(self) if isinstance(getattr(self, each.name), TrackerSettings)
        )

    @property
    def tracker_section(self) -> str | None:
        """Name of the section that serves the tracker in use; None where it has no settings of its own."""
        own = [name for name in self.tracker_sections if self.tracker.startswith(name)]
        return max(own, key=len, default=None)
