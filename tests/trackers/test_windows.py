import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.trackers import gate
from amplify_motion_tokenizer.trackers.gate import MotionGate
from amplify_motion_tokenizer.trackers.windows import FrameWindow, WindowTracks, iter_windows
from amplify_motion_tokenizer.video.clips import Frame


def frames(count: int) -> list[Frame]:
    return [Frame(np.full((4, 6, 3), i, np.uint8), i / 10) for i in range(count)]


@given(count=st.integers(0, 40), length=st.integers(1, 8), stride=st.integers(1, 12))
def test_windows_start_at_every_multiple_of_the_stride_and_are_whole(
    count: int, length: int, stride: int
) -> None:
    windows = list(iter_windows(frames(count), length, stride))
    assert [window.start for window in windows] == list(range(0, max(0, count - length + 1), stride))
    for window in windows:
        assert [int(rgb[0, 0, 0]) for rgb in window.frames] == list(
            range(window.start, window.start + length)
        )
        assert window.time_s == window.start / 10


@given(parts=st.lists(st.integers(1, 12), max_size=3), length=st.integers(1, 8), stride=st.integers(1, 5))
def test_with_padding_every_frame_of_a_part_starts_a_window(
    parts: list[int], length: int, stride: int
) -> None:
    """Against a plain way: each part goes on with its last frame, and is cut into windows by itself."""
    clip, expected = [], []
    for number, count in enumerate(parts):
        first = len(clip)
        part = list(range(first, first + count))
        longer = part + [part[-1]] * (length - 1)
        expected += [longer[at : at + length] for at in range(0, count, stride)]
        clip += [dataclasses.replace(frame, part=number) for frame in frames(first + count)[first:]]
    windows = list(iter_windows(clip, length, stride, pad_end=True))
    assert [[int(rgb[0, 0, 0]) for rgb in window.frames] for window in windows] == expected
    assert [window.start for window in windows] == [indices[0] for indices in expected]
    for window, indices in zip(windows, expected, strict=True):
        real = len(set(indices))
        assert (window.padding, len(window.real_frames)) == (length - real, real)
        assert window.step_seconds == (pytest.approx(0.1) if real > 1 else None)


def test_windows_share_frames_and_are_streamed() -> None:
    made = []

    def source():  # type: ignore[no-untyped-def]
        for frame in frames(20):
            made.append(frame)
            yield frame

    windows = iter_windows(source(), 4, 1)
    first, second = next(windows), next(windows)
    assert first.frames[1] is second.frames[0]
    assert len(made) == 5


def window(values: list[int], start: int = 0, size: tuple[int, int] = (60, 80)) -> FrameWindow:
    return FrameWindow(start, 0.0, [np.full((*size, 3), value, np.uint8) for value in values])


def test_gate_drops_still_windows_and_keeps_moving_ones() -> None:
    def moves(image: np.ndarray, shift: int) -> bool:
        shifted = [np.roll(image, step * shift, axis=1) for step in range(4)]
        return MotionGate().moves(FrameWindow(0, 0.0, shifted))

    columns = np.broadcast_to((100 + 20 * (np.arange(80) // 8 % 2))[None, :, None], (60, 80, 3))
    assert moves(columns.astype(np.uint8), 2)
    assert not moves(columns.astype(np.uint8), 0)
    assert not moves(np.full((60, 80, 3), 100, np.uint8), 2), "nothing tells that it moves"


def test_gate_does_not_take_light_for_motion() -> None:
    assert not MotionGate().moves(window([100, 110, 90, 120]))
    assert not MotionGate().moves(window([0, 0, 0, 0]))


def test_gate_sees_motion_that_fades_in_from_black_and_none_in_a_lamp_at_night() -> None:
    rng = np.random.default_rng(0)
    wall = cv2.resize(rng.integers(40, 220, (12, 16, 3), np.uint8), (160, 120))
    pan = [np.roll(wall, 2 * step, axis=1) for step in range(16)]
    for dark in (1, 4, 8):
        light = np.minimum(np.arange(16) / dark, 1)
        faded = [(frame * share).astype(np.uint8) for frame, share in zip(pan, light, strict=True)]
        assert MotionGate().moves(FrameWindow(0, 0.0, faded)), dark
    night = np.zeros((120, 160, 3), np.float32)
    night[40:70, 60:100] = 200
    noisy = [np.clip(night + level, 0, 255).astype(np.uint8) for level in rng.normal(2, 0.3, 16)]
    assert not MotionGate().moves(FrameWindow(0, 0.0, noisy))


def lit(rgb: np.ndarray, lights: np.ndarray) -> FrameWindow:
    return FrameWindow(0, 0.0, [np.clip(np.rint(rgb * light), 0, 255).astype(np.uint8) for light in lights])


@pytest.mark.parametrize("size", [(240, 320), (480, 640)])
def test_gate_drops_still_scenes_whatever_their_light(size: tuple[int, int]) -> None:
    video, _ = scenes.render_clip("still", 12, size, 1)  # bright: 1.5x clips two thirds of it
    times = np.arange(16)
    for factor in (0.0, 0.5, 0.7, 1.2, 1.5, 2.0):
        step, ramp = np.where(times < 8, 1, factor), np.linspace(1, factor, 16)
        for lights in (step, ramp, 0.1 * step) if size[0] == 240 else (step,):
            assert not MotionGate().moves(lit(video[0], lights)), lights
    assert not MotionGate().moves(lit(video[0], np.where(times == 5, 3, 1))), "a flash clips most"


def test_gate_sees_motion_under_changing_and_blinding_light() -> None:
    video, _ = scenes.render_clip("articulated", 0, (240, 320), 16)
    times = np.arange(16)
    for lights in (np.where(times < 8, 1, 0.5), np.linspace(0, 1, 16), np.linspace(1, 2, 16), np.full(16, 2)):
        frames = [lit(frame, [light]).frames[0] for frame, light in zip(video, lights, strict=True)]
        assert MotionGate().moves(FrameWindow(0, 0.0, frames)), lights
    table = np.full((16, 120, 160, 3), 255, np.uint8)  # overexposed, and something dark crosses it
    for step, frame in enumerate(table):
        frame[40:80, 8 * step : 8 * step + 20] = 60
    assert MotionGate().moves(FrameWindow(0, 0.0, list(table)))


@pytest.mark.parametrize(
    ("background", "thing"),
    [
        ((128, 128, 128), (255, 0, 0)),
        ((255, 255, 255), (255, 0, 0)),
        ((150, 150, 150), (255, 90, 70)),
        ((225, 222, 215), (255, 200, 170)),  # skin before a wall
        ((0, 0, 255), (255, 0, 0)),
        ((120, 180, 255), (0, 0, 255)),
        ((255, 255, 0), (255, 255, 255)),
    ],
)
def test_gate_sees_what_is_clipped_in_one_colour(
    background: tuple[int, int, int], thing: tuple[int, int, int]
) -> None:
    frames = np.full((16, 120, 160, 3), background, np.uint8)
    for step, frame in enumerate(frames):
        frame[40:80, 5 * step : 5 * step + 30] = thing
    assert MotionGate().moves(FrameWindow(0, 0.0, list(frames)))


def test_gate_keeps_a_small_fast_thing_by_its_active_share(monkeypatch: pytest.MonkeyPatch) -> None:
    still, moved = (np.full((60, 80, 3), 100, np.uint8) for _ in range(2))
    moved[:6, :60] = 112  # 7.5 % of the pixels are 6/255 from their mean
    moving = FrameWindow(0, 0.0, [still, moved, still, moved])
    assert MotionGate().moves(moving)
    monkeypatch.setattr(gate, "PIXEL_THRESHOLD", 0.03)
    assert not MotionGate().moves(moving)
    monkeypatch.setattr(gate, "MIN_MEAN_DIFFERENCE", 0.001)
    monkeypatch.setattr(gate, "MIN_ACTIVE_SHARE", 1)
    assert MotionGate().moves(moving)


@pytest.mark.parametrize("size", [(240, 320), (480, 640)])
@pytest.mark.parametrize("kind", ["articulated", "low_texture", "still", "still_noisy"])
def test_gate_tells_faint_and_small_motion_from_noise_at_every_size(kind: str, size: tuple[int, int]) -> None:
    video, _ = scenes.render_clip(kind, 0, size, 16)
    one = MotionGate()
    assert one.moves(FrameWindow(0, 0.0, list(video))) == (not kind.startswith("still"))


def test_gate_shrinks_each_frame_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = MotionGate()
    calls = []
    shrink = cv2.resize
    monkeypatch.setattr(cv2, "resize", lambda *args, **kw: calls.append(1) or shrink(*args, **kw))
    for item in iter_windows(frames(12), 5, 1):
        one.moves(item)
    assert len(calls) == 2 * 12, "its levels, and where they are clipped"


def test_window_tracks_refuse_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="expected"):
        WindowTracks(0, 0.0, np.zeros((4, 5, 2), np.float32), np.zeros((4, 6), np.float32))


def test_gate_takes_no_padding_for_frames_of_the_next_part() -> None:
    bright, dim = (np.tile(np.uint8([[[light], [255 - light]]]), (30, 40, 3)) for light in (200, 90))
    one_gate = MotionGate()
    assert not one_gate.moves(FrameWindow(3, 0.0, [bright] * 4, padding=3))
    assert not one_gate.moves(FrameWindow(4, 0.0, [dim] * 4))
