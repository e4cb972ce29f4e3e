"""The embedded tracker under a camera that turns or zooms fast, bands of light, and things that are small."""

import cv2
import numpy as np
import pytest

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes.objects import cut_out
from amplify_motion_tokenizer.scenes.textures import blob
from amplify_motion_tokenizer.trackers.flow import FlowTracker
from amplify_motion_tokenizer.trackers.flow.pairs import evenly_lit
from amplify_motion_tokenizer.trackers.flow.turns import camera_turn, inverse, turned, turned_flow
from tests.support.tracked import windows_of

SIZE = (240, 320)
FRAMES = 16
CENTRE = (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2
GRID = query_grid("row_major", 16, SIZE)


def camera(degrees, growth=1.0, shift=(0.0, 0.0), frames=FRAMES):
    """A camera that turns by ``degrees`` and zooms by ``growth`` a frame about the middle of the picture."""
    times = np.arange(frames)
    scale = growth ** (times - (frames - 1) / 2)
    return scenes.similarity(frames, times[:, None] * shift, np.radians(degrees) * times, scale, CENTRE)


def ground(path):
    return scenes.background(np.random.default_rng(0), SIZE, path)


def judge(scene, video=None, chosen=slice(None)):
    """Of points ``chosen``: share of the visible that is seen, and share of the seen that is 4 px off."""
    tracker = FlowTracker(FlowConfig())
    video = scene.render() if video is None else video
    (window,) = tracker.track(windows_of(video, 1, FRAMES), GRID)
    truth, visible = (part[1:, chosen] for part in scene.truth(GRID, 0, FRAMES))
    seen = window.visibility[1:, chosen] >= 0.5
    off = np.linalg.norm(window.tracks_xy_px[1:, chosen] - truth, axis=-1) > 4
    return (seen & visible).sum() / visible.sum(), (seen & off).sum() / seen.sum()


@pytest.mark.parametrize(
    ("degrees", "growth", "shift"),
    [(5, 1, (0, 0)), (8, 1, (0, 0)), (-8, 1, (2, 1)), (0, 1.06, (0, 0)), (0, 1 / 1.06, (0, 0)),
     (6, 1.02, (3, -2))],
)  # fmt: skip
def test_points_follow_a_camera_that_turns_and_zooms_fast(degrees, growth, shift):
    seen, wrong = judge(scenes.Scene([ground(camera(degrees, growth, shift))], SIZE))
    assert seen > 0.98 and wrong < 0.01


@pytest.mark.parametrize("kind", ["fast_roll", "fast_zoom"])
def test_fast_kinds_are_followed(kind):
    video, scene = scenes.render_clip(kind, 3, SIZE, FRAMES)
    seen, wrong = judge(scene, video)
    assert seen > 0.95 and wrong < 0.01


def test_what_a_turning_camera_holds_is_not_turned_with_the_rest():
    rng = np.random.default_rng(0)
    outline = blob(rng, 45)
    middle = (outline.shape[0] - 1) / 2
    held = [
        cut_out(rng, outline, (middle, middle), scenes.similarity(FRAMES, np.array([x, 180.0])))
        for x in (80, 240)
    ]
    scene = scenes.Scene([ground(camera(8)), *held], SIZE)
    video, on_held = scene.render(), scene.top_layer(GRID.astype(float), 0) > 0
    assert on_held.sum() > 15
    seen, wrong = judge(scene, video, on_held)
    assert seen > 0.8 and wrong < 0.12
    seen, wrong = judge(scene, video, ~on_held)
    assert seen > 0.9 and wrong < 0.05


@pytest.mark.parametrize("seed", range(2))
def test_bands_of_light_over_a_still_scene_move_nothing(seed):
    video, scene = scenes.render_clip("light_bands", seed, SIZE, FRAMES)
    seen, wrong = judge(scene, video)
    assert seen > 0.6 and wrong < 0.005


def test_the_ground_beside_specks_stays_where_it_is():
    video, scene = scenes.render_clip("specks", 0, SIZE, FRAMES)
    seen, wrong = judge(scene, video, scene.top_layer(GRID.astype(float), 0) == 0)
    assert seen > 0.95 and wrong < 0.02


# Its parts


def flow_of(turn, size=SIZE):
    """(h, w, 2) of an affine motion (2, 3)."""
    places = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=-1)
    return np.asarray(places @ turn[:, :2].T + turn[:, 2] - places, np.float32)


TURN = scenes.similarity(1, np.array([5.0, -3.0]), np.radians(7), 1.04, CENTRE)[0, :2]


def test_the_turn_of_most_of_the_picture_is_told():
    flow = flow_of(TURN)
    assert np.allclose(camera_turn(flow), TURN, atol=1e-4)
    flow[:100, :200] = (4, 9)  # a quarter goes its own way
    flow += np.random.default_rng(0).normal(0, 0.3, flow.shape).astype(np.float32)
    found = camera_turn(flow)
    assert np.allclose(found[:, :2], TURN[:, :2], atol=0.002) and np.allclose(
        found[:, 2], TURN[:, 2], atol=0.3
    )


def test_no_turn_is_told_where_there_is_none():
    shift, slight = np.eye(2, 3) + [[0, 0, 20], [0, 0, -7]], camera(1.5, frames=2)[1, :2]
    strewn = np.random.default_rng(0).normal(0, 15, (*SIZE, 2)).astype(np.float32)
    assert camera_turn(flow_of(shift)) is None and camera_turn(flow_of(slight)) is None
    assert camera_turn(strewn) is None and camera_turn(flow_of(TURN, (42, 300))) is None


def test_turned_images_and_their_flow():
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, SIZE, np.uint8), (0, 0), 4)
    there_and_back = turned(turned(image, TURN), inverse(TURN))
    assert np.abs(there_and_back.astype(int) - image)[60:-60, 60:-60].max() < 4
    pixel = np.array([130, 90])
    x, y = TURN @ (*pixel, 1)
    around = image[int(y) : int(y) + 2, int(x) : int(x) + 2].astype(int)
    assert around.min() - 1 <= turned(image, TURN)[90, 130] <= around.max() + 1
    rest = np.full((*SIZE, 2), (1.5, -0.5), np.float32)
    expected = TURN @ (*(pixel + [1.5, -0.5]), 1) - pixel
    assert np.allclose(turned_flow(TURN, rest)[90, 130], expected, atol=1e-3)
    assert np.allclose(turned_flow(TURN, 0 * rest), flow_of(TURN), atol=1e-3)


def test_light_of_rows_is_evened_where_it_is_what_changes():
    before = np.random.default_rng(0).integers(60, 200, SIZE, np.uint8)
    gain = 1 - 0.4 * np.abs(np.sin(np.arange(SIZE[0]) / 12))[:, None]
    banded = np.rint(before * gain).astype(np.uint8)
    share = evenly_lit(before, banded).mean(axis=1) / before.mean(axis=1)
    assert np.ptp(banded.mean(axis=1) / before.mean(axis=1)) > 0.3 and np.ptp(share) < 0.02
    for other in (np.roll(before, 5, axis=0), np.rint(before * 0.6).astype(np.uint8), before):
        assert evenly_lit(before, other) is other
