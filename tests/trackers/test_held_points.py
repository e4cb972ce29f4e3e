"""What holds the embedded tracker's points in place: patches, neighbours, visibility."""

import cv2
import numpy as np
import pytest

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.config import FlowConfig
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.trackers.flow import FlowTracker
from amplify_motion_tokenizer.trackers.flow.motion import LocalMotion, Neighbours
from amplify_motion_tokenizer.trackers.flow.pairs import camera_shift
from amplify_motion_tokenizer.trackers.flow.patches import Patches
from benchmarks.support.chained import ChainedTracker
from tests.support.tracked import windows_of

SIZE = (240, 320)
SIDES_XY = np.array(SIZE[::-1])
GRID = query_grid("row_major", 12, SIZE)
STILL = np.tile(np.eye(2, dtype=np.float32), (len(GRID), 1, 1))


def track(video, queries=GRID, refine=True):
    """Tracks of one window over the whole video, and which points are said to be seen."""
    tracker = (FlowTracker if refine else ChainedTracker)(FlowConfig(), threads=2)
    (window,) = tracker.track(windows_of(video, 1, len(video)), queries)
    return window.tracks_xy_px, window.visibility >= 0.5


def plane(frames, velocity=(0.0, 0.0)):
    """A textured plane that moves by ``velocity``, (x, y) pixels a frame."""
    camera = scenes.similarity(frames, shift=np.arange(frames)[:, None] * np.array(velocity))
    return scenes.background(np.random.default_rng(0), SIZE, camera)


def moving_plane(frames, velocity):
    """Its video, where its points under the grid are, and which of them stay inside the frame."""
    truth = GRID + np.arange(frames)[:, None, None] * np.array(velocity)
    stays = ((truth > 8) & (truth < SIDES_XY - 8)).all(axis=(0, 2))
    return scenes.Scene([plane(frames, velocity)], SIZE).render(), truth, stays


def errors(xy, truth):
    return np.linalg.norm(xy - truth, axis=-1)


# The whole tracker


def scores(video, truth, visible, refine):
    """TAP-Vid's delta_avg and occlusion accuracy, the query frame excluded."""
    asked = visible[0]
    truth, visible, xy, seen = (part[1:, asked] for part in (truth, visible, *track(video, refine=refine)))
    error = errors(xy * 256 / SIDES_XY, truth * 256 / SIDES_XY)[visible]
    return np.mean([(error < bound).mean() for bound in (1, 2, 4, 8, 16)]), (seen == visible).mean()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["movers", "mixed", "zoom"])
def test_holding_points_is_more_accurate_than_chaining(kind, seed):
    video, scene = scenes.render_clip(kind, seed, SIZE, 31)
    truth, visible = (part[::2] for part in scene.truth(GRID, 0))
    held, chained = (scores(video[::2], truth, visible, refine) for refine in (True, False))
    assert held[0] > 0.87 and held[1] > 0.89
    assert held[0] > chained[0] and held[1] >= chained[1]


@pytest.mark.parametrize("velocity", [(0.0, 0.0), (1.5, -1.0)])
def test_hidden_points_are_carried_by_their_neighbours_and_found_again(velocity):
    """A square passes before a plane, from left to right."""
    video, truth, inside = moving_plane(16, velocity)
    square = 255 - video[0, :90, :90]
    visible = np.ones(truth.shape[:2], bool)
    for index, frame in enumerate(video):
        left, right = np.clip(np.array([-100, -10]) + 28 * index, 0, SIZE[1])
        frame[70:160, left:right] = square[:, : right - left]
        visible[index] = ~((truth[index] > (left - 0.5, 69.5)) & (truth[index] < (right - 0.5, 159.5))).all(
            -1
        )
    hidden = inside & visible[0] & visible[-1] & ~visible.all(axis=0)
    assert hidden.sum() > 20
    truth, visible = truth[:, hidden], visible[:, hidden]
    xy, seen = (part[:, hidden] for part in track(video))
    assert (seen == visible).mean() > 0.9 and seen[-1].mean() > 0.9
    assert np.median(errors(xy, truth)[~visible]) < 4
    assert np.median(errors(xy, truth)[-1]) < 0.5 and (errors(xy, truth)[-1] < 2).mean() > 0.9
    assert not track(video, refine=False)[1][-1, hidden].any(), "chained flow loses them"


def test_light_does_not_move_or_hide_points():
    video, truth, stays = moving_plane(8, (1.0, 0.5))
    gain, offset = (np.linspace(*ends, 8)[:, None, None, None] for ends in ((1, 0.6), (0, 25)))
    xy, seen = track((video * gain + offset).astype(np.uint8))
    assert errors(xy, truth)[:, stays].max() < 1 and errors(xy, truth)[:, stays].mean() < 0.25
    assert seen[:, stays].mean() > 0.98


def test_points_do_not_drift_over_faint_ground():
    """The common motion of the neighbours holds what no patch of its own can."""
    video, truth, stays = moving_plane(16, (2.0, 1.0))
    noise = np.random.default_rng(3).normal(0, 1.5, video.shape)
    faint = np.rint(128 + 0.06 * (video.astype(float) - 128) + noise).astype(np.uint8)
    held, chained = (errors(track(faint, refine=on)[0], truth)[-1, stays].mean() for on in (True, False))
    assert held < 2 and held < 0.5 * chained


@pytest.mark.parametrize("velocity", [(3.0, 1.0), (-4.0, -2.0)])
def test_points_that_drift_over_plain_ground_are_not_said_to_be_seen(velocity):
    """Right of x = 130 the ground is plain but for soft shading, in which patches match in many places."""
    video, truth, stays = moving_plane(16, velocity)
    noise = np.random.default_rng(1).normal(0, 1, (*video.shape[:3], 1))
    for index, frame in enumerate(video):
        plain = max(0, round(130 + index * velocity[0]))
        frame[:, plain:] = cv2.GaussianBlur(frame, (0, 0), 30)[:, plain:]
        grainy = (frame + noise[index]).clip(0, 255).astype(np.uint8)
        video[index] = cv2.GaussianBlur(grainy, (0, 0), 0.8)
    xy, seen = track(video)
    error, seen = errors(xy, truth)[-1], seen[-1]
    textured, plain = stays & (GRID[:, 0] < 105), stays & (GRID[:, 0] > 155)
    assert seen[textured].mean() > 0.98 and np.quantile(error[textured], 0.9) < 0.5
    strayed = plain & (error > 4)
    assert strayed.sum() > 20 and seen[strayed].mean() < 0.6


def test_a_pan_that_is_faster_than_the_search_of_dis():
    video, truth, _ = moving_plane(3, (70.0, -20.0))
    stays = ((truth > 8) & (truth < SIDES_XY - 8)).all(axis=(0, 2))
    xy, seen = track(video)
    assert errors(xy, truth)[:, stays].max() < 2 and seen[:, stays].mean() > 0.95


@pytest.mark.parametrize("points", [1, 2, 5])
def test_few_points(points):
    video, truth, _ = moving_plane(6, (2.0, 0.0))
    few = slice(40, 40 + points)
    xy, seen = track(video, GRID[few])
    assert errors(xy, truth[:, few]).max() < 0.5 and seen.all()


@pytest.mark.parametrize("levels", [[0, 0, 0], [20, 120, 220]])
def test_blank_frames_give_finite_tracks_that_stay(levels):
    frames = np.stack([np.full((*SIZE, 3), level, np.uint8) for level in levels])
    assert np.abs(track(frames)[0] - GRID).max() < 1e-3


# Its parts


def grey_plane():
    return cv2.cvtColor(scenes.Scene([plane(1)], SIZE).render()[0], cv2.COLOR_RGB2GRAY)


def test_camera_shift():
    image = grey_plane()
    kept, before = image.copy(), image[20:180, 60:260].copy()
    assert camera_shift(before, image[40:200, 10:210].copy()).tolist() == [50, -20]
    assert camera_shift(before, image[22:182, 60:260].copy()).tolist() == [0, 0], "DIS finds this itself"
    noise = np.random.default_rng(0).integers(0, 256, before.shape, np.uint8)
    assert camera_shift(before, noise).tolist() == [0, 0]
    assert (image == kept).all()


def test_patches_are_found_to_a_fraction_of_a_pixel_under_any_gain_and_offset():
    image = grey_plane().astype(np.float32)
    patches = Patches.cut(image, GRID)
    matrix = np.array([[1, 0, 0.75], [0, 1, -1.25]])
    moved = cv2.warpAffine(image, matrix, SIZE[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    plain, changed = (patches.find(later, GRID, STILL) for later in (moved, 0.5 * moved + 30))
    assert errors(plain.xy, GRID + [0.75, -1.25]).mean() < 0.15
    assert np.abs(plain.xy - changed.xy).max() < 0.05 and np.abs(plain.match - changed.match).max() < 0.01
    assert plain.match.mean() > 0.97 and np.abs(plain.brighter).mean() < 1.5
    assert np.allclose(changed.brighter, 30 - 0.5 * patches.level, atol=4)


def test_patches_know_their_own_place_and_flat_ones_match_nothing():
    image = grey_plane().astype(np.float32)
    found = Patches.cut(image, GRID).find(image, GRID, STILL)
    assert (found.xy == GRID).all() and (found.match > 0.999).all()
    flat = Patches.cut(np.full_like(image, 90), GRID).find(image, GRID, STILL)
    assert (flat.xy == GRID).all() and (np.abs(flat.match) < 1e-3).all()


def test_variance_of_a_place_is_that_of_noise_along_the_way_which_the_patch_tells_least():
    """A corner's places under noise scatter as told; an edge and blank ground have no place."""
    rows, columns = np.mgrid[:41, :41]
    corner, edge = (
        cv2.GaussianBlur(np.float32(160 * inside), (0, 0), 2)
        for inside in ((rows > 20) & (columns > 20), rows > 20)
    )
    centre = np.float32([[20, 20]])
    noise = np.random.default_rng(0).normal(0, 10, (200, 41, 41)).astype(np.float32)
    patches = Patches.cut(corner, centre)
    found = [patches.find(corner + one, centre, STILL[:1]) for one in noise]
    scatter = np.var([one.xy[0] for one in found], axis=0).max()
    told = np.mean([patches.variance(one.match)[0] for one in found])
    assert scatter < told < 20 * scatter, "told on the safe side"
    for vague in (edge, np.zeros_like(edge)):
        assert Patches.cut(vague, centre).variance(np.float32([0.9]))[0] > 20 * told


def test_local_motion_is_that_of_the_neighbours_that_move_alike():
    turn = 1.1 * np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
    left = GRID[:, 0] < 100
    xy = np.where(left[:, None], GRID - 15, (GRID - 100) @ turn.T + 120).astype(np.float32)
    motion, trust = LocalMotion(Neighbours.of(GRID)), np.ones(len(GRID), np.float32)
    motion.begin()
    for _ in range(8):  # until the ridge towards the last warp has faded
        fit = motion.fit(xy, trust)
        motion.learn(xy, fit.warp, trust > 0)
    assert np.median(errors(fit.xy, xy)) < 0.05
    inner = (np.abs(GRID - SIDES_XY / 2) < SIDES_XY / 3).all(-1) & (np.abs(GRID[:, 0] - 100) > 40)
    assert np.allclose(fit.warp[inner & ~left], turn, atol=0.03)
    assert np.allclose(fit.warp[inner & left], np.eye(2), atol=0.03)
    lost = np.flatnonzero(left | inner)[::4]
    strayed = xy.copy()
    strayed[lost] += np.float32([40, -25])
    trust[lost] = 0
    assert np.quantile(errors(motion.fit(strayed, trust).xy, xy)[lost], 0.9) < 1, (
        "like those that went with it"
    )
