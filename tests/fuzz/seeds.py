"""Good files of every kind, small, which the harness changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from amplify_motion_tokenizer import load_tokenizer, read_codes, write_codes
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer
from amplify_motion_tokenizer.commands import infer
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import Given, build, config_from_dict
from amplify_motion_tokenizer.config.tracks import Store
from amplify_motion_tokenizer.errors import EXIT_OK
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.checkpoint import save_checkpoint
from amplify_motion_tokenizer.trackers.rounding import rounded
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.tracks.pack_writing import write_pack
from tests.support.lerobot_data import write_dataset
from tests.support.render_clips import numbered_frames, write_clip
from tests.support.run_scripts import REPO, TINY
from tests.support.tracked import clip_record_of, random_windows, write_velocities
from tests.video.test_libero import write_demos

CONFIG = config_from_dict(TINY, "of the fuzz harness")
SIZE = (48, 64)
FORMATS = ("json", "jsonl", "parquet", "npz", "safetensors", "reproduction")
WANTED = ("clip.json", "clip.npz", "clip.safetensors", "clip.codes.json", "codes.parquet")
TOKENIZER = "tiny.pth"
"""In the folder where cases are tried."""


def beside(folder: Path) -> None:
    """What readers need beside the input: a tokenizer, and the config that finds LeRobot's cameras."""
    model = build_model(CONFIG)
    save_checkpoint(
        folder / TOKENIZER,
        model=model.state_dict(),
        config=CONFIG,
        track_settings=None,
        metrics={},
        training=None,
    )


def tracks(folder: Path, config: Config = CONFIG) -> None:
    """A track file of four windows."""
    with TrackFileWriter(folder / "clip.hdf5", clip_record_of(config), SIZE) as writer:
        for window in random_windows(config, 4, 0, SIZE):
            writer.append(window)
        writer.finish(num_frames=12, windows_dropped=0)


def small_tracks(folder: Path) -> None:
    """Track files of 16-bit whole numbers, of four windows each."""
    stores: tuple[Store, ...] = ("int16", "gzip")
    for store in stores:
        with TrackFileWriter(folder / f"{store}.hdf5", clip_record_of(CONFIG), SIZE, store) as writer:
            for window in random_windows(CONFIG, 4, 0, SIZE):
                writer.append(rounded(window))
            writer.finish(num_frames=12, windows_dropped=0)


def windows(folder: Path) -> None:
    """Velocity files of three windows, with their index."""
    write_velocities(folder / "clip.windows.json", CONFIG, 3)


def pack(folder: Path) -> None:
    """A pack of two clips, one of whose windows are padded."""
    source = folder / "source"
    source.mkdir()
    tracks(source)
    with TrackFileWriter(source / "other.hdf5", clip_record_of(CONFIG), SIZE) as writer:
        for window in random_windows(CONFIG, 2, 1, SIZE):
            writer.append(replace(window, padding=2))
        writer.finish(num_frames=9, windows_dropped=0)
    clips = {name: clip for name, clip in find_tracks(source).items() if clip.stores == "positions"}
    write_pack(clips, folder / "pack")
    for path in source.iterdir():
        path.unlink()
    source.rmdir()


def checkpoints(folder: Path) -> None:
    """A run's checkpoint, which holds a training state."""
    model = build_model(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters())
    state = {"step": 4, "epoch": 1, "step_in_epoch": 0, "best_loss": 1.5, "windows": 8, "windows_per_step": 2}
    training = {
        "state": state,
        "optimizer": optimizer.state_dict(),
        "average": None,
        "scaler": None,
        "random": [],
    }
    save_checkpoint(
        folder / "last.pth",
        model=model.state_dict(),
        config=CONFIG,
        track_settings=None,
        metrics={"val/loss": 1.5},
        training=training,
    )


def transform(folder: Path) -> None:
    """The smallest tokenizer that is shipped, by a name of its own."""
    source = REPO / "amplify_motion_tokenizer/pretrained/transform.safetensors"
    (folder / "own.safetensors").write_bytes(source.read_bytes())


def hub(folder: Path) -> None:
    """A folder as ``save_pretrained`` writes it."""
    tokenizer = load_tokenizer("transform", "cpu")
    assert isinstance(tokenizer, Tokenizer)
    tokenizer.save_pretrained(folder / "saved")


def codes(folder: Path) -> None:
    """Codes of two clips by the tokenizer beside, in every format: files of one, tables of both."""
    source, made = folder / "source", folder / "made"
    source.mkdir()
    tracks(source)
    line = ["--checkpoint", TOKENIZER, "--input", source, "--output", made, "--formats", ",".join(FORMATS)]
    assert infer.main([str(part) for part in line]) == EXIT_OK
    own = read_codes(made / "clip.json")["clip"]
    vectors = torch.zeros(len(own), own.ids.shape[1], 4)
    for path in [*made.iterdir(), *source.iterdir()]:
        path.rename(folder / path.name) if path.name in WANTED else path.unlink()
    made.rmdir()
    source.rmdir()
    write_codes(folder / "two.jsonl", [own, replace(own, clip="other")])
    write_codes(folder / "two.parquet", [own, replace(own, clip="other")])
    write_codes(folder / "vectors.npz", replace(own, latents=vectors))
    write_codes(folder / "vectors.lary.npz", replace(own, latents=vectors))


def manifest(folder: Path) -> None:
    """The manifest of a run."""
    lines = [
        {"clip": "a", "source": "a.mp4", "status": "done", "windows": 3, "frames": 20, "files": ["a.hdf5"]},
        {"clip": "b", "source": "b.mp4", "status": "failed", "stage": "video", "error": "b.mp4: is empty"},
        {"clip": "sub/c", "source": "sub/c.mp4", "status": "skipped", "windows": 2, "parts": [0, 4]},
    ]
    (folder / "manifest.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )


def segments(folder: Path) -> None:
    """Segments of two clips in every form, and the true ones."""
    spans = [{"start_seconds": 0.0, "end_seconds": 1.5}, {"start_seconds": 1.5, "end_seconds": 4.0}]
    for name in ("segments", "truth"):
        text = json.dumps({"clips": {"a": spans, "b": spans[:1]}})
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    rows = [{"clip": "a", "segments": spans}, {"clip": "b", "segments": spans[:1]}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "segments.jsonl").write_text(lines, encoding="utf-8")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), folder / "segments.parquet")


def config(folder: Path) -> None:
    """Configs as people write them, and the shipped one that names all settings."""
    import yaml

    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    text = (REPO / "configs/tokenizer_config.yaml").read_text(encoding="utf-8")
    (folder / "whole.yaml").write_text(text, encoding="utf-8")


def lerobot(folder: Path) -> None:
    """A data set of three short episodes."""
    write_dataset(folder / "set", (4, 3, 3))


VIDEOS = {
    "mp4": {}, "mkv": {}, "avi": {"codec": "mpeg4"}, "webm": {"codec": "libvpx"}, "ts": {},
    "mpg": {"codec": "mpeg2video"},
    "flv": {"codec": "flv"}, "gif": {"codec": "gif", "pix_fmt": "rgb8"}, "wmv": {"codec": "wmv2"},
}  # fmt: skip


def videos(folder: Path) -> None:
    """A clip of twelve frames in each container."""
    for ending, how in VIDEOS.items():
        write_clip(folder / f"clip.{ending}", numbered_frames(12), 25, **how)  # type: ignore[arg-type]


def images(folder: Path) -> None:
    """Numbered pictures, and an animated WebP."""
    for ending in ("png", "jpg", "tif", "bmp", "ppm"):
        place = folder / ending
        place.mkdir()
        for number, rgb in enumerate(numbered_frames(3)):
            Image.fromarray(rgb).save(place / f"{number}.{ending}")
    pictures = [Image.fromarray(rgb) for rgb in numbered_frames(4)]
    pictures[0].save(folder / "moving.webp", save_all=True, append_images=pictures[1:], duration=50)


def libero(folder: Path) -> None:
    """Two demos of two views."""
    frames = np.stack(list(numbered_frames(24)))
    views = {"agentview": frames, "eye_in_hand": frames}
    write_demos(folder / "suite/task_demo.hdf5", {"demo_0": views, "demo_1": views})


LEROBOT = build(
    CONFIG,
    {
        "video.source": Given("lerobot", ""),
        "video.size": Given(None, ""),
        "data.views": Given(["top"], ""),
    },
)
LIBERO = build(
    CONFIG,
    {
        "video.source": Given("libero", ""),
        "video.size": Given(None, ""),
        "data.views": Given(["agentview"], ""),
    },
)
