"""Windows that are announced while their frames come: the same tracks, with no frame in between."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.trackers.flow.tracker import FlowTracker
from amplify_motion_tokenizer.trackers.windows import FrameWindow, iter_windows
from amplify_motion_tokenizer.video.clips import Frame

SIZE = (48, 64)
LENGTH = 6


def clip(parts: list[int]) -> list[Frame]:
    """Frames of a moving scene in parts of so many frames."""
    video, _ = scenes.render_clip("mixed", 3, SIZE, sum(parts))
    numbers = [number for number, count in enumerate(parts) for _ in range(count)]
    return [
        Frame(rgb, index / 20, index, part)
        for index, (rgb, part) in enumerate(zip(video, numbers, strict=True))
    ]


@given(
    parts=st.lists(st.integers(1, 14), max_size=3),
    length=st.integers(2, 8),
    stride=st.integers(1, 11),
    pad_end=st.booleans(),
)
def test_announcing_changes_no_whole_window(
    parts: list[int], length: int, stride: int, pad_end: bool
) -> None:
    """Against plain numbers: each frame is told of by the first window that it is in, and begins its own."""
    still, begin = np.zeros((2, 2, 3), np.uint8), 0
    frames, expected = [], []
    for part, count in enumerate(parts):
        frames += [Frame(still, (begin + index) / 20, begin + index, part) for index in range(count)]
        for last in range(count):
            first = min(start for start in range(0, last + stride + 1, stride) if start > last - length)
            starts = {start for start in (first, last) if start <= last and start % stride == 0}
            expected += [(begin + start, last - start + 1) for start in sorted(starts)]
        begin += count
    plain = list(iter_windows(frames, length, stride, pad_end))
    told = list(iter_windows(frames, length, stride, pad_end, announce=True))
    assert [(each.start, len(each.frames)) for each in told if not each.whole] == expected
    assert [(each.start, each.source_frames, each.padding) for each in told if each.whole] == [
        (each.start, each.source_frames, each.padding) for each in plain
    ]


@pytest.mark.parametrize("stride", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("pad_end", [False, True])
def test_tracks_are_equal_to_the_bit(stride: int, pad_end: bool) -> None:
    frames, queries = clip([13, 4, 9]), query_grid("row_major", 6, SIZE)
    plain, told = (
        list(
            FlowTracker(FlowConfig()).track(
                iter_windows(frames, LENGTH, stride, pad_end, announce=announce), queries
            )
        )
        for announce in (False, True)
    )
    assert len(plain) == len(told) >= 2
    for one, other in zip(plain, told, strict=True):
        assert one.start == other.start
        assert np.array_equal(one.tracks_xy_px, other.tracks_xy_px)
        assert np.array_equal(one.visibility, other.visibility)


def test_windows_that_a_gate_drops_change_no_others() -> None:
    frames, queries = clip([30]), query_grid("row_major", 6, SIZE)
    dropped = {4, 6, 8, 10, 12, 14, 20}

    def kept(announce: bool) -> Iterator[FrameWindow]:
        for window in iter_windows(frames, LENGTH, 2, announce=announce):
            if not (window.whole and window.start in dropped):
                yield window

    plain, told = (
        list(FlowTracker(FlowConfig()).track(kept(announce), queries)) for announce in (False, True)
    )
    assert [each.start for each in told] == [0, 2, 16, 18, 22, 24]
    for one, other in zip(plain, told, strict=True):
        assert one.start == other.start
        assert np.abs(one.tracks_xy_px - other.tracks_xy_px).max() < 1e-3


@pytest.mark.parametrize("stride", [1, 4, 9])
def test_a_window_comes_with_its_last_frame(stride: int) -> None:
    taken: list[int] = []

    def coming() -> Iterator[Frame]:
        for frame in clip([30]):
            taken.append(frame.source_frame)
            yield frame

    windows = iter_windows(coming(), LENGTH, stride, announce=True)
    starts = []
    for tracks in FlowTracker(FlowConfig()).track(windows, query_grid("row_major", 3, SIZE)):
        assert taken[-1] == tracks.start + LENGTH - 1
        starts.append(tracks.start)
    assert starts == list(range(0, 25, stride))


def test_an_announced_window_is_no_other_window() -> None:
    (first, *_) = iter_windows(clip([6]), LENGTH, 1, announce=True)
    assert not first.whole
    assert dataclasses.replace(first, whole=True).real_frames == first.frames
