"""Windows are written some at a time; the file is the same whatever their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile, TrackFileWriter
from tests.support.tracked import SIZE, clip_record_of, random_windows


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 40])
def test_every_window_is_there_in_its_order(tmp_path: Path, tiny: Config, count: int) -> None:
    windows = random_windows(tiny, count, 0, SIZE)
    with TrackFileWriter(tmp_path / "a.hdf5", clip_record_of(tiny), SIZE) as writer:
        for window in windows:
            writer.append(window)
        writer.finish(99, 0)
    file = TrackFile(tmp_path / "a.hdf5")
    assert file.num_windows == count
    with file.open() as opened:
        assert file.starts(opened).tolist() == [window.start for window in windows]
        ((tracks, visibility),) = file.read(opened, range(count))
        assert file.valid_steps(opened).tolist() == [window.valid_steps for window in windows]
        assert opened["root/default/tracks"].chunks in (None, (1, *tracks.shape[1:]))
    for row, window in enumerate(windows):
        np.testing.assert_array_equal(tracks[row], window.tracks_xy_px)
        np.testing.assert_array_equal(visibility[row], window.visibility)
