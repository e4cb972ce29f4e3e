"""The scripts of examples/ that take videos, as a user runs them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from amplify_motion_tokenizer.codes.segment_files import read_segments
from amplify_motion_tokenizer.scenes import render_clip, write_clip
from tests.support.run_scripts import ENVIRONMENT, REPO

SIZE, FPS = (96, 128), 20


def run(script: str, *arguments: Path) -> str:
    words = [sys.executable, str(REPO / "examples" / script), *map(str, arguments)]
    done = subprocess.run(words, env=ENVIRONMENT | {"PYTHONPATH": str(REPO)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_motion_that_is_alike_is_found(tmp_path: Path) -> None:
    pan, _ = render_clip("pan", 2, SIZE, 32)
    roll, _ = render_clip("roll", 2, SIZE, 32)
    clips = {"a": pan, "b": roll, "mirrored": pan[:, ::-1, ::-1], "again": pan[2:30]}
    for name, frames in clips.items():
        write_clip(tmp_path / f"videos/{name}.mp4", frames, FPS)
    told = run("find_motion.py", tmp_path / "videos", tmp_path / "codes")
    assert "4 done" in told
    found = dict(re.findall(r"^(\w+) moves like (\w+) from", told, re.MULTILINE))
    assert found["a"] == "again" and found["again"] == "a"
    assert len(found) == 4 and all(name != other for name, other in found.items())


def test_a_video_is_cut_where_its_motion_changes(tmp_path: Path) -> None:
    frames, _ = render_clip("pan", 2, SIZE, 40)
    there_and_back = np.concatenate([frames, frames[::-1]])  # the motion turns round at 2 s
    write_clip(tmp_path / "long.mp4", there_and_back, FPS)
    told = run("cut_long_video.py", tmp_path / "long.mp4", tmp_path / "segments.json")
    segments = read_segments(tmp_path / "segments.json")["long"]
    assert segments[0].start_s == 0 and segments[-1].end_s == pytest.approx(4, abs=0.1)
    assert min(abs(segment.end_s - 2) for segment in segments) < 0.3
    assert len(re.findall(r"^\d+: ", told, re.MULTILINE)) == len(segments) > 1


def test_the_examples_are_short() -> None:
    for path in (REPO / "examples").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path
