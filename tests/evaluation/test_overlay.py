"""Tracks drawn over an image: colours at known pixels."""

import numpy as np
import pytest

from amplify_motion_tokenizer.evaluation.overlay import colours_by_position, draw_tracks

RED, GREEN = np.uint8([255, 0, 0]), np.uint8([0, 255, 0])


def drawn(tracks, visible, colours, size=(40, 60)):
    image = np.zeros((*size, 3), np.uint8)
    result = draw_tracks(image, np.float32(tracks), np.array(visible), np.array(colours), radius=3)
    assert not image.any(), "the image that is given stays as it is"
    return result


def test_colours_are_a_rainbow_from_the_top():
    xy = np.stack([np.full(50, 0.3), np.linspace(0, 1, 50)], axis=1)
    colours = colours_by_position(xy)
    assert colours.shape == (50, 3) and colours.dtype == np.uint8
    assert colours[0].tolist() == [255, 0, 0]
    assert colours[-1].tolist() == [255, 0, 255]
    assert len(np.unique(colours, axis=0)) == 50
    assert (colours_by_position(xy + [0.5, 0]) == colours).all(), "x does not count"
    assert (colours_by_position(np.array([[0, -3.0], [0, 7.0]])) == colours[[0, -1]]).all()
    assert colours_by_position(np.empty((0, 2))).shape == (0, 3)


def bright(pixel):
    """Antialiasing leaves a line of one pixel a tenth short of its colour."""
    return (pixel >= 200).any()


def dim(pixel):
    return 90 <= pixel.max() <= 127


def test_a_visible_point_is_filled_and_its_trail_bright():
    image = drawn([[[10, 20]], [[40, 20]]], [[True], [True]], [RED])
    assert (image[20, 40] == RED).all() and (image[22, 40] == RED).all()
    assert bright(image[20, 25]) and not image[..., 1:].any()
    assert not image[:, :8].any() and not image[:15].any()


def test_a_hidden_point_is_a_dim_ring_and_so_is_the_step_to_it():
    image = drawn([[[10, 20]], [[40, 20]]], [[True], [False]], [RED])
    assert dim(image[20, 43]) and dim(image[20, 25]) and dim(image)
    alone = drawn([[[40, 20]]], [[False]], [RED])
    assert alone[20, 40].max() < 40, "hollow"
    assert dim(alone[20, 43])


def test_a_trail_that_returns_to_sight_is_bright_again():
    tracks = [[[5, 10]], [[20, 10]], [[35, 10]], [[50, 10]]]
    image = drawn(tracks, [[True], [False], [True], [True]], [GREEN])
    assert dim(image[10, 12]) and dim(image[10, 28]) and bright(image[10, 42])


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_positions_that_are_not_finite_are_left_out(odd):
    image = drawn([[[10, 20], [30, 5]], [[odd, 20], [30, 35]]], [[True] * 2] * 2, [RED, GREEN])
    assert not image[..., 0].any()
    assert bright(image[20, 30])


def test_positions_far_away_do_not_harm():
    assert bright(drawn([[[10, 20]], [[3e9, 20]]], [[True]] * 2, [RED])[20, 50])


def test_points_lie_between_pixels():
    image = drawn([[[40, 20.5]]], [[True]], [RED])
    assert (image[24, 40] > image[16, 40]).any()
