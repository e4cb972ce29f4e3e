"""The rendered clips move as their truth says, and look like what they are named after."""

import dataclasses

import cv2
import numpy as np
import pytest

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes.effects import Effects
from amplify_motion_tokenizer.scenes.layers import apply
from amplify_motion_tokenizer.scenes.textures import leaves, wall

SIZE = (240, 320)
WITH_OBJECTS = {"movers", "articulated", "occluders", "entering", "mixed", "lighting", "compressed"}


def grid(height, width, side=12):
    return query_grid("row_major", side, (height, width))


# Truth against pixels


def test_truth_of_more_points_than_opencv_looks_up_at_once():
    _, scene = scenes.render_clip("movers", 0, (48, 64), 2)
    few, many = (scene.truth(np.tile(grid(48, 64, 10), (times, 1)), 0) for times in (1, 400))
    for expected, found in zip(few, many, strict=True):
        assert np.array_equal(np.tile(expected, (1, 400, 1)[: expected.ndim]), found)


def middle_exposure(scene, frame):
    return frame * scene.exposures + scene.exposures // 2


def clear(scene, xy, frame, radius=10):
    """Whether each point's surroundings lie in the frame and on the point's own layer."""
    ring = radius * np.stack([f(np.arange(16) * np.pi / 8) for f in (np.cos, np.sin)], 1)
    around = xy[:, None] + np.concatenate([[[0, 0]], ring, ring / 2])
    owners = scene.top_layer(around.reshape(-1, 2), middle_exposure(scene, frame)).reshape(around.shape[:2])
    inside = (around >= 0).all((1, 2)) & (around < scene.size[::-1]).all((1, 2))
    return inside & (owners == owners[:, :1]).all(1)


def apart(xy, distance=16):
    """Indices of points that are that far from each other, earlier ones first."""
    kept = []
    for index, point in enumerate(xy):
        if not kept or np.square(xy[kept] - point).sum(1).min() > distance**2:
            kept.append(index)
    return kept


def dotted(scene, queries, frame):
    """The scene with all layers black but for a small bright dot on the surface under each query."""
    at = middle_exposure(scene, frame)
    owners, layers = scene.top_layer(queries, at), []
    for index, layer in enumerate(scene.layers):
        rgb = np.zeros_like(layer.rgb)
        for x, y in apply(np.linalg.inv(layer.to_frame[at]), queries[owners == index]):
            left, top = max(int(x) - 12, 0), max(int(y) - 12, 0)
            part = rgb[top : top + 25, left : left + 25]
            rows, columns = np.mgrid[: part.shape[0], : part.shape[1]]
            dot = 255 * np.exp(-((columns + left - x) ** 2 + (rows + top - y) ** 2) / 18)
            part[:] = np.maximum(part, np.rint(dot)[..., None])
        layers.append(dataclasses.replace(layer, rgb=rgb))
    return dataclasses.replace(scene, layers=layers)


def centroid(image, xy, radius=7):
    left, top = np.rint(xy).astype(int) - radius
    part = image[top : top + 2 * radius + 1, left : left + 2 * radius + 1].astype(float)
    rows, columns = np.mgrid[: part.shape[0], : part.shape[1]]
    return np.array([(part * columns).sum(), (part * rows).sum()]) / part.sum() + (left, top)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_surface_points_are_drawn_where_the_truth_says(kind):
    scene = scenes.make_scene(kind, 1, SIZE, 8)
    queries = grid(*SIZE, side=30).astype(float)
    queries = queries[clear(scene, queries, 1)]
    owners = scene.top_layer(queries, middle_exposure(scene, 1))
    order = np.argsort(-owners, kind="stable")  # objects first
    queries, owners = queries[order], owners[order]
    kept = apart(queries, 28 if kind == "fast_zoom" else 16)
    queries, owners = queries[kept], owners[kept]
    (*_, last), (*_, seen) = scene.truth(queries, 1)
    image = dotted(scene, queries, 1).frame(7)[..., 0]
    distances = np.linalg.norm(last[:, None] - last, axis=-1) + 99 * np.eye(len(last))
    sure = seen & clear(scene, last, 7) & (distances.min(1) > 16)
    off = np.array([centroid(image, xy) - xy for xy in last[sure]])
    assert sure.sum() > 40 and (owners[sure] > 0).sum() >= (3 if kind in WITH_OBJECTS else 0)
    assert np.linalg.norm(off, axis=1).max() < 0.05
    assert np.abs(off.mean(0)).max() < 0.01, "nor is there a bias, such as half a pixel's"


@pytest.mark.parametrize("kind", sorted(WITH_OBJECTS))
def test_the_top_layer_is_the_one_that_is_drawn(kind):
    scene = scenes.make_scene(kind, 1, (120, 160), 4)
    pixels = np.stack(np.meshgrid(np.arange(160.0), np.arange(120.0)), -1).reshape(-1, 2)
    owners = scene.top_layer(pixels, 3).reshape(120, 160)
    unsure = np.ones(owners.shape, bool)
    for index in range(len(scene.layers)):
        layers = [
            dataclasses.replace(layer, rgb=np.full_like(layer.rgb, 255 * (number == index)))
            for number, layer in enumerate(scene.layers)
        ]
        share = dataclasses.replace(scene, layers=layers).frame(3)[..., 0] / 255
        assert (owners[share > 0.6] == index).all()
        unsure &= share <= 0.6
    assert unsure.mean() < 0.03, "only where edges cross"


def test_a_point_under_a_sprite_belongs_to_it_and_hides_others():
    ground = scenes.background(np.random.default_rng(0), (60, 80), scenes.similarity(5))
    shift = np.stack([10.0 * np.arange(5), np.zeros(5)], 1)
    square = scenes.Layer(
        np.zeros((21, 21, 3), np.uint8),
        np.ones((21, 21), np.float32),
        scenes.similarity(5, shift=shift + [0, 20]),
    )
    scene = scenes.Scene([ground, square], (60, 80))
    queries = np.float32([[10, 30], [35, 30], [70, 5]])  # on the square, in its way, away from it
    tracks, visible = scene.truth(queries, 0)
    assert np.allclose(tracks[:, 0], queries[0] + shift)
    assert np.allclose(tracks[:, 1:], queries[1:])
    assert visible.T.tolist() == [[True] * 5, [True, True, False, False, True], [True] * 5]
    assert (scene.frame(2)[30, 20:40] == 0).all(), "the square covers x = 20 to 40 in frame 2"
    later, still_visible = scene.truth(queries, 1, length=3)
    assert later.shape == (3, 3, 2) and still_visible[0].all(), "a query is visible, whatever it hits"


def test_points_outside_the_frame_are_not_visible():
    shift = np.stack([10.0 * np.arange(4), np.zeros(4)], 1)
    ground = scenes.background(np.random.default_rng(0), (40, 60), scenes.similarity(4, shift))
    tracks, visible = scenes.Scene([ground], (40, 60)).truth(np.float32([[45, 20], [5, 20]]), 0)
    assert tracks[:, 0, 0].tolist() == [45, 55, 65, 75]
    assert visible.T.tolist() == [[True, True, False, False], [True] * 4]


def test_every_fourth_frame_has_every_fourth_row_of_the_truth():
    scene = scenes.make_scene("blur", 0, (48, 64), 12)
    queries = grid(48, 64, 4)
    sparse = dataclasses.replace(
        scene,
        layers=[
            dataclasses.replace(layer, to_frame=layer.to_frame.reshape(12, 9, 3, 3)[::4].reshape(-1, 3, 3))
            for layer in scene.layers
        ],
    )
    assert len(scene) == 12 and len(sparse) == 3
    assert np.allclose(scene.truth(queries, 0)[0][::4], sparse.truth(queries, 0)[0])
    assert np.array_equal(scene.render()[::4], sparse.render())


# The kinds


def test_the_clip_depends_on_the_seed_alone():
    for kind in ("mixed", "noise", "lighting", "low_texture"):
        first, _ = scenes.render_clip(kind, 5, (48, 64), 3)
        again, _ = scenes.render_clip(kind, 5, (48, 64), 3)
        other, _ = scenes.render_clip(kind, 6, (48, 64), 3)
        assert first.shape == (3, 48, 64, 3) and first.dtype == np.uint8
        assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_the_label_tells_what_moves(kind):
    corners = np.array([[0, 0], [159, 0], [159, 119], [0, 119]], float)
    camera, objects = [], []
    for seed in range(3):
        scene = scenes.make_scene(kind, seed, (120, 160), 6)
        at = [middle_exposure(scene, frame) for frame in (0, 5)]
        moves = [layer.to_frame[at[1]] @ np.linalg.inv(layer.to_frame[at[0]]) for layer in scene.layers]
        shifts = [apply(move, corners) - corners for move in moves]
        camera.append(shifts[0])
        objects += [np.abs(shift - shifts[0]).max() for shift in shifts[1:]]
    label = scenes.KINDS[kind].label
    still_camera = label in ("still", "movers", "articulated", "entering")
    assert (np.abs(camera).max() < 1e-9) == still_camera
    assert (max(objects, default=0) > 1) == (label in ("movers", "articulated", "entering", "mixed"))
    same = [np.allclose(shift, shift[0], atol=1e-6) for shift in camera]
    central = [np.allclose(shift.mean(0), 0, atol=0.05) for shift in camera]
    outwards = [((shift * (corners - corners.mean(0))).sum(1) ** 2).max() > 1 for shift in camera]
    if label == "pan":
        assert all(same)
    if label in ("zoom", "roll"):
        assert not any(same) and all(central) and all(outwards) == any(outwards)
    if label == "zoom":
        assert all(outwards)
    if label == "tilt":
        assert not any(same) and not any(central)


def test_every_class_of_motion_has_a_kind():
    assert len(scenes.KINDS) >= 10
    assert {kind.label for kind in scenes.KINDS.values()} == set(scenes.MOTION_CLASSES)


def test_speeds_are_those_promised():
    everywhere = []
    for kind in scenes.KINDS:
        for seed in range(3):
            scene = scenes.make_scene(kind, seed, (120, 160), 12)
            tracks, visible = scene.truth(grid(120, 160), 0)
            speed = 4 * np.linalg.norm(np.diff(tracks, axis=0), axis=-1)[visible[1:]]  # at 480 x 640
            label = scenes.KINDS[kind].label
            fastest = {"fast_roll": 60, "fast_zoom": 30}.get(kind, 25)
            assert speed.max() < fastest and (speed.max() < 1e-9 if label == "still" else speed.max() > 0.8)
            everywhere.append(speed[speed > 1e-9])
    moving = np.concatenate(everywhere)
    assert np.mean((moving > 1) & (moving < 8)) > 0.6 and np.percentile(moving, 99) > 14


def test_fast_kinds_turn_and_zoom_as_fast_as_they_say():
    def steps(kind, seed):
        """Of each frame, the turn in degrees and the growth in percent."""
        to_frame = scenes.make_scene(kind, seed, (48, 64), 12).layers[0].to_frame[:, :2, :2]
        step = (to_frame[1:] @ np.linalg.inv(to_frame[:-1]))[..., 0] @ (1, 1j)
        return np.abs(np.degrees(np.angle(step))), 100 * np.abs(np.log(np.abs(step)))

    for seed in range(4):
        turn, growth = steps("fast_roll", seed)
        assert 4.9 < turn.max() < 8.3 and growth.max() < 1e-6
        turn, growth = steps("fast_zoom", seed)
        assert turn.max() < 1e-6 and 3.9 < growth.max() < 6.3


def test_specks_are_small():
    for layer in scenes.make_scene("specks", 0, SIZE, 1).layers[1:]:
        rows, columns = (np.flatnonzero(layer.alpha.max(axis) > 0.5) for axis in (1, 0))
        height, width = (np.ptp(side) / 2 for side in (rows, columns))  # two texels a pixel
        assert min(height, width) > 4 and max(height, width) < 11


def test_objects_enter_and_leave():
    ways = set()
    for seed in range(3):
        scene = scenes.make_scene("entering", seed, SIZE, 40)
        for layer in scene.layers[1:]:
            middle = np.array([layer.rgb.shape[1::-1]]) / 2
            path = np.concatenate([apply(matrix, middle) for matrix in layer.to_frame[[0, -1]]])
            ways.add(tuple(((path >= 0) & (path < (320, 240))).all(1)))
    assert {(True, False), (False, True)} <= ways


def test_an_unknown_kind_is_named():
    with pytest.raises(UsageError, match="'spin'; allowed: pan, "):
        scenes.render_clip("spin", 0, (48, 64), 3)


# Textures and effects


def spectrum_slope(image):
    grey = image[::2, ::2].mean(axis=2)
    side = len(grey)
    power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(np.hanning(side), np.hanning(side)))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    bins = np.geomspace(0.02, 0.35, 12)
    rings = np.digitize(frequency, bins)
    means = [power[rings == ring].mean() for ring in range(1, len(bins))]
    return np.polyfit(np.log(np.sqrt(bins[1:] * bins[:-1])), np.log(means), 1)[0]


@pytest.mark.parametrize("seed", range(3))
def test_textures_have_the_spectrum_of_photographs(seed):
    image = leaves(np.random.default_rng(seed), (512, 512))
    assert image.shape == (512, 512, 3) and image.dtype == np.uint8
    assert -3 < spectrum_slope(image) < -2, "power falls as 1 / f^2 and a little more"
    assert image.std() > 25 and wall(np.random.default_rng(seed), (512, 512)).std() < 25


DEGRADED = {name: kind.effects for name, kind in scenes.KINDS.items() if kind.effects != Effects()}


@pytest.mark.parametrize("name", DEGRADED)
def test_effects_change_frames_and_move_nothing(name):
    still = np.tile(leaves(np.random.default_rng(3), SIZE), (8, 1, 1, 1))
    before = still.copy()
    changed = DEGRADED[name].apply(still, np.random.default_rng(0))
    assert np.array_equal(still, before) and changed.dtype == np.uint8
    assert np.abs(changed[-1].astype(float) - still[-1]).mean() > 1
    window = cv2.createHanningWindow(SIZE[::-1], cv2.CV_32F)
    for frame in changed[1:]:
        shift, _ = cv2.phaseCorrelate(still[0].mean(2, np.float32), frame.mean(2, np.float32), window)
        assert np.abs(shift).max() < 0.05


def test_effects_do_what_they_say():
    grey = np.full((6, 48, 64, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    assert Effects().apply(grey, rng) is grey
    assert Effects(noise=6).apply(grey, rng).std() == pytest.approx(6, rel=0.05)
    brightness = Effects(light=1).apply(np.tile(grey, (6, 1, 1, 1)), rng).mean((1, 2, 3))
    assert np.ptp(brightness) > 15
    banded = Effects(bands=0.5).apply(np.tile(grey, (1, 10, 1, 1)), rng)
    assert np.ptp(banded, axis=2).max() == 0, "rows are lit evenly"
    assert banded.min() == 64 and banded.max() == 128
    shadowed = Effects(shadow=0.5).apply(grey, rng)
    assert shadowed.min() == 64 and shadowed.max() == 128
    edge = np.zeros((1, 480, 640, 3), np.uint8)
    edge[:, :, 320:] = 255
    blurred = Effects(defocus=3).apply(edge, rng)[0, 240, :, 0]
    assert np.isclose(np.std(np.repeat(np.arange(639), np.diff(blurred.astype(int)))), 3, atol=0.1)


def test_motion_blur_smears_along_the_motion():
    scene = scenes.make_scene("blur", 0, SIZE, 3)
    sharp = dataclasses.replace(
        scene,
        layers=[dataclasses.replace(layer, to_frame=layer.to_frame[4::9]) for layer in scene.layers],
        exposures=1,
    )
    (before, after), _ = scene.truth(np.float64([[160, 120]]), 0, 2)
    way = (after - before)[0] / np.linalg.norm(after - before)

    def detail(direction):
        step = np.float64([[1, 0, 2 * direction[0]], [0, 1, 2 * direction[1]]])
        ratio = []
        for view in (scene, sharp):
            frame = view.frame(1).mean(2, np.float32)
            ratio.append(np.abs(cv2.warpAffine(frame, step, SIZE[::-1]) - frame)[20:-20, 20:-20].mean())
        return ratio[0] / ratio[1]

    assert detail(way) < 0.7 and detail(way) < 0.85 * detail(way[::-1] * [1, -1]), "less across it"
