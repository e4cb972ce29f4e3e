"""A tracker is added by the registry alone: what the rest needs to know of it, it says itself."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import ConfigError, TrackerError
from amplify_motion_tokenizer.trackers import (
    TRACKERS,
    PointTracker,
    make_tracker,
    record_weights,
    tracked_clip,
)
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.trackers.windows import FrameWindow, WindowTracks
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.clips import Clip, ViewSource
from tests.support.render_clips import numbered_frames, write_clip
from tests.support.run_scripts import TINY

STEP = np.float32([0.5, -0.25])
"""(x, y) pixels that the drifting tracker moves every point by in a frame."""


class DriftTracker(PointTracker):
    """Moves all points alike, and reads a batch of windows ahead."""

    name = "drift"
    owns_device = True

    @property
    def windows_ahead(self) -> int:
        return 7

    def track(
        self, windows: Iterable[FrameWindow], queries_xy_px: NDArray[np.float32]
    ) -> Iterator[WindowTracks]:
        for window in windows:
            frames = np.arange(len(window.frames), dtype=np.float32)[:, None, None]
            tracks = queries_xy_px + frames * STEP
            yield WindowTracks(window.start, window.time_s, tracks, np.ones(tracks.shape[:2], np.float32))


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config that asks for the new tracker, without a word of how many processes."""
    monkeypatch.setitem(TRACKERS, "drift", lambda config: DriftTracker())
    return config_from_dict({**TINY, "tracking": {"window_stride": 2, "tracker": "drift"}}, "in the tests")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    return write_clip(tmp_path / "videos/clip.mp4", numbered_frames(30), 20)


def test_a_folder_is_preprocessed_with_it(config: Config, video: Path, tmp_path: Path) -> None:
    summary = preprocess_folder(video.parent, tmp_path / "tracks", config)
    assert (summary.done, summary.failed) == (1, 0)
    with h5py.File(tmp_path / "tracks/clip.hdf5") as file:
        tracks = np.array(file["root/default/tracks"])
        assert file["root"].attrs["tracker"] == "drift"
    steps = np.diff(tracks, axis=-3)
    np.testing.assert_allclose(steps, np.broadcast_to(STEP, steps.shape), atol=1e-4)
    assert preprocess_folder(video.parent, tmp_path / "tracks", config).skipped == 1


def test_as_many_frames_are_decoded_ahead_as_it_asks_for(
    config: Config, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Clip("clip", {"default": ViewSource(video)})
    asked: list[int] = []

    def watched(rows: Iterator[object], count: int) -> Iterator[object]:
        asked.append(count)
        return rows

    monkeypatch.setattr(tracked_clip, "read_ahead", watched)
    with TrackedClip(clip, config, make_tracker(config)) as tracked:
        assert [window.start for (window,) in tracked] == [0, 2, 4, 6, 8]
    flow = dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, tracker="flow"))
    with TrackedClip(clip, flow, make_tracker(flow)):
        pass
    assert asked == [7 * 2, 4]  # windows by frames between their starts; the least there is


def test_settings_of_other_trackers_decide_nothing(config: Config) -> None:
    keys = track_settings(config)
    assert keys["tracking.tracker"] == "drift"
    assert not [key for key in keys if key.startswith(("tracking.flow.", "tracking.cotracker."))]


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("flow", "flow"),
        ("cotracker3_offline", "cotracker"),
        ("cotracker_of_a_fork", "cotracker"),
        ("drift", None),
    ],
)
def test_a_section_serves_the_trackers_that_begin_with_its_name(name: str, section: str | None) -> None:
    config = config_from_dict({"tracking": {"tracker": name}}, "in the tests")
    assert config.tracking.tracker_section == section
    found = {key.split(".")[1] for key in track_settings(config) if key.count(".") == 2}
    assert found == {"gate", section} - {None}


def test_weights_without_a_section_to_record_them_in_are_refused(config: Config) -> None:
    tracker = DriftTracker()
    assert record_weights(config, tracker) is config
    tracker.weights_sha256 = "1234"
    with pytest.raises(TrackerError, match=r"weights of drift cannot be recorded.* no section tracking\."):
        record_weights(config, tracker)


def test_a_name_is_a_whole_name(config: Config) -> None:
    for name in ("drift2", "flow2", "cotracke"):
        with pytest.raises(ConfigError, match=f"{name}.* is not a tracker; allowed: flow, .*, drift"):
            make_tracker(config_from_dict({"tracking": {"tracker": name}}, "in the tests"))
