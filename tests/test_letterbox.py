"""Letterbox: aspect kept, centred, black around, and every coordinate finds its way back."""

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amplify_motion_tokenizer.config import Config, changes, track_settings
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.letterbox import (
    content_grid,
    letterbox,
    letterbox_from_source_px,
    source_from_letterbox_px,
)
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.trackers import gate as gate_module
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.reading import open_video
from tests.support.render_clips import write_clip

sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
positions = arrays(np.float32, (5, 2), elements=st.floats(-500, 4000, width=32))


def boxed(config: Config, target: tuple[int, int]) -> Config:
    video = dataclasses.replace(config.video, size=target)
    return validate(dataclasses.replace(config, video=video))


@given(size=sizes, target=sizes, xy=positions)
def test_positions_come_back_exactly(size: tuple[int, int], target: tuple[int, int], xy: np.ndarray) -> None:
    box = letterbox(size, target)
    back = source_from_letterbox_px(letterbox_from_source_px(xy, box), box)
    np.testing.assert_allclose(back, xy, atol=1e-6)


@given(size=sizes, target=sizes, xy=positions)
def test_both_axes_are_treated_alike(size: tuple[int, int], target: tuple[int, int], xy: np.ndarray) -> None:
    box, turned = letterbox(size, target), letterbox(size[::-1], target[::-1])
    assert (turned.scale_x, turned.pad_left, turned.content_size) == (
        box.scale_y,
        box.pad_top,
        box.content_size[::-1],
    )
    np.testing.assert_array_equal(
        letterbox_from_source_px(xy, box), letterbox_from_source_px(xy[:, ::-1], turned)[:, ::-1]
    )


@given(size=sizes, target=sizes)
def test_the_content_is_centred_fits_and_keeps_its_aspect(
    size: tuple[int, int], target: tuple[int, int]
) -> None:
    box = letterbox(size, target)
    (height, width), (rows, columns) = box.content_size, box.content
    assert 1 <= height <= target[0]
    assert 1 <= width <= target[1]
    assert height == target[0] or width == target[1]
    assert 0 <= (target[0] - height) - 2 * box.pad_top <= 1
    assert 0 <= (target[1] - width) - 2 * box.pad_left <= 1
    assert (rows.stop - rows.start, columns.stop - columns.start) == (height, width)
    scale = min(target[0] / size[0], target[1] / size[1])
    assert abs(height - max(1, scale * size[0])) <= 0.5 + 1e-9
    assert abs(width - max(1, scale * size[1])) <= 0.5 + 1e-9
    # The corners of the source, half a pixel off its outer centres, are those of the content.
    corners = letterbox_from_source_px(np.array([[-0.5, -0.5], [size[1] - 0.5, size[0] - 0.5]]), box)
    expected = [[columns.start - 0.5, rows.start - 0.5], [columns.stop - 0.5, rows.stop - 0.5]]
    np.testing.assert_allclose(corners, expected, atol=1e-6)


def test_known_numbers() -> None:
    box = letterbox((480, 640), (128, 128))
    assert box == (0.2, 0.2, 0, 16, (96, 128))
    np.testing.assert_allclose(letterbox_from_source_px(np.array([2.0, 7.0]), box), [0.0, 17.0])
    with pytest.raises(ValueError, match="below 1 pixel"):
        letterbox((0, 5), (128, 128))


@given(size=sizes, target=st.tuples(st.integers(16, 600), st.integers(16, 600)), side=st.integers(1, 8))
def test_queries_partition_the_content(size: tuple[int, int], target: tuple[int, int], side: int) -> None:
    box = letterbox(size, target)
    queries = content_grid("uniform", side, box)
    offset = np.array([box.pad_left, box.pad_top])
    inner = queries - offset
    assert (inner > 0).all()
    assert (inner < np.array(box.content_size[::-1])).all()
    np.testing.assert_allclose(inner, query_grid("uniform", side, box.content_size), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", [(64, 64), (48, 96), (32, 96)])
def test_frames_are_padded_black_around_the_whole_picture(
    target: tuple[int, int], tiny: Config, tmp_path: Path
) -> None:
    frames = np.full((6, 64, 96, 3), 200, np.uint8)
    path = write_clip(tmp_path / "clip.mp4", frames, fps=10)
    with open_video(path, boxed(tiny, target).video) as video:
        rgb = next(iter(video)).rgb
        info = video.info
    assert rgb.shape == (*target, 3)
    assert info.size == target
    assert info.letterbox == letterbox((64, 96), target)
    outside = np.ones(target, bool)
    outside[info.letterbox.content] = False
    assert (rgb[info.letterbox.content] > 180).all()
    assert not rgb[outside].any()
    assert outside.any() == (info.letterbox.content_size != target)


def test_tracks_of_a_letterboxed_clip_are_those_of_the_content(tiny: Config, tmp_path: Path) -> None:
    """The same clip, tracked at 48 x 64 with and without bars, moves alike; files say where it lies."""
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in/clip.mp4", render_clip("pan", 0, (96, 128), 24)[0])
    found = {}
    for name, config in {"plain": tiny, "boxed": boxed(tiny, (64, 64))}.items():
        assert preprocess_folder(tmp_path / "in", tmp_path / name, config).done == 1
        with h5py.File(tmp_path / name / "clip.hdf5") as file:
            view = file["root/default"]
            found[name] = view["tracks"][:], view["vis"][:], dict(view.attrs)
            settings = json.loads(file["root"].attrs["settings"])
    assert settings["video.size"] == [64, 64]
    facts = found["boxed"][2]
    assert (facts["height"], facts["width"]) == (64, 64)
    np.testing.assert_allclose(facts["scale"], [0.5, 0.5])
    np.testing.assert_array_equal(facts["pad"], [8, 0])
    np.testing.assert_array_equal(found["plain"][2]["pad"], [0, 0])
    plain, padded = (found[name][0] for name in ("plain", "boxed"))
    np.testing.assert_array_equal(padded[:, 0], plain[:, 0] + [0, 8])
    # Bars must change nothing: they stand still, and a point that reaches one has left the picture.
    np.testing.assert_allclose(padded - [0, 8], plain, atol=1e-4)
    np.testing.assert_array_equal(found["boxed"][1], found["plain"][1])


def test_the_motion_gate_does_not_count_the_padding(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars of three quarters would quarter the difference, about twice the threshold."""
    monkeypatch.setattr(gate_module, "MIN_MEAN_DIFFERENCE", 0.004)
    monkeypatch.setattr(gate_module, "MIN_ACTIVE_SHARE", 1.0)
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in/clip.mp4", render_clip("pan", 0, (48, 64), 24)[0])
    kept = {}
    for name, config in {"plain": tiny, "boxed": boxed(tiny, (192, 64))}.items():
        gate = dataclasses.replace(config.tracking.gate, enable=True)
        tracking = dataclasses.replace(config.tracking, gate=gate)
        summary = preprocess_folder(
            tmp_path / "in", tmp_path / name, dataclasses.replace(config, tracking=tracking)
        )
        kept[name] = summary.windows
    assert kept["boxed"] == kept["plain"] > 0


def test_the_size_decides_tracks(tiny: Config) -> None:
    differ = changes(track_settings(tiny), track_settings(boxed(tiny, (64, 96))))
    assert differ == ["video.size {'shorter': 48} -> [64, 96]"]


@pytest.mark.parametrize(
    ("video", "parts"),
    [
        ({"fit": "letterbox"}, ["video.fit = letterbox is video.size now", "[height, width]"]),
        ({"fit": "letterbox", "target_size": [8, 64]}, ["video.size = [8, 64]", "16"]),
        ({"target_size": [64, 64]}, ["video.target_size = [64, 64] is video.size now"]),
        ({"fit": "stretch"}, ["video.fit = stretch", "letterbox"]),
        ({"size": [8, 64]}, ["video.size = [8, 64]", "numbers of at least 16"]),
        ({"size": {"longer": 64}}, ["video.size = {longer: 64}", "{shorter: a whole number}"]),
        ({"size": 64}, ["video.size = 64", "{shorter: a whole number}"]),
    ],
)
def test_impossible_settings(video: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict({"video": video}, "in the test")
    for part in parts:
        assert part in str(caught.value)
