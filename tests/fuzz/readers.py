"""Reads files as the commands do, and checks what comes of them where nothing was refused."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amplify_motion_tokenizer import read_codes
from amplify_motion_tokenizer.codes.stored import places_of
from amplify_motion_tokenizer.commands import decode, evaluate, infer, inspect, pack, search, segment
from amplify_motion_tokenizer.config import Config, VideoConfig, to_dict
from amplify_motion_tokenizer.config.loading import build, config_from_dict, load_yaml, read_settings
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import TokenizerError
from amplify_motion_tokenizer.jobs.manifest import Manifest
from amplify_motion_tokenizer.models.checkpoint import load_tokenizer
from amplify_motion_tokenizer.tracks.find import clips_to_open
from amplify_motion_tokenizer.tracks.formats import track_formats
from amplify_motion_tokenizer.training.checkpoints import newest_state, run_id_in
from amplify_motion_tokenizer.training.going_on import state_of
from amplify_motion_tokenizer.training.state import TrainState
from amplify_motion_tokenizer.video.clips import Clip
from amplify_motion_tokenizer.video.sources import find_clips, open_views, tracked_views
from tests.fuzz.seeds import CONFIG, LEROBOT, LIBERO

Read = Callable[[random.Random, Path], None]


def require(holds: Any, text: str) -> None:
    """Raises AssertionError: what was read is wrong, and nobody said so."""
    if not holds:
        raise AssertionError(f"read in silence: {text}")


def run(main: Callable[[list[str]], int], *argv: object) -> int:
    """A command in this process; what it prints is dropped."""
    with redirect_stdout(io.StringIO()):
        return main([str(part) for part in argv])


def config(rng: random.Random, folder: Path) -> None:
    for path in sorted(folder.glob("*.yaml")):
        made = build(Config(), read_settings(path))
        require(build(Config(), {}) is not None and to_dict(made), "a config that cannot be told")
        config_from_dict(to_dict(made), "again")
        load_yaml(path)


def tracks(rng: random.Random, folder: Path) -> None:
    way = rng.random()
    if way < 0.6:
        _track_clips(folder)
    elif way < 0.75:
        run(inspect.main, folder, "--picture", folder / "map.png")
    elif way < 0.85:
        _infer_from_tracks(folder)
    elif way < 0.92:
        run(pack.main, "--input", folder, "--output", folder / "packed")
        _track_clips(folder / "packed")
    else:
        run(evaluate.main, "tracking", "--tracks", folder, "--truth", folder)


def _infer_from_tracks(folder: Path) -> None:
    status = run(infer.main, "--checkpoint", "tiny.pth", "--input", folder, "--output", "made", "--overwrite")
    if status == 0:
        check_codes(read_codes("made"))


def _track_clips(folder: Path) -> None:
    for form in track_formats():
        for path in folder.rglob(f"*{form.endings[0]}"):
            form.is_complete(path, form.settings(CONFIG))
    for opener in clips_to_open(folder).values():
        clip = opener(None)
        places = places_of(clip)
        require(len(places.starts) == clip.num_windows, "places of other windows")
        require((places.starts >= 0).all() and (np.diff(places.starts) > 0).all(), f"starts {places.starts}")
        require((places.source_frames >= -1).all(), f"source frames {places.source_frames}")
        require(not np.isinf(places.start_seconds).any(), "infinite seconds")
        require(clip.fps is None or 0 < clip.fps < np.inf, f"fps {clip.fps}")
        rows = np.arange(clip.num_windows)[:8]
        if clip.stores == "velocities":
            if len(rows):
                clip.read(rows)
            continue
        with closing(clip.open()) as opened:
            for positions, visibility in clip.read(opened, rows):
                require(
                    positions.shape[1:] == (clip.length, clip.num_points, 2), "positions of another shape"
                )
                require(visibility.dtype == np.float32, f"visibility of {visibility.dtype}")
            steps = clip.valid_steps(opened)
            require(((steps >= 0) & (steps < clip.length)).all(), f"valid steps {steps}")
    data = WindowDataset(load_clips(folder, CONFIG), CONFIG)
    if len(data):
        data[0]


def packs(rng: random.Random, folder: Path) -> None:
    if rng.random() < 0.8:
        _track_clips(folder / "pack")
    else:
        run(inspect.main, folder / "pack", "--picture", folder / "map.png")


def checkpoint(rng: random.Random, folder: Path) -> None:
    path = next(iter([*folder.glob("*.pth"), *folder.iterdir()]))
    if path.name == "last.pth" and rng.random() < 0.4:
        saved = newest_state(folder)
        run_id_in(folder)
        require(saved is not None, "no state")
        assert saved is not None
        state = state_of(saved, TrainState(windows=8, windows_per_step=2))
        require(min(state.step, state.epoch, state.step_in_epoch) >= 0, f"state {state}")
        return
    model = load_tokenizer(path)
    grid, steps = model.config.num_points, model.config.data.sequence_length - 1
    views = len(model.config.data.views)
    require(grid * steps * views < 10**6, f"a model of {grid} points and {steps} steps")
    for name, weight in model.state_dict().items():
        require(not weight.is_floating_point() or weight.isfinite().all(), f"{name} is not finite")


def codes(rng: random.Random, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        found = read_codes(path)
        check_codes(found)
        clip = next(iter(found), "one")
        way = rng.random()
        if way < 0.5:
            run(evaluate.main, "codes", "--codes", path, "--json", "told.json")
        elif way < 0.7:
            run(segment.main, "--codes", path, "--checkpoint", "tiny.pth", "--json", "segments.json")
        elif way < 0.85:
            run(
                search.main,
                "--codes",
                path,
                "--checkpoint",
                "tiny.pth",
                "--clip",
                clip,
                "--start",
                0,
                "--seconds",
                1,
            )
        else:
            run(decode.main, "--codes", path, "--checkpoint", "tiny.pth", "--output", "decoded")


def check_codes(found: Any) -> None:
    for clip in found.values():
        size = clip.meta["codebook_size"]
        require(((clip.ids >= 0) & (clip.ids < size)).all(), f"ids {clip.ids} of {size}")
        require((clip.starts >= 0).all() and (clip.starts.diff() > 0).all(), f"starts {clip.starts}")
        require((clip.source_frames >= -1).all(), f"source frames {clip.source_frames}")
        for name in ("seconds", "step_seconds", "motion_energy", "visible_share"):
            require(not torch.isinf(getattr(clip, name)).any(), f"{name} is infinite")
        require(clip.frames("tracked") is not None and repr(clip) and clip.parts is not None, "no frames")
        require(clip.latents is None or clip.latents.isfinite().all(), "vectors that are not finite")
        inside = not (Path("/base") / clip.clip).is_absolute() or ".." not in Path(clip.clip).parts
        require(inside and not clip.clip.startswith("/"), f"a clip named {clip.clip!r}")


def manifest(rng: random.Random, folder: Path) -> None:
    found = Manifest(folder / "manifest.jsonl")
    for name, record in found.records.items():
        require(isinstance(name, str) and record["clip"] == name, f"a record of {name!r}")
    found.add({"clip": "d", "status": "done", "windows": 1})
    found.compact()
    require(Manifest(folder / "manifest.jsonl").records == found.records, "lines that changed")


def segments(rng: random.Random, folder: Path) -> None:
    path = rng.choice(sorted(folder.glob("segments.*")))
    line = ("--segments", path, "--truth", folder / "truth.json", "--json", "told.json")
    run(evaluate.main, "segmentation", *line)


def lerobot(rng: random.Random, folder: Path) -> None:
    _frames(find_clips(folder / "set", LEROBOT, tracked_views(folder / "set", LEROBOT)), LEROBOT.video)


def libero(rng: random.Random, folder: Path) -> None:
    _frames(find_clips(folder, LIBERO, tracked_views(folder, LIBERO)), LIBERO.video)


def videos(rng: random.Random, folder: Path) -> None:
    _frames(find_clips(folder, CONFIG, tracked_views(folder, CONFIG)), CONFIG.video)


def images(rng: random.Random, folder: Path) -> None:
    wanted = VideoConfig(fps=10, target_fps=10, size={"shorter": 48})
    _frames(find_clips(folder, CONFIG, tracked_views(folder, CONFIG)), wanted)


def _frames(clips: list[Clip], wanted: VideoConfig) -> None:
    """Decodes all clips; of several each may be refused, the last refusal counts."""
    refused: TokenizerError | None = None
    for clip in clips:
        try:
            for video in open_views(clip, wanted):
                with video:
                    last, part = -1.0, 0
                    for count, frame in enumerate(video):
                        require(frame.rgb.ndim == 3 and frame.rgb.dtype == np.uint8, "no picture")
                        rising = frame.time_s >= last or frame.part > part  # a part's last picture is held on
                        require(np.isfinite(frame.time_s) and rising, f"time {frame.time_s}")
                        last, part = frame.time_s, frame.part
                        if count > 2000:
                            break
        except TokenizerError as error:
            refused = error
    if refused is not None:
        raise refused
