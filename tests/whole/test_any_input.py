"""Odd clips through preprocessing: parts, source frames, image sequences, and what is left out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.clips import ViewSource
from amplify_motion_tokenizer.video.images import open_images
from amplify_motion_tokenizer.video.reading import make_video
from tests.support.read_clips import numbers
from tests.support.render_clips import numbered_frames, write_clip
from tests.support.run_scripts import manifest_of


def with_video(config: Config, **values: object) -> Config:
    return validate(dataclasses.replace(config, video=dataclasses.replace(config.video, **values)))


def rows_of(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        view = file["root/default"]
        return {name: view[name][:] for name in ("start_frame", "start_time", "step_seconds", "source_frame")}


def test_no_window_spans_a_gap_and_each_says_where_its_frames_are(tmp_path: Path, tiny: Config) -> None:
    video, _ = render_clip("pan", 3, (96, 128), 33)
    times = [50 * k for k in range(17)] + [5000 + 50 * k for k in range(16)]
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "pause.mkv", video, 20, pts=times)
    assert preprocess_folder(tmp_path / "in", tmp_path / "out", tiny).failed == 0
    rows = rows_of(tmp_path / "out" / "pause.hdf5")
    # At 10 fps each second frame: 9 of the first part, 8 of the second; T = 6 at stride 2.
    first = [[2 * (start + k) for k in range(6)] for start in (0, 2)]
    second = [[17 + 2 * (start + k) for k in range(6)] for start in (0, 2)]
    assert rows["source_frame"].tolist() == first + second
    assert rows["start_frame"].tolist() == [0, 2, 9, 11]
    np.testing.assert_allclose(rows["start_time"], [0, 0.2, 5, 5.2], atol=2e-3)
    np.testing.assert_allclose(rows["step_seconds"], 0.1)
    (part,) = manifest_of(tmp_path / "out")["pause"]["parts"]["default"][1:]
    assert part["source_frame"] == 17 and part["seconds"] == pytest.approx(5, abs=2e-3)
    assert "without a picture" in part["cut"]


def test_parts_too_short_for_a_window_are_told(tmp_path: Path, tiny: Config) -> None:
    (tmp_path / "in").mkdir()
    times = [3000 * (k // 4) + 100 * (k % 4) for k in range(12)]
    write_clip(tmp_path / "in" / "a.mkv", numbered_frames(12), 10, pts=times)
    assert preprocess_folder(tmp_path / "in", tmp_path / "out", tiny).failed == 1
    told = manifest_of(tmp_path / "out")["a"]["error"]
    assert "has 4 frames at 10 fps in the longest of its 3 parts, expected at least 6" in told


def test_kept_slow_clips_say_how_long_a_step_is(tmp_path: Path, tiny: Config) -> None:
    (tmp_path / "in").mkdir()
    for fps in (5, 10):
        write_clip(tmp_path / "in" / f"at_{fps}.mp4", numbered_frames(12), fps)
    with pytest.warns(UserWarning, match="below video.target_fps=10"):
        preprocess_folder(tmp_path / "in", tmp_path / "out", tiny)
    steps = {fps: rows_of(tmp_path / "out" / f"at_{fps}.hdf5")["step_seconds"] for fps in (5, 10)}
    np.testing.assert_allclose(steps[5], 0.2)
    np.testing.assert_allclose(steps[10], 0.1)


def image_folder(folder: Path, count: int, ending: str = "png") -> list[Path]:
    """Pictures of numbered frames whose names sort otherwise by letters than by numbers."""
    folder.mkdir(parents=True)
    paths = [folder / f"frame_{index}.{ending}" for index in range(count)]
    for path, rgb in zip(paths, numbered_frames(count, 96, 160), strict=True):
        Image.fromarray(rgb).save(path)
    return paths


def test_image_sequences_are_clips_and_other_files_are_counted(tmp_path: Path, tiny: Config) -> None:
    image_folder(tmp_path / "in" / "run1" / "rgb", 12)
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / "clip.xyz").write_text("x")
    summary = preprocess_folder(tmp_path / "in", tmp_path / "out", with_video(tiny, fps=10.0))
    assert (summary.done, summary.failed) == (1, 0)
    assert dict(summary.other_files) == {".txt": 1, ".xyz": 1}
    assert str(summary).endswith("2 files that are no videos left out (.txt 1, .xyz 1)")
    rows = rows_of(tmp_path / "out" / "run1" / "rgb.hdf5")
    assert rows["source_frame"][0].tolist() == list(range(6))
    again = preprocess_folder(tmp_path / "in", tmp_path / "out", with_video(tiny, fps=10.0))
    assert again.skipped == 1
    without = preprocess_folder(tmp_path / "in", tmp_path / "none", tiny)
    assert without.failed == 1
    assert "give --video.fps" in manifest_of(tmp_path / "none")["run1/rgb"]["error"]


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_pictures_come_in_the_order_people_count(tmp_path: Path, tiny: Config, ending: str) -> None:
    paths = image_folder(tmp_path / "seq", 12, ending)
    config = with_video(tiny, fps=20.0, target_fps=None, size=None)
    source = open_images(ViewSource(tmp_path / "seq", images=tuple(paths)), config.video)
    frames = list(make_video(source, config.video))
    assert numbers(frames) == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([k / 20 for k in range(12)])


def test_deep_pictures_are_scaled_by_their_own_range(tmp_path: Path, tiny: Config) -> None:
    depths = np.linspace(1100, 2200, 80).round().astype(np.uint16)
    paths = []
    for index in range(4):
        paths.append(tmp_path / f"d_{index}.png")
        cv2.imwrite(str(paths[-1]), np.tile(np.roll(depths, 2 * index), (48, 1)))
    config = with_video(tiny, fps=20.0, target_fps=None, size=None)
    with pytest.warns(UserWarning, match="levels 1100 to 2200 are shown as 0 to 255"):
        frames = list(
            make_video(open_images(ViewSource(tmp_path, images=tuple(paths)), config.video), config.video)
        )
    expected = np.rint((depths.astype(float) - 1100) / 1100 * 255)
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.rgb[5, :, 1], np.roll(expected, 2 * index), atol=1)


def test_animated_webp_is_a_clip(tmp_path: Path, tiny: Config) -> None:
    pictures = [Image.fromarray(rgb) for rgb in numbered_frames(12, 96, 160)]
    path = tmp_path / "a.webp"
    durations = [50] * 6 + [100] * 6
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, lossless=True)
    config = with_video(tiny, target_fps=20.0, size=None)
    frames = list(make_video(open_images(ViewSource(path), config.video), config.video))
    assert numbers(frames)[:10] == [0, 1, 2, 3, 4, 5, 6, 6, 7, 7]
    pictures[0].save(tmp_path / "still.webp")
    with pytest.raises(VideoError, match=r"still.webp: is one picture"):
        open_images(ViewSource(tmp_path / "still.webp"), config.video)


def test_velocity_files_say_the_same_of_their_windows(tmp_path: Path, tiny: Config) -> None:
    (tmp_path / "in").mkdir()
    video, _ = render_clip("pan", 3, (96, 128), 20)
    write_clip(tmp_path / "in" / "a.mp4", video, 20)
    preprocess_folder(tmp_path / "in", tmp_path / "out", tiny, output_format="pt")
    index = json.loads((tmp_path / "out" / "a.windows.json").read_text())
    assert index["source_frame"] == [0, 4, 8] and index["step_seconds"] == pytest.approx([0.1] * 3)


def test_shots_are_parts_of_which_the_manifest_tells(tmp_path: Path, tiny: Config) -> None:
    video = np.concatenate([render_clip(kind, 4, (96, 128), 17)[0] for kind in ("pan", "movers")])
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "joined.mp4", video, 20)
    config = with_video(tiny, shots="auto")
    assert preprocess_folder(tmp_path / "in", tmp_path / "out", config).failed == 0
    rows = rows_of(tmp_path / "out" / "joined.hdf5")
    # At 10 fps each second frame of each shot: 9 of 17; T = 6 at stride 2.
    starts = [[shot + 2 * (start + k) for k in range(6)] for shot in (0, 17) for start in (0, 2)]
    assert rows["source_frame"].tolist() == starts
    parts = manifest_of(tmp_path / "out")["joined"]["parts"]["default"]
    assert [(part["source_frame"], part["cut"]) for part in parts] == [
        (0, ""), (17, "a hard cut to another shot"),
    ]  # fmt: skip
    assert parts[1]["seconds"] == pytest.approx(17 / 20, abs=1e-3)
