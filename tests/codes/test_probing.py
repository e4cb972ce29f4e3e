"""Probes of codes: what labels say of windows, and what the command tells of clips whose motion is known."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, MotionCodeSet, Tokenizer, load_tokenizer, write_codes
from amplify_motion_tokenizer.codes.probing.datasets import MOTION, MOVES, SLOWEST, SPEED, read_labels
from amplify_motion_tokenizer.codes.probing.features import parts_of, velocities, windows_of
from amplify_motion_tokenizer.codes.probing.labels import ClipLabels
from amplify_motion_tokenizer.codes.probing.probing import CHANCE, probe_codes, rows_of
from amplify_motion_tokenizer.commands import evaluate
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation import plain_coders
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes import TruthWindows, make_scene, write_clips
from amplify_motion_tokenizer.tracks.find import find_recorded
from tests.support.lerobot_data import write_dataset
from tests.support.moving_codes import GRID, LENGTH, SIZE, codes_of, pan

pytest.importorskip("sklearn")

STARTS = [0, 8]
RIGHT = {f"task_{number % 4}/{number:02d}": speed for number, speed in enumerate(np.linspace(-2, 2, 16))}
"""Clips and how many pixels a frame they move to the right; four of each task, both ways in each."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("transform", device="cpu")


@pytest.fixture(scope="module")
def codes(tokenizer: Tokenizer) -> MotionCodeSet:
    return MotionCodeSet(
        codes_of(tokenizer, clip, [pan(speed)] * 23, STARTS) for clip, speed in RIGHT.items()
    )


def labels_of(moves: bool = True) -> dict[str, Any]:
    """Of each clip its way, its task and, by frame, where it is."""
    return {
        clip: {"way": "right" if speed > 0 else "left", "task": clip.split("/")[0]}
        | ({"place": [[5 + speed * frame] for frame in range(24)]} if moves else {})
        for clip, speed in RIGHT.items()
    }


def test_the_command_tells_what_linear_maps_read(
    codes: MotionCodeSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_codes(tmp_path / "codes.jsonl", codes)
    (tmp_path / "labels.json").write_text(json.dumps(labels_of()))
    line = ["probe", "--codes", str(tmp_path / "codes.jsonl"), "--labels", str(tmp_path / "labels.json")]
    assert evaluate.main([*line, "--seeds", "2", "--json", str(tmp_path / "probes.json")]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert "way (accuracy, by clip)  place (error, by clip)  place (error, by task)" in head
    assert [row.split("  ")[0] for row in rows] == ["ids", "latents", "decoded velocities", CHANCE]
    probes = json.loads((tmp_path / "probes.json").read_text())["probes"]
    means = {(each["target"], each["by"], each["numbers"]): each["mean"] for each in probes}
    # Velocities tell moves exactly, as far as they are rounded; and of a way, all but the slowest clips.
    assert means["place", "clip", "decoded velocities"] < 0.02
    assert means["place", "task", "decoded velocities"] < 0.02
    assert means["way", "clip", "decoded velocities"] > 0.8
    assert means["place", "clip", CHANCE] > 0.7
    assert ("way", "task", "ids") not in means  # classes are told of clips alone
    assert {each["windows"] for each in probes} == {32}
    assert {(each["by"], each["groups"]) for each in probes} == {("clip", 16), ("task", 4)}
    assert {len(each["values"]) for each in probes} == {2}


def test_tracks_that_codes_were_made_of_are_probed_beside_them(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plain_coders, "FIT_WINDOWS", 200)
    write_clips(tmp_path, 8, 0, (48, 64), 18, 20, ("pan", "still"), TruthWindows(LENGTH, 2, GRID))
    recorded, made = find_recorded(tmp_path / "truth"), []
    for name, clip in recorded.items():
        with clip.open() as file:
            tracks, seen = clip.read(file, [0, 1])[0]
        made.append(tokenizer.encode_tracks(tracks, seen, size=(48, 64), fps=20, starts=[0, 2], clip=name))
    codes = MotionCodeSet(made)
    labels = read_labels(tmp_path / "truth", codes)
    found = probe_codes(codes, tokenizer, labels, recorded, seeds=1)
    widths = {each.numbers: each.width for each in found}
    assert widths == {
        "ids": 448, "latents": 64, "decoded velocities": 64, "PCA ids": 448, "PCA codes, decoded": 64,
        "raw velocities": 64, "raw velocities, PCA": 64, "raw velocities, fine": 1000, CHANCE: 0,
    }  # fmt: skip
    assert {each.target for each in found} == {MOTION, SPEED}
    assert f"left out: the target {MOVES} is the same in all windows that count" in caplog.text
    told = {each.numbers: each.mean for each in found if each.target == MOTION}
    assert (told["ids"], told["PCA ids"]) == (1, 1)
    assert len(rows_of(found)) == 1 + len(widths)
    with pytest.raises(TrackFileError, match="lacks the window at frame 1; give the tracks that the codes"):
        windows_of(recorded["000_pan"], codes_of(tokenizer, "000_pan", [pan(1)] * 18, [0, 1]))
    del recorded["007_still"]
    with pytest.raises(TrackFileError, match="--tracks: lack 007_still"):
        probe_codes(codes, tokenizer, labels, recorded)


def test_the_truth_of_scenes_tells_class_and_speed(tmp_path: Path) -> None:
    write_clips(tmp_path, 3, 5, (48, 64), 18, 20, ("pan", "movers", "still"), TruthWindows(16, 2, 20))
    labels = read_labels(tmp_path / "truth", [])
    assert {name: dict(each.of_clip) for name, each in labels.items()} == {
        "000_pan": {MOTION: "pan", MOVES: "camera"},
        "001_movers": {MOTION: "movers", MOVES: "objects"},
        "002_still": {MOTION: "still", MOVES: ""},
    }
    speeds = {name: each.of_windows[SPEED] for name, each in labels.items()}
    assert {name: list(each) for name, each in speeds.items()} == dict.fromkeys(speeds, [0, 2])
    assert set(speeds["002_still"].values()) == {np.log2(SLOWEST)}
    scene = make_scene("pan", (5, 0), (48, 64), 18)
    tracks, seen = scene.truth(query_grid("row_major", 20, (48, 64)), 2, 16)
    squares = [
        ((tracks[step + 1, point] - tracks[step, point]) ** 2).sum() / 48**2
        for step in range(15)
        for point in range(400)
        if seen[step, point] and seen[step + 1, point]
    ]
    assert speeds["000_pan"][2] == pytest.approx(0.5 * np.log2(np.mean(squares)), abs=1e-4)


def some_codes(tokenizer: Tokenizer, clip: str, starts: tuple[int, ...] = (0, 4)) -> MotionCodes:
    return codes_of(tokenizer, clip, [pan(1)] * 23, starts)


def test_files_of_labels_say_what_windows_show(tokenizer: Tokenizer, tmp_path: Path) -> None:
    codes = some_codes(tokenizer, "a")  # of the frames 0 to 15 and 4 to 19
    frames = list(range(24))
    said = {"a": {"class": "up", "size": 3, "x": [frame**2 for frame in frames], "task": "t"}}
    said["a"]["step"] = ["reach" if frame < 17 else "grasp" for frame in frames]
    (tmp_path / "labels.json").write_text(json.dumps(said))
    labels = read_labels(tmp_path / "labels.json", [])["a"]
    found = labels.targets(codes, summed=False)
    assert {name: each.tolist() for name, each in found.items()} == {
        "class": ["up", "up"], "size": [[3], [3]], "x": [[15**2], [19**2 - 4**2]], "step": ["reach", ""],
    }  # fmt: skip
    summed = labels.targets(codes, summed=True)["x"].tolist()
    assert summed == [[sum(f**2 for f in range(15))], [sum(f**2 for f in range(4, 19))]]
    assert labels.task == "t"
    lines = [f"a,{frame},t,{frame**2},{said['a']['step'][frame]}" for frame in reversed(frames)]
    (tmp_path / "labels.csv").write_text("clip,frame,task,x,step\n" + "\n".join(lines) + "\n")
    table = read_labels(tmp_path / "labels.csv", [])["a"]
    again = table.targets(codes, summed=False)
    assert {name: each.tolist() for name, each in again.items()} == {
        name: found[name].tolist() for name in ("x", "step")
    }
    assert table.task == "t"
    (tmp_path / "clips.csv").write_text("clip,class,size\na,1st,3\nb,2,4.5\n")
    clips = read_labels(tmp_path / "clips.csv", [])
    assert {name: dict(each.of_clip) for name, each in clips.items()} == {
        "a": {"class": "1st", "size": 3.0}, "b": {"class": "2", "size": 4.5},
    }  # fmt: skip


def test_parquet_says_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = {"clip": ["a"] * 20, "frame": list(range(20)), "xy": [[f, 2 * f] for f in range(20)]}
    pq.write_table(pa.table(rows), tmp_path / "labels.parquet")
    found = read_labels(tmp_path / "labels.parquet", [])["a"].targets(some_codes(tokenizer, "a"), False)
    assert found["xy"].tolist() == [[15, 30], [15, 30]]


def test_robots_tell_moves_and_tasks(tokenizer: Tokenizer, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    root = write_dataset(tmp_path / "lerobot")
    labels = read_labels(root, [], "action")
    assert {name: len(each.of_frames["action"]) for name, each in labels.items()} == {
        "episode_000000": 24, "episode_000001": 10, "episode_000002": 20,
    }  # fmt: skip
    assert {each.task for each in labels.values()} == {"move"}
    codes = some_codes(tokenizer, "episode_000000")
    assert labels["episode_000000"].targets(codes, True)["action"].tolist() == [[0, 15], [0, 15]]
    assert read_labels(root, [], "action", [1])["episode_000000"].targets(codes, True)["action"].shape == (
        2,
        1,
    )
    with pytest.raises(UsageError, match=r"has no numbers observation\.state; give a --column of"):
        read_labels(root, [])
    with pytest.raises(UsageError, match=r"action: has 2 numbers; --numbers are \[2\]"):
        read_labels(root, [], "action", [2])


def test_liberos_demos_are_found_by_their_clips_names(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "libero_10").mkdir()
    with h5py.File(tmp_path / "libero_10/pick_demo.hdf5", "w") as file:
        file["data/demo_3/obs/agentview_rgb"] = np.zeros((24, 4, 4, 3), np.uint8)
        file["data/demo_3/obs/ee_pos"] = np.arange(24)[:, None] * [1.0, 0, -2]
    clip = "libero_10/row_major_400_reinit_16/pick_demo/demo_3"
    labels = read_labels(tmp_path, [clip, "libero_10/row_major_400_reinit_16/pick_demo/demo_4"])
    assert (list(labels), labels[clip].task) == ([clip], "pick_demo")
    found = labels[clip].targets(some_codes(tokenizer, clip), False)
    assert found["obs/ee_pos"].tolist() == [[15, 0, -30], [15, 0, -30]]
    with pytest.raises(UsageError, match=r"pick_demo\.hdf5: has no numbers at data/demo_3/actions"):
        read_labels(tmp_path, [clip], "actions")


def test_labels_that_do_not_fit_are_named(codes: MotionCodeSet, tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name, text, message in (
        ("a.json", '{"a": 3}', "a: is 3; expected an object of targets"),
        ("b.json", '{"a": {"x": [1, "y"]}}', r"a: x: is \[1, 'y'\]; expected a text, a number"),
        ("c.json", '{"a": {"x": true}}', "a: x: is True"),
        ("d.csv", "name,x\na,1\n", "has name, x; expected a column clip"),
        ("e.csv", "clip,x\na,1\na,2\n", "has 2 rows of the clip a; expected one, or a column frame"),
        ("f.csv", "clip,x\na\n", "line 2 has more or fewer cells"),
        ("g.csv", "clip,frame,x\na,0,1\na,2,1\n", "are not of its frames 0 to 1"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=message):
            read_labels(tmp_path / name, [])
    with pytest.raises(UsageError, match="does not exist; expected a file of labels"):
        read_labels(tmp_path / "none.json", [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is no data set of LeRobot or LIBERO, no file that ends in"):
        read_labels(tmp_path / "empty", [])
    with pytest.raises(UsageError, match="--column and --numbers choose what a robot's data set tells"):
        read_labels(tmp_path / "a.json", [], "action")
    with pytest.raises(UsageError, match=r"none of its clips, such as task_0/00, has labels, which are of z"):
        probe_codes(codes, tokenizer, {"z": ClipLabels({"x": 1.0})})
    mixed = {clip: ClipLabels({"x": 1.0 if number else "a"}) for number, clip in enumerate(codes)}
    with pytest.raises(UsageError, match="the target x is text or numbers, or of more or fewer numbers"):
        probe_codes(codes, tokenizer, mixed)
    same = {clip: ClipLabels({"x": 1.0}) for clip in codes}
    with pytest.raises(UsageError, match="nothing to probe: the target x is the same in all windows"):
        probe_codes(codes, tokenizer, same)
    short = ClipLabels(of_frames={"x": np.zeros((10, 1))})
    with pytest.raises(UsageError, match="tell of frames up to 19, and x has labels of 10 frames"):
        short.targets(some_codes(tokenizer, "a"), False)
    unknown = dataclasses.replace(some_codes(tokenizer, "a"), source_frames=torch.full((2, 2), -1))
    with pytest.raises(UsageError, match="do not say which frames they are of, and x has labels of 10"):
        short.targets(unknown, False)


def test_velocities_are_means_over_parts_that_fit() -> None:
    assert [parts_of(width, 15) for width in (64, 48, 32, 8, 5000)] == [
        (2, 4, 4), (2, 3, 3), (4, 2, 2), (4, 1, 1), (15, 4, 4),
    ]  # fmt: skip
    grid = query_grid("row_major", GRID, SIZE)
    right = grid[:, 0] > SIZE[1] / 2
    steps = np.arange(LENGTH)[:, None, None]
    tracks = torch.from_numpy((grid + steps * right[:, None] * np.float32([3, 1]))[None].astype(np.float32))
    found = velocities(tracks, SIZE, (1, 1, 2))
    np.testing.assert_allclose(found, [[0, 3 / 48, 0, 1 / 48]], atol=1e-6)
