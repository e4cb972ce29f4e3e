"""The video reader on rendered clips: both backends, rates, sizes and rotation."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.decoders import READERS
from amplify_motion_tokenizer.video.pixels import resized_size
from amplify_motion_tokenizer.video.reading import open_video
from amplify_motion_tokenizer.video.timing import pick_by_time
from tests.support.read_clips import INSTALLED, READER, numbers, read
from tests.support.render_clips import VFR_MS, numbered_frames, read_number, write_clip

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
        info_a, by_decord = read(clips / name, "decord", shorter=40)
        info_b, by_opencv = read(clips / name, "opencv", shorter=40)
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
    with warnings.catch_warnings():
        warnings.simplefilter("error")
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
    info, frames = read(clips / name, reader, shorter=shorter)
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


# ---------------------------------------------------------------- readers as such


def test_only_decord_needs_decord(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(READERS) == {"auto", "pyav", "decord", "opencv"}
    monkeypatch.setitem(sys.modules, "decord", None)
    assert read(clips / "25.mp4", "auto")[0].reader == "pyav"
    with pytest.raises(VideoError, match=r"decord is not installed; .*--video.reader auto"):
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


# Not ru_maxrss, which Linux starts at the peak of the parent: the tests, which render clips.
_WATCH_MEMORY = """
import pathlib, sys, time
from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.video.reading import open_video
def peak_kib():
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
config = VideoConfig(reader=sys.argv[2], target_fps=None, size=None)
with open_video(pathlib.Path(sys.argv[1]), config) as video:
    for index, frame in enumerate(video):
        if index == 1:
            early = peak_kib()
        time.sleep(0.01 if index < 100 else 0)  # as tracking is slower than decoding
print(index + 1, peak_kib() - early)
"""


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = numbered_frames(400, 480, 640)  # 369 MB when decoded
    options = {"preset": "ultrafast"}
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", frames, 25, options=options)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak of memory")
def test_memory_does_not_grow_with_the_clip(long_clip: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WATCH_MEMORY, str(long_clip), "auto"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    count, grown_kib = map(int, done.stdout.split())
    assert count == 400
    assert grown_kib < 20_000


@READER
def test_a_variable_rate_whose_average_is_the_target_is_picked_by_time(tmp_path: Path, reader: str) -> None:
    # 20 frames at 40 fps, then 10 at 40/3 fps.
    pts = [25 * i for i in range(20)] + [500 + 75 * i for i in range(10)]
    frames = numbered_frames(30)
    path = write_clip(tmp_path / "uneven.mkv", frames, pts=pts)
    average = 29 / (pts[-1] / 1000)
    info, found = read(path, reader, target_fps=average)
    times_s = [frame.time_s for frame in found]
    np.testing.assert_allclose(np.diff(times_s), 1 / average, atol=1e-6)
    shown = [max(i for i, ms in enumerate(pts) if ms / 1000 <= time_s + 1e-3) for time_s in times_s]
    assert numbers(found) == shown
    assert info.fps == pytest.approx(average)
