"""Writes clips to mp4 files, and their true tracks to track files beside them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from amplify_motion_tokenizer.config.gone import settings_now
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import SCENES
from amplify_motion_tokenizer.files import write_yaml
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.jobs.fingerprint import fingerprint, total_bytes
from amplify_motion_tokenizer.jobs.output_folders import open_output_folder
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.scenes.kinds import KINDS, render_clip
from amplify_motion_tokenizer.scenes.layers import Image, Scene, Size
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.tracks.record import ClipRecord
from amplify_motion_tokenizer.video.writing import MOST_SIDE_PX, mp4_writer

TRUTH_FOLDER = "truth"
LEAST_FPS, MOST_FPS = 0.1, 1000
"""Rates that make sense, and that mp4 files keep to three digits."""
MOST_BYTES = 4 << 30
"""Size of a clip's frames in memory."""
_QUERY_ORDER = "row_major"


@dataclass(frozen=True)
class TruthWindows:
    """Which windows of a clip the truth is written for."""

    length: int = 16
    """T, frames of a window."""
    stride: int = 1
    """Frames between the starts of two windows."""
    grid_size: int = 20
    """Queries on a side of the grid in a window's first frame."""


@dataclass(frozen=True, kw_only=True)
class TruthRecord(ClipRecord):
    """The record of a truth file: three root attributes more than files of tracked clips have."""

    fps: float
    """Frames per second of the clip."""
    scene_kind: str
    """Key of ``KINDS``."""
    motion_class: str
    """One of ``MOTION_CLASSES``."""
    scene_seed: tuple[int, int]
    """The command's seed and the clip's number."""


def write_clip(path: Path, video: Image, fps: float) -> None:
    """Writes ``video`` (F, H, W, 3) RGB to an mp4 file that appears only when it is complete."""
    with mp4_writer(path, fps) as write:
        for frame in video:
            write(frame)


def write_truth(path: Path, scene: Scene, record: TruthRecord, windows: TruthWindows) -> None:
    """Writes the true tracks of every window as a track file, in the layout of ``tracks.hdf5``."""
    with TrackFileWriter(path, record, scene.size) as writer:
        for window in true_windows(scene, windows, record.fps):
            writer.append(window)
        writer.finish(len(scene), windows_dropped=0)


def true_windows(scene: Scene, windows: TruthWindows, fps: float) -> Iterator[WindowTracks]:
    """The true tracks of every window of ``scene``, with visibility 0 or 1, and the true camera."""
    queries = query_grid(_QUERY_ORDER, windows.grid_size, scene.size)
    for start in range(0, len(scene) - windows.length + 1, windows.stride):
        tracks, visible = scene.truth(queries, start, windows.length)
        frames = tuple(range(start, start + windows.length))
        yield WindowTracks(
            start,
            start / fps,
            tracks.astype(np.float32),
            visible.astype(np.float32),
            1 / fps,
            frames,
            camera=scene.camera(start, windows.length),
        )


def write_clips(
    output: Path,
    clips: int,
    seed: int,
    size: Size,
    frames: int,
    fps: float,
    kinds: Sequence[str] = tuple(KINDS),
    truth: TruthWindows | None = None,
) -> None:
    """Writes ``clips`` clips, cycling through ``kinds``, and their truth below ``output/truth`` if wanted.

    Raises:
        VideoError: OpenCV cannot write there.
        UsageError: ``size`` is odd, too small or too large, a number is out of range, a kind does not exist,
            clips are shorter than the truth's windows, or clips without truth would be written beside the
            truth of others that had their names; or the output holds what another command wrote.
    """
    _check(clips, seed, size, frames, fps, kinds, truth)
    names = [f"{index:03d}_{kind}" for index, kind in zip(range(clips), itertools.cycle(kinds))]
    truth_files = {name: output / TRUTH_FOLDER / f"{name}.hdf5" for name in names}
    if truth is None:
        _check_no_truth(truth_files.values())
    open_output_folder(output, "rendered clips")
    made_with = {"seed": seed, "size": list(size), "frames": frames, "fps": fps, "kinds": list(kinds)}
    write_yaml(output / SCENES, made_with)
    if truth is not None:
        write_yaml(output / TRUTH_FOLDER / SCENES, made_with | {"windows": asdict(truth)})
    with Progress(len(names), "clip") as progress:
        for index, name in progress.each(enumerate(names)):
            kind, path = kinds[index % len(kinds)], output / f"{name}.mp4"
            video, scene = render_clip(kind, (seed, index), size, frames)
            # Never, also not after a kill, the truth of another clip beside this one.
            truth_files[name].unlink(missing_ok=True)
            write_clip(path, video, fps)
            if truth is not None:
                record = _record(path, kind, (seed, index), size, fps, truth)
                write_truth(truth_files[name], scene, record, truth)


def _check_no_truth(paths: Iterable[Path]) -> None:
    stale = [path for path in paths if path.exists()]
    if stale:
        raise UsageError(
            f"{stale[0]} holds the true tracks of a clip that would be written over "
            f"({len(stale)} such files); give --truth to renew them too, or another --output"
        )


def _check(
    clips: int,
    seed: int,
    size: Size,
    frames: int,
    fps: float,
    kinds: Sequence[str],
    truth: TruthWindows | None,
) -> None:
    """Refuses what cannot be written, before anything is."""
    if not 32 <= min(size) <= max(size) <= MOST_SIDE_PX or any(side % 2 for side in size):
        raise UsageError(
            f"size {size[0]}x{size[1]} cannot be written; expected even sides, from 32 to the "
            f"{MOST_SIDE_PX} pixels of MPEG-4"
        )
    if seed < 0:
        raise UsageError(f"seed is {seed}; expected 0 or more")
    if min(clips, frames, fps) <= 0:
        raise UsageError(f"clips, frames and fps must be above 0, not {clips}, {frames} and {fps}")
    if not LEAST_FPS <= fps <= MOST_FPS:
        raise UsageError(f"fps is {fps}; expected {LEAST_FPS} to {MOST_FPS}")
    if size[0] * size[1] * 3 * frames > MOST_BYTES:
        raise UsageError(
            f"{frames} frames of {size[0]}x{size[1]} are more than the {MOST_BYTES >> 30} GiB that a clip "
            "may take, as it is rendered in memory; give fewer or smaller ones"
        )
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"there is no kind of scene {unknown[0]!r}; allowed: {', '.join(KINDS)}")
    if truth is None:
        return
    if min(truth.length - 1, truth.stride, truth.grid_size) < 1:
        raise UsageError(
            f"true windows of length {truth.length}, stride {truth.stride} and grid {truth.grid_size} are "
            "impossible; expected a length of at least 2, and at least 1 for the others"
        )
    if frames < truth.length:
        raise UsageError(
            f"clips of {frames} frames have no window of {truth.length} frames; give more --frames, or "
            "shorter --windows"
        )


def _record(
    path: Path, kind: str, seed: tuple[int, int], size: Size, fps: float, windows: TruthWindows
) -> TruthRecord:
    # The settings that came later too, as every reader completes the ones of older files.
    settings = settings_now(
        {
            "video.target_fps": fps,
            "video.size": None,
            "tracking.window_stride": windows.stride,
            "tracking.query_order": _QUERY_ORDER,
            "tracking.gate.enable": False,
            "data.sequence_length": windows.length,
            "data.grid_size": windows.grid_size,
        },
        str(path),
    )
    return TruthRecord(
        settings=settings,
        tracker="truth",
        reader="rendered",
        fps=fps,
        source_fps=fps,
        source_height=size[0],
        source_width=size[1],
        source_name=path.name,
        source_bytes=total_bytes([path]),
        source_fingerprint=fingerprint([path]),
        scene_kind=kind,
        motion_class=KINDS[kind].label,
        scene_seed=seed,
    )
