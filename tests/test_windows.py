import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplify_motion_tokenizer.config import GateConfig
from amplify_motion_tokenizer.datatypes import Frame, FrameWindow, WindowTracks
from amplify_motion_tokenizer.windows import MotionGate, iter_windows


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
    gate = MotionGate(GateConfig(enable=True))
    assert not gate.moves(window([100] * 4))
    # Each pair differs by 10/255, above both thresholds.
    assert MotionGate(GateConfig(enable=True)).moves(window([100, 110, 100, 110]))
    # One level of 255 is noise: below min_mean_difference (0.005 is 1.3 levels) and pixel_threshold.
    assert not MotionGate(GateConfig(enable=True)).moves(window([100, 101, 100, 101]))


def test_gate_keeps_a_small_fast_thing_by_its_active_share() -> None:
    still, moved = (np.full((60, 80, 3), 100, np.uint8) for _ in range(2))
    moved[:6, :60] = 110  # 7.5 % of the pixels change by 10/255; the mean is 0.0029
    moving = FrameWindow(0, 0.0, [still, moved, still])
    assert MotionGate(GateConfig(enable=True)).moves(moving)
    assert not MotionGate(GateConfig(enable=True, min_active_share=0.2)).moves(moving)


def test_gate_compares_each_pair_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = MotionGate(GateConfig(enable=True))
    calls = []
    original = gate._difference

    def counted(window: FrameWindow, index: int) -> tuple[float, float]:
        if index not in gate._pairs:
            calls.append(index)
        return original(window, index)

    monkeypatch.setattr(gate, "_difference", counted)
    for item in iter_windows(frames(12), 5, 1):
        gate.moves(item)
    assert calls == list(range(11))


def test_window_tracks_refuse_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="expected"):
        WindowTracks(0, 0.0, np.zeros((4, 5, 2), np.float32), np.zeros((4, 6), np.float32))
