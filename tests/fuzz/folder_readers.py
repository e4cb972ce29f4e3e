"""Reads folders that commands leave behind as the next commands do; see ``readers``."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
from filelock import FileLock

from amplify_motion_tokenizer import read_codes
from amplify_motion_tokenizer.codes.probing.datasets import read_labels
from amplify_motion_tokenizer.commands import decode, evaluate, infer, lerobot, preprocess, report, search
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import LOCK
from amplify_motion_tokenizer.jobs.folder_lock import only_run
from amplify_motion_tokenizer.jobs.manifest import read_manifest
from tests.fuzz.folder_seeds import CLIPS, age, preprocess_line, small_index
from tests.fuzz.readers import check_codes, require, run
from tests.fuzz.seeds import CONFIG


def index(rng: random.Random, folder: Path) -> None:
    age(folder)
    with small_index():
        data = WindowDataset(load_clips(folder, CONFIG), CONFIG)
        require(len(data) == sum(CLIPS.values()), f"{len(data)} windows")
        for number in range(len(data)):
            data[number]


def searched(rng: random.Random, folder: Path) -> None:
    line = ("--clip", "clip", "--start", 0, "--seconds", rng.choice((0, 1)), "-k", 3, "--json", "told.json")
    status = run(search.main, "--codes", folder / "two.jsonl", "--checkpoint", "tiny.pth", *line)
    if status == 0:
        told = json.loads(Path("told.json").read_text(encoding="utf-8"))
        for moment in [told["query"], *told["found"]]:
            numbers = (moment["distance"], moment["start_seconds"], moment["end_seconds"])
            require(all(isinstance(number, float | int) for number in numbers), f"a moment {moment}")
            require(moment["clip"] in ("clip", "other"), f"a clip {moment['clip']}")
            require(min(moment["source_frame"], moment["end_source_frame"]) >= -1, f"a moment {moment}")


def outputs(rng: random.Random, folder: Path) -> None:
    codes = folder / "codes"
    way = rng.random()
    if way < 0.5:
        line = ("--input", folder / "tracks", "--output", codes, "--formats", "json,jsonl,parquet")
        if run(infer.main, "--checkpoint", "tiny.pth", *line) == 0:
            found = read_codes(codes)
            check_codes(found)
            require(len(found["clip"]) == 4, "windows that are lost")
            require(read_manifest(codes / "manifest.jsonl")["clip"]["status"] != "failed", "a lost line")
    elif way < 0.7:
        run(evaluate.main, "codes", "--codes", codes, "--json", "told.json")
    elif way < 0.85:
        run(report.main, codes, "--checkpoint", "tiny.pth", "--output", "page.html", "--overwrite")
    else:
        run(decode.main, "--codes", codes, "--checkpoint", "tiny.pth", "--output", "decoded")


def preprocessed(rng: random.Random, folder: Path) -> None:
    if run(preprocess.main, *preprocess_line(folder)) == 0:
        record = read_manifest(folder / "tracks/manifest.jsonl")["clip"]
        require(record["status"] != "failed", f"a record {record}")
        data = WindowDataset(load_clips(folder / "tracks", CONFIG), CONFIG)
        require(len(data) == 4, f"{len(data)} windows of tracks")


def training_run(rng: random.Random, folder: Path) -> None:
    run(report.main, folder, "--output", "page.html", "--overwrite")


def labels(rng: random.Random, folder: Path) -> None:
    codes = read_codes(folder / "codes.jsonl")
    for path in sorted(folder.glob("labels.*")):
        found = read_labels(path, codes, None, [])
        for clip in found.keys() & codes.keys():
            for name, values in found[clip].targets(codes[clip], rng.random() < 0.5).items():
                require(len(values) == len(codes[clip]), f"{name} of {len(values)} windows")


def exported(rng: random.Random, folder: Path) -> None:
    codes, way = read_codes(folder / "codes.jsonl"), rng.random()
    if way < 0.7:
        line = ("--dataset", folder / "set", "--codes", folder / "codes.jsonl", "--output", "copy")
        run(lerobot.main, "export", *line)
        return
    found = read_labels(folder / "set", codes, "action", [])
    for clip in found.keys() & codes.keys():
        for values in found[clip].targets(codes[clip], True).values():
            require(len(values) == len(codes[clip]) and not np.isinf(values).any(), f"labels {values}")


def lock(rng: random.Random, folder: Path) -> None:
    with FileLock(folder / LOCK):
        try:
            with only_run(folder):
                raise AssertionError("two runs in one folder")
        except UsageError as error:
            require("another run" in str(error), str(error))
            raise
