"""The strip of codes: which colour stands where."""

import numpy as np

from amplify_motion_tokenizer.codes.code_strip import NO_CODE, NOW, CodeStrip, code_colours, titled


def test_the_same_id_has_the_same_colour_and_near_ids_do_not() -> None:
    colours = code_colours(np.array([[5, 6], [5, 2000]]))
    assert colours.shape == (2, 2, 3)
    assert colours[0, 0].tolist() == colours[1, 0].tolist() == code_colours(np.array([5]))[0].tolist()
    of_all = code_colours(np.arange(2048)).astype(int)
    assert np.abs(of_all[1:] - of_all[:-1]).max(axis=1).min() > 60
    assert code_colours(np.zeros((0, 4), int)).shape == (0, 4, 3)


def test_each_frame_has_the_ids_of_the_window_that_began_last() -> None:
    ids, starts = np.array([[3, 7], [7, 3], [9, 9]]), np.array([0, 2, 6])
    strip = CodeStrip(ids, starts, stride=2, length=4, num_frames=10, width=200)
    picture = strip.picture(1, frame=9)
    assert picture.shape == (strip.height, 200, 3)
    rows = [strip.height - 4, strip.height - 1]  # of 3 pixels each; the second id is below
    expected = [ids[0], ids[0], ids[1], ids[1], None, None, ids[2], ids[2], None]
    for frame, window in enumerate(expected):
        found = picture[rows, frame * 20 + 10].tolist()
        assert found == [list(NO_CODE)] * 2 if window is None else code_colours(window).tolist()
    assert picture[rows, 180].tolist() == [list(NOW)] * 2
    # The window that is shown spans the frames 2 to 5.
    bar = (picture[strip.height - 2 * 3 - 2] == 255).all(axis=1)
    assert np.flatnonzero(bar).tolist() == list(range(40, 120))


def test_cells_have_the_colours_of_the_window_that_is_shown() -> None:
    ids = np.array([[3, 7, 3, 2047]])
    strip = CodeStrip(ids, np.array([0]), stride=1, length=4, num_frames=4, width=400)
    cells = strip.picture(0, 0)[8]
    assert [cells[column].tolist() for column in (3, 103, 203, 303)] == code_colours(ids[0]).tolist()
    assert not strip.picture(None, 0)[8].any()
    # Many ids leave no room for their numbers, but have their colours.
    many = np.arange(90)[None]
    picture = CodeStrip(many, np.array([0]), 1, 4, 4, 400).picture(0, 0)
    assert picture[20, 1].tolist() == code_colours(many[0])[0].tolist()


def test_a_title_stands_above_the_whole_picture() -> None:
    picture = np.full((50, 120, 3), 90, np.uint8)
    found = titled(picture, "true tracks")
    assert found.shape[1:] == (120, 3)
    assert (found[-50:] == picture).all()
    assert found[:-50].max() > 200
    assert not found[0].any()
