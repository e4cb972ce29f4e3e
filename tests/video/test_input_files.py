"""Which files an input folder is found to hold: links, circles, and what cannot be read."""

from pathlib import Path

import pytest

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.video.input_files import files_below
from amplify_motion_tokenizer.video.libero import find_demos
from amplify_motion_tokenizer.video.sources import find_clips


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(source: Path) -> list[str]:
    return [path.relative_to(source).as_posix() for path in files_below(source)]


def test_linked_folders_are_followed_and_clips_named_as_seen(tiny: Config, tmp_path: Path) -> None:
    source, data = tmp_path / "my_videos", tmp_path / "data"
    touch(source / "a.mp4", data / "day" / "b.mp4", data / ".hidden" / "c.mp4", tmp_path / "single.mp4")
    (source / "session1").symlink_to(data)
    (source / "z.mp4").symlink_to(tmp_path / "single.mp4")
    (source / ".cache").symlink_to(data)
    clips = find_clips(source, tiny, ["default"])
    assert [clip.name for clip in clips] == ["a", "session1/day/b", "z"]
    assert clips[1].paths == [source / "session1" / "day" / "b.mp4"]


def test_a_folder_counts_once_under_its_own_path(tmp_path: Path) -> None:
    source, data = tmp_path / "in", tmp_path / "data"
    touch(source / "real" / "a.mp4", data / "sub" / "b.mp4")
    (source / "real" / "up").symlink_to(source)
    (data / "round").symlink_to(data)
    for name, target in {"1": source / "real", "2": data, "3": data}.items():
        (source / name).symlink_to(target)
    assert names(source) == ["2/sub/b.mp4", "real/a.mp4"]
    (tmp_path / "link").symlink_to(source)
    assert names(tmp_path / "link") == names(source)


def test_libero_follows_links_too(tiny: Config, tmp_path: Path) -> None:
    touch(tmp_path / "data" / "a_demo.hdf5", tmp_path / "in" / "other.hdf5")
    (tmp_path / "in" / "libero_10").symlink_to(tmp_path / "data")
    (clip,) = find_demos(tmp_path / "in", tiny, {"agentview": "agentview_rgb"})
    assert clip.name == "libero_10/row_major_9_reinit_6/a_demo/demo_0"


def test_links_that_lead_nowhere_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "a.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "away").symlink_to("/none/such")
    (tmp_path / "self").symlink_to("self")
    assert names(tmp_path) == ["a.mp4"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: 3 links or folders cannot be followed or read, such as {tmp_path / 'away'}; left out"
    ]
