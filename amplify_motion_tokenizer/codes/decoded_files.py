"""Codes of a clip to a track file: what the ids kept of the tracks, in the layout of tracks.

Letters: B windows, V views, T frames, N points, L frames of a tracked window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amplify_motion_tokenizer.codes.decoding import CHUNK_WINDOWS, decoded_windows, stretches
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.data.interpolation import interpolate_time
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.models import MotionTokenizer
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.formats import track_format
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.tracks.record import ClipRecord

FORMAT = track_format("hdf5")
"""The format that decoded tracks are written in."""


def write_decoded(
    codes: MotionCodes,
    model: MotionTokenizer,
    config: Config,
    target: Path,
    source: Mapping[str, Any],
) -> list[Path]:
    """Writes the tracks that ``codes`` tell; returns the files, ``target`` first.

    Where the clip's pictures change their size there is a file for each size, as preprocessing has it. A
    window has the L frames that were tracked: where the model's are others, those between are on straight
    lines. A point counts as visible while it is in the picture, as codes do not tell what is hidden.

    Args:
        codes: of one clip.
        model: that made them.
        config: that the clip was tracked with.
        target: the clip's own file.
        source: ``source_name``, ``source_bytes`` and ``source_fingerprint`` of the clip, for the record.

    Raises:
        TrackFileError: codes do not say in frames of which size their tracks are.
    """
    record = _record(codes, config, source)
    writers: dict[str, TrackFileWriter] = {}
    paths: list[Path] = []
    with ExitStack() as stack:
        for rows, meta in stretches(codes):
            sizes = _sizes(codes.clip, meta)
            # Frames of equal size, padded otherwise, are pictures of another size.
            key = repr((sizes, meta.get("contents")))
            if key not in writers:
                paths.append(FORMAT.of_size(target, len(paths) + 1))
                writers[key] = stack.enter_context(TrackFileWriter(paths[-1], record, sizes))
            for window in _windows(codes, rows, meta, model, config.tracked_length):
                writers[key].append(*window)
        frames, dropped = _num_frames(codes), int(codes.meta.get("windows_dropped") or 0)
        own, *others = writers.values()
        for writer in others:
            writer.finish(frames, dropped, num_sizes=0)
        own.finish(frames, dropped, num_sizes=len(paths))
    return paths


def _record(codes: MotionCodes, config: Config, source: Mapping[str, Any]) -> ClipRecord:
    """What the files say of themselves: the settings are those of the tracks that the codes were made of."""
    meta = codes.meta
    return ClipRecord(
        settings=track_settings(config) | {"tracking.first_frames": None},
        tracker=f"codes of {meta.get('checkpoint')}",
        reader=config.video.reader,
        fps=meta.get("fps"),
        source_fps=meta.get("source_fps"),
        source_height=None,
        source_width=None,
        **source,
    )


def _num_frames(codes: MotionCodes) -> int:
    """The clip's tracked frames; where codes do not say, the frames up to the end of the last window."""
    last = int(codes.starts[-1]) + codes.meta["tracked_length"] if len(codes) else 1
    return int(codes.meta.get("num_frames") or last)


def _sizes(clip: str, meta: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(height, width) of the tracked frames of each view.

    Raises:
        TrackFileError: codes do not say it.
    """
    views = list(meta.get("views", ("default",)))
    found = meta.get("tracked_sizes") or {views[0]: meta.get("tracked_size")}
    sizes = [size for view in views if (size := found.get(view) or meta.get("tracked_size")) is not None]
    if len(sizes) < len(views):
        raise TrackFileError(
            f"{clip}: its codes do not say the size of the frames that were tracked, as codes of stored "
            "velocities; in Python decode_tracks takes a size"
        )
    return {view: (int(size[0]), int(size[1])) for view, size in zip(views, sizes, strict=True)}


def _windows(
    codes: MotionCodes, rows: slice, meta: Mapping[str, Any], model: MotionTokenizer, length: int
) -> Iterator[tuple[WindowTracks, ...]]:
    """The tracks of the windows ``rows`` in each view, decoded some at a time."""
    places = range(*rows.indices(len(codes)))
    for first in range(0, len(places), CHUNK_WINDOWS):
        chunk = places[first : first + CHUNK_WINDOWS]
        own = slice(chunk.start, chunk.stop)
        camera = None if codes.camera is None else codes.camera[own]
        tracks, visible = decoded_windows(model, codes.ids[own], meta, camera=camera)
        if tracks.ndim == 4:  # without an axis of views
            tracks, visible = tracks[:, None], visible[:, None]
        tracks, visible = interpolate_time(tracks, length, "linear"), _at_times(visible, length)
        for row, window, seen in zip(chunk, tracks, visible.float(), strict=True):
            yield tuple(_window(codes, row, *view) for view in zip(window, seen, strict=True))


def _at_times(visible: Tensor, length: int) -> Tensor:
    """``visible`` (B, V, T, N) at ``length`` times, each as at the nearest of the T."""
    return visible[:, :, torch.linspace(0, visible.shape[2] - 1, length).round().long()]


def _window(codes: MotionCodes, row: int, tracks: Tensor, visible: Tensor) -> WindowTracks:
    steps, of_model = len(tracks) - 1, codes.meta["sequence_length"] - 1
    first, last = codes.source_frames[row].tolist()
    seconds = float(codes.step_seconds[row])
    return WindowTracks(
        start=int(codes.starts[row]),
        time_s=float(codes.seconds[row, 0]),
        tracks_xy_px=tracks.numpy(),
        visibility=visible.numpy(),
        step_seconds=None if np.isnan(seconds) else seconds,
        source_frames=() if first < 0 else (first, *[-1] * (steps - 1), last),
        padding=steps - int(codes.valid_steps[row]) * steps // of_model,
    )
