"""LeRobotDataset v3 in and out: episodes as clips, cameras as views, codes as features of every frame."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from amplify_motion_tokenizer.codes.lerobot_copy import copy_with_codes
from amplify_motion_tokenizer.codes.reading import MotionCodeSet, read_codes
from amplify_motion_tokenizer.codes.segmentation import Segment
from amplify_motion_tokenizer.config import Config, VideoConfig
from amplify_motion_tokenizer.config.loading import Given, build
from amplify_motion_tokenizer.errors import TokenizerError, UsageError, VideoError
from amplify_motion_tokenizer.video.sources import find_clips, model_views, open_views, tracked_views
from tests.support.run_scripts import INFER, PREPROCESS, REPO, Run, manifest_of

pq = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")

from tests.support.lerobot_data import CAMERAS, FPS, LENGTHS, frames_of, write_dataset  # noqa: E402

PYTHON = os.environ.get("AMT_LEROBOT_PYTHON", "")


def config_of(**keys: Any) -> Config:
    given = {"video.source": "lerobot", "data.views": ["top"], "video.size": None} | keys
    return build(Config(), {key: Given(value, "") for key, value in given.items()})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("lerobot") / "data")


@pytest.fixture(scope="module")
def codes(run: Run, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the default tokenizer, a window at every frame."""
    output = tmp_path_factory.mktemp("codes") / "codes"
    line = [INFER, "--input", data, "--output", output, "--video.source", "lerobot", "--data.views", "top"]
    result = run(*line, "--tracking.window_stride", 1, "--save", "latents", "--video.target_fps", "null")
    assert result.status == 3 and result.err.count("ERROR") == 1, result.err
    assert "has 10 frames at 20 fps, expected at least 16" in result.err
    return output


def test_every_frame_of_every_episode_and_camera_is_its_own(data: Path) -> None:
    config = config_of()
    assert tracked_views(data, config) == ["top", "wrist"]  # the depth map is no camera
    clips = find_clips(data, config, tracked_views(data, config))
    assert [clip.name for clip in clips] == ["episode_000000", "episode_000001", "episode_000002"]
    for episode, clip in enumerate(clips):
        videos = open_views(clip, VideoConfig(size=None, target_fps=None))
        for camera, video in zip(CAMERAS, videos, strict=True):
            with video:
                found = list(video)
            true = frames_of(camera, episode, LENGTHS[episode])
            assert [frame.source_frame for frame in found] == list(range(LENGTHS[episode]))
            np.testing.assert_allclose([f.time_s for f in found], np.arange(len(true)) / FPS, atol=1e-9)
            for frame in found:  # AV1 loses a little; the step before and after it are further off
                errors = [np.abs(frame.rgb.astype(int) - rgb).mean() for rgb in true]
                assert int(np.argmin(errors)) == frame.source_frame and min(errors) < 8


def test_a_lower_rate_keeps_the_frame_map(data: Path) -> None:
    (video,) = open_views(find_clips(data, config_of(), ["wrist"])[2], VideoConfig(target_fps=10))
    with video:
        assert [frame.source_frame for frame in video] == list(range(0, LENGTHS[2], 2))
        assert video.info.fps == 10 and video.info.source_fps == FPS


def test_its_videos_are_not_taken_for_clips(data: Path) -> None:
    with pytest.raises(UsageError, match="is a LeRobotDataset, .* give --video.source lerobot"):
        find_clips(data, Config(), ["default"])


def test_a_data_set_without_its_rows_is_not_copied(data: Path, codes: Path, tmp_path: Path) -> None:
    for part in ("meta", "videos"):
        shutil.copytree(data / part, tmp_path / "half" / part)
    with pytest.raises(UsageError, match="half/data: has rows of 0 frames, expected 54"):
        copy_with_codes(tmp_path / "half", read_codes(codes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cameras_may_be_called_otherwise(data: Path) -> None:
    config = config_of(**{"tracking.view_files": {"agentview": CAMERAS[1]}, "data.views": ["agentview"]})
    assert model_views(data, config) == ["agentview"]
    assert "wrist" in str(find_clips(data, config, ["agentview"])[0].views["agentview"].path)
    for keys, words in (
        ({"tracking.view_files": {"front": "observation.images.front"}}, "lacks the camera .*front; cameras"),
        ({"data.views": ["default"]}, "data.views names default, but the input has the views top, wrist"),
    ):
        config = config_of(**keys)
        with pytest.raises(TokenizerError, match=words):
            find_clips(data, config, model_views(data, config))


def test_preprocessing_tracks_all_cameras(run: Run, data: Path, tmp_path: Path) -> None:
    import h5py

    line = [PREPROCESS, "--input", data, "--output", tmp_path / "tracks", "--video.source", "lerobot"]
    line += ["--data.grid_size", 4, "--tracking.num_workers", 1]
    assert run(*line, "--video.size", "{shorter: 48}").status == 3
    statuses = {name: record["status"] for name, record in manifest_of(tmp_path / "tracks").items()}
    assert statuses == {"episode_000000": "done", "episode_000001": "failed", "episode_000002": "done"}
    with h5py.File(tmp_path / "tracks/episode_000000.hdf5") as file:
        assert set(file["root"]) == {"top", "wrist"}
        assert len(file["root/top/tracks"]) == LENGTHS[0] - 15
        assert file["root/top/source_frame"][:].max() == LENGTHS[0] - 1  # none goes over an episode's end


def test_the_copy_has_the_codes_of_every_frame(run: Run, data: Path, codes: Path, tmp_path: Path) -> None:
    arguments = ["--dataset", data, "--codes", codes, "--output", tmp_path / "out"]
    result = run("amplify_motion_tokenizer/__main__.py", "lerobot", "export", *arguments)
    assert result.status == 0, result.err
    windows = sum(max(0, length - 15) for length in LENGTHS)
    assert f"3 episodes, {sum(LENGTHS)} frames, of which {windows} begin a window" in result.out
    check_copy(tmp_path / "out", data, read_codes(codes, latents=True))
    path = REPO / "examples/lerobot_batches.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    chunks = runpy.run_path(str(path))["ActionChunks"](tmp_path / "out")
    assert len(chunks) == windows
    batch = next(iter(DataLoader(chunks, batch_size=windows)))
    assert batch["tokens"].min() >= 0 and batch["actions"].shape == (windows, 16, 2)
    assert batch["mask"].all() and (batch["actions"] == torch.tensor([0.0, 1.0])).all()


def check_copy(out: Path, data: Path, codes: MotionCodeSet) -> None:
    table = pq.read_table(out / "data/chunk-000/file-000.parquet")
    before = pq.read_table(data / "data/chunk-000/file-000.parquet")
    assert table.select(before.column_names).equals(before)
    width = codes["episode_000000"].ids.shape[1]
    assert table.schema.field("motion_tokens").type == pa.list_(pa.int64(), width)
    note = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert note["motion_tokens"] == {
        "feature": {"dtype": "int64", "_type": "Value"},
        "length": width,
        "_type": "List",
    }
    assert note["motion_tokens_valid"] == {"dtype": "bool", "_type": "Value"}
    assert pq.ParquetFile(out / "data/chunk-000/file-000.parquet").num_row_groups == len(LENGTHS)
    for row in table.to_pylist():
        clip = codes.get(f"episode_{row['episode_index']:06d}")  # the second one is too short
        begins = [] if clip is None else clip.source_frames[:, 0].tolist()
        assert row["motion_tokens_valid"] == (row["frame_index"] in begins)
        if row["motion_tokens_valid"]:
            window = begins.index(row["frame_index"])
            assert clip is not None and clip.latents is not None
            assert row["motion_tokens"] == clip.ids[window].tolist()
            assert row["motion_latents"] == clip.latents[window].reshape(-1).tolist()
        else:
            assert row["motion_tokens"] == [-1] * width and not any(row["motion_latents"])
    info = json.loads((out / "meta/info.json").read_text(encoding="utf-8"))
    assert info["features"]["motion_tokens"]["shape"] == [width]
    assert info["features"]["motion_tokens"]["info"]["motion_tokenizer"]["model"] == "codec"
    tokens = np.array(table.column("motion_tokens").to_pylist())
    stats = json.loads((out / "meta/stats.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(stats["motion_tokens"]["mean"], tokens.mean(0))
    assert stats["motion_tokens"]["count"] == [len(tokens)] and stats["action"] == {"min": [-1.0, 0.0]}
    first = pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()[0]
    np.testing.assert_allclose(first["stats/motion_tokens/mean"], tokens[: LENGTHS[0]].mean(0))
    assert first["stats/motion_tokens_valid/count"] == [LENGTHS[0]] and "stats/motion_tokens/q50" not in first
    video = f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4"
    assert (out / video).read_bytes() == (data / video).read_bytes()


def test_segments_become_subtasks(data: Path, codes: Path, tmp_path: Path) -> None:
    segments = {
        "episode_000000": [Segment(0.0, 0.5), Segment(0.5, 0.9), Segment(0.9, 1.2)],
        "episode_000002": [Segment(0.0, 0.3), Segment(0.4, 1.0)],
    }
    copy_with_codes(data, read_codes(codes), tmp_path / "out", segments)
    rows = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet").to_pylist()
    wanted = [0] * 10 + [1] * 8 + [2] * 6 + [0] * LENGTHS[1] + [0] * 8 + [1] * 12
    assert [row["subtask_index"] for row in rows] == wanted
    table = pq.read_table(tmp_path / "out/meta/subtasks.parquet")
    assert table.column("subtask").to_pylist() == ["segment 0", "segment 1", "segment 2"]
    info = json.loads((tmp_path / "out/meta/info.json").read_text(encoding="utf-8"))
    assert info["features"]["subtask_index"] == {"dtype": "int64", "shape": [1], "names": None}
    with pytest.raises(UsageError, match="segments are of clip, of which there are no codes"):
        copy_with_codes(data, read_codes(codes), tmp_path / "other", {"clip": [Segment(0.0, 1.0)]})


@pytest.mark.parametrize("fault", ["exists", "other", "fewer", "longer", "again"])
def test_what_does_not_fit_is_told_and_writes_nothing(
    data: Path, codes: Path, tmp_path: Path, fault: str
) -> None:
    found, out = read_codes(codes), tmp_path / "out"
    words = {"exists": "exists; choose", "other": "are of episode_9 too", "fewer": "lack episode_000002",
             "longer": "tell of frames", "again": "has the feature motion_tokens already"}[fault]  # fmt: skip
    if fault == "exists":
        out.mkdir()
    elif fault in ("other", "fewer"):
        import dataclasses

        kept = list(found.values())[: 1 if fault == "fewer" else 2]
        extra = [dataclasses.replace(kept[0], clip="episode_9")] if fault == "other" else []
        found = MotionCodeSet([*kept, *extra], codes)
    elif fault == "longer":
        data = write_dataset(tmp_path / "data", (20, 10, 20))
    else:
        copy_with_codes(data, found, tmp_path / "first")
        data = tmp_path / "first"
    with pytest.raises(UsageError, match=words):
        copy_with_codes(data, found, out)
    assert not out.exists() or not list(out.iterdir())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def changed_info(root: Path, **keys: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | keys), encoding="utf-8")


def changed_episodes(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        change(row)
    pq.write_table(pa.Table.from_pylist(rows), path)


VIDEO = f"videos/{CAMERAS[0]}"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "meta/info.json").unlink(), "holds no meta/info.json"),
        (lambda root: (root / "meta/info.json").write_text("[" * 100_000), "info.json: is not JSON"),
        (lambda root: changed_info(root, codebase_version="v2.1"), "codebase_version is v2.1, expected v3"),
        (lambda root: changed_info(root, fps=0), "fps is 0; expected frames per second"),
        (lambda root: changed_info(root, video_path="/etc/{video_key}"), "leads out of the data set"),
        (lambda root: changed_info(root, video_path="../{video_key}.mp4"), "leads out of the data set"),
        (lambda root: changed_info(root, video_path="{video_key.__class__}{x}"), "cannot be filled in"),
        (lambda root: changed_info(root, features={}), "has no camera"),
        (lambda root: changed_info(root, video_path=1.5), "video_path is 1.5; expected a text"),
        (lambda root: (root / "meta/episodes/chunk-000/file-000.parquet").write_bytes(b"PAR1"), "as Parquet"),
        (lambda root: (root / "meta/episodes/chunk-000/file-000.parquet").unlink(), "holds no episodes"),
        (lambda root: changed_episodes(root, lambda row: row.update(episode_index=0)), "an episode twice"),
        (lambda root: changed_episodes(root, lambda row: row.update(length=-1)), "length is -1"),
        (
            lambda root: changed_episodes(root, lambda row: row.pop(f"{VIDEO}/file_index")),
            "file_index is None",
        ),
    ],
)
def test_damaged_data_sets_are_told_in_one_line(tmp_path: Path, spoil: Any, words: str) -> None:
    root = write_dataset(tmp_path / "data", (2, 2))
    spoil(root)
    with pytest.raises(TokenizerError, match=words) as caught:
        find_clips(root, config_of(), model_views(root, config_of()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b"no video"), "cannot be opened as a video"),
        (
            lambda path: path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2]),
            "cannot|damaged|ends after",
        ),
    ],
)
def test_damaged_videos_fail_their_episodes(tmp_path: Path, spoil: Any, words: str) -> None:
    root = write_dataset(tmp_path / "data", (4, 12))
    clips = find_clips(root, config_of(), ["top"])
    spoil(root / VIDEO / "chunk-000/file-000.mp4")
    with pytest.raises(VideoError, match=words):
        for video in open_views(clips[1], VideoConfig(size=None)):
            list(video)


@pytest.mark.parametrize("change", [{"length": 40}, {f"{VIDEO}/from_timestamp": 0.13}])
def test_episodes_of_other_frames_than_the_file_has_fail(tmp_path: Path, change: dict[str, Any]) -> None:
    root = write_dataset(tmp_path / "data", (4, 12))
    changed_episodes(root, lambda row: row.update(change))
    (video,) = open_views(find_clips(root, config_of(), ["top"])[1], VideoConfig(size=None))
    if "length" in change:
        with pytest.raises(VideoError, match="ends after 12 frames of 40"):
            list(video)
    else:  # within half a frame of one: that one
        assert len(list(video)) == 12


def test_without_pyarrow_the_install_command_is_told(run: Run, data: Path, tmp_path: Path) -> None:
    block = "import sys; sys.modules['pyarrow'] = None\n"
    block += "from amplify_motion_tokenizer.commands import cli; cli.run('infer')"
    line = ["--input", data, "--output", tmp_path / "codes", "--video.source", "lerobot"]
    result = subprocess.run(
        [sys.executable, "-c", block, *map(str, line)], capture_output=True, text=True, cwd=REPO, check=False
    )
    assert result.returncode == 2 and "pip install 'pyarrow>=17'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not PYTHON, reason="set AMT_LEROBOT_PYTHON to an interpreter that has lerobot")
def test_the_real_package_reads_what_we_wrote(run: Run, tmp_path: Path) -> None:
    reader = REPO / "tests/support/lerobot_reader.py"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}

    def real(what: str, root: Path) -> str:
        return subprocess.run(
            [PYTHON, reader, what, root], capture_output=True, text=True, check=True, env=environment
        ).stdout

    real("make", tmp_path / "data")
    line = [INFER, "--input", tmp_path / "data", "--output", tmp_path / "codes", "--video.source", "lerobot"]
    assert run(*line, "--data.views", "top", "--tracking.window_stride", 1, "--save", "latents").status == 0
    codes = read_codes(tmp_path / "codes", latents=True)
    segments = {name: [Segment(0.0, 0.5), Segment(0.5, 9.0)] for name in codes}
    copy_with_codes(tmp_path / "data", codes, tmp_path / "out", segments)
    told = json.loads(real("read", tmp_path / "out"))
    rows = told["rows"]
    assert len(rows["frame_index"]) == 72 and sum(rows["motion_tokens_valid"]) == 9 + 3 + 15
    for index, episode in enumerate(rows["episode_index"]):
        clip = codes[f"episode_{episode:06d}"]
        begins = clip.source_frames[:, 0].tolist()
        if rows["motion_tokens_valid"][index]:
            window = begins.index(rows["frame_index"][index])
            assert rows["motion_tokens"][index] == clip.ids[window].tolist()
        else:
            assert rows["frame_index"][index] not in begins
    assert rows["subtask"] == [f"segment {int(frame >= 10)}" for frame in rows["frame_index"]]
    config = config_of()
    means = {name: [] for name in ("top", "wrist")}  # type: dict[str, list[float]]
    for clip in find_clips(tmp_path / "data", config, ["top", "wrist"]):
        for name, video in zip(means, open_views(clip, VideoConfig(size=None, target_fps=None)), strict=True):
            means[name] += [float(frame.rgb.mean() / 255) for frame in video]
    for name, found in means.items():
        np.testing.assert_allclose(found, told["means"][name], atol=1e-5)
