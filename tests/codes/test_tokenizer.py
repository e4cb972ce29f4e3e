"""A tokenizer in Python: what it gives of frames and tracks in memory, and what it says of wrong ones."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, Tokenizer, build_model, load_tokenizer
from amplify_motion_tokenizer.codes.encoding import motion_of
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.models.checkpoint import save_checkpoint
from amplify_motion_tokenizer.scenes import render_clip
from tests.support.run_scripts import TINY

SIZE = (240, 320)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("transform", device="cpu")


def tiny_tokenizer(folder: Path, **sections: Any) -> Tokenizer:
    """A tokenizer with random weights, through a checkpoint file."""
    tree = {name: {**TINY.get(name, {}), **sections.get(name, {})} for name in {**TINY, **sections}}
    config = config_from_dict(tree, "here")
    torch.manual_seed(0)
    model = build_model(config)
    save_checkpoint(
        folder / "tiny.pth",
        model=model.state_dict(),
        config=config,
        track_settings=None,
        metrics={},
        training=None,
    )
    return load_tokenizer(folder / "tiny.pth", device="cpu")


def panned(pixels_a_frame: float = 2.0, size: tuple[int, int] = SIZE, windows: int = 1) -> np.ndarray:
    """(windows, 16, 400, 2) tracks of a camera that pans."""
    moves = np.arange(16)[:, None, None] * np.array([pixels_a_frame, 0])
    return np.stack([query_grid("row_major", 20, size) + moves] * windows).astype(np.float32)


SEEN = np.ones((1, 16, 400), bool)


def test_decoded_tracks_are_those_that_were_encoded(tokenizer: Tokenizer) -> None:
    codes = tokenizer.encode_tracks(panned(), SEEN, size=SIZE, fps=20)
    tracks, visible = tokenizer.decode(codes)
    assert tracks.shape == (1, 16, 400, 2)
    assert (tracks - torch.from_numpy(panned())).norm(dim=-1).mean() < 3
    # 30 px to the right of 320: the last two of 20 columns, 16 px apart, leave the frame.
    assert visible[0, 0].all()
    assert visible[0, -1].view(20, 20)[10].tolist() == [True] * 18 + [False] * 2
    twice, _ = tokenizer.decode(codes, size=(480, 640))
    torch.testing.assert_close(twice, 2 * tracks)


def test_windows_say_where_they_are(tokenizer: Tokenizer) -> None:
    tracks, seen = panned(windows=3), np.repeat(SEEN, 3, axis=0)
    codes = tokenizer.encode_tracks(tracks, seen, size=SIZE, fps=20, starts=[2, 5, 40], latents=True)
    assert (len(codes), codes.ids.shape, codes.ids.dtype) == (3, (3, 16), torch.int64)
    assert codes.starts.tolist() == [2, 5, 40]
    assert codes.seconds.tolist() == [[0.1, 0.85], [0.25, 1.0], [2.0, 2.75]]
    assert codes.source_frames.tolist() == [[-1, -1]] * 3
    assert codes.latents is not None
    assert torch.equal(tokenizer.codes_of(codes.ids), codes.latents)
    assert codes.meta["tracker"] is None
    assert codes.meta["tracked_size"] == [240, 320]
    lone = tokenizer.encode_tracks(tracks[0].tolist(), seen[0], size=SIZE, fps=20)
    assert torch.equal(lone.ids, codes.ids[:1])
    none = tokenizer.encode_tracks(tracks[:0], seen[:0], size=SIZE, fps=20)
    assert none.ids.shape == (0, 16)
    assert tokenizer.decode(none)[0].shape == (0, 16, 400, 2)


def test_windows_of_each_size_are_decoded_in_pixels_of_their_own_frames(tokenizer: Tokenizer) -> None:
    """As codes of a clip whose pictures change their size say it."""
    turned = (320, 240)
    one = tokenizer.encode_tracks(panned(), SEEN, size=SIZE, fps=20)
    other = tokenizer.encode_tracks(panned(size=turned), SEEN, size=turned, fps=20, starts=[30])
    columns = {
        name: torch.cat([getattr(one, name), getattr(other, name)])
        for name in one.__dataclass_fields__
        if name not in ("clip", "meta") and getattr(one, name) is not None
    }
    changes = [{"start_frame": 30, "tracked_size": list(turned)}]
    tracks, visible = tokenizer.decode(MotionCodes(**columns, meta={**one.meta, "size_changes": changes}))
    for row, codes in enumerate((one, other)):
        own_tracks, own_visible = tokenizer.decode(codes)
        torch.testing.assert_close(tracks[row], own_tracks[0])
        assert torch.equal(visible[row], own_visible[0])
    assert tracks[0, 0, :, 0].max() > 300 > tracks[1, 0, :, 0].max()


def test_energy_and_visible_share_are_of_seen_points_and_real_frames() -> None:
    tracks, seen = torch.zeros(3, 3, 2, 2), torch.ones(3, 3, 2)
    tracks[0, 1:, 0] = torch.tensor([3.0, 4.0])  # 5 px in one of four moves
    tracks[1, 2, 1] = torch.nan
    seen[1, 0, 0] = 0.4
    tracks[2, 2] = 1000.0
    energy, share = motion_of([ViewTracks(tracks, seen, (10, 20), valid_steps=torch.tensor([2, 2, 1]))])
    assert energy.tolist() == pytest.approx([math.sqrt(25 / 4) / 10, 0, 0])
    assert share.tolist() == pytest.approx([1, 4 / 6, 1])
    hidden, nothing = motion_of([ViewTracks(tracks[:1], torch.zeros(1, 3, 2), (10, 20))])
    assert hidden.isnan().all()
    assert nothing.tolist() == [0]


def test_digits_are_the_mixed_radix_digits_of_ids(tokenizer: Tokenizer) -> None:
    levels = tokenizer.config.model.fsq_levels
    digits = tokenizer.digits(np.array([[0, 1], [tokenizer.codebook_size - 1, levels[0] + 2]]))
    assert digits.tolist()[0][0] == [0] * len(levels)
    assert digits.tolist()[1][0] == [level - 1 for level in levels]
    assert digits.tolist()[1][1][:2] == [2, 1]
    with pytest.raises(ValueError, match=r"code ids are 0 to 2048; expected 0 to 2047"):
        tokenizer.digits([0, 2048])
    with pytest.raises(ValueError, match=r"float64.*whole numbers"):
        tokenizer.digits([0.5])


def test_it_is_its_model_with_more(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path)
    velocities = torch.rand(2, 5, 9, 2) * 2 - 1
    ids = tokenizer.tokenize(velocities)
    assert torch.equal(ids, tokenizer.model.tokenize(velocities))
    vectors, again = tokenizer.quantize(tokenizer.encode(velocities))
    assert torch.equal(again, ids)
    assert tokenizer.decode(vectors).shape == (2, 5, 9, 49)
    assert tokenizer.to("cpu") is tokenizer
    assert (tokenizer.num_codes, tokenizer.codebook_size) == (3, 20)
    assert set(tokenizer.state_dict()) == set(tokenizer.model.state_dict())
    assert torch.equal(copy.deepcopy(tokenizer).tokenize(velocities), ids)
    with pytest.raises(AttributeError):
        _ = tokenizer.no_such_thing
    with pytest.raises(ValueError, match=r"reach 7; expected W-normalised, in \[-1, 1\]"):
        tokenizer.tokenize(velocities * 0 + 7)


def test_settings_are_those_of_the_command_line() -> None:
    config = load_tokenizer("default", settings={"tracking.window_stride": 3}).config
    assert config.tracking.window_stride == 3
    with pytest.raises(ConfigError, match=r"tracking.window_strid\b.*window_stride"):
        load_tokenizer("default", settings={"tracking.window_strid": 3})
    with pytest.raises(ConfigError, match=r"data.grid_size 20 -> 10 is impossible: the checkpoint fixes it"):
        load_tokenizer("default", settings={"data.grid_size": 10})


def test_codes_of_another_tokenizer_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    codes = tokenizer.encode_tracks(panned(), SEEN, size=SIZE, fps=20)
    with pytest.raises(ValueError, match=r"made with transform\.safetensors .* expected tiny\.pth"):
        tiny_tokenizer(tmp_path).decode(codes)
    with pytest.raises(ValueError, match="expected MotionCodes; for ids alone use decode_tracks"):
        tokenizer.decode(codes.ids)


def test_frames_of_several_views(tmp_path: Path) -> None:
    sections = {
        "data": {"views": ["left", "right"], "reference_size": [48, 48]},
        "model": {"name": "amplify", "num_layers": 2},
        "video": {"size": [48, 48]},
    }
    tokenizer = tiny_tokenizer(tmp_path, **sections)
    clips = {view: render_clip("pan", seed, (48, 96), 12)[0] for seed, view in enumerate(["left", "right"])}
    frames = {view: np.stack(list(clip)) for view, clip in clips.items()}
    codes = tokenizer.encode_frames(frames, fps=10)
    assert codes.ids.shape == (4, 5)  # 12 frames, T = 6, stride 2; a code a step
    tracks, visible = tokenizer.decode(codes)
    assert tracks.shape == (4, 2, 6, 9, 2)
    # The picture of 48 x 96 fills the rows 12 to 35 of its frame of 48 x 48.
    assert tracks[0, 0, 0, :, 1].unique().tolist() == [16, 24, 32]
    assert visible[:, :, 0].all()
    with pytest.raises(ValueError, match="frames are of the views left; expected left, right"):
        tokenizer.encode_frames({"left": frames["left"]}, fps=10)
    with pytest.raises(ValueError, match="encode_tracks is for tokenizers of one view"):
        tokenizer.encode_tracks(np.zeros((1, 6, 9, 2)), np.ones((1, 6, 9)), size=(48, 48), fps=10)


BAD_FRAMES: dict[str, tuple[Any, str]] = {
    "none": (None, r"frames: found None; expected uint8 \(F, H, W, 3\), RGB"),
    "float": (np.zeros((20, 24, 32, 3)), r"float64 \(20, 24, 32, 3\); expected uint8 .*255"),
    "colours_first": (np.zeros((20, 3, 24, 32), np.uint8), "put the colours last"),
    "one_frame": (np.zeros((24, 32, 3), np.uint8), r"uint8 \(24, 32, 3\); expected uint8 \(F, H, W, 3\)"),
    "grey": (np.zeros((20, 24, 32), np.uint8), r"expected uint8 \(F, H, W, 3\)"),
    "with_alpha": (np.zeros((20, 24, 32, 4), np.uint8), r"expected uint8 \(F, H, W, 3\)"),
    "empty": (np.zeros((0, 24, 32, 3), np.uint8), r"\(0, 24, 32, 3\); expected"),
    "few": (np.zeros((5, 24, 32, 3), np.uint8), "frames: has 5 frames at 20 fps, expected at least 16"),
    "words": (["a", "b"], r"frames: found a list of <U1; expected uint8"),
    "ragged": ([[1, 2], [3]], "frames cannot be read as an array"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_wrong_frames_are_told(tokenizer: Tokenizer, name: str) -> None:
    frames, message = BAD_FRAMES[name]
    with pytest.raises(ValueError, match=message) as caught:
        tokenizer.encode_frames(frames, fps=20)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fps", [None, 0, -20, math.nan, math.inf, "20", True])
def test_wrong_rates_are_told(tokenizer: Tokenizer, fps: Any) -> None:
    with pytest.raises(ValueError, match="fps is .*; expected frames per second, a number above 0"):
        tokenizer.encode_tracks(panned(), SEEN, size=SIZE, fps=fps)
    with pytest.raises(ValueError, match="fps is .*; expected frames per second, a number above 0"):
        tokenizer.encode_frames(np.zeros((20, 24, 32, 3), np.uint8), fps=fps)


def test_a_rate_that_the_tokenizer_was_not_made_for_is_warned_of(tokenizer: Tokenizer) -> None:
    with pytest.warns(UserWarning, match=r"span 1\.500 s; .* 0\.750 s .* told as 2\.00 times as fast"):
        tokenizer.encode_tracks(panned(), SEEN, size=SIZE, fps=10)


@pytest.mark.parametrize(
    "size", [None, 240, (240,), (240, 320, 3), (240.5, 320), (0, 320), (-240, 320), "ab"]
)
def test_wrong_sizes_are_told(tokenizer: Tokenizer, size: Any) -> None:
    with pytest.raises(ValueError, match=r"size is .*; expected \(height, width\) of the frames"):
        tokenizer.encode_tracks(panned(), SEEN, size=size, fps=20)


BAD_TRACKS: dict[str, tuple[Any, Any, str]] = {
    "no_visibility": (panned(), None, r"visibility: found None; expected \(B, T, 400\)"),
    "percent": (panned(), SEEN * 100, "visibility is 100 to 100; expected a confidence of 0 to 1, or bool"),
    "logits": (panned(), SEEN * -3.0, "visibility is -3 to -3; expected a confidence"),
    "lost": (panned() * np.nan, SEEN, "hold no finite position"),
    "normalised": (panned() / 320, SEEN, r"expected \(x, y\) pixels of .*, not normalised positions"),
    "centred": (panned() / 160 - 1, SEEN, r"expected \(x, y\) pixels of .*, not normalised positions"),
    "row_col": (panned()[..., ::-1], SEEN, r"x and y exchanged; expected \(x, y\) pixels"),
    "transposed_frame": (panned(size=(320, 240)), SEEN, r"frame of 320 x 240; expected size to be \(height"),
    "larger_frame": (panned(size=(2000, 3000)), SEEN, "begin outside of a frame of 240 x 320"),
    "points_first": (panned().transpose(0, 2, 1, 3), SEEN, r"expected \(B, T, 400, 2\)"),
    "one_point_short": (panned()[:, :, 1:], SEEN, r"are \(1, 16, 399, 2\); expected \(B, T, 400, 2\)"),
    "one_frame": (panned()[:, :1], SEEN[:, :1], "have 1 frame; expected 2 or more"),
    "complex": (panned() * 1j, SEEN, r"tracks_xy_px: found a ndarray of complex"),
    "none": (None, SEEN, r"tracks_xy_px: found None; expected \(B, T, 400, 2\)"),
    "flags_of_points": (panned(), SEEN[:, 0], r"visibility is \(1, 400\); expected \(1, 16, 400\)"),
}


@pytest.mark.parametrize("name", BAD_TRACKS)
def test_wrong_tracks_are_told(tokenizer: Tokenizer, name: str) -> None:
    tracks, visibility, message = BAD_TRACKS[name]
    with pytest.raises(ValueError, match=message) as caught:
        tokenizer.encode_tracks(tracks, visibility, size=SIZE, fps=20)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("starts", [[0, 1], [0, 1, 1], [0.5, 1, 2], [-1, 0, 1], "abc"])
def test_wrong_starts_are_told(tokenizer: Tokenizer, starts: Any) -> None:
    with pytest.raises(ValueError, match="starts.*expected the first frame of each of the 3 windows"):
        tokenizer.encode_tracks(
            panned(windows=3), np.repeat(SEEN, 3, axis=0), size=SIZE, fps=20, starts=starts
        )


def test_tracks_of_other_points_are_warned_of(tokenizer: Tokenizer) -> None:
    with pytest.warns(UserWarning, match="off the query grid"):
        tokenizer.encode_tracks(panned() + 10, SEEN, size=SIZE, fps=20)


def test_columns_that_do_not_fit_are_refused(tokenizer: Tokenizer) -> None:
    codes = tokenizer.encode_tracks(panned(), SEEN, size=SIZE, fps=20)
    columns = {name: getattr(codes, name) for name in codes.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"starts: expected a torch.int64 tensor \(1\), found .*\(2,\)"):
        MotionCodes(**columns | {"starts": torch.tensor([0, 1])})
    with pytest.raises(ValueError, match=r"ids: expected a torch.int64 tensor \(1, \*\), found torch.int32"):
        MotionCodes(**columns | {"ids": codes.ids.int()})
