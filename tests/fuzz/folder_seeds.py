"""Good folders that commands leave behind and read again, small, which the harness changes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from amplify_motion_tokenizer import read_codes, write_codes
from amplify_motion_tokenizer.commands import infer, preprocess, search
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import EXIT_OK
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.checkpoint import save_checkpoint
from amplify_motion_tokenizer.models.convert import convert
from amplify_motion_tokenizer.tracks import folder_index
from amplify_motion_tokenizer.tracks.find import find_tracks
from tests.fuzz import seeds
from tests.fuzz.seeds import CONFIG, TOKENIZER
from tests.support.lerobot_data import write_dataset
from tests.support.pages import made_up_codes, write_run
from tests.support.render_clips import numbered_frames, write_clip
from tests.support.run_scripts import TINY, write_config

CLIPS = {"a": 4, "sub/b": 4}
"""Windows of the clips of a folder that has an index."""
EPISODES = (6, 4)
"""Frames of the episodes of a data set whose codes are exported."""
THEIRS = {"tokens": "point_step", "decoder": "replicate"}
"""The keypoint tokenizer that the reproduction has."""
FORMATS = "json,jsonl,parquet"


def index(folder: Path) -> None:
    """A folder of two track files with its index, as a large one has it."""
    for name in CLIPS:
        (folder / name).parent.mkdir(exist_ok=True)
        seeds.tracks(folder)
        (folder / "clip.hdf5").rename(folder / f"{name}.hdf5")
    age(folder)
    with small_index():
        assert {name: clip.num_windows for name, clip in find_tracks(folder).items()} == CLIPS
    assert (folder / ".tracks.json").is_file()


def small_index() -> mock._patch[int]:
    """Within it a folder of any number of clips has an index."""
    return mock.patch.object(folder_index, "LEAST_CLIPS", 1)


def age(folder: Path) -> None:
    """Gives all track files one time of change, which the index tells them by."""
    for path in folder.rglob("*.hdf5"):
        os.utime(path, ns=(0, 0))


def searched(folder: Path) -> None:
    """Codes of two clips with the index that search builds, which has no graph."""
    seeds.codes(folder)
    found = read_codes(folder / "two.jsonl")
    for path in folder.iterdir():
        path.unlink()
    times = torch.tensor([[0.0, 0.5], [0.2, 0.7], [0.4, 0.9], [0.6, 1.1]], dtype=torch.float64)
    write_codes(folder / "two.jsonl", [replace(clip, seconds=times) for clip in found.values()])
    assert search.main(["build", str(folder / "two.jsonl"), "--checkpoint", TOKENIZER]) == EXIT_OK


def amplify(folder: Path) -> None:
    """Checkpoints of AMPLIFY: plain values alone, and with foreign objects in the optimiser's state."""
    tree = {
        **TINY,
        "model": {**TINY["model"], "name": "amplify", "fsq_levels": [5, 3]},
        "data": {**TINY["data"], "reference_size": [48, 64]},
        "tracking": {**TINY["tracking"], "query_order": "uniform"},
    }
    _save(folder / "native.pth", tree)
    convert(folder / "native.pth", folder / "plain.pth", "amplify")
    (folder / "native.pth").unlink()
    content = torch.load(folder / "plain.pth", weights_only=True)
    content["optimizer"] = {"betas": Node([Node(1), {"a": Node(2)}]), "loss": np.float64(1.5)}
    torch.save(content, folder / "foreign.pth")


def reproduction(folder: Path) -> None:
    """A bare state dict with its config beside it."""
    _save(folder / "native.pth", {**TINY, "model": {**TINY["model"], "keypoint": THEIRS}})
    convert(folder / "native.pth", folder / "theirs.pth", "keypoint")
    (folder / "native.pth").unlink()


class Node:
    """Of a library that readers do not have."""

    def __init__(self, value: object) -> None:
        self.value = value


def _save(path: Path, tree: dict[str, object]) -> None:
    config = config_from_dict(tree, "of the fuzz harness")
    weights = build_model(config).state_dict()
    save_checkpoint(path, model=weights, config=config, track_settings=None, metrics={}, training=None)


def outputs(folder: Path) -> None:
    """What infer leaves behind of one file of tracks, and the tracks."""
    (folder / "tracks").mkdir()
    seeds.tracks(folder / "tracks")
    line = ["--checkpoint", TOKENIZER, "--input", folder / "tracks", "--output", folder / "codes"]
    assert infer.main([str(part) for part in (*line, "--formats", FORMATS)]) == EXIT_OK


def preprocessed(folder: Path) -> None:
    """What preprocess leaves behind of one video, and the video."""
    (folder / "videos").mkdir()
    write_clip(folder / "videos/clip.avi", numbered_frames(24), 20, codec="mjpeg", pix_fmt="yuvj420p")
    write_config(folder / "config.yaml")
    assert preprocess.main(preprocess_line(folder)) == EXIT_OK


def preprocess_line(folder: Path) -> list[str]:
    """The command line that makes the tracks in a folder of ``preprocessed``."""
    wanted = ("--config", folder / "config.yaml", "--input", folder / "videos", "--output", folder / "tracks")
    return [str(part) for part in wanted]


def run(folder: Path) -> None:
    """A run of training: its checkpoint, and what it told TensorBoard."""
    write_run(folder, CONFIG, ("a",))


def labels(folder: Path) -> None:
    """Labels of one clip in every form, and its codes."""
    said = {"clip": {"kind": "pan", "speed": 1.5, "place": [[float(n), 0.5] for n in range(12)], "task": "t"}}
    (folder / "labels.json").write_text(json.dumps(said), encoding="utf-8")
    rows = "".join(f"clip,{frame},{frame / 2},go,t\n" for frame in range(12))
    (folder / "labels.csv").write_text(f"clip,frame,speed,state,task\n{rows}", encoding="utf-8")
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"clip": ["clip"] * 12, "frame": list(range(12)), "speed": np.arange(12.0), "task": ["t"] * 12}
    pq.write_table(pa.table(columns), folder / "labels.parquet")
    write_codes(folder / "codes.jsonl", [made_up_codes([[1], [2], [3], [4]])])


def exported(folder: Path) -> None:
    """A data set of LeRobot, and codes of its episodes."""
    write_dataset(folder / "set", EPISODES)
    codes = []
    for number, length in enumerate(EPISODES):
        made = made_up_codes([[1]], f"episode_{number:06d}", source_fps=20.0, num_frames=length)
        frames = torch.tensor([[0, length - 1]])
        codes.append(replace(made, source_frames=frames, seconds=frames.double() / 20))
    write_codes(folder / "codes.jsonl", codes)


def lock(folder: Path) -> None:
    """Whose an output folder is."""
    told = {"process": 1, "host": "elsewhere", "since": 1.7e9}
    (folder / ".lock.owner").write_text(json.dumps(told), encoding="utf-8")
