"""The video reader on broken clips: which are refused, and what is still read of the others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from amplify_motion_tokenizer.config import Config, VideoConfig
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.clips import Frame, ViewSource
from amplify_motion_tokenizer.video.faults import check_file
from amplify_motion_tokenizer.video.images import open_images
from tests.support.read_clips import INSTALLED, READER, numbers, read
from tests.support.render_clips import (
    audio_only,
    claim_more_frames,
    cut_file,
    numbered_frames,
    read_number,
    spoil_packets,
    write_clip,
)
from tests.support.run_scripts import manifest_of


def _bad_clips(clips: Path, folder: Path) -> dict[str, tuple[Path, str]]:
    text, empty = folder / "text.mp4", folder / "empty.mp4"
    text.write_text("not a video " * 100)
    empty.write_bytes(b"")
    return {
        "text": (text, "is not a video"),
        "empty": (empty, "is empty"),
        "missing": (folder / "missing.mp4", "cannot be opened .No such file"),
        "folder": (folder, "cannot be opened .Is a directory"),
        "m4a": (audio_only(folder / "sound.m4a", "mp4"), "holds no video stream"),
        "sound.mp4": (audio_only(folder / "sound.mp4"), "holds no video stream"),
        "wav": (audio_only(folder / "wav.mp4", "wav"), "holds no video stream"),
        "mka": (audio_only(folder / "sound.mkv"), "holds no video stream"),
        "undecodable": (
            spoil_packets(clips / "25.mp4", folder / "spoilt.mp4", range(30)),
            "holds no frame that can be decoded",
        ),
        "cut mp4": (cut_file(clips / "25.mp4", folder / "cut.mp4", 0.5), "is cut short: .* bytes found"),
        "cut mp4 index": (cut_file(clips / "25.mp4", folder / "cut2.mp4", 0.98), "is cut short"),
        "cut avi": (cut_file(clips / "odd.avi", folder / "cut.avi", 0.5), "is cut short"),
        "cut mkv": (cut_file(clips / "30.mkv", folder / "cut.mkv", 0.7), "is cut short"),
        "cut webm": (cut_file(clips / "odd.webm", folder / "cut.webm", 0.9), "is cut short"),
    }


@READER
def test_bad_clips_are_named_with_the_reason_in_one_line(clips: Path, tmp_path: Path, reader: str) -> None:
    for case, (path, reason) in _bad_clips(clips, tmp_path).items():
        with pytest.raises(VideoError, match=reason) as error:
            read(path, reader)
        assert str(path) in str(error.value) and "\n" not in str(error.value), case


def test_cut_files_tell_found_and_expected_bytes(clips: Path, tmp_path: Path) -> None:
    whole = clips / "mjpeg.avi"
    cut = cut_file(whole, tmp_path / "cut.avi", 0.5)
    expected = f"{cut.stat().st_size} bytes found, {whole.stat().st_size} expected"
    with pytest.raises(VideoError, match=expected):
        check_file(cut)


@pytest.mark.parametrize(
    ("tag", "unknown"), [(b"RIFF", b"\0\0\0\0"), (b"\x18\x53\x80\x67", b"\x01" + b"\xff" * 7)]
)
def test_unknown_sizes_prove_nothing(clips: Path, tmp_path: Path, tag: bytes, unknown: bytes) -> None:
    data = bytearray((clips / ("mjpeg.avi" if tag == b"RIFF" else "30.mkv")).read_bytes())
    at = data.index(tag) + 4
    data[at : at + len(unknown)] = unknown
    path = tmp_path / "live"
    path.write_bytes(data[: len(data) // 2])
    check_file(path)


def test_mp4_with_junk_after_the_last_box_is_whole(clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "junk.mp4"
    path.write_bytes((clips / "25.mp4").read_bytes() + b"\0" * 100)
    assert len(read(path)[1]) == 30


@READER
def test_a_header_that_claims_too_many_frames_is_read_to_the_last_real_one(
    clips: Path, tmp_path: Path, reader: str
) -> None:
    path = claim_more_frames(clips / "mjpeg.avi", tmp_path / "claim.avi", 20)
    with pytest.warns(UserWarning, match="states 45 frames, but only 25 can be read") as caught:
        _, frames = read(path, reader)
    assert len(caught) == 1 and numbers(frames) == list(range(25))


@READER
@pytest.mark.parametrize("spoilt", [range(50, 60), range(20, 22), range(3)], ids=["tail", "middle", "head"])
def test_packets_that_do_not_decode_are_left_out(
    clips: Path, tmp_path: Path, reader: str, spoilt: range
) -> None:
    path = spoil_packets(clips / "b_frames.mp4", tmp_path / "spoilt.mp4", spoilt)
    with pytest.warns(UserWarning, match="states 60 frames, but only") as caught:
        info, frames = read(path, reader)
    assert len(caught) == 1 and info.source_fps == pytest.approx(25)
    # Each frame's time tells which it is: losing some in the middle does not shift the others.
    first = read_number(frames[0].rgb)
    shown = [first + round(frame.time_s * 25) for frame in frames]
    assert 50 <= len(shown) < 60 and shown == sorted(set(shown))
    intact = [k for k, number in enumerate(shown) if not 15 < number < 24]  # between two key frames
    assert [read_number(frames[k].rgb) for k in intact] == [shown[k] for k in intact] or spoilt == range(
        50, 60
    )
    assert [read_number(frame.rgb) for frame in frames[:15]] == shown[:15]


STREAMED = {
    "ts": "libx264", "flv": "libx264", "wmv": "wmv2", "nut": "mpeg4", "mpg": "mpeg2video",
    "mxf": "mpeg2video",
}  # fmt: skip
"""Codecs of clips in containers that tell only some of what is missing."""


@pytest.mark.parametrize("ending", STREAMED)
def test_what_is_left_of_a_cut_stream_is_whole_pictures(tmp_path: Path, ending: str) -> None:
    texture = numbered_frames(40, 96, 160, texture_seed=1)
    options = {"g": "10"} if STREAMED[ending] == "libx264" else {}
    whole = write_clip(tmp_path / f"whole.{ending}", texture, 25, codec=STREAMED[ending], options=options)
    wanted = [frame.rgb for frame in read(whole)[1]]
    told = 0
    for share in (0.3, 0.5, 0.6, 0.8):
        path = cut_file(whole, tmp_path / f"{share}.{ending}", share)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                frames = read(path)[1]
            except VideoError as error:
                assert "is cut short" in str(error)
                told += 1
                continue
        told += any("can be read" in str(warning.message) for warning in caught)
        assert 0 < len(frames) < 40
        for frame in frames:
            np.testing.assert_array_equal(frame.rgb, wanted[read_number(frame.rgb)])
        assert numbers(frames) == sorted(set(numbers(frames)))
    assert told
    # Of a stated duration every cut is told; of packets only one that is not whole.
    assert told >= {"flv": 4, "ts": 3, "mpg": 3}.get(ending, 1)


def test_a_gif_without_its_end_is_cut_short(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.gif", numbered_frames(20), 20, codec="gif", pix_fmt="rgb8")
    for share in (0.3, 0.7, 0.99):
        with pytest.raises(VideoError, match=r"cut.gif: is cut short: \d+ bytes found, more expected"):
            read(cut_file(whole, tmp_path / "cut.gif", share))
    whole.write_bytes(whole.read_bytes() + b"\0" * 9)
    assert len(read(whole)[1]) == 20


def test_a_damaged_webp_is_named(tmp_path: Path) -> None:
    frames = numbered_frames(9, texture_seed=1)
    path = write_clip(tmp_path / "spoilt.webp", frames, 20, codec="libwebp_anim", pix_fmt="bgra")
    whole = path.read_bytes()
    second = whole.index(b"ANMF", whole.index(b"ANMF") + 4) + 24
    for offset in range(8, 60, 6):
        data = bytearray(whole)
        data[second + offset : second + offset + 40] = b"\xff" * 40
        path.write_bytes(data)
        with pytest.raises(VideoError, match="spoilt.webp: (cannot be decoded|is not a video)"):
            open_images(ViewSource(path), VideoConfig())


def test_the_manifest_tells_which_files_ended_early(clips: Path, tmp_path: Path, tiny: Config) -> None:
    (tmp_path / "in").mkdir()
    spoil_packets(clips / "b_frames.mp4", tmp_path / "in/spoilt.mp4", range(50, 60))
    shutil.copy(clips / "25.mp4", tmp_path / "in")
    with pytest.warns(UserWarning, match="states 60 frames, but only 50 can be read"):
        assert preprocess_folder(tmp_path / "in", tmp_path / "out", tiny).done == 2
    records = manifest_of(tmp_path / "out")
    assert records["spoilt"]["frames_missing"] == {"default": {"stated": 60, "read": 50}}
    assert "frames_missing" not in records["25"]


def _numbers_and_times(frames: list[Frame]) -> list[tuple[int, float]]:
    return [(read_number(frame.rgb), round(frame.time_s, 4)) for frame in frames]


def test_both_readers_leave_out_the_same_packets(clips: Path, tmp_path: Path) -> None:
    for first in (5, 23, 41, 57):
        path = spoil_packets(clips / "b_frames.mp4", tmp_path / f"{first}.mp4", [first])
        with pytest.warns(UserWarning, match="can be read"):
            results = [
                [(read_number(f.rgb), round(f.time_s, 4)) for f in read(path, r)[1]] for r in INSTALLED
            ]
        assert all(result == results[0] for result in results)


@READER
def test_nothing_is_printed_about_broken_clips(clips: Path, tmp_path: Path, reader: str) -> None:
    """FFmpeg's, OpenCV's and decord's own complaints do not reach stderr; ours do, as warnings."""
    spoilt = spoil_packets(clips / "b_frames.mp4", tmp_path / "spoilt.mp4", range(20, 24))
    sound = audio_only(tmp_path / "sound.mp4")
    program = (
        "import logging, pathlib, sys, warnings\n"
        "from amplify_motion_tokenizer.config import VideoConfig\n"
        "from amplify_motion_tokenizer.errors import VideoError\n"
        "from amplify_motion_tokenizer.video.reading import open_video\n"
        "warnings.simplefilter('ignore')\nlogging.disable(logging.WARNING)\n"
        "for name in sys.argv[2:]:\n"
        "    try:\n"
        "        print(len(list(open_video(pathlib.Path(name), VideoConfig(reader=sys.argv[1])))))\n"
        "    except VideoError as error:\n"
        "        print(error)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV_")}
    done = subprocess.run(
        [sys.executable, "-c", program, reader, str(spoilt), str(sound)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment,
    )
    assert done.stderr == "" and len(done.stdout.splitlines()) == 2


def test_a_name_that_is_not_utf8_is_refused_before_a_decoder_sees_it(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"clip\xff.mp4")
    path.write_bytes(b"whatever it holds")
    with pytest.raises(VideoError, match="not UTF-8; rename"):
        read(path)
