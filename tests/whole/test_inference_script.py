"""inference_short_clip.py as a user runs it: codes, what is saved beside them, and odd inputs."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.codes.code_set import code_set
from amplify_motion_tokenizer.codes.reading import read_codes
from amplify_motion_tokenizer.codes.statistics import code_report
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.models.checkpoint import load_tokenizer
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.version import versions
from tests.support.render_clips import cut_file, rotate_mp4
from tests.support.render_clips import write_clip as encode_clip
from tests.support.run_scripts import (
    CLIPS,
    INFER,
    STARTS,
    Run,
    Work,
    check_failures,
    files_below,
    infer,
    preprocess,
    read_lines,
    redone,
    render,
)


@pytest.fixture
def codes(work: Work, tmp_path: Path) -> Path:
    """A copy of the codes, to change."""
    return shutil.copytree(work.codes, tmp_path / "codes")


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
    # Packages of CUDA builds leave out the "+cu124" of torch's own version.
    assert meta["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert meta["source"] == "été 1.mp4"
    assert meta["source_bytes"] == (work.videos / "été 1.mp4").stat().st_size
    expected = {
        "model": "keypoint",
        "fsq_levels": [5, 4],
        "codebook_size": 20,
        "views": ["default"],
        "per_view": False,
        "tracker": "flow",
        "sequence_length": 6,
        "tracked_length": 6,
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


def test_codes_can_be_judged(work: Work) -> None:
    overall = code_report(code_set(read_codes(work.codes)), 4)["overall"]
    assert (overall["clips"], overall["windows"], overall["pairs"]) == (4, 20, [16, 12])


def test_codes_are_those_of_the_tracks_on_disk(work: Work) -> None:
    """Three commands, one path: the tokenizer on the track files gives what inference wrote."""
    tokenizer = load_tokenizer(work.best)
    data = WindowDataset(load_clips(work.tracks, tokenizer.config), tokenizer.config)
    for number, name in enumerate(data.clips):
        ids = tokenizer.tokenize(data.batch(range(5 * number, 5 * number + 5)).inputs.velocities)
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


def test_another_checkpoint_is_refused_until_all_is_redone(run: Run, work: Work, codes: Path) -> None:
    last, before = work.run / "last.pth", files_below(codes)
    line = ["--checkpoint", last, "--input", work.videos, "--output", codes]
    error = run(INFER, *line).error
    assert f"{codes} holds the codes of another run (checkpoint best.pth (SHA-256 " in error
    assert ") -> last.pth (SHA-256 " in error
    assert "--overwrite" in error
    assert "--output" in error
    assert files_below(codes) == before
    assert "4 done (20 windows), 0 skipped" in run(INFER, *line, "--overwrite").out
    hashes = {line["meta"]["checkpoint_sha256"] for line in read_lines(codes / "codes.jsonl")}
    assert hashes == {hashlib.sha256(last.read_bytes()).hexdigest()}
    (codes / "pan.json").unlink()  # as if it had been stopped
    assert "1 done (5 windows), 3 skipped" in run(INFER, *line).out


def test_other_settings_are_refused_and_speed_is_none(run: Run, work: Work, codes: Path) -> None:
    before = files_below(codes, "*.json")
    refused = infer(run, work, codes, "--video.target_fps", 5)
    assert refused.status == 2
    assert f"error: {codes} holds the codes of another run (video.target_fps 10.0 -> 5.0)" in refused.err
    assert files_below(codes, "*.json") == before
    renamed = shutil.copy(work.best, codes.parent / "renamed.pth")
    line = ["--checkpoint", renamed, "--input", work.videos, "--output", codes]
    assert "4 skipped" in run(INFER, *line, "--inference.batch_size", 2, "--video.threads", 1).out


def test_more_extras_need_no_overwrite(run: Run, work: Work, tmp_path: Path) -> None:
    source = work.videos / "pan.mp4"
    assert "1 done" in infer(run, work, tmp_path, source=source).out
    assert "1 done" in infer(run, work, tmp_path, "--save", "latents", source=source).out
    assert "latent_tokens" in torch.load(tmp_path / "pan.pt", weights_only=True)


def test_one_file_as_input(run: Run, work: Work, tmp_path: Path) -> None:
    result = infer(run, work, tmp_path / "codes", source=work.videos / "sub/zoom.mp4")
    assert result.status == 0
    assert files_below(tmp_path / "codes").keys() == {
        "zoom.json",
        "codes.jsonl",
        "manifest.jsonl",
        "config.yaml",
        "checkpoint.yaml",
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
        assert (file.sizes[0], file.attributes["fps"], file.num_windows) == (size, fps, windows)
    inferred = infer(run, work, tmp_path / "codes", "--video.target_fps", 20, source=odd)
    assert inferred.status == 0
    for name, (size, fps, windows) in ODD.items():
        found = json.loads((tmp_path / "codes" / f"{name}.json").read_text(encoding="utf-8"))
        assert found["start_frames"] == [2 * number for number in range(windows)]
        assert found["start_seconds"] == pytest.approx([2 * number / fps for number in range(windows)])
        assert (found["meta"]["tracked_size"], found["meta"]["fps"]) == (list(size), fps)
        assert np.array(found["codes"]).shape == (windows, 3)
