"""Cuts within a window: points are hidden from there on, and nothing else is taken for a cut."""

import cv2
import numpy as np
import pytest

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.trackers.flow import FlowTracker
from amplify_motion_tokenizer.trackers.flow import tracker as flow_tracker
from amplify_motion_tokenizer.trackers.flow.cuts import LEAST_POINTS, find_cut, hide_after_cut
from tests.support.tracked import windows_of

SIZE = (240, 320)
GRID = query_grid("row_major", 16, SIZE)


def track(video, stride=16):
    """Tracks (S, T, N, 2) of the windows of ``video``, and which points are said to be seen (S, T, N)."""
    queries = query_grid("row_major", 16, video.shape[1:3])
    windows = list(FlowTracker(FlowConfig(), threads=2).track(windows_of(video, stride), queries))
    seen = np.stack([window.visibility >= 0.5 for window in windows])
    return np.stack([window.tracks_xy_px for window in windows]), seen


@pytest.fixture
def uncut(monkeypatch):
    """The windows before their cuts were looked for, and whether one was found."""
    found = []

    def hide(window, size):
        hidden = hide_after_cut(window, size)
        found.append((window, hidden is not window))
        return hidden

    monkeypatch.setattr(flow_tracker, "hide_after_cut", hide)
    return found


def shots(kinds, size=SIZE, cut=16, frames=32):
    """A clip of one kind that is cut to another at frame ``cut``."""
    one, other = (
        scenes.render_clip(kind, seed, size, length)[0]
        for seed, (kind, length) in enumerate(zip(kinds, (cut, frames - cut), strict=True))
    )
    return np.concatenate([one, other])


@pytest.mark.parametrize("size", [(120, 160), SIZE])
@pytest.mark.parametrize("kinds", [("mixed", "handheld"), ("still_noisy", "pan"), ("movers", "lighting")])
def test_points_are_hidden_from_a_cut_on_and_stay(uncut, kinds, size):
    xy, seen = track(shots(kinds, size), stride=4)
    assert [cut for _, cut in uncut] == [False, True, True, True, False], "shots are whole windows"
    for index, cut in ((1, 12), (2, 8), (3, 4)):
        assert seen[index, :cut].mean() > 0.8 and not seen[index, cut:].any()
        assert (xy[index, cut:] == xy[index, cut - 1]).all()
        before = uncut[index][0]
        assert (xy[index, :cut] == before.tracks_xy_px[:cut]).all()
        assert (before.visibility[cut:] >= 0.5).any(axis=0).mean() > 0.1, "they find something alike"


@pytest.mark.parametrize("cut", [1, 15])
def test_a_cut_at_either_end_of_a_window(cut):
    _, seen = track(shots(("handheld", "mixed"), cut=cut, frames=16))
    assert seen[0, :cut].mean() > 0.8 and not seen[0, cut:].any()


def lit(video, *frames, gain):
    video = video.copy()
    for frame in frames:
        video[frame] = np.clip(float(gain) * video[frame], 0, 255)
    return video


def jumped(video, shift):
    """Frames from 8 on moved sideways by ``shift`` pixels of a wider still."""
    wide = cv2.copyMakeBorder(video[0], 0, 0, 0, 2 * shift, cv2.BORDER_REFLECT)
    return np.stack([wide[:, shift * (frame >= 8) :][:, : SIZE[1]] for frame in range(len(video))])


def covered(video, share, *frames):
    video, other = video.copy(), scenes.render_clip("still", 9, SIZE, 1)[0][0]
    video[list(frames), :, : round(share * SIZE[1])] = other[:, : round(share * SIZE[1])]
    return video


def blurred(video, *frames):
    video = video.copy()
    for frame in frames:
        video[frame] = cv2.blur(video[frame], (40, 1))
    return video


NO_CUTS = {
    "flash": lambda video: lit(video, 8, gain=8),
    "flash of two frames": lambda video: lit(video, 8, 9, gain=3),
    "lamp goes out": lambda video: lit(video, *range(8, 16), gain=0.3),
    "strobe": lambda video: lit(video, *range(0, 16, 2), gain=0.4),
    "black frame": lambda video: lit(video, 8, gain=0),
    "fast pan": lambda video: jumped(video, 100),
    "repeated frames": lambda video: video[np.arange(16) // 2 * 2],
    "missing frames": lambda video: video[np.r_[0:8, 12:16, 16:20]],
    "large occluder": lambda video: covered(video, 0.8, 8, 9, 10),
    "all covered for a while": lambda video: covered(video, 1, 8, 9),
    "blurred frames": lambda video: blurred(video, 8, 9),
    "fade": lambda video: (video[:16] * np.linspace(1, 0.1, 16)[:, None, None, None]).astype(np.uint8),
}
"""What befalls a clip, of which 16 frames are tracked."""


@pytest.mark.parametrize("kind", ["movers", "handheld"])
@pytest.mark.parametrize("name", NO_CUTS)
def test_what_is_no_cut(uncut, kind, name):
    _, seen = track(NO_CUTS[name](scenes.render_clip(kind, 5, SIZE, 20)[0])[:16])
    assert not uncut[0][1] and seen[0, -1].mean() > 0.5


# On made-up tracks


def lost_at(frame, points=None):
    """Still points, all hidden from ``frame`` on."""
    xy = np.tile(GRID[:points], (16, 1, 1))
    seen = np.ones(xy.shape[:2], np.bool_)
    seen[frame:] = False
    return xy, seen


def test_few_points_tell_no_cut():
    assert find_cut(*lost_at(8, LEAST_POINTS), SIZE) == 8
    assert find_cut(*lost_at(8, LEAST_POINTS - 1), SIZE) is None


def test_points_that_come_back_together_or_half_of_them_tell_that_there_was_no_cut():
    xy, seen = lost_at(8)
    found = slice(0, len(GRID), 8)
    seen[12:, found] = True
    xy[12:] += 5
    assert find_cut(xy, seen, SIZE) is None, "an eighth, all moved alike"
    scattered = xy + np.random.default_rng(0).normal(0, 5, xy.shape).astype(np.float32)
    assert find_cut(scattered, seen, SIZE) == 8
    seen[12:, : len(GRID) // 2] = True
    assert find_cut(scattered, seen, SIZE) is None, "a half"


def test_the_first_cut_counts_and_points_lost_one_by_one_are_none():
    xy, seen = lost_at(8)
    seen[4:6] = False
    assert find_cut(xy, seen, SIZE) == 8, "they were back before"
    slowly = np.arange(len(GRID)) < len(GRID) * np.linspace(1, 0, 16)[:, None]
    assert find_cut(xy, slowly, SIZE) is None
    assert find_cut(xy[:1], seen[:1], SIZE) is None
