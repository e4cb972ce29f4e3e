"""``infer --follow`` as a user types it: lines of JSON on standard output, or one line that says why not."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer import read_codes, scenes
from amplify_motion_tokenizer.commands import infer
from amplify_motion_tokenizer.errors import UsageError
from tests.support.render_clips import write_clip
from tests.support.run_scripts import INFER, Run, Work

SMALL = ["--tracking.window_stride", "4", "--video.size", '{"shorter": 48}']


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    video, _ = scenes.render_clip("mixed", 0, (48, 64), 30)
    return write_clip(tmp_path_factory.mktemp("live") / "yard.mkv", video, codec="ffv1")


def test_standard_output_holds_lines_of_json_and_nothing_else(run: Run, clip: Path, tmp_path: Path) -> None:
    result = run(INFER, "--follow", clip, *SMALL)
    assert result.status == 0, result.err
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert lines[0]["clip"] == "yard" and lines[0]["meta"]["model"] == "codec"
    assert [line["start_frame"] for line in lines if "ids" in line] == [0, 4, 8, 12]
    assert lines[-1]["meta"]["ended"] == "the video's end"
    output = tmp_path / "new" / "live.jsonl"
    assert run(INFER, "--follow", clip, "--output", output, *SMALL).status == 0
    assert output.read_text(encoding="utf-8") == result.out
    assert read_codes(output)["yard"].starts.tolist() == [0, 4, 8, 12]
    again = run(INFER, "--follow", clip, "--output", output, *SMALL)
    assert "is there already; give --overwrite" in again.err and again.status == 2


def test_a_reader_that_goes_away_ends_it_in_one_line(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        os.close(ours)
        with pytest.raises(UsageError, match="standard output was closed by what reads it"):
            infer.main(["--follow", str(clip), *SMALL])
        output.write("what is left over breaks nothing")


REFUSED = {
    "two sources": ("--follow {clip} --input {clip}", "--input: they are two sources"),
    "arrays": ("--follow {clip} --save latents", "--save: arrays are written of a clip that has ended"),
    "another format": ("--follow {clip} --formats parquet", "the format of codes that grow is jsonl"),
    "a folder": ("--follow {clip} --output {tmp}", "expected one that ends in .jsonl"),
    "two tokenizers": ("--follow {clip} --checkpoint codec --checkpoint transform", "there is one output"),
    "nothing there": ("--follow {tmp}/no.mkv", "found nothing there; expected a camera's number"),
    "no video": ("--follow {tmp}/text", "text: cannot be read as a video while it comes"),
    "no output": ("--input {clip}", "the following arguments are required: --output"),
    "neither": ("--output {tmp}", "the following arguments are required: --input"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_line(run: Run, clip: Path, tmp_path: Path, case: str) -> None:
    (tmp_path / "text").write_text("no video" * 900, encoding="utf-8")
    line, message = REFUSED[case]
    result = run(INFER, *line.format(clip=clip, tmp=tmp_path).split(), "--quiet")
    assert message in result.error
    assert result.out == ""


def test_tokenizers_of_one_view_follow_whatever_it_is_called(run: Run, work: Work, clip: Path) -> None:
    result = run(INFER, "--checkpoint", work.best, "--follow", clip)
    assert result.status == 0, result.err
    ids = [json.loads(line)["ids"] for line in result.out.splitlines() if '"ids"' in line]
    assert ids and {len(each) for each in ids} == {3}


@pytest.mark.parametrize("camera", ["remove", "both"])
def test_the_camera_apart_comes_with_each_window(run: Run, clip: Path, tmp_path: Path, camera: str) -> None:
    line = [*SMALL, "--camera", camera]
    assert run(INFER, "--follow", clip, "--output", tmp_path / "live.jsonl", *line).status == 0
    assert run(INFER, "--input", clip, "--output", tmp_path / "codes", *line).status == 0
    live, filed = read_codes(tmp_path / "live.jsonl")["yard"], read_codes(tmp_path / "codes")["yard"]
    assert live.camera is not None and filed.camera is not None and live.camera.shape[1:] == (1, 15, 4, 2)
    assert torch.equal(live.ids, filed.ids)
    # Beside other windows a window's tracks are the same to .001 px of 48 rows.
    torch.testing.assert_close(live.camera, filed.camera, atol=1e-3, rtol=0, equal_nan=True)
    assert (live.camera_ids is None) == (camera == "remove")
    if live.camera_ids is not None and filed.camera_ids is not None:
        assert torch.equal(live.camera_ids, filed.camera_ids)
