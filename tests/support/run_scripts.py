"""Runs the three commands as a user does, and reads what they leave behind."""

import dataclasses
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from amplify_motion_tokenizer.scenes import render_clip, write_clip

REPO = Path(__file__).parents[2]
PREPROCESS, TRAIN, INFER = "preprocess_videos.py", "train.py", "inference_short_clip.py"

TINY = {
    "video": {"target_fps": 10, "size": {"shorter": 48}},
    "tracking": {"window_stride": 2, "num_workers": 1},
    "data": {
        "sequence_length": 6,
        "grid_size": 3,
        "reference_size": {"shorter": 48},
        "val_split": 0.25,
        "static_filter": {"min_keep": 2},
    },
    "model": {
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 16,
        "dropout": 0.0,
        "encoder_sequence_len": 3,
        "fsq_levels": [5, 4],
        "decoder_window_size": 7,
    },
    "training": {
        "batch_size": 4,
        "epochs": 2,
        "mixed_precision": "no",
        "num_workers": 0,
        "log_every_steps": 1,
        "save_every_epochs": 1,
    },
}
"""A config whose model trains in milliseconds."""

CLIPS = {"pan": "pan", "été 1": "mixed", "sub/zoom": "zoom", "sub/deep/roll": "roll"}
"""Name: kind of scene. One has a space and letters beyond ASCII."""

# 30 frames at 20 fps are 15 at the tiny config's 10 fps; T = 6 and stride 2.
STARTS = [0, 2, 4, 6, 8]

LEARNING = {"epochs": 25, "learning_rate": 0.01, "save_every_epochs": 25}
"""Enough for codes that differ between windows."""

# One thread each, and never a GPU: what is tested here are the commands.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}

LONGEST_S = 120

BROKEN = {
    "text": "is not a video",
    "empty": "is empty (0 bytes)",
    "sound": "holds no video stream",
    "cut": "is cut short",
    "sub/short": "has 1 frames at 10 fps, expected at least 6 (data.sequence_length)",
}
"""Name of a clip that fails: what is said of it."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What one command left behind."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error; anything else on standard error fails the test."""
        assert self.status == 2, self.err
        assert self.err.startswith("error: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.strip()


def command(script: str, *arguments: object) -> list[str]:
    return [sys.executable, str(REPO / script), *map(str, arguments)]


def run_process(*line: object, cwd: Path = REPO) -> Result:
    """A command in a new interpreter."""
    process = subprocess.Popen(
        [str(part) for part in line],
        cwd=cwd,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        out, err = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        process.terminate()  # not kill: a launcher passes this on to its processes
        _, err = process.communicate(timeout=LONGEST_S)
        pytest.fail(f"{line} did not end within {LONGEST_S} s:\n{err}")
    return Result(process.returncode, out, err)


Run = Callable[..., Result]


def run_script(line: list[str], cwd: Path, out: Path, err: Path, environment: dict[str, str]) -> None:
    """Runs in the forked process."""
    os.environ.update(environment)
    for descriptor, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    os.chdir(cwd)
    sys.argv = line
    runpy.run_path(line[0], run_name="__main__")


def write_config(path: Path, **sections: dict[str, Any]) -> Path:
    """The tiny config, with values of ``sections`` on top."""
    tree = {name: {**TINY.get(name, {}), **sections.get(name, {})} for name in {**TINY, **sections}}
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def render(path: Path, kind: str = "mixed", seed: int = 0, frames: int = 30, fps: float = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, render_clip(kind, seed, (96, 128), frames)[0], fps)
    return path


@dataclasses.dataclass(frozen=True)
class Work:
    """A folder in which the three commands have run once, and what they said."""

    folder: Path
    results: dict[str, Result]

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    @property
    def config(self) -> Path:
        return self.folder / "tiny.yaml"

    @property
    def tracks(self) -> Path:
        return self.folder / "tracks"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def best(self) -> Path:
        return self.run / "best.pth"

    @property
    def codes(self) -> Path:
        return self.folder / "codes"


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def manifest_of(folder: Path) -> dict[str, dict[str, Any]]:
    records = read_lines(folder / "manifest.jsonl")
    by_clip = {record["clip"]: record for record in records}
    assert len(by_clip) == len(records)
    return by_clip


def statuses(folder: Path) -> dict[str, str]:
    return {clip: record["status"] for clip, record in manifest_of(folder).items()}


def files_below(folder: Path, pattern: str = "*") -> dict[str, tuple[int, bytes]]:
    """Modification time and content by name; what a run must not touch."""
    paths = [path for path in folder.rglob(pattern) if path.is_file()]
    return {p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, p.read_bytes()) for p in paths}


def redone(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    assert before.keys() <= after.keys()
    return {name for name in after if name not in before or before[name][0] != after[name][0]}


def preprocess(run: Run, work: Work, output: Path, *more: object, source: Path | str | None = None) -> Result:
    line = ["--config", work.config, "--input", source or work.videos, "--output", output]
    return run(PREPROCESS, *line, *more)


def infer(run: Run, work: Work, output: Path, *more: object, source: Path | str | None = None) -> Result:
    line = ["--checkpoint", work.best, "--input", source or work.videos, "--output", output]
    return run(INFER, *line, *more)


def check_failures(result: Result, source: Path, output: Path) -> None:
    assert result.status == 3
    assert "Traceback" not in result.err
    records = manifest_of(output)
    assert records.keys() == {"good", "sub/good", *BROKEN}
    for name, reason in BROKEN.items():
        assert (records[name]["status"], records[name]["stage"]) == ("failed", "video")
        assert f"{source / name}.mp4: " in records[name]["error"]
        assert reason in records[name]["error"]
        assert records[name]["error"] in result.err
