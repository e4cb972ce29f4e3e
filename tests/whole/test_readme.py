"""What README and quickstart show runs as it stands there, on smaller clips than the README's."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes import render_clip, write_clip
from tests.support.markdown import Page
from tests.support.run_scripts import REPO, Work
from tests.whole.test_docs import command_of

README, QUICKSTART = Page(REPO / "README.md"), Page(REPO / "docs/quickstart.md")
CLIPS = "--clips 8 --frames 80 --size 240x320"
SMALLER = {"--clips": "6", "--frames": "32", "--size": "96x128"}
SHORT = ["--training.max_steps", "2", "--data.val_split", "0.3", "--training.num_workers", "0"]
ALONE = ["--tracking.num_workers", "1"]
"""Settings that change how long commands take."""
NEEDS_MORE = ("<", "--follow", "--camera", "DATASET", "COPY")
"""What stands in commands that need a camera, a data set or a name of the reader's."""


def run(words: list[str]) -> None:
    name, rest = command_of(words)
    assert name is not None
    rest = [SMALLER.get(before, word) for before, word in zip(["", *rest], rest, strict=False)]
    quick = {"train": SHORT, "infer": ALONE, "preprocess": ALONE}.get(name, [])
    status = importlib.import_module(f"amplify_motion_tokenizer.commands.{name}").main([*rest, *quick])
    assert status == 0, words


def test_the_commands_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CLIPS in README.text
    for words in README.commands():
        if command_of(words)[0] is not None:
            run(words)
    told = capsys.readouterr().out
    for name in re.findall(r"`motion-tokenizer ([^`]*--[^`]*)`", README.text):
        if not any(sign in name for sign in NEEDS_MORE):
            run(["motion-tokenizer", *name.split()])
    for kind in ("codes", "own_codes", "decoded"):
        assert len(list((tmp_path / "my" / kind).glob("*.*"))) > 6
    shown = README.blocks("")[1]  # what the commands print: the same lines, with other numbers
    for line in (*shown.splitlines()[:2], shown.splitlines()[-1]):
        assert without_numbers(line) in without_numbers(told)
    check_the_python(capsys)


def check_the_python(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = README.blocks("python")
    names: dict[str, Any] = {}
    exec(code, names)
    told = capsys.readouterr().out
    assert without_numbers(told).endswith(without_numbers(README.blocks("")[0]))
    assert names["tracks"].shape[:1] == names["codes"].ids.shape[:1]


def without_numbers(text: str) -> str:
    return " ".join(re.sub(r"[\d.]+", "#", text).split())


def test_the_example_gives_the_codes_of_inference(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    _, code = QUICKSTART.blocks("python")
    monkeypatch.chdir(work.folder)
    names: dict[str, Any] = {}
    exec(code.replace("my/", ""), names)
    config = names["tokenizer"].config
    assert names["velocities"].shape == (1, *names["tokenizer"].input_shape)
    assert names["logits"].shape == (1, config.num_steps, config.num_points, config.num_classes)
    first = next(iter(load_clips(work.tracks, config)))
    codes = json.loads((work.folder / f"codes/{first}.json").read_text(encoding="utf-8"))["codes"]
    assert names["indices"].tolist() == codes[:1]


def test_the_example_with_tracks_in_memory_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _ = QUICKSTART.blocks("python")
    still = torch.from_numpy(query_grid("row_major", 20, (480, 640))).expand(2, 16, -1, -1)
    frames = list(render_clip("pan", 0, (48, 64), 20)[0])
    write_clip(tmp_path / "clip.mp4", frames, 20)
    names: dict[str, Any] = {"tracks_xy_px": still, "visibility": torch.ones(2, 16, 400)}
    names["frames"] = np.stack(frames)
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    assert names["codes"].ids.shape == (2, 16)
    torch.testing.assert_close(names["tracks"], still, atol=1, rtol=0)
    torch.testing.assert_close(names["coarse"], still, atol=1, rtol=0)
    assert names["digits"].shape == (2, 16, 4)
