"""The video reader on rendered clips: both backends, rates, sizes, rotation and broken files."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from render_clips import (
    audio_only,
    claim_more_frames,
    cut_file,
    numbered_frames,
    read_number,
    rotate_mp4,
    spoil_packets,
    write_clip,
)

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.containers import check_container
from amplify_motion_tokenizer.datatypes import ClipInfo, Frame
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video import READERS, VIDEO_EXTENSIONS, open_video, pick_by_time, resized_size

try:
    import decord  # noqa: F401
except ImportError:
    INSTALLED = ["opencv"]
else:
    INSTALLED = ["decord", "opencv"]

READER = pytest.mark.parametrize("reader", INSTALLED)
VFR_MS = [0, 20, 40, 60, 80, 280, 480, 680, 700, 720, 740, 790, 840, 890, 940, 990, 1000, 1010, 1020, 1030]
VFR_MS += [1030 + 10 * step for step in range(1, 21)]


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small clips, named after what is odd about them."""
    folder = tmp_path_factory.mktemp("clips")
    for fps in (10, 20, 25, 30, 60):
        write_clip(folder / f"{fps}.mp4", numbered_frames(30, texture_seed=fps), fps)
    write_clip(folder / "30.mkv", numbered_frames(30), 30)
    write_clip(folder / "vfr.mp4", numbered_frames(40), 25, pts=VFR_MS)
    write_clip(folder / "vfr.mkv", numbered_frames(40), 25, pts=VFR_MS)
    textured = list(numbered_frames(25, 61, 47, texture_seed=1))
    write_clip(folder / "odd.webm", textured, 25, codec="libvpx-vp9", options={"deadline": "realtime"})
    write_clip(folder / "odd.avi", textured, 25, codec="mpeg4")
    write_clip(folder / "mpeg4.mp4", numbered_frames(30, texture_seed=4), 25, codec="mpeg4")
    write_clip(folder / "ten_bit.mp4", numbered_frames(10, texture_seed=2), 25, pix_fmt="yuv420p10le")
    write_clip(folder / "bt709.mp4", numbered_frames(10, texture_seed=3), 25, colorspace=1)
    write_clip(folder / "no_timestamps.avi", numbered_frames(25), 25, codec="mpeg4", options={"bf": "2"})
    write_clip(folder / "mjpeg.avi", numbered_frames(25), 25, codec="mjpeg", pix_fmt="yuvj420p")
    write_clip(folder / "stream.ts", numbered_frames(60), 25, options={"g": "20"})
    write_clip(folder / "stream.mpg", numbered_frames(25), 25, codec="mpeg2video")
    write_clip(folder / "b_frames.mp4", numbered_frames(60), 25, options={"bf": "3", "g": "12"})
    write_clip(folder / "one.mp4", numbered_frames(1), 10)
    for degrees in (90, 180, 270):
        rotate_mp4(folder / "25.mp4", folder / f"turned{degrees}.mp4", degrees)
    _trim_by_edit_list(folder / "b_frames.mp4", folder / "trimmed.mp4", skip_frames=10)
    return folder


def _trim_by_edit_list(source: Path, target: Path, skip_frames: int) -> None:
    """Shows a 25 fps MP4 only from ``skip_frames`` on, as phones do: the packets stay in the file."""
    data = bytearray(source.read_bytes())
    media_time_at = data.index(b"elst") + 16
    start = int.from_bytes(data[media_time_at : media_time_at + 4], "big")
    data[media_time_at : media_time_at + 4] = (start + skip_frames * 512).to_bytes(4, "big")
    target.write_bytes(data)


def read(
    path: Path, reader: str = "auto", target_fps: float | None = None, resize_shorter: int | None = None
) -> tuple[ClipInfo, list[Frame]]:
    config = VideoConfig(reader=reader, target_fps=target_fps, resize_shorter=resize_shorter)
    with open_video(path, config) as video:
        return video.info, list(video)


def numbers(frames: list[Frame]) -> list[int]:
    return [read_number(frame.rgb) for frame in frames]


# ---------------------------------------------------------------- choosing frames by time


def test_25_to_20_fps_keeps_the_frame_on_screen() -> None:
    picked = list(pick_by_time(((i / 25, i) for i in range(15)), 20, 1))
    assert [item for _, item in picked] == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13]
    assert [time_s for time_s, _ in picked] == [k / 20 for k in range(12)]


def test_a_frame_on_screen_for_long_is_repeated_and_a_short_one_dropped() -> None:
    times = [0.0, 0.35, 0.36, 0.41]
    assert [item for _, item in pick_by_time(zip(times, "abcd", strict=True), 10, 1)] == list("aaaacd")


def test_a_single_frame_is_on_screen_for_one_interval() -> None:
    assert [item for _, item in pick_by_time([(0.0, "a")], 20, 1 / 10)] == ["a", "a"]
    assert list(pick_by_time([], 20, 1)) == []


# source * target < 1000 keeps every tick further from a frame than TIME_TOLERANCE_S, unless they coincide.
@given(count=st.integers(2, 300), source=st.integers(2, 66), target=st.integers(1, 15))
def test_even_times_give_one_item_per_tick_within_the_clip(count: int, source: int, target: int) -> None:
    picked = [item for _, item in pick_by_time(((i / source, i) for i in range(count)), target, 1)]
    assert len(picked) == -(-count * target // source)  # ticks before count / source
    assert picked == [k * source // target for k in range(len(picked))]


@given(count=st.integers(2, 300), fps=st.sampled_from([12, 24, 24000 / 1001, 25, 30000 / 1001, 30, 50, 60]))
def test_times_rounded_to_milliseconds_keep_every_frame_once_at_the_same_rate(count: int, fps: float) -> None:
    picked = pick_by_time(((round(i / fps, 3), i) for i in range(count)), fps, 1 / fps)
    assert [item for _, item in picked] == list(range(count))


@given(gaps=st.lists(st.floats(0.002, 3), min_size=1, max_size=60), fps=st.floats(1, 60))
def test_uneven_times_are_picked_in_order_at_the_right_moment(gaps: list[float], fps: float) -> None:
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    picked = list(pick_by_time(((time, i) for i, time in enumerate(times)), fps, 1))
    for k, (tick, item) in enumerate(picked):
        assert tick == pytest.approx(k / fps)
        assert times[item] <= tick + 0.0011
        assert item + 1 == len(times) or tick < times[item + 1] - 0.0009
    end = times[-1] + times[-1] / len(gaps)
    assert picked[-1][0] < end <= picked[-1][0] + 1 / fps + 0.0011


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), shorter=st.integers(1, 1000))
@settings(max_examples=50)
def test_resized_size_keeps_the_aspect(height: int, width: int, shorter: int) -> None:
    new = resized_size((height, width), shorter)
    scale = shorter / min(height, width)
    assert min(new) == shorter
    assert abs(new[0] - height * scale) <= 0.5 + 1e-6 and abs(new[1] - width * scale) <= 0.5 + 1e-6
    assert resized_size((height, width), None) == (height, width)


# ---------------------------------------------------------------- rates, on real files


@READER
@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("25.mp4", 20, [4 * (k // 4) + k // 4 + k % 4 for k in range(24)]),
        ("30.mp4", 10, list(range(0, 30, 3))),
        ("60.mp4", 20, list(range(0, 30, 3))),
        ("30.mkv", 30, list(range(30))),
        ("30.mkv", 15, list(range(0, 30, 2))),
        ("20.mp4", 20, list(range(30))),
        ("b_frames.mp4", 25, list(range(60))),
    ],
)
def test_resampling_keeps_time(
    clips: Path, reader: str, name: str, target: float, expected: list[int]
) -> None:
    info, frames = read(clips / name, reader, target)
    assert numbers(frames) == expected
    assert info.reader == reader and info.fps == target
    assert info.source_fps == pytest.approx(float(name.split(".")[0]) if name[0].isdigit() else 25)
    assert [f.time_s for f in frames] == pytest.approx([k / target for k in range(len(frames))], abs=6e-4)


@READER
@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv"])
def test_variable_rate_follows_the_timestamps(clips: Path, reader: str, name: str) -> None:
    info, frames = read(clips / name, reader, 20)
    shown = [sum(ms <= 50 * k + 1 for ms in VFR_MS) - 1 for k in range(26)]
    assert shown[:10] == [0, 2, 4, 4, 4, 4, 5, 5, 5, 5]
    assert numbers(frames) == shown
    assert info.source_fps == pytest.approx(39 / 1.23) and info.fps == 20
    _, every = read(clips / name, reader, None)
    assert numbers(every) == list(range(40))
    assert [frame.time_s for frame in every] == pytest.approx([ms / 1000 for ms in VFR_MS], abs=6e-4)


@READER
@pytest.mark.parametrize("name", ["10.mp4", "one.mp4"])
def test_a_target_above_the_source_warns_and_keeps_every_frame_once(
    clips: Path, reader: str, name: str
) -> None:
    with pytest.warns(UserWarning, match=r"has 10 fps, below video.target_fps=20") as caught:
        info, frames = read(clips / name, reader, 20)
    assert len(caught) == 1
    assert info.fps == info.source_fps == 10
    assert numbers(frames) == list(range(len(frames))) and len(frames) == (30 if name == "10.mp4" else 1)
    assert [frame.time_s for frame in frames] == pytest.approx([k / 10 for k in range(len(frames))])


# ---------------------------------------------------------------- pixels, sizes, rotation


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("25.mp4", 30), ("mpeg4.mp4", 30), ("b_frames.mp4", 60), ("vfr.mkv", 40), ("odd.webm", 25),
        ("odd.avi", 25), ("ten_bit.mp4", 10), ("bt709.mp4", 10), ("no_timestamps.avi", 25), ("stream.ts", 60),
        ("stream.mpg", 25), ("turned90.mp4", 30), ("turned180.mp4", 30), ("turned270.mp4", 30),
    ],
)  # fmt: skip
@pytest.mark.skipif(len(INSTALLED) == 1, reason="decord is not installed")
def test_both_readers_give_the_same_frames(clips: Path, name: str, count: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info_a, by_decord = read(clips / name, "decord", resize_shorter=40)
        info_b, by_opencv = read(clips / name, "opencv", resize_shorter=40)
    assert len(by_decord) == len(by_opencv) == count
    assert (info_a.source_fps, info_a.fps, info_a.size) == (info_b.source_fps, info_b.fps, info_b.size)
    for a, b in zip(by_decord, by_opencv, strict=True):
        assert a.time_s == pytest.approx(b.time_s, abs=1e-5)
        # Measured: 0, but up to 2 for MPEG-4 (mean 1e-4); the room is for other builds of FFmpeg.
        difference = np.abs(a.rgb.astype(int) - b.rgb)
        assert difference.max() <= 8 and difference.mean() <= 1


@READER
@pytest.mark.parametrize("name", ["stream.ts", "stream.mpg", "no_timestamps.avi"])
def test_clips_without_sound_timestamps_are_in_order(clips: Path, reader: str, name: str) -> None:
    _, frames = read(clips / name, reader)
    assert numbers(frames) == list(range(len(frames))) and len(frames) >= 25
    assert [frame.time_s for frame in frames] == pytest.approx([k / 25 for k in range(len(frames))], abs=1e-5)


@READER
def test_frames_hidden_by_an_edit_list_are_not_shown(clips: Path, reader: str) -> None:
    with pytest.warns(UserWarning, match="states 60 frames, but only 50"):
        _, frames = read(clips / "trimmed.mp4", reader)
    assert numbers(frames) == list(range(10, 60))
    assert [frame.time_s for frame in frames] == pytest.approx([k / 25 for k in range(50)], abs=1e-5)


@READER
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied_once(clips: Path, reader: str, degrees: int) -> None:
    info, frames = read(clips / f"turned{degrees}.mp4", reader)
    assert info.reader == reader  # decord pads frames 48 wide, which must not send it to OpenCV
    turned = (80, 48) if degrees != 180 else (48, 80)
    assert info.source_size == info.size == turned and frames[0].rgb.shape == (*turned, 3)
    assert [read_number(frame.rgb, quarter_turns=-degrees // 90) for frame in frames] == list(range(30))


@READER
@pytest.mark.parametrize(
    ("name", "shorter", "size"),
    [
        ("odd.avi", 94, (122, 94)),
        ("odd.avi", 31, (40, 31)),
        ("odd.avi", 47, (61, 47)),
        ("25.mp4", None, (48, 80)),
        ("25.mp4", 33, (33, 55)),
        ("turned90.mp4", 24, (40, 24)),
    ],
)
def test_frames_have_the_stated_size(
    clips: Path, reader: str, name: str, shorter: int | None, size: tuple[int, int]
) -> None:
    info, frames = read(clips / name, reader, resize_shorter=shorter)
    assert info.size == size
    for frame in frames:
        assert frame.rgb.shape == (*size, 3) and frame.rgb.dtype == np.uint8
        assert frame.rgb.flags.c_contiguous


@READER
def test_colours_are_rgb(tmp_path: Path, reader: str) -> None:
    red = np.zeros((64, 96, 3), np.uint8)
    red[..., 0] = 250
    _, frames = read(write_clip(tmp_path / "red.mp4", [red] * 3), reader)
    assert np.abs(frames[1].rgb.mean((0, 1)) - [250, 0, 0]).max() < 5


# ---------------------------------------------------------------- broken clips


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
        check_container(cut)


@pytest.mark.parametrize(
    ("tag", "unknown"), [(b"RIFF", b"\0\0\0\0"), (b"\x18\x53\x80\x67", b"\x01" + b"\xff" * 7)]
)
def test_unknown_sizes_prove_nothing(clips: Path, tmp_path: Path, tag: bytes, unknown: bytes) -> None:
    data = bytearray((clips / ("mjpeg.avi" if tag == b"RIFF" else "30.mkv")).read_bytes())
    at = data.index(tag) + 4
    data[at : at + len(unknown)] = unknown
    path = tmp_path / "live"
    path.write_bytes(data[: len(data) // 2])
    check_container(path)


def test_mp4_with_junk_after_the_last_box_is_whole(clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "junk.mp4"
    path.write_bytes((clips / "25.mp4").read_bytes() + b"\0" * 100)
    assert check_container(path) == "mp4" and len(read(path)[1]) == 30


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


# ---------------------------------------------------------------- readers as such


def test_auto_takes_decord_where_it_is_installed(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(clips / "25.mp4", "auto")[0].reader == INSTALLED[0]
    assert set(READERS) == {"decord", "opencv"} and ".mp4" in VIDEO_EXTENSIONS
    real_import = builtins.__import__

    def without_decord(name: str, *args: object, **kwargs: object) -> object:
        if name == "decord":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_decord)
    assert read(clips / "25.mp4", "auto")[0].reader == "opencv"
    with pytest.raises(VideoError, match=r"decord is not installed; .*--video.reader opencv"):
        read(clips / "25.mp4", "decord")


@READER
def test_closing_early_ends_the_clip_without_a_warning(clips: Path, reader: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        video = open_video(clips / "25.mp4", VideoConfig(reader=reader, target_fps=None))
        next(iter(video))
        video.close()
        video.close()
        assert list(video) == []


_WATCH_MEMORY = """
import pathlib, resource, sys
from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.video import open_video
config = VideoConfig(reader=sys.argv[2], target_fps=None, resize_shorter=None)
with open_video(pathlib.Path(sys.argv[1]), config) as video:
    for index, frame in enumerate(video):
        if index == 30:
            early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(index + 1, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early)
"""


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = numbered_frames(400, 480, 640)  # 369 MB when decoded
    options = {"preset": "ultrafast"}
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", frames, 25, options=options)


@READER
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_does_not_grow_with_the_clip(long_clip: Path, reader: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WATCH_MEMORY, str(long_clip), reader],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    count, grown_kib = map(int, done.stdout.split())
    assert count == 400
    assert grown_kib < 50_000


@READER
def test_nothing_is_printed_about_broken_clips(clips: Path, tmp_path: Path, reader: str) -> None:
    """FFmpeg's, OpenCV's and decord's own complaints do not reach stderr; ours do, as warnings."""
    spoilt = spoil_packets(clips / "b_frames.mp4", tmp_path / "spoilt.mp4", range(20, 24))
    sound = audio_only(tmp_path / "sound.mp4")
    program = (
        "import logging, pathlib, sys, warnings\n"
        "from amplify_motion_tokenizer.config import VideoConfig\n"
        "from amplify_motion_tokenizer.errors import VideoError\n"
        "from amplify_motion_tokenizer.video import open_video\n"
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
