"""Clips of several views: one track file, one time line, one path from videos to codes."""

import dataclasses
import json
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.codes.inference import tokenize_folder
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import ConfigError, UsageError
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.checkpoint import Checkpoint
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.trackers import gate, make_tracker
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.clips import Clip, Frame, ViewSource
from amplify_motion_tokenizer.video.sources import find_clips, tracked_views
from tests.support.render_clips import numbered_frames, read_number, write_clip
from tests.support.run_scripts import TINY

VIEWS = {"agentview": "{clip}/agentview.mp4", "eye_in_hand": "{clip}/eye.mp4"}
SIZES = {"agentview": (48, 64), "eye_in_hand": (96, 72)}
WINDOWS = 4
"""Of 12 frames at 10 fps, T = 6, a window at every second frame."""


def config_of(view_files: dict[str, str] = VIEWS, **sections: dict[str, Any]) -> Config:
    tree: dict[str, Any] = {**TINY, "tracking": {**TINY["tracking"], "view_files": view_files}}
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values}
    return config_from_dict(tree, "in the tests")


def amplify_config(views: tuple[str, ...] = tuple(VIEWS)) -> Config:
    return config_of(
        data={"views": list(views), "reference_size": [32, 48], "static_filter": {"enable": False}},
        model={"name": "amplify", "num_layers": 2, "amplify": {"mlp_dim": 12}},
    )


def write_views(folder: Path, seed: int = 0, kind: str = "pan", frames: tuple[int, int] = (24, 40)) -> None:
    """One clip, its second view longer, at another rate and of another size."""
    folder.mkdir(parents=True)
    names = ("agentview.mp4", "eye.mp4")
    for view, (name, size, count, fps) in enumerate(
        zip(names, SIZES.values(), frames, (20, 30), strict=True)
    ):
        write_clip(folder / name, render_clip(kind, (seed, view), size, count)[0], fps=fps)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    write_views(folder / "day1/one")
    write_views(folder / "two", seed=1)
    (folder / "day1/one/notes.txt").write_text("no view")
    return folder


@pytest.fixture
def broken(videos: Path, tmp_path: Path) -> Path:
    """The same with a third clip that lacks its second view."""
    shutil.copytree(videos, tmp_path / "videos")
    (tmp_path / "videos/three").mkdir()
    shutil.copy(videos / "two/agentview.mp4", tmp_path / "videos/three")
    return tmp_path / "videos"


def manifest_of(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["clip"]: record for record in map(json.loads, lines)}


def test_one_file_holds_all_views_each_as_if_tracked_alone(videos: Path, tmp_path: Path) -> None:
    summary = preprocess_folder(videos, tmp_path / "all", config_of())
    assert (summary.done, summary.windows) == (2, 2 * WINDOWS)
    assert manifest_of(tmp_path / "all")["day1/one"]["frames"] == 12
    for view, form in VIEWS.items():
        assert preprocess_folder(videos, tmp_path / view, config_of({view: form})).done == 2
        with (
            h5py.File(tmp_path / "all/day1/one.hdf5") as together,
            h5py.File(tmp_path / view / "day1/one.hdf5") as alone,
        ):
            assert set(together["root"]) == set(VIEWS)
            found, expected = together["root"][view], alone["root"][view]
            height, width = SIZES[view]
            scale = 48 / min(SIZES[view])
            assert (found.attrs["height"], found.attrs["width"]) == (height * scale, width * scale)
            assert found["start_frame"][:].tolist() == [0, 2, 4, 6]
            np.testing.assert_allclose(found["start_time"][:], [0, 0.2, 0.4, 0.6])
            assert found["tracks"].shape == (WINDOWS, 6, 9, 2)
            for name in ("tracks", "vis"):
                np.testing.assert_array_equal(found[name][:], expected[name][:WINDOWS])
    again = preprocess_folder(videos, tmp_path / "all", config_of())
    assert (again.done, again.skipped) == (0, 2)


def numbered(tmp_path: Path, rates: dict[str, float], counts: dict[str, int]) -> Clip:
    views = {}
    for view, rate in rates.items():
        path = write_clip(tmp_path / f"{view}.mp4", numbered_frames(counts[view]), fps=rate)
        views[view] = ViewSource(path)
    return Clip("clip", views)


@pytest.mark.parametrize(
    ("target", "rates", "steps", "fps"),
    [
        (10.0, {"a": 20, "b": 30}, (2, 3), 10),
        (10.0, {"a": 5, "b": 30}, (1, 6), 5),
        (None, {"a": 10, "b": 30}, (1, 3), 10),
        (None, {"a": 10, "b": 10}, (1, 1), 10),
    ],
)
def test_views_advance_by_time_and_end_with_the_shortest(
    target: float | None, rates: dict[str, float], steps: tuple[int, int], fps: float, tmp_path: Path
) -> None:
    clip = numbered(tmp_path, rates, {"a": 24, "b": 96 if steps[1] == 6 else 30})
    config = config_of(video={"target_fps": target})
    with TrackedClip(clip, config, make_tracker(config)) as tracked:
        rows = list(tracked._frames())
    expected = min(24 // steps[0], (96 if steps[1] == 6 else 30) // steps[1])
    assert len(rows) == tracked.num_frames == expected
    assert {info.fps for info in tracked.infos.values()} == {fps}
    for tick, row in enumerate(rows):
        assert [frame.time_s for frame in row] == pytest.approx([tick / fps] * 2)
        assert [read_number(frame.rgb) for frame in row] == [tick * step for step in steps]


def test_a_view_of_uneven_rate_stays_aligned(tmp_path: Path) -> None:
    """Its average is the target's rate, but its first half is twice as fast as its second."""
    times_ms = [*range(0, 600, 50), *range(600, 1800, 100)]
    frames = list(numbered_frames(len(times_ms)))
    uneven = write_clip(tmp_path / "uneven.mp4", frames, pts=times_ms)
    even = write_clip(tmp_path / "even.mp4", numbered_frames(18), fps=10)
    config = config_of(video={"target_fps": None})
    clip = Clip("clip", {"even": ViewSource(even), "uneven": ViewSource(uneven)})
    with TrackedClip(clip, config, make_tracker(config)) as tracked:
        for first, second in tracked._frames():
            assert read_number(first.rgb) == int(first.time_s * 10 + 1e-3)
            shown = max(i for i, time_ms in enumerate(times_ms) if time_ms <= second.time_s * 1000 + 1)
            assert first.time_s == second.time_s
            assert read_number(second.rgb) == shown


def test_a_missing_view_fails_its_clip_alone(broken: Path, tmp_path: Path) -> None:
    summary = preprocess_folder(broken, tmp_path / "out", config_of())
    assert (summary.done, summary.failed, summary.exit_status) == (2, 1, 3)
    record = manifest_of(tmp_path / "out")["three"]
    assert (record["status"], record["stage"]) == ("failed", "video")
    assert record["error"].startswith(f"{broken / 'three/eye.mp4'}: is missing, the view eye_in_hand")
    assert not (tmp_path / "out/three.hdf5").exists()
    shutil.copy(broken / "two/eye.mp4", broken / "three/eye.mp4")
    again = preprocess_folder(broken, tmp_path / "out", config_of())
    assert (again.done, again.skipped, again.failed) == (1, 2, 0)


def test_a_short_view_is_named(tmp_path: Path) -> None:
    write_views(tmp_path / "in/clip", frames=(24, 9))
    preprocess_folder(tmp_path / "in", tmp_path / "out", config_of())
    error = manifest_of(tmp_path / "out")["clip"]["error"]
    assert error.startswith(f"{tmp_path / 'in/clip/eye.mp4'}: has 3 frames at 10 fps, expected at least 6")


def test_the_gate_keeps_a_window_in_which_any_view_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MIN_MEAN_DIFFERENCE", 0.002)
    moving = render_clip("pan", 0, (48, 64), 30)[0]
    still = [moving[-1]]
    (tmp_path / "in/clip").mkdir(parents=True)
    write_clip(tmp_path / "in/clip/agentview.mp4", [*moving, *still * 90], fps=10)
    write_clip(tmp_path / "in/clip/eye.mp4", [*[moving[0]] * 90, *moving], fps=10)
    starts = {}
    for name, files in {"both": VIEWS, **{v: {v: form} for v, form in VIEWS.items()}}.items():
        config = config_of(
            files,
            tracking={
                "view_files": files,
                "window_stride": 2,
                "gate": {"enable": True},
            },
        )
        preprocess_folder(tmp_path / "in", tmp_path / name, config)
        with h5py.File(tmp_path / name / "clip.hdf5") as file:
            found = [view["start_frame"][:].tolist() for view in file["root"].values()]
            assert all(each == found[0] for each in found)
            assert file["root"].attrs["windows_dropped"] == 58 - len(found[0])
        starts[name] = found[0]
    assert starts["both"] == sorted({*starts["agentview"], *starts["eye_in_hand"]})
    assert 0 < len(starts["agentview"]) < len(starts["both"]) < 58


def test_memory_does_not_grow_with_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tracking={"view_files": VIEWS, "window_stride": 1})
    peaks = []
    for count in (60, 240):
        clip = numbered(tmp_path, {"a": 10, "b": 10}, {"a": count, "b": count})
        peaks.append(peak_of_live_frames(clip, config, monkeypatch))
    assert peaks[0] == peaks[1] <= 2 * (2 * config.data.sequence_length + 1)


def peak_of_live_frames(clip: Clip, config: Config, monkeypatch: pytest.MonkeyPatch) -> int:
    handed_out: list[weakref.ref[Any]] = []
    alive: list[int] = []
    real = TrackedClip._frames

    def watched(self: TrackedClip) -> Iterator[tuple[Frame, ...]]:
        for row in real(self):
            handed_out.extend(weakref.ref(frame.rgb) for frame in row)
            alive.append(sum(reference() is not None for reference in handed_out))
            yield row

    with monkeypatch.context() as patch, TrackedClip(clip, config, make_tracker(config)) as tracked:
        patch.setattr(TrackedClip, "_frames", watched)
        assert all(len(views) == 2 for views in tracked)
    return max(alive)


def checkpoint_of(config: Config) -> Checkpoint:
    torch.manual_seed(1)
    return Checkpoint(
        path=Path("none.pth"),
        model=build_model(config).state_dict(),
        config=config,
        track_settings=None,
        metrics={},
        training=None,
    )


def test_inference_reads_the_same_folder_and_sees_what_training_sees(
    broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = amplify_config()
    monkeypatch.setattr("amplify_motion_tokenizer.models.checkpoint.file_hash", lambda path: "hash")
    checkpoint = checkpoint_of(config)
    preprocess_folder(broken, tmp_path / "tracks", config)
    summary = tokenize_folder(broken, tmp_path / "codes", checkpoint, config, ["labels"])
    assert (summary.done, summary.failed, summary.windows) == (2, 1, 2 * WINDOWS)
    model = build_model(config).eval()
    model.load_state_dict(checkpoint.model)
    data = WindowDataset(load_clips(tmp_path / "tracks", config), config)
    velocities = data.batch(range(len(data))).inputs.velocities
    assert velocities.shape == (2 * WINDOWS, 2, 5, 9, 2)
    assert (velocities.abs().amax(dim=(0, 2, 3, 4)) > 0.01).all()
    with torch.no_grad():
        codes = model.tokenize(velocities).tolist()
    found = []
    for name in ("day1/one", "two"):
        result = json.loads((tmp_path / f"codes/{name}.json").read_text())
        found += result["codes"]
        assert result["start_frames"] == [0, 2, 4, 6]
        sizes = {view: [round(s * 48 / min(SIZES[view])) for s in SIZES[view]] for view in VIEWS}
        assert result["meta"]["tracked_sizes"] == sizes
        labels = torch.load(tmp_path / f"codes/{name}.pt", weights_only=True)["labels_per_point"]
        assert labels.shape == (WINDOWS, 2, 5, 9)
    assert found == codes
    assert len(set(map(tuple, codes))) > 1
    again = tokenize_folder(broken, tmp_path / "codes", checkpoint, config, ["labels"])
    assert (again.done, again.skipped, again.failed) == (0, 2, 1)


def test_the_model_takes_its_views_in_its_order(videos: Path, tmp_path: Path) -> None:
    there, back = amplify_config(("agentview", "eye_in_hand")), amplify_config(("eye_in_hand", "agentview"))
    preprocess_folder(videos, tmp_path, there)
    first, second = (
        WindowDataset(load_clips(tmp_path, config), config).batch([3]).inputs.velocities
        for config in (there, back)
    )
    assert torch.equal(first.flip(1), second)
    assert not torch.equal(first, second)
    only = amplify_config(("eye_in_hand",))
    (clip, _) = find_clips(videos, only, list(only.data.views))
    assert list(clip.views) == ["eye_in_hand"]


def test_velocity_files_hold_the_one_view_of_a_keypoint_model(videos: Path, tmp_path: Path) -> None:
    config = config_of(data={"views": ["eye_in_hand"]})
    preprocess_folder(videos, tmp_path / "pt", config, "pt")
    preprocess_folder(videos, tmp_path / "hdf5", config_of({"eye_in_hand": VIEWS["eye_in_hand"]}))
    config_alone = config_of({"eye_in_hand": VIEWS["eye_in_hand"]}, data={"views": ["eye_in_hand"]})
    stored = WindowDataset(load_clips(tmp_path / "pt", config), config)
    tracked = WindowDataset(load_clips(tmp_path / "hdf5", config_alone), config_alone)
    assert len(stored) == len(tracked) > 0
    rows = {tracked.locate(index): index for index in range(len(tracked))}
    for index in range(len(stored)):
        expected = tracked[rows[stored.locate(index)]].inputs.velocities
        assert torch.equal(stored[index].inputs.velocities, expected)
    other = config_of(data={"views": ["agentview"]})
    with pytest.raises(UsageError, match="data.views"):
        preprocess_folder(videos, tmp_path / "pt", other, "pt")
    with pytest.raises(ConfigError, match="keypoint"):
        preprocess_folder(videos, tmp_path / "other", amplify_config(), "pt")


def test_clips_are_what_the_patterns_find(tmp_path: Path) -> None:
    files = {"main": "{clip}.mp4", "wrist": "{clip}_wrist.mp4"}
    for name in ("a.mp4", "a_wrist.mp4", "deep/b_wrist.mp4", ".hidden.mp4", "c.avi", "_wrist.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    config = config_of(files)
    found = {clip.name: clip for clip in find_clips(tmp_path, config, tracked_views(tmp_path, config))}
    assert sorted(found) == ["_wrist", "a", "deep/b"]
    assert found["deep/b"].paths == [tmp_path / "deep/b.mp4", tmp_path / "deep/b_wrist.mp4"]


@pytest.mark.parametrize(
    ("view_files", "part"),
    [
        ({"a": "agentview.mp4"}, "hold {clip} once"),
        ({"a": "{clip}/{clip}.mp4"}, "hold {clip} once"),
        ({"a": "{clip}.mp4", "b": "{clip}.mp4"}, "different paths"),
        ({"a/b": "{clip}.mp4"}, "view names"),
        ({"": "{clip}.mp4"}, "view names"),
    ],
)
def test_impossible_view_files(view_files: dict[str, str], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(view_files)
    assert "tracking.view_files = {" in str(caught.value)
    assert part in str(caught.value)


def test_inputs_that_cannot_be_meant(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a file; tracking.view_files"):
        preprocess_folder(videos / "two/eye.mp4", tmp_path / "out", config_of())
    with pytest.raises(UsageError, match=r"looked for \{clip\}/x\.mp4"):
        preprocess_folder(videos, tmp_path / "out", config_of({"a": "{clip}/x.mp4"}))
    config = amplify_config()
    plain = dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, view_files={}))
    with pytest.raises(ConfigError, match="data.views names agentview, but the input has the views default"):
        tokenize_folder(videos, tmp_path / "out", checkpoint_of(config), plain)
    assert not (tmp_path / "out").exists()


def test_a_model_of_one_of_the_tracked_views_needs_that_view_alone(
    broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amplify_motion_tokenizer.models.checkpoint.file_hash", lambda path: "hash")
    config = config_of(data={"views": ["eye_in_hand"]})
    for view in ("one", "two"):
        next(broken.rglob(f"{view}/agentview.mp4")).unlink()
    summary = tokenize_folder(broken, tmp_path / "codes", checkpoint_of(config), config)
    assert (summary.done, summary.failed) == (2, 1)
    error = manifest_of(tmp_path / "codes")["three"]["error"]
    assert error.startswith(f"{broken / 'three/eye.mp4'}: is missing, the view eye_in_hand of the clip three")
    # Plain videos are clips of that one view, once the config says so.
    plain = broken / "two/eye.mp4"
    with pytest.raises(UsageError, match=r"is a file; .* for videos of one view set it to \{\}"):
        tokenize_folder(plain, tmp_path / "plain", checkpoint_of(config), config)
    alone = config_of({}, data={"views": ["eye_in_hand"]})
    tokenize_folder(plain, tmp_path / "plain", checkpoint_of(config), alone)
    codes = [
        json.loads((tmp_path / name).read_text())["codes"] for name in ("plain/eye.json", "codes/two.json")
    ]
    assert codes[0] == codes[1]


def test_a_lone_view_serves_a_model_of_one_view_whatever_its_name(videos: Path, tmp_path: Path) -> None:
    config = config_of({"camera": VIEWS["agentview"]})
    preprocess_folder(videos, tmp_path, config)
    assert TrackFile(tmp_path / "two.hdf5").views == ["/root/camera"]
    assert len(WindowDataset(load_clips(tmp_path, config), config)) == 2 * WINDOWS
