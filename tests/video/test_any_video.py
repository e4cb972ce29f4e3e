"""Clips as people and programs write them: which pictures come out, which way up, and when."""

from __future__ import annotations

import itertools
import math
import struct
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.orientation import orientation
from amplify_motion_tokenizer.video.reading import Video, open_video
from tests.support.read_clips import numbers
from tests.support.render_clips import numbered_frames, read_number, write_clip


def opened(path: Path, target_fps: float | None = None, **values: object) -> Video:
    return open_video(path, VideoConfig(target_fps=target_fps, size=None, **values))  # type: ignore[arg-type]


def read(path: Path, target_fps: float | None = None, **values: object):  # type: ignore[no-untyped-def]
    """The clip and its frames; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with opened(path, target_fps, **values) as video:
            return video, list(video)


# ---------------------------------------------------------------- time

CONTAINERS = {
    "mp4": ("libx264", "yuv420p"), "mkv": ("libx264", "yuv420p"), "ts": ("libx264", "yuv420p"),
    "flv": ("flv", "yuv420p"), "mov": ("libx264", "yuv420p"), "webm": ("libvpx", "yuv420p"),
    "wmv": ("wmv2", "yuv420p"), "gif": ("gif", "rgb8"), "nut": ("mpeg4", "yuv420p"),
}  # fmt: skip
"""Codec and pixel format of clips in each container."""


def timed_clip(folder: Path, ending: str, times_ms: list[int]) -> Path:
    codec, pixels = CONTAINERS[ending]
    frames = numbered_frames(len(times_ms), 96, 160)
    options = {"deadline": "realtime"} if codec == "libvpx" else {}
    return write_clip(
        folder / f"clip.{ending}", frames, 30, pts=times_ms, codec=codec, pix_fmt=pixels, options=options
    )


@pytest.mark.parametrize("ending", CONTAINERS)
def test_uneven_clips_come_out_evenly_in_every_container(tmp_path: Path, ending: str) -> None:
    gaps = [40] * 20 + [100] * 15 + [40] * 10
    times = [0, *itertools.accumulate(gaps)]
    video, frames = read(timed_clip(tmp_path, ending, times), 20)
    assert video.info.fps == 20 and video.info.source_fps == pytest.approx(45 / 2.7, rel=0.01)
    end_ms = times[-1] + times[-1] / 45
    ticks = [50 * k for k in range(math.ceil(end_ms / 50 - 1e-6))]
    # A container may have rounded a time by half of its step, GIF by 5 ms.
    slack = 6 if ending == "gif" else 1
    for frame, tick in zip(frames, ticks, strict=True):
        number = read_number(frame.rgb)
        assert frame.source_frame == number and frame.time_s == pytest.approx(tick / 1000)
        assert times[number] <= tick + slack
        assert number == 45 or times[number + 1] > tick - slack


@pytest.mark.parametrize(("policy", "fps", "count"), [("keep", 10, 20), ("repeat", 20, 40)])
def test_a_slow_clip_keeps_its_rate_or_repeats_by_choice(
    tmp_path: Path, policy: str, fps: float, count: int
) -> None:
    path = write_clip(tmp_path / "slow.mp4", numbered_frames(20), 10)
    with warnings.catch_warnings(record=True) as told, opened(path, 20, below_target_fps=policy) as video:
        warnings.simplefilter("always")
        frames = list(video)
    assert (video.info.fps, len(frames)) == (fps, count)
    assert numbers(frames) == [k * 20 // count for k in range(count)]
    np.testing.assert_allclose(np.diff([frame.time_s for frame in frames]), 1 / fps, atol=1e-6)
    del told


def test_a_slow_clip_can_be_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "slow.mp4", numbered_frames(20), 10)
    with pytest.raises(VideoError, match=r"slow.mp4: has 10 fps, below video.target_fps=20; lower it, or"):
        opened(path, 20, below_target_fps="refuse")


def test_a_slow_uneven_clip_is_made_even_at_its_own_nominal_rate(tmp_path: Path) -> None:
    times = [0, *itertools.accumulate([100] * 10 + [300] * 5 + [100] * 10)]
    path = write_clip(tmp_path / "slow.mkv", numbered_frames(26), 10, pts=times)
    with pytest.warns(UserWarning, match="made even at its own rate"), opened(path, 20) as video:
        frames = list(video)
    assert video.info.fps == pytest.approx(10, abs=0.01)
    np.testing.assert_allclose(np.diff([frame.time_s for frame in frames]), 0.1, atol=1e-4)
    assert numbers(frames)[9:14] == [9, 10, 10, 10, 11]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "flv"])
@pytest.mark.parametrize(("gap_ms", "parts"), [(900, 1), (1500, 2), (600_000, 2)])
def test_a_gap_over_a_second_cuts_a_clip(tmp_path: Path, ending: str, gap_ms: int, parts: int) -> None:
    times = [40 * k for k in range(15)] + [560 + gap_ms + 40 * k for k in range(15)]
    video, frames = read(timed_clip(tmp_path, ending, times), 25)
    assert len(video.parts) == parts
    if parts == 2:
        assert numbers(frames) == list(range(30))
        assert [frame.part for frame in frames] == [0] * 15 + [1] * 15
        assert video.parts[1].source_frame == 15
        assert video.parts[1].time_s == pytest.approx((560 + gap_ms) / 1000, abs=2e-3)


def joined(folder: Path, *sizes: tuple[int, int]) -> Path:
    """Transport streams of 30 frames each, one after the other, as recorders join them: clocks start anew."""
    data = b""
    for index, (height, width) in enumerate(sizes):
        part = write_clip(
            folder / f"part{index}.ts", numbered_frames(30, height, width), 25, options={"bf": "0"}
        )
        data += part.read_bytes()
    path = folder / "joined.ts"
    path.write_bytes(data)
    return path


def test_a_clock_that_goes_back_cuts_a_clip(tmp_path: Path) -> None:
    video, frames = read(joined(tmp_path, (48, 80), (48, 80)), 25)
    assert numbers(frames) == [*range(30), *range(30)]
    assert [frame.source_frame for frame in frames] == list(range(60))
    assert [part.source_frame for part in video.parts] == [0, 30] and "goes back" in video.parts[1].cut
    np.testing.assert_allclose(np.diff([frame.time_s for frame in frames]), 0.04, atol=1e-4)


def test_another_picture_size_cuts_a_clip(tmp_path: Path) -> None:
    video, frames = read(joined(tmp_path, (48, 80), (80, 48)), 25)
    assert [part.size for part in video.parts] == [(48, 80), (80, 48)]
    assert "another size" in video.parts[1].cut
    assert numbers(frames) == [*range(30), *range(30)]
    assert [frame.rgb.shape[:2] for frame in frames] == [(48, 80)] * 30 + [(80, 48)] * 30


# ---------------------------------------------------------------- whole files


def with_sound(path: Path, frames: int, sound_s: float, codec: str = "libvpx-vp9") -> Path:
    """A clip at 30 fps, and noise beside it that is packed densely."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
        sound = container.add_stream("libopus", rate=48000, layout="mono")
        for rgb in numbered_frames(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
        for start in range(0, int(48000 * sound_s), 960):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("ending", ["webm", "mkv"])
def test_sound_that_lasts_longer_is_no_damage(tmp_path: Path, ending: str) -> None:
    video, frames = read(with_sound(tmp_path / f"long.{ending}", 30, 4))
    assert numbers(frames) == list(range(30))
    assert video.info.source_fps == pytest.approx(30, rel=0.01) and not video.frame_count.short
    assert len(video.parts) == 1


# ---------------------------------------------------------------- which picture


def with_matrix(path: Path, target: Path, matrix: tuple[float, float, float, float]) -> Path:
    """A copy of an mp4 whose display matrix is (a, b, c, d)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4
    at = start + (52 if data[start] == 1 else 40)
    a, b, c, d = (round(value * 65536) for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


ALL_EIGHT = [
    *[(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)],
    *[(0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0), (0, -1, -1, 0)],
]


def shown_at(rgb: np.ndarray, matrix: tuple[float, ...]) -> np.ndarray:
    """Each stored pixel (p, q) put at (a p + c q, b p + d q), as the file format says."""
    a, b, c, d = matrix
    height, width = rgb.shape[:2]
    q, p = np.mgrid[:height, :width]
    x, y = (a * p + c * q).astype(int), (b * p + d * q).astype(int)
    x, y = x - x.min(), y - y.min()
    out = np.zeros((y.max() + 1, x.max() + 1, 3), np.uint8)
    out[y, x] = rgb
    return out


@pytest.mark.parametrize("matrix", ALL_EIGHT)
def test_pictures_are_turned_and_mirrored_as_the_file_says(
    tmp_path: Path, matrix: tuple[float, float, float, float]
) -> None:
    plain = write_clip(tmp_path / "plain.mp4", numbered_frames(4, 48, 80, texture_seed=1), 20)
    video, frames = read(with_matrix(plain, tmp_path / "turned.mp4", matrix))
    _, upright = read(plain)
    for frame, stored in zip(frames, upright, strict=True):
        np.testing.assert_array_equal(frame.rgb, shown_at(stored.rgb, matrix))
        assert frame.rgb.flags.c_contiguous
    assert video.info.size == frames[0].rgb.shape[:2]


@pytest.mark.parametrize(("degrees", "nearest"), [(5, 0), (-4, 0), (85, 90), (184, 180)])
def test_small_angles_go_to_the_nearest_right_one_and_are_told(
    tmp_path: Path, degrees: float, nearest: int
) -> None:
    plain = write_clip(tmp_path / "plain.mp4", numbered_frames(4, 48, 80, texture_seed=1), 20)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    tilted = with_matrix(plain, tmp_path / "tilted.mp4", (cosine, sine, -sine, cosine))
    off = abs(degrees - nearest)
    match = rf"tilted.mp4: is to be turned by {off:.1f} degrees"
    with pytest.warns(UserWarning, match=match) as told, opened(tilted) as video:
        frames = list(video)
    assert len(told) == 1
    exact = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1)}[nearest]
    np.testing.assert_array_equal(frames[0].rgb, shown_at(read(plain)[1][0].rgb, exact))


def test_a_matrix_that_shows_nothing_is_none() -> None:
    assert orientation(struct.pack("=9i", *[0] * 9)) == (False, False, False, 0.0)


@pytest.mark.parametrize(("aspect", "size"), [("2/1", (48, 160)), ("1/2", (96, 80)), ("16/15", (48, 85))])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_pixels_come_out_square(tmp_path: Path, ending: str, aspect: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"wide.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for rgb in numbered_frames(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    video, frames = read(path)
    assert video.info.source_size == video.info.size == frames[0].rgb.shape[:2] == size
    assert video.info.pixel_aspect == pytest.approx(float(Fraction(aspect)), rel=0.01)
    assert numbers(frames) == [0, 1, 2, 3]


def test_a_cover_is_never_the_clip(tmp_path: Path) -> None:
    path = tmp_path / "cover.mkv"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=25)
        cover.height, cover.width, cover.pix_fmt = 300, 400, "yuvj420p"
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
        picture = np.full((300, 400, 3), 200, np.uint8)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(cover.encode(None))
        for rgb in numbered_frames(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    video, frames = read(path)
    assert video.info.size == (48, 80) and numbers(frames) == list(range(20))


def test_interlaced_clips_are_read_as_frames(tmp_path: Path) -> None:
    options = {"x264-params": "tff=1", "flags": "+ildct+ilme"}
    path = write_clip(tmp_path / "interlaced.mp4", numbered_frames(40), 25, options=options)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    assert numbers(read(path)[1]) == list(range(40))


# ---------------------------------------------------------------- colours and levels

MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593), 2: (0.299, 0.114)}
"""Numbers of ISO/IEC 23091-2 and the shares of red and blue in the luminance; 2 is not stated."""


def colour_clip(
    path: Path, rgb: tuple[int, int, int], matrix: int, full: bool, shares: tuple[float, float]
) -> Path:
    """A lossless clip of one colour, its YUV written here by the standard's formula, and the tags."""
    red, green, blue = (value / 255 for value in rgb)
    luma = shares[0] * red + (1 - sum(shares)) * green + shares[1] * blue
    chroma = (blue - luma) / (2 * (1 - shares[1])), (red - luma) / (2 * (1 - shares[0]))
    levels = [luma * 255 if full else 16 + 219 * luma]
    levels += [128 + (255 if full else 224) * value for value in chroma]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, 2 if full else 1
        for _ in range(3):
            frame = av.VideoFrame(80, 48, "yuv444p")
            for plane, level in zip(frame.planes, levels, strict=True):
                plane.update(np.full(plane.buffer_size, round(level), np.uint8).tobytes())
            frame.colorspace, frame.color_range = matrix, 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_matrix_and_range_of_the_stream_are_honoured(tmp_path: Path, matrix: int, full: bool) -> None:
    for index, rgb in enumerate([(200, 40, 90), (20, 180, 240)]):
        path = colour_clip(tmp_path / f"{index}.mp4", rgb, matrix, full, MATRICES[matrix])
        _, frames = read(path)
        assert np.abs(frames[1].rgb.astype(int) - rgb).max() <= 3


def test_a_matrix_that_cannot_be_converted_is_told(tmp_path: Path) -> None:
    path = colour_clip(tmp_path / "ictcp.mp4", (200, 40, 90), 14, False, (0.2627, 0.0593))
    with (
        pytest.warns(
            UserWarning, match=r"ictcp.mp4: has the colour matrix 14 .*h264 frames are read as BT.2020"
        ),
        opened(path) as video,
    ):
        frames = list(video)
    assert np.abs(frames[1].rgb.astype(int) - (200, 40, 90)).max() <= 3


@pytest.mark.parametrize(
    "pixels", ["gray", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "rgb24", "bgra", "yuva420p"]
)
def test_pixel_formats_give_the_same_picture(tmp_path: Path, pixels: str) -> None:
    codec = (
        "ffv1" if pixels in ("gray", "bgra", "yuva420p") else "libx264rgb" if pixels == "rgb24" else "libx264"
    )
    path = write_clip(tmp_path / "clip.mkv", numbered_frames(12, 48, 80), 20, codec=codec, pix_fmt=pixels)
    _, frames = read(path)
    assert numbers(frames) == list(range(12)) and frames[0].rgb.shape == (48, 80, 3)


def test_depths_are_scaled_by_their_own_range(tmp_path: Path) -> None:
    path = tmp_path / "depth.mkv"
    depths = np.linspace(1100, 2200, 80).round().astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=20)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "gray16le"
        for index in range(10):
            rows = np.tile(np.roll(depths, 2 * index), (48, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rows, format="gray16le")))
        container.mux(stream.encode(None))
    with pytest.warns(UserWarning, match="levels 1100 to 2200 are shown as 0 to 255"), opened(path) as video:
        frames = list(video)
    expected = np.rint((depths.astype(float) - 1100) / 1100 * 255)
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.rgb[5, :, 1], np.roll(expected, 2 * index), atol=1)


# ---------------------------------------------------------------- what is no video


def unknown_codec(folder: Path) -> Path:
    path = write_clip(folder / "zz.avi", numbered_frames(5), 20, codec="mjpeg", pix_fmt="yuvj420p")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZZZZ"))
    return path


def encrypted(folder: Path) -> Path:
    key = "00112233445566778899aabbccddeeff"
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    return write_clip(folder / "drm.mp4", numbered_frames(5), 20, container_options=options)


def text(folder: Path, content: str) -> Path:
    path = folder / "text.mp4"
    path.write_text(content)
    return path


def test_what_is_no_video_is_named_as_what_it_is(tmp_path: Path) -> None:
    lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    cases = [
        (text(tmp_path, lfs), "text.mp4: is a Git LFS pointer.*git lfs pull"),
        (text(tmp_path, "\n<!DOCTYPE html><html><body>404</body></html>"), "text.mp4: is an HTML page"),
        (unknown_codec(tmp_path), "zz.avi: its codec ZZZZ cannot be decoded by PyAV"),
        (encrypted(tmp_path), r"drm.mp4: is encrypted \(DRM\)"),
    ]
    contents = [path.read_bytes() for path, _ in cases[2:]]
    for content, (path, told) in zip([lfs.encode(), b"\n<!DOCTYPE html>", *contents], cases, strict=True):
        path.write_bytes(content)
        with pytest.raises(VideoError, match=told) as error:
            opened(path)
        assert "\n" not in str(error.value)
