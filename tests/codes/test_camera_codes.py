"""Codes of the objects' motion alone, with the camera's kept beside them."""

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, Tokenizer, load_tokenizer, read_codes, write_codes
from amplify_motion_tokenizer.codes.motion_vectors import vectors_of
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes import make_scene
from amplify_motion_tokenizer.tracks.formats import track_format
from tests.codes.test_tokenizer import tiny_tokenizer
from tests.support.run_scripts import TINY
from tests.test_homographies import by_hand

SIZE = (240, 320)
GRID = query_grid("row_major", 20, SIZE)
STARTS = (0, 8, 16)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    return {
        camera: load_tokenizer("transform", "cpu", {"data.camera": camera})
        for camera in ("keep", "remove", "both")
    }


def tracks_of(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True tracks (3, 16, 400, 2), visibility and camera (3, 16, 3, 3) of a rendered scene."""
    scene = make_scene(kind, 5, SIZE, 32)
    tracks, seen = zip(*(scene.truth(GRID, start, 16) for start in STARTS), strict=True)
    return np.stack(tracks), np.stack(seen), np.stack([scene.camera(start, 16) for start in STARTS])


def encoded(tokenizer: Tokenizer, tracks: np.ndarray, seen: np.ndarray) -> MotionCodes:
    return tokenizer.encode_tracks(tracks, seen, size=SIZE, fps=20, starts=STARTS)


def distance(one: torch.Tensor, tracks: np.ndarray, seen: np.ndarray) -> float:
    return float(np.linalg.norm(one.numpy() - tracks, axis=-1)[seen].mean())


def test_codes_say_what_the_camera_did(tokenizers: dict[str, Tokenizer]) -> None:
    tracks, seen, camera = tracks_of("mixed")
    codes = {name: encoded(tokenizer, tracks, seen) for name, tokenizer in tokenizers.items()}
    assert codes["keep"].camera is codes["keep"].camera_ids is codes["remove"].camera_ids is None
    assert {name: each.meta["camera"] for name, each in codes.items()} == {name: name for name in codes}
    assert len({each.meta["config_hash"] for each in codes.values()}) == 3
    assert not torch.equal(codes["keep"].ids, codes["remove"].ids)
    assert torch.equal(codes["remove"].ids, codes["both"].ids)
    kept = codes["remove"].camera
    assert kept is not None and kept.shape == (3, 1, 15, 4, 2)
    corners = GRID[[0, 19, 380, 399]]
    for window, maps in zip(kept[:, 0], camera, strict=True):
        for moves, matrix in zip(window, maps[1:], strict=True):
            assert np.abs(moves.numpy() * 240 - (by_hand(matrix, corners) - corners)).max() < 0.2
    # The energy is of the whole motion, whatever becomes of the camera's.
    assert torch.equal(codes["keep"].motion_energy, codes["remove"].motion_energy)


def test_camera_codes_are_codes_of_the_camera_alone(tokenizers: dict[str, Tokenizer]) -> None:
    tracks, seen, camera = tracks_of("mixed")
    codes = encoded(tokenizers["both"], tracks, seen)
    alone = np.stack([[by_hand(matrix, GRID) for matrix in maps] for maps in camera])
    decoded = dataclasses.replace(codes, ids=codes.camera_ids, camera=None)
    own = tokenizers["both"].decode(decoded)[0]
    wanted = tokenizers["keep"].decode(encoded(tokenizers["keep"], alone, np.ones_like(seen)))[0]
    everywhere = np.ones_like(seen)
    assert distance(own, alone, everywhere) == pytest.approx(distance(wanted, alone, everywhere), rel=0.1)
    assert distance(own, alone, everywhere) < 0.2 * np.linalg.norm(alone - GRID, axis=-1).mean()


def test_decoded_is_the_whole_motion_or_the_objects(tokenizers: dict[str, Tokenizer]) -> None:
    tracks, seen, camera = tracks_of("mixed")
    own = tokenizers["remove"]
    codes = encoded(own, tracks, seen)
    whole, visible = own.decode(codes)
    assert distance(whole, tracks, seen) < distance(
        tokenizers["keep"].decode(encoded(tokenizers["keep"], tracks, seen))[0], tracks, seen
    )
    world = np.stack(
        [
            [by_hand(np.linalg.inv(matrix), places) for matrix, places in zip(*window, strict=True)]
            for window in zip(camera, tracks, strict=True)
        ]
    )
    apart, _ = own.decode(codes, camera=False)
    assert distance(apart, world, seen) == pytest.approx(distance(whole, tracks, seen), rel=0.1)
    larger, _ = own.decode(codes, (480, 640))
    assert torch.allclose(larger, whole * 2, atol=0.05)
    inside = (whole >= -0.5).all(dim=-1) & (whole <= torch.tensor([319.5, 239.5])).all(dim=-1)
    assert torch.equal(visible, inside)


def test_where_the_camera_is_not_known_nothing_is_decoded(tokenizers: dict[str, Tokenizer]) -> None:
    tracks, seen, _ = tracks_of("pan")
    seen[1, 7, 5:] = False
    codes = encoded(tokenizers["remove"], tracks, seen)
    assert codes.camera_known is not None
    assert (~codes.camera_known).nonzero().tolist() == [[1, 0, 6]]
    whole, visible = tokenizers["remove"].decode(codes)
    assert whole[1, 7].isnan().all() and not visible[1, 7].any()
    assert whole.isfinite().sum() == whole.numel() - 800
    assert np.isfinite(vectors_of(codes, tokenizers["remove"])).all()


def test_ids_do_not_depend_on_the_camera(tokenizers: dict[str, Tokenizer]) -> None:
    tracks, seen, _ = tracks_of("movers")
    _, _, camera = tracks_of("tilt")
    shaken = np.stack(
        [
            [by_hand(matrix, places) for matrix, places in zip(*window, strict=True)]
            for window in zip(camera, tracks, strict=True)
        ]
    )
    one, other = (encoded(tokenizers["remove"], each, seen) for each in (tracks, shaken))
    assert (one.ids == other.ids).float().mean() > 0.9
    kept = encoded(tokenizers["keep"], shaken, seen)
    assert (one.ids == kept.ids).float().mean() < 0.5
    near = np.linalg.norm(
        vectors_of(one, tokenizers["remove"]) - vectors_of(other, tokenizers["remove"]), axis=1
    )
    assert near.max() < 0.1


def test_no_windows_have_no_cameras(tokenizers: dict[str, Tokenizer]) -> None:
    codes = tokenizers["both"].encode_tracks(
        np.empty((0, 16, 400, 2)), np.empty((0, 16, 400)), size=SIZE, fps=20
    )
    assert codes.camera is not None and codes.camera.shape == (0, 1, 15, 4, 2)
    assert codes.camera_ids is not None and codes.camera_ids.shape == codes.ids.shape
    assert tokenizers["both"].decode(codes)[0].shape == (0, 16, 400, 2)


def test_what_a_model_was_trained_on_is_what_it_is_given(tmp_path: Path) -> None:
    own = tiny_tokenizer(tmp_path, data={**TINY["data"], "camera": "remove"})
    assert own.config.data.camera == "remove"
    assert load_tokenizer(tmp_path / "tiny.pth", "cpu", {"data.camera": "keep"}).config.data.camera == "keep"


def test_each_view_has_a_camera_of_its_own(tmp_path: Path) -> None:
    views: dict[str, Any] = {"views": ["left", "right"], "reference_size": [48, 64], "camera": "both"}
    for per_view in (False, True):
        model = {**TINY["model"], "name": "amplify", "amplify": {"per_view": per_view}}
        own = tiny_tokenizer(tmp_path, data={**TINY["data"], "grid_size": 6, **views}, model=model)
        rng = np.random.default_rng(0)
        frames = {name: _panned(rng, step) for name, step in (("left", 2), ("right", -3))}
        codes = own.encode_frames(frames, fps=10)
        assert codes.camera is not None and codes.camera.shape[1:] == (2, 5, 4, 2)
        moves = codes.camera.mean(dim=(0, 3)) * 48  # (V, t, 2) pixels
        steps = torch.arange(1, 6)
        assert (moves[0, :, 0] - 2 * steps).abs().max() < 0.4
        assert (moves[1, :, 0] + 3 * steps).abs().max() < 0.4
        whole, _ = own.decode(codes)
        assert whole.shape[1:] == (2, 6, 36, 2)


def _panned(rng: np.random.Generator, step: int) -> np.ndarray:
    """(12, 48, 64, 3) frames of a picture that moves by ``step`` pixels a frame to the right."""
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (48, 200, 3)).astype(np.float32), (0, 0), 1.5)
    wide = np.clip((wide - wide.mean()) * 4 + 128, 0, 255).astype(np.uint8)
    first = 60 if step > 0 else 20
    return np.stack([wide[:, first - step * frame :][:, :64] for frame in range(12)])


def test_velocity_files_cannot_be_made_without_the_camera(tmp_path: Path) -> None:
    config = config_from_dict({**TINY, "data": {**TINY["data"], "camera": "remove"}}, "here")
    with pytest.raises(ConfigError, match="velocity files hold no positions.*data.camera: keep"):
        track_format("pt").views(tmp_path, config)


def test_read_codes_are_decoded_with_their_camera(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    tracks, seen, _ = tracks_of("mixed")
    codes = encoded(tokenizers["remove"], tracks, seen)
    write_codes(tmp_path / "tracks.npz", codes)
    read = read_codes(tmp_path / "tracks.npz")["tracks"]
    assert torch.equal(tokenizers["remove"].decode(read)[0], tokenizers["remove"].decode(codes)[0])
