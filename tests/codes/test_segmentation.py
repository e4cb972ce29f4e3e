"""Cutting clips where the motion changes: which boundaries, their files, and what is refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, load_tokenizer, write_codes
from amplify_motion_tokenizer.codes.segment_files import read_segments
from amplify_motion_tokenizer.codes.segmentation import Change, Rules, boundaries, change_of, segments_of
from amplify_motion_tokenizer.commands.evaluate import main as evaluate
from amplify_motion_tokenizer.commands.segment import main
from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.video.reading import open_video
from tests.support.moving_codes import codes_of, pan, zoom
from tests.support.render_clips import numbered_frames, read_number, write_clip

STARTS = list(range(0, 65, 2))


@pytest.fixture(scope="module")
def clip() -> MotionCodes:
    """80 frames: to the right, from frame 40 on inwards."""
    tokenizer = load_tokenizer("transform", device="cpu")
    return codes_of(tokenizer, "clip", [pan(1)] * 40 + [zoom(0.03)] * 39, STARTS)


def curve(*energy: float) -> Change:
    """A change every 0.25 s from 0.25 on."""
    return Change(0.25 * np.arange(1, len(energy) + 1), np.array(energy))


def test_a_stretch_of_change_has_one_boundary_at_its_peak() -> None:
    change = curve(0, 0.9, 1.2, 0.8, 1.1, 0.2, 0, 0, 0.85, 0.1, 0)
    rules = Rules(least_change=0.8, ends_below=0.7, shortest_s=0.3)
    # 0.8 is not below 0.56, so 1.1 belongs to the first stretch.
    assert boundaries(change, 0, 3, rules) == [0.75, 2.25]
    assert boundaries(change, 0, 3, dataclasses.replace(rules, ends_below=1)) == [0.75, 2.25]
    assert boundaries(curve(0, 1, 0.3, 0.9, 0), 0, 2, rules) == [0.5, 1.0]
    assert boundaries(curve(), 0, 3, rules) == []


def test_segments_are_neither_too_short_nor_too_long() -> None:
    change = curve(0.9, 0, 0, 0.5, 1, 0, 1.1, 0, 0, 0.3, 0, 0.2)
    rules = Rules(least_change=0.8, shortest_s=0.6)
    # 0.25 s is too near to the start; of 1.25 and 1.75 s the higher stays.
    assert boundaries(change, 0, 3.25, rules) == [1.75]
    assert boundaries(change, 0, 3.25, dataclasses.replace(rules, longest_s=1.5)) == [1.0, 1.75]
    # No place is a second from both ends of what is too long.
    assert boundaries(change, 0, 3.25, Rules(least_change=2, shortest_s=2, longest_s=3)) == []


def test_a_part_begins_a_segment(clip: MotionCodes) -> None:
    parts = dataclasses.replace(clip, meta={**clip.meta, "parts": [0, 20]})
    still = Change(clip.seconds.mean(dim=1).numpy(), np.zeros(len(clip)))
    assert segments_of(parts, still, Rules()) == [(0.0, 1.0), (1.0, 3.95)]
    assert segments_of(clip, still, Rules()) == [(0.0, 3.95)]


def test_codes_without_times_are_refused(clip: MotionCodes) -> None:
    unknown = dataclasses.replace(clip, seconds=torch.full_like(clip.seconds, float("nan")))
    with pytest.raises(UsageError, match="do not say when"):
        change_of(unknown, np.zeros(len(clip)))


def test_the_command_finds_and_cuts_at_the_frame_of_the_change(
    clip: MotionCodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_codes(tmp_path / "codes.parquet", [clip])
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "clip.mp4", numbered_frames(80, 48, 80), options={"crf": "10"})
    line = ["--codes", str(tmp_path / "codes.parquet"), "--json", str(tmp_path / "found.json")]
    assert main([*line, "--cut", str(tmp_path / "out"), "--input", str(tmp_path / "in")]) == 0
    first, second = read_segments(tmp_path / "found.json")["clip"]
    assert (first.start_s, second.end_s, first.end_s) == (0, 3.95, second.start_s)
    assert first.end_s == pytest.approx(2, abs=0.1)
    numbers = []
    for name in ("clip_000.mp4", "clip_001.mp4"):
        with open_video(tmp_path / "out" / name, VideoConfig(target_fps=None, size=None)) as video:
            numbers.append([read_number(frame.rgb) for frame in video])
    begin = int(np.ceil(first.end_s * 20 - 1e-6))
    assert numbers == [list(range(begin)), list(range(begin, 80))]
    capsys.readouterr()
    truth = {
        "clips": {
            "clip": [{"start_seconds": 0, "end_seconds": 2.4}, {"start_seconds": 2.4, "end_seconds": 4}]
        }
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    judged = ["--segments", str(tmp_path / "found.json"), "--truth", str(tmp_path / "truth.json")]
    assert evaluate(["segmentation", *judged]) == 0
    rows = [row.split() for row in capsys.readouterr().out.splitlines()[1:]]
    assert rows[:3] == [
        ["inner", "0.25", "1", "1", "0", "0.000"],
        ["inner", "0.5", "1", "1", "1", "1.000"],
        ["inner", "2", "1", "1", "1", "1.000"],
    ]
    # Start and end match, the inner boundary, of each segment, does not.
    assert rows[4] == ["both", "ends", "0.25", "4", "4", "2", "0.500"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ({}, "holds no segments"),
        ({"clips": {"a": [{"start_seconds": 0}]}}, "segments of a are not a list"),
        ({"clips": {"a": [{"start_seconds": 2, "end_seconds": 1}]}}, "run backwards"),
        ({"clips": {"b": []}}, "has no segments of the clip a"),
    ],
)
def test_other_files_are_no_segments(tmp_path: Path, content: object, words: str) -> None:
    right, wrong = tmp_path / "right.json", tmp_path / "wrong.json"
    right.write_text(json.dumps({"clips": {"a": [{"start_seconds": 0, "end_seconds": 1}]}}), encoding="utf-8")
    if content is not None:
        wrong.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        evaluate(["segmentation", "--segments", str(wrong), "--truth", str(right)])


@pytest.mark.parametrize(
    "flags",
    [
        ["--change", "0"],
        ["--shortest", "2", "--longest", "3"],
        ["--cut", "out"],
        ["--change", "nan"],
        ["--cut", "a/b", "--input", "a"],
    ],
)
def test_flags_that_make_no_sense_are_refused(flags: list[str]) -> None:
    with pytest.raises(UsageError):
        main(["--codes", "codes", *flags])
