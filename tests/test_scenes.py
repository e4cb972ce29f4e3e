"""The rendered clips move as their truth says."""

import cv2
import numpy as np
import pytest

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.errors import VideoError


def grid(height, width, side=12):
    x = (np.arange(side) + 0.5) * width / side - 0.5
    y = (np.arange(side) + 0.5) * height / side - 0.5
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_a_visible_point_keeps_its_colour_along_the_true_track(kind):
    video, scene = scenes.render_clip(kind, 3, (120, 160), 12)
    assert video.shape == (12, 120, 160, 3) and video.dtype == np.uint8
    tracks, visible = scene.truth(grid(120, 160), 2)
    assert tracks.shape == (10, 144, 2) and visible.shape == (10, 144)
    assert np.allclose(tracks[0], grid(120, 160), atol=1e-9) and visible[0].all()

    def colours(index):
        x, y = tracks[index].astype(np.float32).T
        return cv2.remap(video[2 + index].astype(np.float32), x, y, cv2.INTER_LINEAR).reshape(-1, 3)

    for index in range(1, 10):
        seen = visible[index]
        moved = np.abs(colours(index) - colours(0))[seen].mean()
        assert moved < 4, "interpolation alone changes colours by less"
        if kind in ("pan", "zoom", "roll", "mixed") and index > 6:
            stayed = np.abs(video[2 + index].astype(float) - video[2]).mean()
            assert moved < 0.4 * stayed, "the truth explains the change of the frames"


def test_the_clip_depends_on_the_seed_alone():
    first, _ = scenes.render_clip("mixed", 5, (48, 64), 3)
    again, _ = scenes.render_clip("mixed", 5, (48, 64), 3)
    other, _ = scenes.render_clip("mixed", 6, (48, 64), 3)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_speeds_are_those_promised():
    for kind in scenes.KINDS:
        for seed in range(4):
            scene = scenes.make_scene(kind, seed, (240, 320), 48)
            tracks, visible = scene.truth(grid(240, 320), 0)
            speed = np.linalg.norm(np.diff(tracks, axis=0), axis=-1)[visible[1:]]
            assert speed.max() < 10, "the corners of the frame are the fastest"
            assert (speed.max() == 0) if kind == "still" else (speed.max() > 0.4)


def test_a_point_under_a_sprite_belongs_to_it_and_hides_others():
    camera = scenes.similarity(5)
    rng = np.random.default_rng(0)
    ground = scenes.background(rng, (60, 80), camera)
    shift = np.stack([10.0 * np.arange(5), np.zeros(5)], 1)
    square = scenes.Layer(
        np.zeros((21, 21, 3), np.float32),
        np.ones((21, 21), np.float32),
        scenes.similarity(5, shift=shift + [0, 20]),
    )
    scene = scenes.Scene([ground, square], (60, 80))
    queries = np.float32([[10, 30], [35, 30], [70, 5]])  # on the square, in its way, away from it
    tracks, visible = scene.truth(queries, 0)
    assert np.allclose(tracks[:, 0], queries[0] + shift)
    assert np.allclose(tracks[:, 1:], queries[1:])
    assert visible.T.tolist() == [[True] * 5, [True, True, False, False, True], [True] * 5]
    assert (scene.render()[2, 30, 20:40] == 0).all(), "the square covers x = 20 to 40 in frame 2"


def test_points_outside_the_frame_are_not_visible():
    scene = scenes.Scene([scenes.background(np.random.default_rng(0), (40, 60), shifts(4, 10))], (40, 60))
    tracks, visible = scene.truth(np.float32([[45, 20], [5, 20]]), 0)
    assert tracks[:, 0, 0].tolist() == [45, 55, 65, 75]
    assert visible.T.tolist() == [[True, True, False, False], [True] * 4]


def shifts(frames, speed):
    return scenes.similarity(frames, shift=np.stack([speed * np.arange(frames), np.zeros(frames)], 1))


def test_the_command_writes_clips_that_can_be_read(tmp_path):
    arguments = ["--output", str(tmp_path), "--clips", "7", "--size", "48x64", "--frames", "5"]
    scenes.main(arguments)
    names = [f"{index:03d}_{kind}.mp4" for index, kind in enumerate([*scenes.KINDS, "pan"])]
    assert sorted(path.name for path in tmp_path.iterdir()) == names, "and no temporary files"
    capture = cv2.VideoCapture(str(tmp_path / names[0]))
    assert capture.get(cv2.CAP_PROP_FPS) == 20
    frames = []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB).astype(float))
    video, _ = scenes.render_clip("pan", (0, 0), (48, 64), 5)
    assert len(frames) == 5 and np.abs(np.stack(frames) - video).mean() < 12


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--size", "33x64", "even"), ("--clips", "0", "above 0"), ("--frames", "-1", "above 0")],
)
def test_impossible_options_are_one_line(tmp_path, option, value, message):
    with pytest.raises(SystemExit, match=message):
        scenes.main(["--output", str(tmp_path), option, value])


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    class Closed:
        fourcc = cv2.VideoWriter.fourcc

        def __init__(self, *_):
            pass

        def isOpened(self):  # noqa: N802
            return False

    monkeypatch.setattr(scenes.cv2, "VideoWriter", Closed)
    with pytest.raises(VideoError, match="x.mp4"):
        scenes.write_clip(tmp_path / "x.mp4", np.zeros((1, 32, 32, 3), np.uint8), 20)
    assert not list(tmp_path.iterdir())
