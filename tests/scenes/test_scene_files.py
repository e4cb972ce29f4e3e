"""The command that writes rendered clips, and truth files: readable, comparable, trainable."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.codes.inference import tokenize_folder
from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.commands import scenes as command
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import load_yaml
from amplify_motion_tokenizer.errors import UsageError, VideoError
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.scenes import writing
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.formats import track_format
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.training.run import train
from amplify_motion_tokenizer.video import writing as video_writing
from tests.support.run_scripts import ENVIRONMENT, REPO

KINDS = ["pan", "mixed", "still"]
# What the tiny config needs: T = 6, a 3 x 3 grid and every second window at 10 fps.
TRUTH = ["--truth", "--windows", "6", "--stride", "2", "--grid", "3"]


def run_command(*arguments):
    line = [sys.executable, "-m", "amplify_motion_tokenizer", "scenes", *map(str, arguments)]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(REPO)}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, cwd=REPO)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    arguments = ["--output", folder, "--clips", "4", "--kinds", *KINDS, "--seed", "7"]
    arguments += ["--size", "48x64", "--frames", "13", "--fps", "10", *TRUTH]
    result = run_command(*arguments)
    assert result.returncode == 0, result.stderr
    return folder


def names_in(folder, pattern="*"):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(pattern) if path.is_file())


def test_the_command_writes_clips_and_their_truth(rendered):
    clips = ["000_pan", "001_mixed", "002_still", "003_pan"]
    said = ["scenes.yaml", "truth/scenes.yaml"]
    written = [f"{clip}.mp4" for clip in clips] + [f"truth/{clip}.hdf5" for clip in clips]
    assert names_in(rendered) == sorted(written + said)
    assert load_yaml(rendered / "scenes.yaml")["seed"] == 7
    capture = cv2.VideoCapture(str(rendered / "001_mixed.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    frames = []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB).astype(float))
    video, _ = scenes.render_clip("mixed", (7, 1), (48, 64), 13)
    assert len(frames) == 13 and np.abs(np.stack(frames) - video).mean() < 12


def test_truth_files_are_track_files(rendered):
    files = find_tracks(rendered / "truth")
    assert list(files) == ["000_pan", "001_mixed", "002_still", "003_pan"]
    file = files["001_mixed"]
    assert (file.num_windows, file.length, file.num_points, file.sizes) == (4, 6, 9, [(48, 64)])
    with file.open() as handle:
        ((tracks, visibility),) = file.read(handle, range(4))
        assert handle["root/default/start_frame"][:].tolist() == [0, 2, 4, 6]
        assert np.allclose(handle["root/default/start_time"][:], [0, 0.2, 0.4, 0.6])
        camera = handle["root/default/camera"][2]
    scene = scenes.make_scene("mixed", (7, 1), (48, 64), 13)
    queries = query_grid("row_major", 3, (48, 64))
    truth, visible = scene.truth(queries, 4, 6)
    assert np.array_equal(tracks[2], truth.astype(np.float32))
    on_background = scene.top_layer(queries.astype(float), 4) == 0
    moved = np.einsum("tij,nj->tni", camera, np.concatenate([queries, np.ones((9, 1))], axis=1))
    assert on_background.sum() > 4
    assert np.allclose((moved[..., :2] / moved[..., 2:])[:, on_background], truth[:, on_background])
    assert np.abs(truth[-1] - truth[0]).max() > 1
    assert np.array_equal(visibility[2], visible) and set(np.unique(visibility)) <= {0, 1}


def test_truth_files_say_what_they_are(rendered):
    file = find_tracks(rendered / "truth")["001_mixed"]
    said = file.attributes
    assert (said["scene_kind"], said["motion_class"], list(said["scene_seed"])) == ("mixed", "mixed", [7, 1])
    assert (said["tracker"], said["fps"], said["num_frames"]) == ("truth", 10, 13)
    assert (said["source_height"], said["source_width"], said["windows_dropped"]) == (48, 64, 0)
    assert file.settings == json.loads(said["settings"]) and "tracking.tracker" not in file.settings
    assert track_format("hdf5").is_complete(file.path, file.settings, rendered / "001_mixed.mp4")


def test_a_tracker_gets_the_windows_and_queries_of_the_truth(rendered, tiny: Config, tmp_path):
    preprocess_folder(rendered, tmp_path, tiny)
    tracked, truth = find_tracks(tmp_path), find_tracks(rendered / "truth")
    assert list(tracked) == list(truth)
    for name, file in truth.items():
        other = tracked[name]
        assert (other.sizes, other.num_windows) == (file.sizes, file.num_windows)
        for key in ("tracking.window_stride", "tracking.query_order", "video.target_fps", "data.grid_size"):
            assert other.settings[key] == file.settings[key]
        with other.open() as found, file.open() as expected:
            starts, queries = (
                [handle["root/default"][key][:] for handle in (found, expected)]
                for key in ("start_frame", "tracks")
            )
        assert np.array_equal(*starts) and np.array_equal(queries[0][:, 0], queries[1][:, 0])


def test_truth_can_be_trained_on_and_the_model_run_on_videos(rendered, tiny: Config, tmp_path):
    train(
        tiny,
        rendered / "truth",
        tmp_path / "run",
    )
    checkpoint = load_checkpoint(tmp_path / "run" / "best.pth")
    settings = find_tracks(rendered / "truth")["000_pan"].settings
    assert checkpoint.track_settings == settings
    assert checkpoint.config.video.size is None and checkpoint.config.tracking.tracker == "flow"
    summary = tokenize_folder(rendered, tmp_path / "codes", checkpoint, checkpoint.config)
    assert (summary.done, summary.failed, summary.windows) == (4, 0, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "33x64"], "even"),
        (["--clips", "0"], "above 0"),
        (["--frames", "-1"], "above 0"),
        (["--kinds", "pan", "spin"], "'spin'; allowed: pan, zoom"),
        (["--truth", "--frames", "15"], "no window of 16"),
        (["--truth", "--stride", "0"], "stride 0"),
    ],
)
def test_impossible_options_are_told_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        command.main(["--output", str(tmp_path / "out"), *options])
    assert not (tmp_path / "out").exists()


def test_no_truth_is_left_beside_another_clip(tmp_path):
    """Without --truth nothing starts; with it the truth is that of the new clips."""
    line = ["--output", str(tmp_path), "--clips", "2", "--kinds", "pan", "--size", "48x64", "--frames", "8"]
    command.main([*line, *TRUTH])
    before = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    with pytest.raises(UsageError, match=r"truth/000_pan\.hdf5 .*\(2 such files\).* --truth .* --output"):
        command.main([*line, "--seed", "1"])
    assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == before
    command.main([*line, "--seed", "1", *TRUTH])
    said = [list(file.attributes["scene_seed"]) for file in find_tracks(tmp_path / "truth").values()]
    assert said == [[1, 0], [1, 1]]
    (tmp_path / "truth" / "000_pan.hdf5").unlink()
    (tmp_path / "truth" / "001_pan.hdf5").unlink()
    command.main([*line, "--kinds", "still"])
    assert names_in(tmp_path, "0*") == ["000_pan.mp4", "000_still.mp4", "001_pan.mp4", "001_still.mp4"]


def test_a_kill_between_clip_and_truth_leaves_no_truth_of_another(tmp_path, monkeypatch):
    line = ["--output", str(tmp_path), "--clips", "1", "--kinds", "pan", "--size", "48x64", "--frames", "8"]
    command.main([*line, *TRUTH])
    monkeypatch.setattr(writing, "write_truth", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        command.main([*line, "--seed", "1", *TRUTH])
    assert names_in(tmp_path, "0*") == ["000_pan.mp4"]


def test_a_size_that_is_none_is_told_in_words():
    with pytest.raises(UsageError, match="'big' is no HEIGHTxWIDTH in pixels, such as 240x320"):
        command.main(["--output", "x", "--size", "big"])


def test_an_error_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scenes", "--output", str(tmp_path), "--kinds", "spin"])
    with pytest.raises(SystemExit) as exit_:
        cli.run("scenes")
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and error.count("\n") == 1
    assert error.startswith("error: there is no kind of scene 'spin'")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    class Closed:
        fourcc = cv2.VideoWriter.fourcc

        def __init__(self, *_):
            pass

        def isOpened(self):  # noqa: N802
            return False

    monkeypatch.setattr(video_writing.cv2, "VideoWriter", Closed)
    with pytest.raises(VideoError, match="x.mp4: OpenCV cannot write an mp4 file of 32x36 at 20 frames"):
        scenes.write_clip(tmp_path / "x.mp4", np.zeros((1, 36, 32, 3), np.uint8), 20)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("size", "fps"), [((32, 8192), 20), ((8192, 32), 20), ((32, 32), np.inf)])
def test_what_mpeg4_does_not_hold_is_told_with_size_and_rate(tmp_path, capfd, size, fps):
    with pytest.raises(VideoError, match=rf"x.mp4: frames of {size[1]}x{size[0]} at {fps} per second"):
        scenes.write_clip(tmp_path / "x.mp4", np.zeros((1, *size, 3), np.uint8), fps)
    with pytest.raises(VideoError, match=r"x.mp4: frames of 32x32 at 0.0001 per second"):
        scenes.write_clip(tmp_path / "x.mp4", np.zeros((1, 32, 32, 3), np.uint8), 1e-4)
    assert not list(tmp_path.iterdir()) and capfd.readouterr().err == ""


@pytest.mark.parametrize(("fps", "written"), [(29.9701, 29.97), (1000 / 15, 66.67), (5000 / 7, 714.3)])
def test_rates_of_many_decimals_are_written(tmp_path, fps, written):
    scenes.write_clip(tmp_path / "x.mp4", np.zeros((3, 32, 32, 3), np.uint8), fps)
    assert cv2.VideoCapture(str(tmp_path / "x.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(written)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--fps", "nan"], "fps is nan; expected 0.1 to 1000"),
        (["--fps", "inf"], "fps is inf; expected 0.1 to 1000"),
        (["--fps", "0.001"], "fps is 0.001; expected 0.1 to 1000"),
        (["--seed", "-1"], "seed is -1; expected 0 or more"),
        (["--size", "32x10000"], "size 32x10000 cannot be written; .* from 32 to the 8190 pixels"),
        (["--size", "20000x20000"], "size 20000x20000 cannot be written"),
        (["--size", "8000x8000"], "64 frames of 8000x8000 are more than the 4 GiB"),
    ],
)
def test_impossible_scenes_are_refused(tmp_path, arguments, match):
    with pytest.raises(UsageError, match=match):
        command.main(["--output", str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()
