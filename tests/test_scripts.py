"""The three commands as a user runs them: processes with exit statuses, files and one-line errors."""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from conftest import TINY, clip_record_of, random_windows
from render_clips import audio_only, cut_file, numbered_frames, rotate_mp4
from render_clips import write_clip as encode_clip
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from amplify_motion_tokenizer.checkpoint import load_checkpoint, load_tokenizer, versions
from amplify_motion_tokenizer.config import Config, settings_hash, track_settings
from amplify_motion_tokenizer.config_files import config_from_dict, load_yaml
from amplify_motion_tokenizer.dataset import WindowDataset, load_clips
from amplify_motion_tokenizer.errors import CheckpointError, ConfigError
from amplify_motion_tokenizer.scenes import render_clip, write_clip
from amplify_motion_tokenizer.stores import TrackFile, TrackFileWriter, find_tracks
from amplify_motion_tokenizer.trainer import Trainer
from amplify_motion_tokenizer.training import train

REPO = Path(__file__).parents[1]
PREPROCESS, TRAIN, INFER = "preprocess_videos.py", "train.py", "inference_short_clip.py"
GOLDEN = REPO / "tests" / "golden" / "keypoint_small.safetensors"

CLIPS = {"pan": "pan", "été 1": "mixed", "sub/zoom": "zoom", "sub/deep/roll": "roll"}
"""Name: kind of scene. One has a space and letters beyond ASCII."""

# 30 frames at 20 fps are 15 at the tiny config's 10 fps; T = 6 and stride 2.
STARTS = [0, 2, 4, 6, 8]

LEARNING = {"epochs": 25, "learning_rate": 0.01, "save_every_epochs": 25}
"""Enough for codes that differ between windows."""

# One thread each, and never a GPU: what is tested here are the commands.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}

LONGEST_S = 120


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


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``run(script, *arguments)`` in a process of its own.

    The processes are forked from one that has imported the libraries, which saves seconds each. That
    the scripts import what they need themselves is tested by ``run_process``.
    """
    folder = tmp_path_factory.mktemp("outputs")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["amplify_motion_tokenizer.inference", "amplify_motion_tokenizer.training", "pytest", "av", "h5py"]
    )

    def run_forked(script: str, *arguments: object, cwd: Path = REPO) -> Result:
        out, err = folder / "out", folder / "err"
        line = [str(REPO / script), *map(str, arguments)]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ENVIRONMENT.items():
                patch.setenv(name, value)
            process = context.Process(target=run_script, args=(line, cwd, out, err, ENVIRONMENT))
            process.start()
        process.join(timeout=LONGEST_S)
        if process.exitcode is None:
            process.kill()
            pytest.fail(f"{line} did not end within {LONGEST_S} s")
        return Result(process.exitcode, *(path.read_text(encoding="utf-8") for path in (out, err)))

    return run_forked


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


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("work")
    for seed, (name, kind) in enumerate(CLIPS.items()):
        render(folder / "videos" / f"{name}.mp4", kind, seed)
    write_config(folder / "tiny.yaml", training={**LEARNING})
    lines = {
        PREPROCESS: ["--config", "tiny.yaml", "--input", "videos", "--output", "tracks"],
        TRAIN: ["--config", "tiny.yaml", "--input", "tracks", "--output", "run"],
        INFER: ["--checkpoint", "run/best.pth", "--input", "videos", "--output", "codes"],
    }
    lines[INFER] += ["--save", "latents", "labels"]
    results = {script: run_process(*command(script, *line), cwd=folder) for script, line in lines.items()}
    assert [result.status for result in results.values()] == [0, 0, 0], results
    return Work(folder, results)


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


@pytest.fixture
def tracks(work: Work, tmp_path: Path) -> Path:
    """A copy of the tracks, to change."""
    return shutil.copytree(work.tracks, tmp_path / "tracks")


@pytest.fixture
def codes(work: Work, tmp_path: Path) -> Path:
    """A copy of the codes, to change."""
    return shutil.copytree(work.codes, tmp_path / "codes")


def preprocess(run: Run, work: Work, output: Path, *more: object, source: Path | None = None) -> Result:
    line = ["--config", work.config, "--input", source or work.videos, "--output", output]
    return run(PREPROCESS, *line, *more)


def infer(run: Run, work: Work, output: Path, *more: object, source: Path | None = None) -> Result:
    line = ["--checkpoint", work.best, "--input", source or work.videos, "--output", output]
    return run(INFER, *line, *more)


# preprocess_videos.py


def test_preprocess_writes_one_track_file_per_clip(work: Work, tiny: Config) -> None:
    assert work.results[PREPROCESS].out == "tracks in tracks: 4 done (20 windows), 0 skipped, 0 failed\n"
    expected = {f"{name}.hdf5" for name in CLIPS} | {"config.yaml", "manifest.jsonl"}
    assert files_below(work.tracks).keys() == expected
    for name in CLIPS:
        with h5py.File(work.tracks / f"{name}.hdf5") as file:
            view = file["root/default"]
            assert view["tracks"].shape == (5, 6, 9, 2)
            assert view["vis"].shape == (5, 6, 9)
            assert view["start_frame"][:].tolist() == STARTS
            assert view["start_time"][:].tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
            assert (view.attrs["height"], view.attrs["width"]) == (48, 64)
            assert file["root"].attrs["config_hash"] == settings_hash(track_settings(tiny))


def test_preprocess_saves_the_config_that_it_used(work: Work) -> None:
    saved = config_from_dict(load_yaml(work.tracks / "config.yaml"), "in the test")
    assert saved == config_from_dict(load_yaml(work.config), "in the test")


def test_manifest_has_one_line_per_clip(work: Work) -> None:
    records = manifest_of(work.tracks)
    assert list(records) == sorted(CLIPS)
    for name, record in records.items():
        found = {key: record[key] for key in ("status", "windows", "windows_dropped", "frames", "fps")}
        assert found == {"status": "done", "windows": 5, "windows_dropped": 0, "frames": 15, "fps": 10.0}
        assert record["output"] == f"{name}.hdf5"
        assert Path(record["source"]) == Path("videos") / f"{name}.mp4"


def test_second_run_skips_everything(run: Run, work: Work, tracks: Path) -> None:
    before = files_below(tracks, "*.hdf5")
    result = preprocess(run, work, tracks)
    assert (result.status, result.out) == (
        0,
        f"tracks in {tracks}: 0 done (0 windows), 4 skipped, 0 failed\n",
    )
    assert files_below(tracks, "*.hdf5") == before
    records = manifest_of(tracks)
    assert {clip: (record["status"], record["windows"]) for clip, record in records.items()} == dict.fromkeys(
        CLIPS, ("skipped", 5)
    )


def test_missing_and_cut_outputs_alone_are_redone(run: Run, work: Work, tracks: Path) -> None:
    before = files_below(tracks, "*.hdf5")
    (tracks / "pan.hdf5").unlink()
    cut_file(tracks / "sub/zoom.hdf5", tracks / "sub/zoom.hdf5", 0.6)
    assert preprocess(run, work, tracks).status == 0
    after = files_below(tracks, "*.hdf5")
    assert redone(before, after) == {"pan.hdf5", "sub/zoom.hdf5"}
    assert statuses(tracks) == {
        "pan": "done",
        "sub/zoom": "done",
        "été 1": "skipped",
        "sub/deep/roll": "skipped",
    }
    assert TrackFile(tracks / "sub/zoom.hdf5").num_windows == 5


def test_other_settings_need_overwrite(run: Run, work: Work, tracks: Path) -> None:
    before = files_below(tracks)
    refused = preprocess(run, work, tracks, "--tracking.window_stride", 3)
    assert "tracking.window_stride 2 -> 3" in refused.error
    assert "--overwrite" in refused.error
    assert files_below(tracks) == before
    result = preprocess(run, work, tracks, "--tracking.window_stride", 3, "--overwrite")
    assert result.status == 0
    assert "4 done (16 windows), 0 skipped, 0 failed" in result.out
    assert redone(before, files_below(tracks)) == set(before)
    with h5py.File(tracks / "sub/deep/roll.hdf5") as file:
        assert file["root/default/start_frame"][:].tolist() == [0, 3, 6, 9]


def test_overwrite_redoes_what_is_complete(run: Run, work: Work, tracks: Path) -> None:
    before = files_below(tracks, "*.hdf5")
    assert "4 done" in preprocess(run, work, tracks, "--overwrite").out
    after = files_below(tracks, "*.hdf5")
    assert redone(before, after) == set(before)
    assert len(after) == 4


def test_velocity_files_train(run: Run, work: Work, tmp_path: Path) -> None:
    out = tmp_path / "velocities"
    assert preprocess(run, work, out, "--format", "pt").status == 0
    expected = {f"{name}_start{start:06d}.pt" for name in CLIPS for start in STARTS}
    assert files_below(out, "*.pt").keys() == expected
    window = torch.load(out / "été 1_start000004.pt", weights_only=True)
    assert (window.shape, window.dtype) == ((5, 9, 2), torch.float32)
    assert 0.01 < float(window.abs().max()) <= 1
    index = json.loads((out / "sub/zoom.windows.json").read_text(encoding="utf-8"))
    assert (index["start_frame"], index["num_frames"], index["windows_dropped"]) == (STARTS, 15, 0)

    assert "0 done (0 windows), 4 skipped" in preprocess(run, work, out, "--format", "pt").out
    assert "--format" in preprocess(run, work, out).error
    line = ["--config", work.config, "--input", out, "--output", tmp_path / "run"]
    assert run(TRAIN, *line, "--training.max_steps", 3).status == 0
    settings = load_checkpoint(tmp_path / "run/last.pth").track_settings
    assert settings is not None
    assert (settings["tracking.window_stride"], settings["data.reference_size"]) == (2, {"shorter": 48})


def test_a_killed_run_leaves_complete_files_and_goes_on(run: Run, work: Work, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    first = render(videos / "00.mp4", frames=200)
    names = [f"{number:02d}" for number in range(12)]
    for name in names[1:]:
        shutil.copy(first, videos / f"{name}.mp4")
    line = command(PREPROCESS, "--config", work.config, "--input", videos, "--output", out)
    kill_once(out / "manifest.jsonl", line)

    complete = files_below(out, "[0-9]*.hdf5")
    assert 1 <= len(complete) < len(names), "the run was not killed in its middle"
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        *complete,
        "config.yaml",
        "manifest.jsonl",
    }
    assert {f"{name}.hdf5" for name in find_tracks(out)} == set(complete)
    assert all(TrackFile(out / name).num_windows == 48 for name in complete)
    result = preprocess(run, work, out, source=videos)
    left = len(names) - len(complete)
    assert result.status == 0
    assert f"{left} done ({48 * left} windows), {len(complete)} skipped, 0 failed" in result.out
    after = files_below(out, "[0-9]*.hdf5")
    assert {name: after[name] for name in complete} == complete
    assert list(find_tracks(out)) == list(manifest_of(out)) == names


def kill_once(appears: Path, line: list[str]) -> None:
    """Starts a command and kills it the hard way as soon as the file holds a line."""
    process = subprocess.Popen(
        line, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (appears.exists() and appears.stat().st_size):
        assert process.poll() is None, "the command ended before it wrote the file"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL


BROKEN = {
    "text": "is not a video",
    "empty": "is empty (0 bytes)",
    "sound": "holds no video stream",
    "cut": "is cut short",
    "sub/short": "has 1 frames at 10 fps, expected at least 6 (data.sequence_length)",
}
"""Name of a clip that fails: what is said of it."""


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good clips among bad ones."""
    folder = tmp_path_factory.mktemp("broken")
    good = render(folder / "good.mp4")
    render(folder / "sub" / "good.mp4", seed=1)
    (folder / "text.mp4").write_text("no frames here, only words\n" * 50, encoding="utf-8")
    (folder / "empty.mp4").touch()
    audio_only(folder / "sound.mp4")
    cut_file(good, folder / "cut.mp4", 0.7)
    encode_clip(folder / "sub" / "short.mp4", numbered_frames(1))
    return folder


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


def test_bad_clips_fail_alone(run: Run, work: Work, broken: Path, tmp_path: Path) -> None:
    result = preprocess(run, work, tmp_path, source=broken)
    check_failures(result, broken, tmp_path)
    assert result.out == f"tracks in {tmp_path}: 2 done (10 windows), 0 skipped, 5 failed\n"
    assert list(find_tracks(tmp_path)) == ["good", "sub/good"]
    again = preprocess(run, work, tmp_path, source=broken)
    assert again.status == 3
    assert "0 done (0 windows), 2 skipped, 5 failed" in again.out


# Bad usage: nothing starts, and one line says why.

BAD_USAGE: dict[str, tuple[str, list[str]]] = {
    "missing input": (
        "{preprocess} --input {tmp}/none --output {tmp}/out",
        ["{tmp}/none", "does not exist"],
    ),
    "empty folder": ("{preprocess} --input {tmp}/empty --output {tmp}/out", ["is empty", ".mp4", ".mkv"]),
    "no videos": ("{preprocess} --input {tmp}/texts --output {tmp}/out", ["holds no video", ".mp4", ".mkv"]),
    "same output name": ("{preprocess} --input {tmp}/twins --output {tmp}/out", ["twin", "rename"]),
    "output below a file": ("{preprocess} --input {videos} --output {tmp}/file/out", ["{tmp}/file/out"]),
    "misspelt key": (
        "{preprocess} --config {tmp}/typo.yaml --input {videos} --output {tmp}/out",
        ["data.grid_sise", "typo.yaml", "data.grid_size"],
    ),
    "missing config": (
        "{preprocess} --config {tmp}/no.yaml --input {videos} --output {tmp}/out",
        ["no.yaml"],
    ),
    "misspelt flag": (
        "{preprocess} --input {videos} --output {tmp}/out --data.grid_sise 4",
        ["data.grid_sise", "data.grid_size"],
    ),
    "unknown flag": (
        "{preprocess} --input {videos} --output {tmp}/out --overwrit",
        ["overwrit", "overwrite"],
    ),
    "missing flag": ("{preprocess} --input {videos}", ["output"]),
    "wrong type": (
        "{preprocess} --input {videos} --output {tmp}/out --data.grid_size many",
        ["data.grid_size", "many"],
    ),
    "impossible value": (
        "{preprocess} --input {videos} --output {tmp}/out --data.sequence_length 1",
        ["data.sequence_length = 1", "at least 2"],
    ),
    "unknown tracker": (
        "{preprocess} --input {videos} --output {tmp}/out --tracking.tracker flw",
        ["flw", "flow", "cotracker3_offline"],
    ),
    "unknown format": ("{preprocess} --input {videos} --output {tmp}/out --format h5", ["h5", "hdf5", "pt"]),
    "train without tracks": ("{train} --input {tmp}/none --output {tmp}/out", ["{tmp}/none", "preprocess"]),
    "train on an empty folder": (
        "{train} --input {tmp}/empty --output {tmp}/out",
        ["{tmp}/empty", "holds no track files", ".hdf5"],
    ),
    "train on a cut file": ("{train} --input {tmp}/cut --output {tmp}/out", ["{tmp}/cut/pan.hdf5", "HDF5"]),
    "train with another grid": (
        "{train} --input {tracks} --output {tmp}/out --data.grid_size 4",
        ["N = 9", "N = 16", "data.grid_size"],
    ),
    "train below a file": ("{train} --input {tracks} --output {tmp}/file/out", ["{tmp}/file/out"]),
    "train over a run": ("{train} --input {tracks} --output {run}", ["{run}", "--resume auto"]),
    "resume from nothing": (
        "{train} --input {tracks} --output {tmp}/out --resume {tmp}/no.pth",
        ["{tmp}/no.pth", "does not exist"],
    ),
    "misspelt train flag": (
        "{train} --input {tracks} --output {tmp}/out --resumed auto",
        ["resumed", "closest valid key: resume"],
    ),
    "no checkpoint given": ("infer --input {videos} --output {tmp}/out", ["checkpoint"]),
    "no such checkpoint": (
        "infer --checkpoint {tmp}/no.pth --input {videos} --output {tmp}/out",
        ["{tmp}/no.pth", "does not exist"],
    ),
    "a text as checkpoint": (
        "infer --checkpoint {tmp}/file --input {videos} --output {tmp}/out",
        ["{tmp}/file", "not a torch file"],
    ),
    "weights of another config": (
        "infer --checkpoint {tmp}/other.pth --input {videos} --output {tmp}/out",
        ["{tmp}/other.pth", "do not fit the config", "shape", "expects"],
    ),
    "another grid": (
        "{infer} --input {videos} --output {tmp}/out --data.grid_size 4",
        ["data.grid_size 3 -> 4", "checkpoint fixes it"],
    ),
    "another model": (
        "{infer} --input {videos} --output {tmp}/out --model.hidden_dim 32",
        ["model.hidden_dim 16 -> 32"],
    ),
    "infer without videos": ("{infer} --input {tmp}/texts --output {tmp}/out", ["holds no video", ".mp4"]),
    "infer below a file": ("{infer} --input {videos} --output {tmp}/file/out", ["{tmp}/file/out"]),
    "unknown extra": ("{infer} --input {videos} --output {tmp}/out --save codes", ["codes", "latents"]),
}
"""What is wrong: the command, and what its error must name."""


@pytest.fixture(scope="module")
def places(work: Work, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tmp = tmp_path_factory.mktemp("bad")
    for name in ("empty", "texts", "twins", "cut"):
        (tmp / name).mkdir()
    (tmp / "texts" / "notes.txt").write_text("no video", encoding="utf-8")
    for suffix in (".mp4", ".avi"):
        (tmp / "twins" / f"twin{suffix}").touch()
    (tmp / "file").write_text("just a file", encoding="utf-8")
    (tmp / "typo.yaml").write_text("data: {grid_sise: 3}\n", encoding="utf-8")
    cut_file(work.tracks / "pan.hdf5", tmp / "cut" / "pan.hdf5", 0.6)
    content = torch.load(work.best, weights_only=True)
    content["config"]["model"]["hidden_dim"] = 32
    torch.save(content, tmp / "other.pth")
    return {"tmp": tmp, "videos": work.videos, "tracks": work.tracks, "run": work.run}


@pytest.mark.parametrize("case", BAD_USAGE)
def test_bad_usage_is_one_line(case: str, run: Run, work: Work, places: dict[str, Path]) -> None:
    line, needles = BAD_USAGE[case]
    short = {
        "preprocess": f"preprocess --config {work.config}",
        "train": f"train --config {work.config}",
        "infer": f"infer --checkpoint {work.best}",
    }
    name, *arguments = line.format(**places, **short).split()
    script = {"preprocess": PREPROCESS, "train": TRAIN, "infer": INFER}[name]
    before = files_below(work.folder)
    result = run(script, *arguments)
    for needle in needles:
        assert needle.format(**places) in result.error
    assert result.out == ""
    assert files_below(work.folder) == before
    assert not files_below(places["tmp"] / "out")


def test_a_fresh_interpreter_reports_bad_usage_too(work: Work, tmp_path: Path) -> None:
    """Once without the forked processes, from another folder."""
    line = command(PREPROCESS, "--input", "none", "--output", "out")
    assert "input none does not exist" in run_process(*line, cwd=tmp_path).error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", [PREPROCESS, TRAIN, INFER])
def test_help_tells_flags_and_keys(script: str, run: Run) -> None:
    result = run(script, "--help")
    assert (result.status, result.err) == (0, "")
    for word in ("--input", "--output", "--data.grid_size", "Side of the query grid", "default: 20"):
        assert word in result.out


# Odd inputs, from video to codes

ODD: dict[str, tuple[tuple[int, int], float, int]] = {
    "odd": ((48, 62), 20.0, 8),
    "slow": ((48, 64), 10.0, 4),
    "fast": ((48, 64), 20.0, 8),
    "turned": ((64, 48), 20.0, 13),
}
"""Name: tracked size, frames per second, windows; at up to 20 fps, T = 6 and stride 2."""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    encode_clip(folder / "odd.mp4", render_clip("pan", 0, (47, 61), 20)[0], pix_fmt="yuv444p")
    render(folder / "slow.mp4", frames=12, fps=10)
    render(folder / "fast.mp4", frames=60, fps=60)
    upright = encode_clip(folder / "upright.mp4", render_clip("mixed", 2, (96, 128), 30)[0])
    rotate_mp4(upright, folder / "turned.mp4", 90)
    upright.unlink()
    return folder


def test_odd_inputs_go_all_the_way(run: Run, work: Work, odd: Path, tmp_path: Path) -> None:
    tracked = preprocess(run, work, tmp_path / "tracks", "--video.target_fps", 20, source=odd)
    assert tracked.status == 0
    assert "slow.mp4: has 10 fps, below video.target_fps=20; every frame is kept" in tracked.err
    for name, (size, fps, windows) in ODD.items():
        file = TrackFile(tmp_path / "tracks" / f"{name}.hdf5")
        assert (file.size, file.attributes["fps"], file.num_windows) == (size, fps, windows)
    inferred = infer(run, work, tmp_path / "codes", "--video.target_fps", 20, source=odd)
    assert inferred.status == 0
    for name, (size, fps, windows) in ODD.items():
        found = json.loads((tmp_path / "codes" / f"{name}.json").read_text(encoding="utf-8"))
        assert found["start_frames"] == [2 * number for number in range(windows)]
        assert found["start_seconds"] == pytest.approx([2 * number / fps for number in range(windows)])
        assert (found["meta"]["tracked_size"], found["meta"]["fps"]) == (list(size), fps)
        assert np.array(found["codes"]).shape == (windows, 3)


# inference_short_clip.py


def test_codes_of_every_clip(work: Work) -> None:
    assert work.results[INFER].out == "codes in codes: 4 done (20 windows), 0 skipped, 0 failed\n"
    distinct = set()
    for name in CLIPS:
        found = json.loads((work.codes / f"{name}.json").read_text(encoding="utf-8"))
        assert found["clip"] == name
        assert found["start_frames"] == STARTS
        assert found["start_seconds"] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
        assert [len(window) for window in found["codes"]] == [3] * 5
        ids = [code for window in found["codes"] for code in window]
        assert all(type(code) is int and 0 <= code < 20 for code in ids)
        distinct |= set(ids)
    assert len(distinct) > 1, "codes that are all the same would hide every mistake"


def test_meta_says_how_codes_were_made(work: Work) -> None:
    meta = json.loads((work.codes / "été 1.json").read_text(encoding="utf-8"))["meta"]
    assert meta["checkpoint"] == "best.pth"
    assert meta["checkpoint_sha256"] == hashlib.sha256(work.best.read_bytes()).hexdigest()
    assert meta["versions"] == versions()
    assert meta["versions"]["torch"] == torch.__version__
    assert meta["source"] == "été 1.mp4"
    assert meta["source_bytes"] == (work.videos / "été 1.mp4").stat().st_size
    expected = {
        "model": "keypoint",
        "fsq_levels": [5, 4],
        "codebook_size": 20,
        "tracker": "flow",
        "sequence_length": 6,
        "window_stride": 2,
        "grid_size": 3,
        "query_order": "row_major",
        "reference_size": {"shorter": 48},
        "decoder_window_size": 7,
        "source_fps": 20.0,
        "fps": 10.0,
        "tracked_size": [48, 64],
        "num_frames": 15,
        "windows_dropped": 0,
        "saved": ["latents", "labels"],
    }
    assert {key: meta[key] for key in expected} == expected


def test_all_codes_are_in_one_file_too(work: Work) -> None:
    lines = read_lines(work.codes / "codes.jsonl")
    assert [line["clip"] for line in lines] == sorted(CLIPS)
    for line in lines:
        assert line == json.loads((work.codes / f"{line['clip']}.json").read_text(encoding="utf-8"))


def test_codes_are_those_of_the_tracks_on_disk(work: Work) -> None:
    """Three commands, one path: the tokenizer on the track files gives what inference wrote."""
    tokenizer = load_tokenizer(work.best)
    data = WindowDataset(load_clips(work.tracks, tokenizer.config), tokenizer.config)
    for number, name in enumerate(data.clips):
        ids = tokenizer.tokenize(data.__getitems__(range(5 * number, 5 * number + 5)).inputs.velocities)
        found = json.loads((work.codes / f"{name}.json").read_text(encoding="utf-8"))
        assert ids.tolist() == found["codes"]


def test_saved_tensors_need_no_code_to_load(work: Work) -> None:
    tokenizer = load_tokenizer(work.best)
    for name in CLIPS:
        arrays = torch.load(work.codes / f"{name}.pt", weights_only=True)
        found = json.loads((work.codes / f"{name}.json").read_text(encoding="utf-8"))
        assert arrays["window_starts"].tolist() == found["start_frames"]
        assert arrays["code_sequences"].tolist() == found["codes"]
        assert arrays["latent_tokens"].shape == (5, 3, 16)
        assert arrays["labels_per_point"].shape == (5, 5, 9)
        labels = tokenizer.decode(arrays["latent_tokens"]).argmax(-1)
        assert torch.equal(labels, arrays["labels_per_point"].long())


def test_second_inference_skips_and_redoes_what_is_not_whole(run: Run, work: Work, codes: Path) -> None:
    before = files_below(codes, "*.json")
    extras = ("--save", "latents", "labels")
    assert "0 done (0 windows), 4 skipped, 0 failed" in infer(run, work, codes, *extras).out
    assert files_below(codes, "*.json") == before
    assert len(read_lines(codes / "codes.jsonl")) == 4

    (codes / "pan.pt").unlink()
    (codes / "été 1.json").unlink()
    assert infer(run, work, codes, *extras).status == 0
    assert redone(before, files_below(codes, "*.json")) == {"pan.json", "été 1.json"}
    assert (codes / "pan.pt").is_file()
    assert "4 done" in infer(run, work, codes, "--overwrite").out


def test_a_cut_code_file_is_made_again(run: Run, work: Work, codes: Path) -> None:
    before = files_below(codes, "*.json")
    cut_file(codes / "pan.json", codes / "pan.json", 0.5)
    result = infer(run, work, codes)
    assert result.status == 0, result.err
    assert json.loads((codes / "pan.json").read_text(encoding="utf-8"))["start_frames"] == STARTS
    assert redone(before, files_below(codes, "*.json")) == {"pan.json"}


def test_another_checkpoint_redoes_all_codes(run: Run, work: Work, codes: Path) -> None:
    last = work.run / "last.pth"
    result = run(INFER, "--checkpoint", last, "--input", work.videos, "--output", codes)
    assert "4 done (20 windows), 0 skipped" in result.out
    hashes = {line["meta"]["checkpoint_sha256"] for line in read_lines(codes / "codes.jsonl")}
    assert hashes == {hashlib.sha256(last.read_bytes()).hexdigest()}


def test_one_file_as_input(run: Run, work: Work, tmp_path: Path) -> None:
    result = infer(run, work, tmp_path / "codes", source=work.videos / "sub/zoom.mp4")
    assert result.status == 0
    assert files_below(tmp_path / "codes").keys() == {
        "zoom.json",
        "codes.jsonl",
        "manifest.jsonl",
        "config.yaml",
    }
    (line,) = read_lines(tmp_path / "codes/codes.jsonl")
    whole = json.loads((work.codes / "sub/zoom.json").read_text(encoding="utf-8"))
    assert line["codes"] == whole["codes"]


def test_bad_clips_fail_alone_in_inference(run: Run, work: Work, broken: Path, tmp_path: Path) -> None:
    result = infer(run, work, tmp_path, source=broken)
    check_failures(result, broken, tmp_path)
    assert result.out == f"codes in {tmp_path}: 2 done (10 windows), 0 skipped, 5 failed\n"
    assert [line["clip"] for line in read_lines(tmp_path / "codes.jsonl")] == ["good", "sub/good"]


def test_another_rate_is_allowed_with_a_warning(run: Run, work: Work, tmp_path: Path) -> None:
    result = infer(run, work, tmp_path, "--video.target_fps", 5, source=work.videos / "pan.mp4")
    assert result.status == 0
    warnings = [line for line in result.err.splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert "video.target_fps 10.0 -> 5.0" in warnings[0]
    found = json.loads((tmp_path / "pan.json").read_text(encoding="utf-8"))
    # 1.5 seconds at 5 fps: 8 frames, so windows of 6 start at 0 and 2.
    assert (found["meta"]["fps"], found["meta"]["num_frames"]) == (5.0, 8)
    assert (found["start_frames"], found["start_seconds"]) == ([0, 2], pytest.approx([0.0, 0.4]))


# train.py


def test_training_leaves_a_run_that_says_how_it_went(work: Work) -> None:
    result = work.results[TRAIN]
    assert "Traceback" not in result.err
    assert "training on 15 windows of 3 clips, validating on 5 windows of 1 clips, from step 0" in result.err
    assert "epoch 25 val: loss " in result.err
    names = {path.name for path in work.run.iterdir()}
    assert names == {"best.pth", "last.pth", "epoch_25.pth", "config.yaml", "tensorboard"}
    saved = config_from_dict(load_yaml(work.run / "config.yaml"), "in the test")
    assert (saved.training.output_dir, saved.data.tracks_dir) == ("run", "tracks")
    assert load_checkpoint(work.best).config == saved


ACCELERATE = [
    *(sys.executable, "-m", "accelerate.commands.launch"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
]
# With --cpu accelerate starts one process whatever is asked for. --multi_gpu starts them all, and
# ACCELERATE_USE_CPU keeps them on the CPU.
TWO_PROCESSES = [*ACCELERATE, "--multi_gpu", "--num_processes", "2"]


@dataclasses.dataclass(frozen=True)
class Pair:
    """One training by two processes, stopped after two epochs and resumed, and by one process."""

    two: Path
    one: Path
    results: list[Result]


@pytest.fixture(scope="module")
def pair(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """9 windows train, 8 a step: the second step of an epoch has one, and one process has none."""
    folder = tmp_path_factory.mktemp("pair")
    tiny = config_from_dict(TINY, "in the tests")
    for number in range(4):
        with TrackFileWriter(folder / f"tracks/{number}.hdf5", clip_record_of(tiny), (48, 64)) as writer:
            for window in random_windows(tiny, 3, number, (48, 64)):
                writer.append(window)
            writer.finish(num_frames=10, windows_dropped=0)
    config = write_config(folder / "tiny.yaml", training={"learning_rate": 1e-3})
    line = ["--config", config, "--input", folder / "tracks"]
    two = [*TWO_PROCESSES, REPO / TRAIN, *line, "--output", folder / "two", "--training.batch_size", 4]
    one = [*line, "--output", folder / "one", "--training.batch_size", 8, "--training.epochs", 3]
    results = [
        run_process(*two, "--training.epochs", 2),
        run_process(*two, "--training.epochs", 3, "--resume", "auto"),
        run(TRAIN, *one),
    ]
    assert [result.status for result in results] == [0, 0, 0], results
    return Pair(folder / "two", folder / "one", results)


def events_of(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"histograms": 0, "scalars": 0})
    events.Reload()
    return events


def test_two_processes_really_run(pair: Pair) -> None:
    training = load_checkpoint(pair.two / "epoch_2.pth").training
    assert training is not None
    assert len(training["random_states"]) == 2
    assert training["state"]["step"] == 4
    # Of the two, one process tells.
    for result, start in zip(pair.results[:2], (0, 4), strict=True):
        assert result.err.count(f"from step {start}\n") == 1, result.err
        assert "random states start afresh" not in result.err


def test_two_processes_log_what_one_does(pair: Pair) -> None:
    two, one = events_of(pair.two), events_of(pair.one)
    tags = ("loss", "accuracy", "accuracy_no_motion", "mask_share", "unique_codes", "perplexity")
    for name in (f"{split}/{tag}" for split in ("train", "train_epoch", "val") for tag in tags):
        expected = [(event.step, pytest.approx(event.value, abs=1e-5)) for event in one.Scalars(name)]
        assert [(event.step, event.value) for event in two.Scalars(name)] == expected, name
    assert [event.step for event in two.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]


def test_codes_are_counted_over_the_whole_batch_without_padding(pair: Pair) -> None:
    for folder in (pair.two, pair.one):
        events = events_of(folder)
        counts = [int(event.histogram_value.num) for event in events.Histograms("train/code_usage")]
        assert counts == [8 * 3, 1 * 3] * 3
        epochs = [int(event.histogram_value.num) for event in events.Histograms("train_epoch/code_usage")]
        assert epochs == [9 * 3] * 3
        held_out = [int(event.histogram_value.num) for event in events.Histograms("val/code_usage")]
        assert held_out == [3 * 3] * 3


@pytest.mark.parametrize("name", ["epoch_2.pth", "last.pth"], ids=["before the stop", "after resuming"])
def test_two_processes_train_the_weights_that_one_does(pair: Pair, name: str) -> None:
    two, one = load_checkpoint(pair.two / name).model, load_checkpoint(pair.one / name).model
    start = load_checkpoint(pair.one / "epoch_1.pth").model
    moved = max(float((one[key] - start[key]).abs().max()) for key in one)
    assert moved > 1e-3
    for key, value in one.items():
        if key.endswith("attn.in_proj_bias"):
            # Attention does not depend on the keys' bias: its gradient is rounding, which AdamW scales up.
            value, two[key] = (torch.cat(tensor.chunk(3)[::2]) for tensor in (value, two[key]))
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=0, msg=lambda m, key=key: f"{key}: {m}")


def test_two_processes_find_the_gradients_that_one_does(pair: Pair) -> None:
    """AdamW hides a wrong scale from the weights, but its running mean of the gradients does not."""
    means = []
    for folder in (pair.two, pair.one):
        training = load_checkpoint(folder / "last.pth").training
        assert training is not None
        means.append({key: state["exp_avg"] for key, state in training["optimizer"]["state"].items()})
    assert max(float(value.abs().max()) for value in means[1].values()) > 1e-3
    for key, value in means[1].items():
        torch.testing.assert_close(means[0][key], value, atol=1e-6, rtol=1e-3)


def test_the_model_is_freed_before_the_processes_part(
    tiny: Config, write_tracks: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that outlives its process group hangs now and then when it is freed.

    The group's destructor then waits, with the GIL held, for a thread that needs the GIL.
    """
    write_tracks(tmp_path / "tracks" / "clip.hdf5", 4)
    models: list[weakref.ref[torch.nn.Module]] = []
    at_the_end: list[bool] = []
    make, end = Trainer.__init__, Accelerator.end_training

    def made(trainer: Trainer, *arguments: Any) -> None:
        make(trainer, *arguments)
        models.append(weakref.ref(trainer.model))

    def ended(accelerator: Accelerator) -> None:
        at_the_end.append(models[0]() is None)
        end(accelerator)

    monkeypatch.setattr(Trainer, "__init__", made)
    monkeypatch.setattr(Accelerator, "end_training", ended)
    data = dataclasses.replace(tiny.data, tracks_dir=str(tmp_path / "tracks"))
    training = dataclasses.replace(tiny.training, output_dir=str(tmp_path / "run"), epochs=1)
    train(dataclasses.replace(tiny, data=data, training=training))
    assert at_the_end == [True]


PROBE = """
import sys
from pathlib import Path
from amplify_motion_tokenizer.config import Config, TrainingConfig
from amplify_motion_tokenizer.training import make_accelerator
config = Config(training=TrainingConfig(mixed_precision="no"))
sys.stdout.write(f"one of {make_accelerator(config, Path(sys.argv[1])).num_processes}\\n")
"""


def test_processes_of_one_launch_know_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU and without ACCELERATE_USE_CPU: two trainings into one folder would spoil it."""
    monkeypatch.setitem(ENVIRONMENT, "ACCELERATE_USE_CPU", "false")
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    (tmp_path / "probe.py").write_text(PROBE, encoding="utf-8")
    result = run_process(*TWO_PROCESSES, tmp_path / "probe.py", tmp_path)
    if result.status == 0:
        assert result.out.splitlines() == ["one of 2"] * 2
    else:
        assert "error" in result.err.lower()


# Checkpoints of the keypoint reproduction


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with safe_open(GOLDEN, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


@pytest.fixture
def reproduction(golden: dict[str, Tensor], tmp_path: Path) -> Path:
    """A bare state dict, as the reproduction saves it, with its config beside it."""
    state = {key.removeprefix("state."): value for key, value in golden.items() if key.startswith("state.")}
    assert "causal_mask" in state
    path = tmp_path / "theirs" / "best.pth"
    path.parent.mkdir()
    torch.save(state, path)
    with safe_open(GOLDEN, "pt") as file:
        sizes = json.loads(file.metadata()["config"])
    tree = {
        "data": {**sizes["data"], "video_source_dir": "/data/videos", "preprocessed_dir": "/data/tracks"},
        "model": {**sizes["model"], "ffn_dim": 128},
        "training": {"resume": None, "batch_size": 4, "epochs": 10},
        "preprocess": {"target_fps": 10, "resize_shorter": 48, "window_stride": 3, "cotracker": "offline"},
        "wandb": {"project": "tokens"},
    }
    path.with_name("config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.fixture
def edit_config(reproduction: Path) -> Callable[[str, Any], None]:
    """Sets a dotted key of the reproduction's config, or removes it where the value is None."""
    path = reproduction.with_name("config.yaml")

    def edit(key: str, value: Any) -> None:
        tree = load_yaml(path)
        section, name = key.split(".")
        tree[section].pop(name)
        if value is not None:
            tree[section][name] = value
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")

    return edit


def test_reproduction_weights_give_their_own_outputs(reproduction: Path, golden: dict[str, Tensor]) -> None:
    tokenizer = load_tokenizer(reproduction)
    assert not tokenizer.training
    velocities = golden["out.velocities"]
    with torch.inference_mode():
        codes, indices = tokenizer.quantize(tokenizer.encode(velocities))
        logits = tokenizer.decode(codes)
    assert torch.equal(indices, golden["out.indices"])
    assert torch.equal(tokenizer.tokenize(velocities), golden["out.indices"])
    assert logits.shape == (4, 5, 9, 225)
    for step in range(5):
        torch.testing.assert_close(logits[:, step], golden["out.logits_per_point"], atol=1e-5, rtol=0)


def test_reproduction_config_is_ours_where_both_mean_the_same(reproduction: Path) -> None:
    config = load_checkpoint(reproduction).config
    assert (config.video.target_fps, config.video.resize_shorter) == (10.0, 48)
    assert config.tracking.window_stride == 3
    assert (config.data.sequence_length, config.data.grid_size, config.num_points) == (6, 3, 9)
    assert (config.model.hidden_dim, config.model.fsq_levels, config.num_classes) == (32, (8, 8, 4, 4), 225)
    assert config.training.batch_size == Config().training.batch_size
    assert load_checkpoint(reproduction).training is None


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_reproduction_weights_of_a_wrapped_model(
    prefix: str, reproduction: Path, golden: dict[str, Tensor]
) -> None:
    state = torch.load(reproduction, weights_only=True)
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, reproduction)
    assert torch.equal(load_tokenizer(reproduction).tokenize(golden["out.velocities"]), golden["out.indices"])


Edit = Callable[[str, Any], None]


def test_reproduction_without_its_config(reproduction: Path) -> None:
    reproduction.with_name("config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"best\.pth: .* needs config\.yaml beside it"):
        load_tokenizer(reproduction)


def test_reproduction_config_without_a_key(reproduction: Path, edit_config: Edit) -> None:
    edit_config("model.hidden_dim", None)
    with pytest.raises(CheckpointError, match=r"config\.yaml: lacks model\.hidden_dim"):
        load_tokenizer(reproduction)


def test_reproduction_config_with_wrong_classes(reproduction: Path, edit_config: Edit) -> None:
    edit_config("model.num_classes", 100)
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        load_tokenizer(reproduction)
    for word in ("model.num_classes", "100", "225", str(reproduction.with_name("config.yaml"))):
        assert word in str(caught.value)


def test_reproduction_config_of_other_weights(reproduction: Path, edit_config: Edit) -> None:
    edit_config("model.hidden_dim", 64)
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(reproduction)
    for word in (str(reproduction), "do not fit the config", "has shape (32,), the config expects (64,)"):
        assert word in str(caught.value)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_a_pickle_with_code_is_refused_and_not_run(reproduction: Path) -> None:
    target = reproduction.with_name("executed")
    torch.save({"weights": Payload(target)}, reproduction)
    with pytest.raises(CheckpointError, match=r"best\.pth: is refused"):
        load_tokenizer(reproduction)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weights": 1, "epoch": 3}, ["a dict with the keys weights, epoch"]),
        ({"conv1.weight": torch.ones(2), "fc.bias": torch.ones(1)}, ["another model", "conv1.weight"]),
        ([torch.ones(2)], ["a list"]),
        ({"format": "amplify_motion_tokenizer", "format_version": 99}, ["config", "model"]),
    ],
    ids=["dict", "other model", "list", "unfinished"],
)
def test_other_files_say_what_they_look_like(content: Any, words: list[str], reproduction: Path) -> None:
    torch.save(content, reproduction)
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(reproduction)
    for word in [str(reproduction), *words]:
        assert word in str(caught.value)


def test_reproduction_weights_run_from_the_command_line(
    run: Run, work: Work, reproduction: Path, tmp_path: Path
) -> None:
    line = ["--checkpoint", reproduction, "--input", work.videos, "--output", tmp_path / "codes"]
    result = run(INFER, *line)
    assert (result.status, "WARNING" in result.err) == (0, False), result.err
    lines = read_lines(tmp_path / "codes/codes.jsonl")
    assert [line["clip"] for line in lines] == sorted(CLIPS)
    for line in lines:
        assert line["start_frames"] == [0, 3, 6, 9]
        assert np.array(line["codes"]).shape == (4, 4)
        assert (line["meta"]["codebook_size"], line["meta"]["window_stride"]) == (1024, 3)
