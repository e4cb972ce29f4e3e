"""Codes that are written as they are made, and read at any time."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, read_codes
from amplify_motion_tokenizer.codes.files.json_file import json_of, json_pieces
from amplify_motion_tokenizer.codes.files.json_stream import CodeLines
from amplify_motion_tokenizer.errors import UsageError

META = {
    "model": "codec",
    "codebook_size": 8,
    "fsq_levels": [2, 4],
    "sequence_length": 4,
    "tracked_length": 4,
    "window_stride": 2,
}


def codes(first: int, count: int) -> MotionCodes:
    starts = torch.arange(first, first + count) * 2
    return MotionCodes(
        ids=(starts[:, None] + torch.tensor([0, 1, 2])) % 8,
        starts=starts,
        seconds=torch.stack([starts / 20, (starts + 3) / 20], dim=1).double(),
        step_seconds=torch.full((count,), 0.05, dtype=torch.float64),
        source_frames=torch.stack([starts, starts + 3], dim=1),
        valid_steps=torch.full((count,), 3),
        motion_energy=torch.tensor([torch.nan, *[0.25] * (count - 1)]),
        visible_share=torch.ones(count),
        clip="a clip",
        meta=META,
    )


def written(path: Path, ended: bool = True) -> list[dict[str, Any]]:
    with path.open("wb") as file:
        lines = CodeLines(file.write, "a clip", META)
        lines.tell({"parts": [0]})
        lines.add(codes(0, 2))
        lines.tell({"parts": [0]})
        lines.tell({"parts": [0, 7, 9]})
        lines.add(codes(2, 3))
        if ended:
            lines.tell({"parts": [0, 7, 9], "num_frames": 12, "ended": "here"})
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    lines = written(tmp_path / "live.jsonl")
    assert [line["meta"] for line in lines if "ids" not in line] == [
        META,
        {"parts": [0]},
        {"parts": [7, 9]},
        {"num_frames": 12, "ended": "here"},
    ]
    assert lines[2] == {
        "start_frame": 0, "start_seconds": 0.0, "end_seconds": pytest.approx(0.15), "step_seconds": 0.05,
        "source_frame": 0, "end_source_frame": 3, "valid_steps": 3, "motion_energy": None,
        "visible_share": 1.0, "ids": [0, 1, 2],
    }  # fmt: skip
    (found,) = read_codes(tmp_path / "live.jsonl").values()
    expected = torch.cat([codes(0, 2).ids, codes(2, 3).ids])
    assert found.clip == "a clip" and torch.equal(found.ids, expected)
    assert found.starts.tolist() == [0, 2, 4, 6, 8]
    assert found.meta == {**META, "parts": [0, 7, 9], "num_frames": 12, "ended": "here"}
    assert found.parts.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("cut", [1, 30])
def test_a_file_that_grows_is_read_as_far_as_it_is_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "live.jsonl"
    written(path, ended=False)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.warns(UserWarning, match=r"live.jsonl: has not ended; it holds 4 windows so far"):
        (found,) = read_codes(path).values()
    assert found.starts.tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"ids": [1]}', "line 4 is neither a window's nor has meta"),
        (b"[]", "line 4 is neither"),
        (b'{"ids"', "is damaged"),
    ],
)
def test_a_line_that_is_none_is_told(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "live.jsonl"
    written(path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:3], line, *lines[4:]]) + b"\n")
    with pytest.raises(UsageError, match=message):
        read_codes(path)


def test_a_file_of_no_codes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"
    path.write_text('{"clip": "x", "meta": {}}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="meta"):
        read_codes(path)


@pytest.mark.parametrize("count", [0, 1, 1024, 2500])
def test_pieces_of_a_clip_are_the_text_of_its_object(count: int) -> None:
    whole = (
        codes(0, count)
        if count
        else dataclasses.replace(
            codes(0, 1),
            **{
                name: getattr(codes(0, 1), name)[:0]
                for name in (
                    "ids",
                    "starts",
                    "seconds",
                    "step_seconds",
                    "source_frames",
                    "valid_steps",
                    "motion_energy",
                    "visible_share",
                )
            },
        )
    )
    assert "".join(json_pieces(whole)) == json.dumps(json_of(whole), allow_nan=False) + "\n"
    renamed = json.loads("".join(json_pieces(whole, {"codes": "code_sequences"})))
    assert renamed["code_sequences"] == whole.ids.tolist() and "codes" not in renamed
