"""Tracks in memory to ids and back, with the shipped tokenizer and with others."""

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import build_model, decode_tracks, encode_tracks, load_tokenizer
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes.synthetic import synthetic_windows


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("transform")


def panned(size, share_a_frame):
    """(16, 400, 2) tracks of a camera that pans by a share of the shorter side a frame."""
    grid = query_grid("row_major", 20, size)
    return grid + np.arange(16)[:, None, None] * np.array([share_a_frame * min(size), 0], np.float32)


def test_a_pan_comes_back_in_pixels_of_any_frame(tokenizer):
    tracks, seen = panned((360, 640), 0.01), np.ones((16, 400), bool)
    ids = encode_tracks(tokenizer, tracks, seen, (360, 640))
    assert ids.shape == (16,)
    assert ids.dtype == torch.int64
    decoded = decode_tracks(tokenizer, ids, (360, 640))
    assert (decoded - torch.from_numpy(tracks)).norm(dim=-1).mean() < 0.1 * 15 * 3.6
    small = decode_tracks(tokenizer, ids.tolist(), (180, 320))
    torch.testing.assert_close(small, decoded / 2)


def test_a_frame_of_half_the_size_has_the_same_ids(tokenizer):
    made = synthetic_windows(8, seed=4)
    sizes = [(int(h) * 2, int(w) * 2) for h, w in made.sizes]
    for tracks, seen, (height, width) in zip(made.tracks_xy_px, made.visibility, sizes, strict=True):
        one = encode_tracks(tokenizer, tracks * 2, seen, (height, width))
        half = encode_tracks(tokenizer, tracks, seen, (height // 2, width // 2))
        assert (one == half).float().mean() > 0.9  # a number on a border may fall to either side


def test_lost_points_do_not_matter(tokenizer):
    tracks, seen = panned((240, 320), 0.01), np.ones((16, 400), bool)
    seen[8:, 50:60] = False
    lost = np.where(seen[..., None], tracks, np.nan).astype(np.float32)
    lost[8:, 55] = 7000
    whole = encode_tracks(tokenizer, tracks, np.ones_like(seen), (240, 320))
    filled = encode_tracks(tokenizer, lost, seen, (240, 320))
    assert torch.equal(filled[:2], whole[:2])  # beyond, a wave of next to nothing may be of either sign
    decoded = [decode_tracks(tokenizer, ids, (240, 320)) for ids in (filled, whole)]
    torch.testing.assert_close(*decoded, atol=3.0, rtol=0)


def test_a_slip_far_off_the_frame_does_not_matter_either(tokenizer):
    tracks, seen = panned((240, 320), 0.01), np.ones((16, 400), bool)
    slipped = tracks.copy()
    slipped[9, 7] = 9000
    decoded = [
        decode_tracks(tokenizer, encode_tracks(tokenizer, made, seen, (240, 320)), (240, 320))
        for made in (tracks, slipped)
    ]
    torch.testing.assert_close(*decoded, atol=3.0, rtol=0)


def test_the_first_ids_alone_are_decoded(tokenizer):
    ids = encode_tracks(tokenizer, panned((240, 320), 0.02)[None], np.ones((1, 16, 400)), (240, 320))
    few = decode_tracks(tokenizer, ids[:, :4], (240, 320))
    assert few.shape == (1, 16, 400, 2)
    assert 30 < float((few[0, -1] - few[0, 0])[:, 0].mean()) < 100  # of 72 px


def test_tokenizers_of_other_kinds_of_input_are_decoded_too():
    keypoint = build_model(
        config_from_dict(
            {
                "model": {"hidden_dim": 16, "num_heads": 2, "num_layers": 1},
                "data": {"grid_size": 4, "reference_size": {"shorter": 240}},
            },
            "here",
        )
    ).eval()
    ids = encode_tracks(keypoint, torch.rand(2, 16, 16, 2) * 200, torch.ones(2, 16, 16), (480, 640))
    tracks = decode_tracks(keypoint, ids, (480, 640))
    velocities = keypoint.reconstruct(keypoint.codes_of(ids))
    torch.testing.assert_close(tracks.diff(dim=1), velocities.detach() * 7 * 2, atol=1e-3, rtol=1e-4)


def test_what_is_wrong_is_told(tokenizer):
    tracks, seen = panned((240, 320), 0.01), np.ones((16, 400), bool)
    with pytest.raises(ValueError, match=r"expected \(B, T, 400, 2\) or \(T, 400, 2\)"):
        encode_tracks(tokenizer, tracks[:, :399], seen, (240, 320))
    with pytest.raises(ValueError, match=r"visibility is \(16, 1\); expected \(16, 400\)"):
        encode_tracks(tokenizer, tracks, seen[:, :1], (240, 320))
    with pytest.raises(ValueError, match=r"expected \(x, y\) pixels .* not normalised positions"):
        encode_tracks(tokenizer, tracks / 320, seen, (240, 320))
    with pytest.raises(ValueError, match="code ids are 0 to 2048; expected 0 to 2047"):
        decode_tracks(tokenizer, [0, 2048], (240, 320))


def test_points_move_by_the_mean_or_by_the_likeliest_class():
    model = {"hidden_dim": 16, "num_heads": 2, "num_layers": 1, "encoder_sequence_len": 3, "dropout": 0.0}
    data = {"grid_size": 3, "reference_size": {"shorter": 48}, "static_filter": {"min_keep": 1}}
    decoded = {}
    for way in ("expected", "likeliest"):
        torch.manual_seed(0)
        config = config_from_dict({"model": {**model, "reconstruction": way}, "data": data}, "here")
        keypoint = build_model(config).eval()
        ids = torch.tensor([[5, 1000, 2000]])
        decoded[way] = decode_tracks(keypoint, ids, (48, 64))
        for likeliest in (False, True):
            decoded[way, likeliest] = decode_tracks(keypoint, ids, (48, 64), likeliest=likeliest)
    for way, chosen in (("expected", False), ("likeliest", True)):
        assert torch.equal(decoded[way], decoded["expected", chosen])
        assert torch.equal(decoded["expected", chosen], decoded["likeliest", chosen])
    moves = decoded["likeliest"].diff(dim=1)  # reference pixels: the frame is of the reference size
    torch.testing.assert_close(moves, moves.round(), atol=1e-4, rtol=0)
    assert (decoded["expected"].diff(dim=1) - moves).abs().max() > 0.05
