"""The evaluate command's statistics of codes: usage, and how alike overlapping windows are written."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amplify_motion_tokenizer.codes.code_set import ClipCodes, CodeSet, code_set
from amplify_motion_tokenizer.codes.reading import read_codes
from amplify_motion_tokenizer.codes.statistics import code_report, code_summary
from amplify_motion_tokenizer.commands.evaluate import main
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.evaluation.tables import code_table

T = 6
"""Frames of a window, so 5 steps."""


def step_codes(starts: list[int], seed: int = 0, views: int = 1, size: int = 50) -> list[list[int]]:
    """Windows that write each step of a clip with one id of its own, whatever window it is in."""
    of_step = np.random.default_rng(seed).integers(0, size, (views, 200))
    return [of_step[:, start : start + T - 1].ravel().tolist() for start in starts]


def write_codes(folder: Path, clips: dict[str, tuple[list[int], list[list[int]]]], **meta: Any) -> Path:
    common = {
        "model": "amplify",
        "codebook_size": 50,
        "window_stride": 2,
        "sequence_length": T,
        "tracked_length": T,
    }
    lines = [
        {"clip": name, "codes": codes, "start_frames": starts, "meta": {**common, **meta}}
        for name, (starts, codes) in clips.items()
    ]
    (folder / "codes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize("views", [1, 2])
def test_tokens_of_one_step_are_found_in_overlapping_windows(tmp_path: Path, views: int) -> None:
    starts = list(range(0, 80, 2))
    clips = {name: (starts, step_codes(starts, seed, views)) for seed, name in enumerate("ab")}
    found = code_report(code_set(read_codes(str(write_codes(tmp_path, clips)))), 4)
    # Three strides are six frames, and windows have no more.
    assert found["lags"] == [1, 2]
    overall = found["overall"]
    assert overall["same_step"] == [1.0, 1.0]
    assert overall["pairs"] == [2 * 39, 2 * 38]
    for name in ("same_position", "chance_position", "chance_step"):
        assert overall[name] == pytest.approx([1 / 50] * 2, abs=0.03), name
    assert (overall["clips"], overall["windows"], found["kinds"]) == (2, 80, {})
    assert overall["unique_codes"] == len(
        {code for _, codes in clips.values() for row in codes for code in row}
    )


def test_equal_windows_are_alike_at_every_position(tmp_path: Path) -> None:
    clips = {name: ([0, 2, 4], [[code] * 3] * 3) for code, name in enumerate("abcd")}
    overall = code_report(code_set(read_codes(write_codes(tmp_path, clips, model="keypoint"))), 1)["overall"]
    assert overall["same_position"] == [1.0] and "same_step" not in overall
    # 2 of the 11 other windows are of the same clip.
    assert overall["chance_position"] == [pytest.approx(2 / 11)]
    assert (overall["unique_codes"], overall["perplexity"]) == (4, pytest.approx(4))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), windows=st.integers(2, 7), lag=st.integers(1, 2))
def test_chance_is_the_mean_over_all_pairs_of_windows(seed: int, windows: int, lag: int) -> None:
    ids = np.random.default_rng(seed).integers(0, 3, (windows, 2, 5))
    clip = ClipCodes("a", 2 * np.arange(windows), ids, np.full(windows, T - 1))
    codes = CodeSet([clip], 3, stride=2, length=T, num_steps=T - 1, token_frames=1.0)
    found = code_summary(codes, 2)
    pairs = list(itertools.permutations(ids, 2))
    at_position = np.mean([a == b for a, b in pairs])
    at_step = np.mean([a[:, 2 * lag :] == b[:, : 5 - 2 * lag] for a, b in pairs])
    assert found["chance_position"][0] == pytest.approx(at_position)
    assert found["chance_step"][lag - 1] == pytest.approx(at_step)
    if lag < windows:
        neighbours = [ids[i][:, 2 * lag :] == ids[i + lag][:, : 5 - 2 * lag] for i in range(windows - lag)]
        assert found["same_step"][lag - 1] == pytest.approx(np.mean(neighbours))


def test_dropped_windows_are_no_neighbours(tmp_path: Path) -> None:
    starts = [0, 2, 6, 8, 14]
    overall = code_report(
        code_set(read_codes(write_codes(tmp_path, {"a": (starts, step_codes(starts))}))), 2
    )["overall"]
    assert overall["pairs"] == [2, 1]
    assert overall["same_step"] == [1.0, 1.0]


def test_steps_between_frames_have_no_like(tmp_path: Path) -> None:
    # Windows of 16 frames as 6: a token is 3 frames, so every third neighbour shares steps.
    starts = list(range(0, 20, 2))
    written = write_codes(tmp_path, {"a": (starts, step_codes(starts))}, tracked_length=16)
    codes = code_set(read_codes(written))
    assert codes.lags(99) == [1, 2, 3, 4, 5, 6, 7]
    assert [codes.shift(lag) for lag in codes.lags(99)] == [None, None, 2, None, None, 4, None]
    found = code_report(codes, 3)["overall"]
    for name in ("same_step", "chance_step"):
        assert np.isnan(found[name]).tolist() == [True, True, False]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    starts = list(range(0, 20, 2))
    clips = {
        name: (starts, step_codes(starts, seed))
        for seed, name in enumerate(("000_pan", "sub/001_still_noisy", "002_pan", "holiday"))
    }
    write_codes(tmp_path, {**clips, "empty": ([], [])})
    out = tmp_path / "report.json"
    assert main(["codes", "--codes", str(tmp_path), "--lags", "3", "--json", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "kind" and lines[0].endswith("lag 1  lag 2")
    assert [line.split()[0] for line in lines[1::4]] == ["pan", "still_noisy", "overall"]
    content = json.loads(out.read_text())
    assert content["overall"]["clips"] == 4 and content["kinds"]["pan"]["windows"] == 20
    assert f"{content['overall']['same_position'][0]:.3f}" in lines[-4]
    assert lines[-2].split() == ["step", "1.000", "1.000"]
    assert code_table(content).splitlines() == lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"codes\.jsonl: cannot be read \(No such file"),
        ("{not json\n", "is damaged or of another version"),
        (
            '{"clip": "a", "codes": [[1]], "start_frames": [0], "meta": {}}\n',
            "another version .*run inference",
        ),
        ("", "holds no windows"),
    ],
)
def test_bad_code_files_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "codes.jsonl").write_text(text)
    with pytest.raises(UsageError, match=message):
        code_set(read_codes(tmp_path))


def test_codes_of_another_format_version_are_refused(tmp_path: Path) -> None:
    ids = {"a": ([0], [[0, 1, 1, 2, 3]])}
    assert len(read_codes(write_codes(tmp_path, ids, format_version=1))) == 1
    with pytest.raises(UsageError, match=r"line 1\): format version 2, expected 1; run inference again"):
        read_codes(write_codes(tmp_path, ids, format_version=2))


def test_ids_that_are_no_codes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ids of a are 0 to 50"):
        read_codes(write_codes(tmp_path, {"a": ([0], [[0, 50, 1, 2, 3]])}))
    with pytest.raises(UsageError, match="--lags is 0; expected at least 1"):
        main(["codes", "--codes", str(tmp_path), "--lags", "0"])
