"""The evaluate command: what it matches, what it prints and writes, what it refuses."""

import dataclasses
import json
import logging
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.commands.evaluate import main
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation.against_truth import VideoScore, _same_points, evaluate_tracks
from amplify_motion_tokenizer.evaluation.tables import report, table
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.letterbox import content_grid, letterbox, unpadded
from amplify_motion_tokenizer.scenes import make_scene, render_clip, write_clip
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.clips import ClipInfo
from benchmarks import tracking
from tests.support.run_scripts import Run, run_process
from tests.support.tracked import clip_record_of

SIZE = (96, 128)
"""The sources' (height, width)."""

Change = Callable[[WindowTracks], WindowTracks]


def true_windows(config: Config, kind: str, frames: int = 14) -> list[WindowTracks]:
    scene = make_scene(kind, 3, SIZE, frames)
    length = config.data.sequence_length
    queries = query_grid("row_major", config.data.grid_size, SIZE)
    windows = []
    for start in range(0, frames - length + 1, config.tracking.window_stride):
        tracks, visible = scene.truth(queries, start)
        tracks, visible = tracks[:length].astype(np.float32), visible[:length].astype(np.float32)
        windows.append(WindowTracks(start, start / 10, tracks, visible))
    return windows


def write_file(path: Path, config: Config, windows: list[WindowTracks], frames=SIZE, **attributes) -> Path:
    with TrackFileWriter(path, clip_record_of(config), frames) as writer:
        for window in windows:
            writer.append(*[window] * (1 if isinstance(frames, tuple) else len(frames)))
        writer.finish(num_frames=14, windows_dropped=0)
    with h5py.File(path, "a") as file:
        file["root"].attrs.update(attributes)
    return path


@pytest.fixture
def truth(tmp_path: Path, tiny: Config) -> Path:
    for kind in ("pan", "movers"):
        path = tmp_path / "truth" / "sub" / f"{kind}.hdf5"
        write_file(path, tiny, true_windows(tiny, kind), scene_kind=kind)
    return tmp_path / "truth"


def write_changed(folder: Path, config: Config, change: Change, kinds=("pan", "movers"), frames=SIZE) -> Path:
    for kind in kinds:
        windows = [change(window) for window in true_windows(config, kind)]
        write_file(folder / "sub" / f"{kind}.hdf5", config, windows, frames)
    return folder


def moved(window: WindowTracks, tracks, order=None) -> WindowTracks:
    points = slice(None) if order is None else order
    visibility = window.visibility[:, points]
    return WindowTracks(window.start, window.time_s, tracks[:, points].astype(np.float32), visibility)


def overall(scores: list[VideoScore]) -> dict[str, float]:
    return report(scores)["overall"]["tracks"]


def test_the_truth_itself_is_perfect(truth: Path) -> None:
    scores = evaluate_tracks(truth, truth)
    assert [(score.clip, score.kind, score.view) for score in scores] == [
        ("sub/movers", "movers", "default"),
        ("sub/pan", "pan", "default"),
    ]
    assert all(score.windows == score.true_windows == 5 for score in scores)
    result = overall(scores)
    assert result.pop("mean_error_px") == 0 and set(result.values()) == {1.0}
    assert report(scores)["kinds"]["pan"]["no_motion"]["delta_avg"] < 0.9


def test_a_constant_error_is_measured_in_the_truths_pixels(truth: Path, tmp_path: Path, tiny: Config) -> None:
    # 3 px of 96 rows are 8 of 256: within 16 alone. The query stays, so only later frames are off.
    def down(window: WindowTracks) -> WindowTracks:
        return moved(window, window.tracks_xy_px + np.float32([0, 3]) * (np.arange(6) > 0)[:, None, None])

    result = overall(evaluate_tracks(write_changed(tmp_path / "off", tiny, down), truth))
    assert result["mean_error_px"] == pytest.approx(3, abs=1e-4)
    assert [result[f"pts_within_{px}"] for px in (1, 4, 16)] == [0, 0, 1]


def half_size_uniform(window: WindowTracks) -> WindowTracks:
    order = np.arange(9).reshape(3, 3).T.ravel()
    return moved(window, window.tracks_xy_px * np.float32([0.5, 0.25]), order)


def test_tracked_size_and_order_of_the_grid_may_differ(truth: Path, tmp_path: Path, tiny: Config) -> None:
    tracks = write_changed(tmp_path / "half", tiny, half_size_uniform, frames=(24, 64))
    result = overall(evaluate_tracks(tracks, truth))
    assert result["mean_error_px"] < 1e-5 and result["average_jaccard"] == 1


@pytest.mark.parametrize("target", [(64, 64), (128, 90), (96, 128)])
def test_padding_is_taken_off(truth: Path, tmp_path: Path, tiny: Config, target: tuple[int, int]) -> None:
    box = letterbox(SIZE, target)
    corner = content_grid("row_major", 1, box)[0] - np.float32(box.content_size[::-1]) / 2

    def boxed(window: WindowTracks) -> WindowTracks:
        return moved(
            window, window.tracks_xy_px * np.float32(box.content_size[::-1]) / np.float32(SIZE[::-1]) + corner
        )

    info = ClipInfo(
        path=tmp_path, reader="", source_fps=10, fps=10, source_size=SIZE, size=target, letterbox=box
    )
    tracks = write_changed(tmp_path / "boxed", tiny, boxed, frames={"default": info})
    result = overall(evaluate_tracks(tracks, truth))
    assert result["mean_error_px"] < 1e-4 and result["average_jaccard"] == 1


def test_visibility_becomes_a_bit_at_the_threshold(truth: Path, tmp_path: Path, tiny: Config) -> None:
    def unsure(window: WindowTracks) -> WindowTracks:
        return WindowTracks(window.start, 0.0, window.tracks_xy_px, window.visibility * np.float32(0.6))

    tracks = write_changed(tmp_path / "unsure", tiny, unsure)
    assert overall(evaluate_tracks(tracks, truth, 0.5))["average_jaccard"] == 1
    assert overall(evaluate_tracks(tracks, truth, 0.7))["average_jaccard"] == 0
    assert overall(evaluate_tracks(tracks, truth, 0.7))["delta_avg"] == 1


def test_windows_are_matched_by_their_start(truth: Path, tmp_path: Path, tiny: Config) -> None:
    for kind in ("pan", "movers"):
        some = [true_windows(tiny, kind)[row] for row in (3, 1)]
        write_file(tmp_path / "some" / "sub" / f"{kind}.hdf5", tiny, some)
    scores = evaluate_tracks(tmp_path / "some", truth)
    assert [(score.windows, score.true_windows) for score in scores] == [(2, 5)] * 2
    assert overall(scores)["delta_avg"] == 1
    assert "2 of 5" in table(report(scores))


def test_a_clip_of_which_the_gate_left_nothing_has_no_numbers(
    truth: Path, tmp_path: Path, tiny: Config
) -> None:
    tracks = write_changed(tmp_path / "gated", tiny, lambda window: window, kinds=["pan"])
    write_file(tracks / "sub" / "movers.hdf5", tiny, [])
    content = report(evaluate_tracks(tracks, truth))
    assert content["kinds"]["movers"]["windows"] == 0
    assert np.isnan(content["kinds"]["movers"]["tracks"]["delta_avg"])
    assert content["overall"]["tracks"]["delta_avg"] == 1
    (row,) = [line.split() for line in table(content).splitlines() if line.startswith("movers")]
    assert row[-4:] == ["-"] * 4


def test_views_are_scored_each(tmp_path: Path, tiny: Config) -> None:
    info = ClipInfo(
        path=tmp_path, reader="", source_fps=10, fps=10, source_size=SIZE, size=SIZE,
        letterbox=unpadded(SIZE, SIZE),
    )  # fmt: skip
    windows = true_windows(tiny, "pan")
    write_file(tmp_path / "truth/a.hdf5", tiny, windows, {"front": info, "wrist": info})
    write_file(tmp_path / "tracks/a.hdf5", tiny, windows, {"wrist": info, "front": info})
    write_file(tmp_path / "other/a.hdf5", tiny, windows, {"wrist": info, "top": info})
    scores = evaluate_tracks(tmp_path / "tracks", tmp_path / "truth")
    assert [(score.view, score.kind) for score in scores] == [("front", "a"), ("wrist", "a")]
    with pytest.raises(TrackFileError, match=r"a\.hdf5: holds the views top, wrist, expected front, wrist"):
        evaluate_tracks(tmp_path / "other", tmp_path / "truth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequence_length": 5}, "has 5 frames in a window, expected 6"),
        ({"grid_size": 4}, "has 16 points, expected 9"),
    ],
)
def test_other_windows_are_refused(
    truth: Path, tmp_path: Path, tiny: Config, changes: dict[str, int], message: str
) -> None:
    other = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, **changes))
    write_changed(tmp_path / "other", other, lambda window: window)
    with pytest.raises(TrackFileError, match=rf"other/sub/movers\.hdf5: {message} as in .*; set data\."):
        evaluate_tracks(tmp_path / "other", truth)


def test_other_rates_starts_and_queries_are_refused(truth: Path, tmp_path: Path, tiny: Config) -> None:
    def refused(message: str, change: Change = lambda window: window, **attributes: float) -> None:
        folder = write_changed(tmp_path / "other", tiny, change)
        with h5py.File(folder / "sub/movers.hdf5", "a") as file:
            file["root"].attrs.update(attributes)
        with pytest.raises(TrackFileError, match=message):
            evaluate_tracks(folder, truth)

    refused("tracked at 20 frames per second, expected 10 as in .*set video.target_fps", fps=20.0)
    refused(
        r"windows start at the frames 1, 3, 5 \.\.\., none at a start of .*, 0, 2, 4 \.\.\.; set tracking",
        lambda window: WindowTracks(window.start + 1, 0.0, window.tracks_xy_px, window.visibility),
    )
    refused("its queries differ from the queries of", lambda window: moved(window, window.tracks_xy_px + 3))


def test_points_of_a_dense_grid_are_matched_in_little_memory() -> None:
    rng, side = np.random.default_rng(0), 150
    true = ((np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2) + 0.5) / side).astype(np.float64)
    true = np.concatenate([true, [[0.0, 1.0], [0.0004, 1.0], [-0.0002, 1.0]]])[None]  # several in a cell
    mixed = rng.permutation(true.shape[1])
    queries = true[:, mixed] + rng.uniform(-1e-4, 1e-4, true.shape)
    tracemalloc.start()
    order = _same_points(queries, true, Path("a"), Path("b"))
    assert tracemalloc.get_traced_memory()[1] < 100 * queries.nbytes
    tracemalloc.stop()
    assert np.array_equal(mixed[order], np.arange(true.shape[1]))
    for wrong in (true + 0.002, np.repeat(true[:, :1], true.shape[1], axis=1)):
        few = wrong[:, :500], true[:, :500]
        with pytest.raises(
            TrackFileError, match=r"one lies [0-9.]+ of the frame's side off, expected 0\.001"
        ):
            _same_points(*few, Path("a"), Path("b"))


def test_missing_tracks_are_refused_and_missing_truth_is_told(
    truth: Path, tmp_path: Path, tiny: Config, caplog: pytest.LogCaptureFixture
) -> None:
    tracks = write_changed(tmp_path / "tracks", tiny, lambda window: window, kinds=["movers"])
    with pytest.raises(TrackFileError, match=r"lacks sub/pan\.hdf5 \(1 of the 2 clips"):
        evaluate_tracks(tracks, truth)
    assert len(evaluate_tracks(truth, tracks)) == 1
    assert "holds 1 clips without truth, such as sub/pan" in caplog.text


def test_the_command_on_a_tracked_clip(tmp_path: Path, tiny: Config) -> None:
    video, _ = render_clip("pan", 3, SIZE, 14)
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / "pan.mp4", video, 10)
    preprocess_folder(tmp_path / "videos", tmp_path / "tracks", tiny)
    write_file(tmp_path / "truth" / "pan.hdf5", tiny, true_windows(tiny, "pan"), motion_class="sideways")
    line = [sys.executable, "-m", "amplify_motion_tokenizer", "evaluate", "tracking"]
    line += ["--tracks", tmp_path / "tracks", "--truth", tmp_path / "truth"]
    result = run_process(*line, "--json", tmp_path / "scores.json")
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].split()[:4] == ["kind", "prediction", "clips", "windows"]
    assert [line.split()[0] for line in lines[1:]] == ["sideways", "no", "overall", "no"]
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["visibility"] == 0.5 and content["overall"]["windows"] == 5
    assert content["videos"][0]["clip"] == "pan"
    followed, still = (content["kinds"]["sideways"][name] for name in ("tracks", "no_motion"))
    assert followed["delta_avg"] > still["delta_avg"] + 0.05
    assert followed["mean_error_px"] < still["mean_error_px"] / 2
    assert f"{followed['delta_avg']:.3f}" in lines[1] and f"{still['delta_avg']:.3f}" in lines[2]


def test_bad_input_is_told(truth: Path, tmp_path: Path, tiny: Config) -> None:
    with pytest.raises(UsageError, match="--visibility is 2; expected above 0"):
        main(["tracking", "--tracks", str(truth), "--truth", str(truth), "--visibility", "2"])
    (tmp_path / "velocities").mkdir()
    torch.save(torch.zeros(5, 9, 2), tmp_path / "velocities" / "clip_start000000.pt")
    with pytest.raises(TrackFileError, match="holds velocities of windows; expected track files"):
        evaluate_tracks(tmp_path / "velocities", truth)
    path = truth / "sub" / "pan.hdf5"
    with h5py.File(path, "a") as file:
        del file["root/default"].attrs["height"]
    with pytest.raises(TrackFileError, match=r"pan\.hdf5: does not say the size that was tracked"):
        evaluate_tracks(truth, truth)


def test_an_error_ends_the_bars_line(
    truth: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shutil.copytree(truth, tmp_path / "other")
    with h5py.File(tmp_path / "other" / "sub" / "pan.hdf5", "a") as file:
        del file["root/default"].attrs["height"]
    with pytest.raises(TrackFileError) as caught:
        evaluate_tracks(tmp_path / "other", truth)
    assert caught.traceback  # holds the frames, and so a bar that was left open
    err = capsys.readouterr().err
    assert "clip" in err and err.endswith("\n")


def test_the_benchmark_takes_what_can_be_tracked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, _ = render_clip("pan", 3, SIZE, 9)
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / "pan.mp4", video, 10)
    shutil.move(tmp_path / "videos" / "pan.mp4", tmp_path / "videos" / "pan.m4v")
    write_clip(tmp_path / "videos" / "short.mp4", video[:3], 10)
    line = ["--length", "6", "--stride", "3", "--grid", "3", "--trackers", "lucas-kanade", "--input"]
    with pytest.warns(UserWarning, match="below video.target_fps"):
        tracking.main([*line, str(tmp_path / "videos")])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[:2] for row in rows] == [["pan", "lucas-kanade"], ["short", "is"]]
    with pytest.raises(SystemExit):
        tracking.main([*line, str(tmp_path / "none")])
    assert f"error: input {tmp_path / 'none'} does not exist" in capsys.readouterr().err


def test_the_benchmark_of_trackers(run: Run, tmp_path: Path) -> None:
    line = ["--kinds", "pan", "--seeds", 0, "--steps", 2, "--frames", 8, "--length", 6, "--stride", 2]
    line += ["--size", "96x128", "--grid", 5, "--json", tmp_path / "table.json"]
    result = run("benchmarks/tracking.py", *line)
    assert result.status == 0, result.err
    rows = {
        row["tracker"]: row
        for row in json.loads((tmp_path / "table.json").read_text())
        if row["kind"] == "pan"
    }
    assert len(rows) >= 3 and len(result.out.splitlines()) == 2 + 2 * len(rows)
    still = rows.pop("no motion")
    assert "windows_per_cpu_s" not in still
    for row in rows.values():
        assert row["delta_avg"] > still["delta_avg"] + 0.1
        assert row["frames_per_cpu_s"] == pytest.approx(4 * row["windows_per_cpu_s"])
