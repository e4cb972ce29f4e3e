"""Bad usage of the three commands: nothing starts, and one line says why. Their help, too."""

from pathlib import Path

import pytest
import torch

from tests.support.render_clips import cut_file
from tests.support.run_scripts import INFER, PREPROCESS, TRAIN, Run, Work, command, files_below, run_process

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
    "missing flag": ("{preprocess} --input {videos}", ["required: --output"]),
    "wrong type": (
        "{preprocess} --input {videos} --output {tmp}/out --data.grid_size many",
        ["data.grid_size", "many"],
    ),
    "impossible value": (
        "{preprocess} --input {videos} --output {tmp}/out --data.sequence_length 1",
        ["data.sequence_length = 1", "from 2 to 4096"],
    ),
    "unknown tracker": (
        "{preprocess} --input {videos} --output {tmp}/out --tracking.tracker flw",
        ["flw", "flow", "cotracker3_offline"],
    ),
    "unknown format": ("{preprocess} --input {videos} --output {tmp}/out --format h5", ["h5", "hdf5", "pt"]),
    "train without tracks": ("{train} --input {tmp}/none --output {tmp}/out", ["{tmp}/none", "preprocess"]),
    "train on a file": (
        "{train} --input {tracks}/pan.hdf5 --output {tmp}/out",
        ["{tracks}/pan.hdf5 is a file; expected the folder"],
    ),
    "preprocess into a pack": (
        "{preprocess} --input {videos} --output {tmp}/pack",
        ["{tmp}/pack holds a pack", "another --output"],
    ),
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
        ["unknown option --resumed", "did you mean --resume?"],
    ),
    "no such checkpoint": (
        "infer --checkpoint {tmp}/no.pth --input {videos} --output {tmp}/out",
        ["{tmp}/no.pth", "does not exist"],
    ),
    "a text as checkpoint": (
        "infer --checkpoint {tmp}/file --input {videos} --output {tmp}/out",
        ["{tmp}/file", "is a text file", "best.pth"],
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
    for name in ("empty", "texts", "twins", "cut", "pack"):
        (tmp / name).mkdir()
    (tmp / "pack" / "pack.json").write_text("{}", encoding="utf-8")
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
    assert files_below(places["tmp"] / "pack").keys() == {"pack.json"}


def test_a_fresh_interpreter_reports_bad_usage_too(work: Work, tmp_path: Path) -> None:
    """Once without the forked processes, from another folder."""
    line = command(PREPROCESS, "--input", "none", "--output", "out")
    assert "input none does not exist" in run_process(*line, cwd=tmp_path).error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", [PREPROCESS, TRAIN, INFER])
def test_help_tells_flags_and_keys(script: str, run: Run) -> None:
    result = run(script, "--help-all")
    assert (result.status, result.err) == (0, "")
    default = "the checkpoint's" if script == INFER else "20"
    for word in ("--input", "--output", "--data.grid_size", "Side of the query grid", f"default: {default}"):
        assert word in " ".join(result.out.split())
