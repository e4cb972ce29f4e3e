"""Times that are rounded, that pictures share, or that stand still."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.timing import TIME_TOLERANCE_S
from tests.support.read_clips import INSTALLED, numbers, read
from tests.support.render_clips import numbered_frames, write_clip

NTSC = {
    name: Fraction(rate, 1001) for name, rate in {"23.976": 24000, "29.97": 30000, "59.94": 60000}.items()
}
RATES = [*map(float, NTSC.values()), 5, 10, 12, 15, 20, 24, 25, 30, 50, 60]
MATROSKA, MPEG = 1 / 1000, 1 / 90_000
"""Steps that timestamps are rounded to."""

BOTH = pytest.mark.skipif(len(INSTALLED) == 1, reason="decord is not installed")


def picked(path: Path, target_fps: float) -> list[int]:
    """The numbers of the frames that both readers give."""
    (info, by_decord), (_, by_opencv) = (read(path, reader, target_fps) for reader in ("decord", "opencv"))
    assert info.reader == "decord"
    assert [frame.time_s for frame in by_decord] == [frame.time_s for frame in by_opencv]
    assert numbers(by_decord) == numbers(by_opencv)
    return numbers(by_opencv)


def on_screen(times_ms: list[Fraction], tick_ms: Fraction) -> int:
    """The last frame that begins at most a millisecond after the tick."""
    return max(index for index, time_ms in enumerate(times_ms) if time_ms <= tick_ms + 1)


@BOTH
@pytest.mark.parametrize(
    ("rate", "name", "step_ms"),
    [
        ("29.97", "29.97.mkv", 1),
        ("59.94", "59.94.mkv", 1),
        ("23.976", "23.976.mkv", 1),
        ("23.976", "23.976.mp4", None),
        ("29.97", "29.97.mp4", None),
    ],
)
@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2"}], ids=["", "b-frames"])
def test_both_readers_pick_the_same_of_television_rates(
    tmp_path: Path, rate: str, name: str, step_ms: int | None, options: dict[str, str]
) -> None:
    frames = numbered_frames(600)
    path = write_clip(tmp_path / name, frames, NTSC[rate], options={"preset": "ultrafast"} | options)
    exact = [1000 * index / NTSC[rate] for index in range(600)]
    times = [Fraction(round(time)) if step_ms else time for time in exact]
    found = picked(path, 20)
    assert found == [on_screen(times, Fraction(50 * k)) for k in range(len(found))]
    assert len(found) == -(-600 * 20 // NTSC[rate])


@BOTH
@pytest.mark.parametrize("start_ms", [0, 123])
def test_both_readers_pick_the_same_after_two_hours(tmp_path: Path, start_ms: int) -> None:
    # Each second frame is 1 ms after its tick; float32 is off by half of that.
    pts = [start_ms + 10_000 * k + (k % 2 == 0 and k > 0) for k in range(720)]
    path = write_clip(tmp_path / "long.mkv", numbered_frames(720), pts=pts, options={"preset": "ultrafast"})
    assert picked(path, 1 / 20) == list(range(0, 720, 2))


@pytest.mark.parametrize("step_s", [None, MATROSKA, MPEG], ids=["exact", "matroska", "mpeg"])
@pytest.mark.parametrize("source", RATES, ids="{:.5g}".format)
def test_rounding_errors_do_not_choose_the_frame(source: float, step_s: float | None) -> None:
    # Distances repeat after 1001 s at most.
    times = np.arange(1001 * source + 1) / source
    times = times if step_s is None else np.round(times / step_s) * step_s
    for target in RATES:
        limits = times - TIME_TOLERANCE_S
        ticks = np.round(limits * target) / target
        assert np.abs(ticks - limits).min() > 3e-7


def retimed(source: Path, target: Path, times_ms: list[int]) -> Path:
    """The packets of a clip whose every frame is a key frame, with other times."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        packets = (packet for packet in container.demux(video=0) if packet.size)
        for packet, time in zip(packets, times_ms, strict=True):
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = time
            out.mux(packet)
    return target


def test_pictures_that_share_times_are_spread_between_them(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "plain.mkv", numbered_frames(40), 25, codec="mjpeg", pix_fmt="yuvj420p")
    info, frames = read(retimed(plain, tmp_path / "pairs.mkv", [k // 2 * 80 for k in range(40)]))
    assert info.source_fps == pytest.approx(25) and {frame.part for frame in frames} == {0}
    assert numbers(frames) == list(range(40))
    np.testing.assert_allclose(np.diff([frame.time_s for frame in frames]), 0.04, atol=1e-6)


def test_a_clock_that_stands_still_is_refused(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "plain.mkv", numbered_frames(9), 25, codec="mjpeg", pix_fmt="yuvj420p")
    with pytest.raises(VideoError, match="stopped.mkv: states no frame rate; convert it"):
        read(retimed(plain, tmp_path / "stopped.mkv", [0] * 9))
