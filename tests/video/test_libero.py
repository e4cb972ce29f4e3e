"""LIBERO's demos as clips, and dataset strings that choose a share of them."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config import Config, flatten, to_dict
from amplify_motion_tokenizer.config.dataset_string import parse_dataset
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import ConfigError, TrackFileError, UsageError, VideoError
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.trackers import make_tracker
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.tracks.selection import select_demos
from amplify_motion_tokenizer.video.clips import Clip, ViewSource
from amplify_motion_tokenizer.video.input_files import natural_key
from amplify_motion_tokenizer.video.libero import open_demo
from amplify_motion_tokenizer.video.sources import find_clips, tracked_views
from tests.support.render_clips import numbered_frames, read_number
from tests.support.run_scripts import TINY

ROOT = Path(__file__).parents[2]
VIEWS = ("agentview", "eye_in_hand")
SIZE = (64, 48)
FRAMES = 24
FOLDER = "libero_10/uniform_9_reinit_6"


def config_of(**sections: dict[str, Any]) -> Config:
    tree: dict[str, Any] = {
        **TINY,
        "video": {"source": "libero", "size": None, "target_fps": 10},
        "tracking": {**TINY["tracking"], "query_order": "uniform"},
        "data": {
            **TINY["data"],
            "views": list(VIEWS),
            "reference_size": list(SIZE),
            "static_filter": {"enable": False},
        },
        "model": {**TINY["model"], "num_layers": 2, "name": "amplify", "amplify": {"mlp_dim": 12}},
    }
    for name, values in sections.items():
        tree[name] = {**tree[name], **values}
    return config_from_dict(tree, "in the tests")


def write_demos(path: Path, demos: dict[str, dict[str, np.ndarray]]) -> Path:
    """``path`` as LIBERO lays it out: demo -> view -> frames, the right way up, stored upside down."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for demo, views in demos.items():
            file[f"data/{demo}/actions"] = np.zeros((FRAMES, 7))
            for view, frames in views.items():
                file[f"data/{demo}/obs/{view}_rgb"] = np.asarray(frames)[:, ::-1]
    return path


def moving(seed: int) -> dict[str, np.ndarray]:
    return {view: render_clip("pan", (seed, i), SIZE, FRAMES)[0] for i, view in enumerate(VIEWS)}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, of 11 demos and of one; all demos of a task look alike."""
    folder = tmp_path_factory.mktemp("libero")
    write_demos(folder / "libero_10/pick_demo.hdf5", {f"demo_{k}": moving(0) for k in range(11)})
    write_demos(folder / "libero_10/place_demo.hdf5", {"demo_0": moving(1)})
    return folder


@pytest.fixture(scope="module")
def tracks(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracks")
    summary = preprocess_folder(suite, folder, config_of())
    assert (summary.done, summary.failed) == (12, 0)
    return folder


def demos_of(source: Path, config: Config) -> list[Clip]:
    return find_clips(source, config, tracked_views(source, config))


def test_frames_are_turned_the_right_way_up_and_resampled_from_20_hz(tmp_path: Path) -> None:
    frames = np.stack(list(numbered_frames(70)))
    views = {"agentview": frames, "eye_in_hand": frames[:50]}
    write_demos(tmp_path / "suite/task_demo.hdf5", {"demo_0": views})
    config = config_of()
    (clip,) = demos_of(tmp_path, config)
    with TrackedClip(clip, config, make_tracker(config)) as tracked:
        rows = list(tracked._frames())
    info = tracked.infos["agentview"]
    assert (info.source_fps, info.fps, info.size, info.reader) == (20, 10, (48, 80), "h5py")
    assert len(rows) == 25
    for tick, row in enumerate(rows):
        for frame in row:
            assert (read_number(frame.rgb), frame.time_s) == (2 * tick, pytest.approx(tick / 10))
            np.testing.assert_array_equal(frame.rgb, frames[2 * tick])
            assert frame.rgb.flags.c_contiguous
            assert frame.rgb.base is None


def test_the_layout_is_amplifys(tracks: Path, suite: Path) -> None:
    names = [f"{FOLDER}/pick_demo/demo_{k}" for k in range(11)] + [f"{FOLDER}/place_demo/demo_0"]
    assert sorted(find_tracks(tracks, VIEWS)) == sorted(names)
    assert [clip.name for clip in demos_of(suite, config_of())] == names
    with h5py.File(tracks / f"{names[10]}.hdf5") as file:
        for view in VIEWS:
            group = file["root"][view]
            assert group["tracks"].shape == (4, 6, 9, 2)
            assert (group.attrs["height"], group.attrs["width"]) == SIZE
        settings = json.loads(file["root"].attrs["settings"])
    assert settings["video.source"] == "libero"
    again = preprocess_folder(suite, tracks, config_of())
    assert (again.done, again.skipped) == (0, 12)


def test_tracks_follow_the_picture_that_is_the_right_way_up(tracks: Path) -> None:
    """Against the exact motion of the rendered scene; upside down, y would have the other sign."""
    _, scene = render_clip("pan", (0, 0), SIZE, FRAMES)
    with h5py.File(tracks / f"{FOLDER}/pick_demo/demo_0.hdf5") as file:
        found, seen = file["root/agentview/tracks"][0], file["root/agentview/vis"][0]
    truth = scene.truth(found[0], 0)[0][:11:2]
    error = np.linalg.norm(found - truth, axis=-1)[seen > 0.5]
    moved = np.linalg.norm(truth - truth[0], axis=-1).max()
    assert moved > 2
    assert np.median(error) < 0.5


def test_training_reads_both_views(tracks: Path) -> None:
    data = WindowDataset(load_clips(tracks, config_of()), config_of())
    assert len(data) == 12 * 4
    assert data[0].inputs.velocities.shape == (2, 5, 9, 2)


@pytest.mark.parametrize(
    ("source", "folder"), [("libero_10", FOLDER), ("libero_10/place_demo.hdf5", FOLDER), ("", FOLDER)]
)
def test_the_suite_is_named_wherever_the_input_begins(suite: Path, source: str, folder: str) -> None:
    assert demos_of(suite / source, config_of())[-1].name == f"{folder}/place_demo/demo_0"


def test_a_row_major_grid_or_another_horizon_is_named_so(suite: Path) -> None:
    config = config_of(tracking={"query_order": "row_major"}, data={"true_horizon": 4})
    (clip,) = demos_of(suite / "libero_10/place_demo.hdf5", config)
    assert clip.name == "libero_10/row_major_9_reinit_4/place_demo/demo_0"


def test_view_files_choose_other_images(tmp_path: Path) -> None:
    write_demos(tmp_path / "s/t_demo.hdf5", {"demo_0": {"agentview": moving(0)["agentview"]}})
    config = config_of(tracking={"view_files": {"front": "agentview_rgb"}}, data={"views": ["front"]})
    assert preprocess_folder(tmp_path / "s", tmp_path / "out", config).done == 1
    (clip,) = load_clips(tmp_path / "out", config).values()
    assert isinstance(clip, TrackFile)
    assert clip.views == ["/root/front"]


def test_bad_demos_fail_alone(tmp_path: Path) -> None:
    source = tmp_path / "in/suite"
    views = moving(0)
    write_demos(
        source / "mixed_demo.hdf5",
        {
            "demo_0": views,
            "demo_1": {"agentview": views["agentview"]},
            "demo_2": {**views, "agentview": views["agentview"][..., :2]},
            "demo_3": {**views, "eye_in_hand": views["eye_in_hand"][:7]},
        },
    )
    (source / "cut_demo.hdf5").write_bytes((source / "mixed_demo.hdf5").read_bytes()[:3000])
    write_demos(source / "none_demo.hdf5", {})
    summary = preprocess_folder(tmp_path / "in", tmp_path / "out", config_of())
    assert (summary.done, summary.failed) == (1, 5)
    lines = (tmp_path / "out/manifest.jsonl").read_text().splitlines()
    errors = {record["clip"].split("/", 2)[2]: record.get("error") for record in map(json.loads, lines)}
    assert errors.pop("mixed_demo/demo_0") is None
    expected = {
        "mixed_demo/demo_1": "mixed_demo.hdf5: lacks data/demo_1/obs/eye_in_hand_rgb; expected",
        "mixed_demo/demo_2": "data/demo_2/obs/agentview_rgb: has shape (24, 64, 48, 2) of uint8, expected",
        "mixed_demo/demo_3": "mixed_demo.hdf5:data/demo_3/obs/eye_in_hand_rgb: has 4 frames at 10 fps, "
        "expected at least 6",
        "cut_demo/demo_0": "cut_demo.hdf5: cannot be opened as HDF5",
        "none_demo/demo_0": "none_demo.hdf5: lacks data/demo_0/obs/agentview_rgb",
    }
    assert errors.keys() == expected.keys()
    for name, part in expected.items():
        assert part in errors[name]


def test_inputs_without_demos(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match=r"looked for \*_demo\.hdf5"):
            preprocess_folder(source, tmp_path / "out", config_of())


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("libero_10:traj0.9", ("libero_10", "traj", 0.9)),
        ("libero_10:traj-0.1", ("libero_10", "traj", -0.1)),
        ("a/libero-90:traj1", ("a/libero-90", "traj", 1.0)),
        ("x:video.5", ("x", "video", 0.5)),
    ],
)
def test_dataset_strings(text: str, parsed: tuple[str, str, float]) -> None:
    assert parse_dataset(text) == parsed


@pytest.mark.parametrize(
    "text",
    ["libero_10", "libero_10:", ":traj0.9", "x:traj", "x:0.9", "x:traj0", "x:traj1.5", "x:traj-2",
     "x:traj0.9 ", "x:traj0.9:y", "x:traj--1", "x:trajnan", ""],
)  # fmt: skip
def test_malformed_dataset_strings(text: str) -> None:
    with pytest.raises(ConfigError, match="is malformed; expected <name>"):
        parse_dataset(text)
    with pytest.raises(ConfigError) as caught:
        config_of(data={"dataset": text})
    assert f'data.dataset = "{text}"' in str(caught.value)
    assert "name:traj0.9" in str(caught.value)


def test_tracks_come_of_the_traj_modality_alone() -> None:
    with pytest.raises(ConfigError, match="data.dataset"):
        config_of(data={"dataset": "x:video0.5"})


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(1, 99))
def test_a_share_and_its_complement_partition_each_task(counts: list[int], percent: int) -> None:
    names = [f"s/u/task_{t}/demo_{k}" for t, count in enumerate(counts) for k in range(count)]
    parts: list[str] = []
    for dataset in (f"s:traj{percent / 100}", f"s:traj-{1 - percent / 100:.2f}"):
        try:
            parts += select_demos(names, dataset)
        except TrackFileError:
            assert max(counts) * min(percent, 100 - percent) <= 50
    assert sorted(parts) == sorted(names)


def test_demos_are_counted_in_natural_order() -> None:
    names = [f"s/u/t/demo_{k}" for k in range(12)] + ["other/u/t/demo_0", "loose"]
    assert select_demos(names, "s:traj0.25") == [f"s/u/t/demo_{k}" for k in (0, 1, 2)]
    assert select_demos(reversed(names), "s:traj-0.25") == [f"s/u/t/demo_{k}" for k in (9, 10, 11)]
    assert select_demos(names, "s:traj1.0") == names[:12]
    assert sorted(["demo_10", "demo_2", "demo"], key=natural_key) == ["demo", "demo_2", "demo_10"]
    with pytest.raises(TrackFileError, match=r"holds no folder x; it holds \., other, s"):
        select_demos(names, "x:traj0.5")
    with pytest.raises(TrackFileError, match="selects no demo"):
        select_demos(names, "s:traj0.01")


def test_training_takes_the_share_of_each_task(tracks: Path) -> None:
    first = load_clips(tracks, config_of(), "libero_10:traj0.9")
    last = load_clips(tracks, config_of(), "libero_10:traj-0.1")
    pick = f"{FOLDER}/pick_demo/demo_"
    assert list(first) == [f"{pick}{k}" for k in range(10)] + [f"{FOLDER}/place_demo/demo_0"]
    assert list(last) == [f"{pick}10"]


def test_the_shipped_config_holds_only_differences_and_makes_a_libero_run() -> None:
    paths = [ROOT / "configs/amplify.yaml", ROOT / "configs/amplify_libero.yaml"]
    own = flatten(load_yaml(paths[1]))
    before = flatten(to_dict(cli.parse(["--config", str(paths[0])], "train", "test", {})[0]))
    assert [key for key, value in own.items() if before[key] == value] == []
    config = cli.parse([part for path in paths for part in ("--config", str(path))], "train", "test", {})[0]
    assert (config.model.name, config.data.views, config.view_weights) == ("amplify", VIEWS, (0.9, 0.1))
    assert (config.data.reference_size, config.video.size) == ((128, 128), None)
    assert (config.tracking.query_order, config.tracking.window_stride) == ("uniform", 1)
    assert config.tracking.pad_end == "repeat_last"
    assert (config.video.target_fps, config.video.source, config.tracked_length) == (20, "libero", 16)


def test_images_that_lead_in_a_circle_are_named(tmp_path: Path) -> None:
    place = "data/demo_0/obs/agentview_rgb"
    with h5py.File(tmp_path / "a_demo.hdf5", "w") as file:
        file.create_group("data/demo_0/obs")["agentview_rgb"] = h5py.SoftLink(f"/{place}")
    with pytest.raises(VideoError, match=r"agentview_rgb: is damaged \(.*too many links"):
        open_demo(ViewSource(tmp_path / "a_demo.hdf5", place))
