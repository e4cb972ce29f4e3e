"""Cutting clips where the motion changes: which boundaries, their files, and what is refused."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from amplify_motion_tokenizer import MotionCodes, MotionCodeSet, load_tokenizer, write_codes
from amplify_motion_tokenizer.codes.change_points import histograms
from amplify_motion_tokenizer.codes.files.base import COLUMNS, OPTIONAL
from amplify_motion_tokenizer.codes.segment_files import read_segments
from amplify_motion_tokenizer.codes.segment_picture import write_segment_picture
from amplify_motion_tokenizer.codes.segment_videos import copy
from amplify_motion_tokenizer.codes.segmentation import (
    Change,
    Rules,
    Segment,
    boundaries,
    change_of,
    segments_of,
)
from amplify_motion_tokenizer.codes.segmenting import segmented
from amplify_motion_tokenizer.commands.evaluate import main as evaluate
from amplify_motion_tokenizer.commands.segment import main
from amplify_motion_tokenizer.config import Config, VideoConfig
from amplify_motion_tokenizer.errors import EXIT_SOME_FAILED, UsageError, VideoError
from amplify_motion_tokenizer.video.reading import open_video
from amplify_motion_tokenizer.video.sources import find_clips, model_views
from amplify_motion_tokenizer.video.writing import write_png
from tests.support.moving_codes import SIZE, codes_of, pan, zoom
from tests.support.render_clips import numbered_frames, read_number, write_clip, write_moving

STARTS = list(range(0, 65, 2))


def read_png(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path))[..., ::-1], np.uint8)


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


def test_rules_are_numbers_above_0() -> None:
    for name in ("least_change", "ends_below", "shortest_s", "longest_s"):
        for value in (0, -1, float("nan")):
            with pytest.raises(UsageError, match=f"{name} is {value:g}; expected a number above 0"):
                Rules(**{name: value})


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
    clip: MotionCodes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
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
    whole = [
        "--codes",
        str(tmp_path / "codes.parquet"),
        "--shortest",
        "2",
        "--longest",
        "20",
        "--change",
        "1.99",
    ]
    assert main([*whole, "--cut", str(tmp_path / "out"), "--input", str(tmp_path / "in")]) == 0
    assert "also holds 1 videos of earlier cuts of these clips, such as clip_001.mp4" in caplog.text
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
        ([], "holds no segments"),
        ([{"segments": []}], "row 1 does not name its clip"),
        ([{"id": "a", "segments": [{"start_sec": 0, "end_sec": 1}]}] * 2, "two rows of the clip a"),
        ({"a": [{"start": 0, "end": "x"}]}, "segments of a are not a list"),
        ([3], "row 1 does not name its clip"),
        ({"rows": [{}]}, "row 1 does not name its clip"),
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
        ["--copy"],
        ["--clusters", "-1"],
        ["--method", "guess"],
        ["--method", "histograms", "--change", "nan"],
        ["--percentile", "100"],
        ["--percentile", "nan"],
        ["--percentile", "90", "--change", "0.5"],
        ["--percentile", "90", "--method", "histograms"],
        ["--picture", "a/b", "--input", "a"],
        ["--cut", "a/b", "--input", "a"],
    ],
)
def test_flags_that_make_no_sense_are_refused(flags: list[str]) -> None:
    with pytest.raises(UsageError):
        main(["--codes", "codes", *flags])


ROW = {
    "id": "a",
    "segments": [{"start_sec": 0.0, "end_sec": 1.5, "subtask": "x"}, {"start_sec": 1.5, "end_sec": 2}],
}

OTHER = {"id": "b", "segments": [{"start_sec": 0, "end_sec": 1}]}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([ROW, {"video": "b", "annotations": [{"start": 0, "end": 1}]}]),
        json.dumps(ROW) + "\n\n" + json.dumps({"clip": "b", "subtasks": [{"start_time": 0, "end_time": 1}]}),
        json.dumps({"rows": [{"row": ROW}, {"row": OTHER}]}),
        json.dumps({"a": ROW, "b": [{"start_s": 0, "end_s": 1}]}),
        json.dumps({"clips": {"a": ROW["segments"], "b": [{"start_seconds": 0, "end_seconds": 1}]}}),
    ],
)
def test_other_annotations_are_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(text, encoding="utf-8")
    found = read_segments(tmp_path / "truth.json")
    assert found == {"a": [(0, 1.5), (1.5, 2)], "b": [(0, 1)]}
    (tmp_path / "one.json").write_text(json.dumps(ROW), encoding="utf-8")
    assert read_segments(tmp_path / "one.json") == {"a": [(0, 1.5), (1.5, 2)]}


def test_change_points_of_digits_are_where_these_become_others(tmp_path: Path) -> None:
    pytest.importorskip("ruptures")
    tokenizer = load_tokenizer("transform", device="cpu")
    codes = codes_of(tokenizer, "clip", [pan(1)] * 80, STARTS)
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(0, 2048, (2, codes.ids.shape[1]), generator=generator)
    ids = kinds[(torch.arange(len(codes)) >= 15).long()]
    codes = dataclasses.replace(codes, ids=ids)
    rows = histograms(codes, tokenizer)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1)
    digits = tokenizer.digits(kinds)
    shared = float((digits[0] == digits[1]).float().mean())
    assert np.linalg.norm(rows[14] - rows[15]) == pytest.approx(np.sqrt(2 * (1 - shared)), rel=1e-5)
    # Between the middles of the windows 14 and 15: 28 and 30 frames of 20 a second, and 7.5 more.
    found = segmented(MotionCodeSet([codes]), tokenizer, "histograms")
    assert found.segments["clip"] == [(0, pytest.approx(36.5 / 20)), (pytest.approx(36.5 / 20), 3.95)]
    # One segment leaves 15 * 18 / 33 of the distance's square.
    price = 15 * 18 / 33 * 2 * (1 - shared)
    assert len(segmented(MotionCodeSet([codes]), tokenizer, "histograms", price * 0.99).segments["clip"]) == 2
    assert len(segmented(MotionCodeSet([codes]), tokenizer, "histograms", price * 1.01).segments["clip"]) == 1
    few = dataclasses.replace(
        codes, **{name: getattr(codes, name)[:0] for name in COLUMNS if name not in OPTIONAL}
    )
    assert segmented(MotionCodeSet([few]), tokenizer, "histograms").segments == {"clip": []}
    assert segmented(MotionCodeSet([few]), tokenizer).segments == {"clip": []}


def test_a_percentile_of_all_changes_may_decide(clip: MotionCodes) -> None:
    tokenizer = load_tokenizer("transform", device="cpu")
    still = codes_of(tokenizer, "still", [pan(1)] * 79, STARTS)
    both = MotionCodeSet([clip, still])
    found = segmented(both, tokenizer, percentile=95.0)
    energies = np.concatenate([change.energy for change in found.changes.values()])
    assert found.thresholds[0] == pytest.approx(np.percentile(energies, 95))
    assert {name: len(each) for name, each in found.segments.items()} == {"clip": 2, "still": 1}
    none = {name: getattr(still, name)[:0] for name in COLUMNS if name not in OPTIONAL}
    with pytest.raises(UsageError, match="% of 0 windows change by 0 or less, which cuts nothing"):
        segmented(MotionCodeSet([dataclasses.replace(still, **none)]), tokenizer, percentile=50.0)


def test_segments_that_move_alike_are_of_one_kind(clip: MotionCodes) -> None:
    pytest.importorskip("scipy")
    tokenizer = load_tokenizer("transform", device="cpu")
    again = codes_of(tokenizer, "again", [zoom(0.03)] * 40 + [pan(1.3)] * 39, STARTS)
    found = segmented(MotionCodeSet([clip, again]), tokenizer, clusters=2)
    assert {name: len(each) for name, each in found.segments.items()} == {"clip": 2, "again": 2}
    assert found.clusters == {"clip": [0, 1], "again": [1, 0]}
    with pytest.raises(UsageError, match="--clusters is 5, and there are 4 segments"):
        segmented(MotionCodeSet([clip, again]), tokenizer, clusters=5)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch, clip: MotionCodes) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    tokenizer = load_tokenizer("transform", device="cpu")
    with pytest.raises(UsageError, match=r"needs ruptures, .* pip install 'ruptures"):
        segmented(MotionCodeSet([clip]), tokenizer, "histograms")
    with pytest.raises(UsageError, match=r"needs scipy, .* pip install 'scipy"):
        segmented(MotionCodeSet([clip]), tokenizer, clusters=2)


def test_copies_begin_at_key_frames(tmp_path: Path) -> None:
    options = {"crf": "10", "g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "2"}
    write_clip(tmp_path / "clip.mp4", numbered_frames(80, 48, 80), codec="libx264", options=options)
    (found,) = find_clips(tmp_path / "clip.mp4", Config(), model_views(tmp_path / "clip.mp4", Config()))
    segments = [Segment(0, 1.3), Segment(1.3, 2), Segment(2, 3.95)]
    paths, early = copy(found, segments, tmp_path / "out")
    numbers = []
    for path in paths:
        with open_video(path, VideoConfig(target_fps=None, size=None)) as video:
            numbers.append([read_number(frame.rgb) for frame in video])
    # Key frames are every 20 frames. 1.3 s is frame 26; of its picture group frames from 20 on are copied.
    assert early == pytest.approx(0.3)
    assert numbers[0][:26] == list(range(26))
    assert len(numbers[0]) <= 29
    assert numbers[1][:20] == list(range(20, 40))
    assert numbers[2] == list(range(40, 80))
    assert not {path.name for path in (tmp_path / "out").iterdir()} - {f"clip_00{at}.mp4" for at in range(3)}
    with pytest.raises(UsageError, match="ends before its segment 1 begins"):
        copy(found, [Segment(0, 9), Segment(9, 10)], tmp_path / "late")
    pictures = tmp_path / "pictures"
    for number, rgb in enumerate(numbered_frames(3)):
        write_png(pictures / f"frame_{number:06d}.png", rgb)
    config = Config(video=VideoConfig(fps=20))
    (found,) = find_clips(pictures, config, model_views(pictures, config))
    with pytest.raises(VideoError, match="cannot be copied"):
        copy(found, segments[:1], tmp_path / "out")


def test_videos_are_cut_without_codes_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("scipy")
    (tmp_path / "in").mkdir()
    write_moving(tmp_path / "in" / "moving.webm", SIZE, 40, fps=20)
    line = ["--input", str(tmp_path / "in"), "--picture", str(tmp_path / "out"), "--clusters", "1"]
    assert main([*line, "--checkpoint", "transform", "--json", str(tmp_path / "found.json")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("moving: 0.00-")
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["clips"]["moving"]
    assert {segment["cluster"] for segment in content} == {0}
    drawn = read_png(tmp_path / "out" / "moving.png")
    rows = -(-len(content) // 6)
    assert drawn.shape == (160 + 18 + rows * (18 + 120 + 4), 6 * 164, 3)
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["moving.webm"]
    with pytest.raises(UsageError, match="nothing to cut: give --codes, or videos as --input"):
        main([])


def test_the_picture_has_boundaries_where_they_are(tmp_path: Path) -> None:
    change = curve(0, 0.5, 1, 2, 0, 0, 0)
    write_segment_picture(tmp_path / "a.png", change, [Segment(0, 1), Segment(1, 2)], [0.8])
    drawn = read_png(tmp_path / "a.png").astype(int)
    red = (drawn[..., 0] > 180) & (drawn[..., 1] < 80)
    columns = np.flatnonzero(red[20:150].mean(axis=0) > 0.5)
    # Half of the axis, which is from 40 to 10 less than the width.
    assert columns.mean() == pytest.approx(40 + (drawn.shape[1] - 50) / 2, abs=1.5)
    blue = (drawn[..., 2] > 170) & (drawn[..., 0] < 60)
    top = np.flatnonzero(blue.any(axis=1))[0]
    assert abs(top - 8) <= 2  # the change 2 is at the panel's top


def test_rows_of_parquet_are_read_without_their_videos(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "annotations.parquet"
    pq.write_table(pa.Table.from_pylist([{**ROW, "video": b"x" * 10}, {**OTHER, "video": b"y"}]), path)
    assert read_segments(path) == {"a": [(0, 1.5), (1.5, 2)], "b": [(0, 1)]}
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match=r"annotations\.parquet: is damaged or no Parquet"):
        read_segments(path)
    with pytest.raises(UsageError, match=r"none\.parquet: cannot be read"):
        read_segments(tmp_path / "none.parquet")


def test_a_video_that_cannot_be_read_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    write_moving(tmp_path / "moving.webm", SIZE, 24, fps=20)
    assert main(["--input", str(tmp_path), "--checkpoint", "transform"]) == EXIT_SOME_FAILED
    assert "broken.mp4" in caplog.text
    assert capsys.readouterr().out.startswith("moving: 0.00-")
    (tmp_path / "moving.webm").unlink()
    with pytest.raises(UsageError, match="holds the codes of no clip"):
        main(["--input", str(tmp_path), "--checkpoint", "transform"])
